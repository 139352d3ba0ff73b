// A runtime inside a host's namespace: calls a CNI plugin as containerd does, one process per call, and reports the time of
// each from start to exit.

import { spawn } from 'node:child_process'
import { dirname } from 'node:path'
import { answerLines } from '../../test/lab/json-process.ts'

export type CniLoad = {
  readonly program: string
  readonly verb: 'ADD' | 'DEL'
  readonly config: object
  readonly containers: readonly { readonly id: string; readonly netns: string }[]
  /** Concurrent calls. */
  readonly concurrency: number
}

await answerLines(async question => {
  const load = question as CniLoad
  const waiting = [...load.containers]
  const times: number[] = []
  const lane = async (): Promise<void> => {
    for (let next = waiting.shift(); next !== undefined; next = waiting.shift()) times.push(await call(load, next))
  }
  await Promise.all(Array.from({ length: load.concurrency }, lane))
  return times
})

/** @returns the duration of one call, ms. @throws Error with the plugin's output */
function call({ program, verb, config }: CniLoad, container: { id: string; netns: string }): Promise<number> {
  const env: Record<string, string> = {
    CNI_COMMAND: verb,
    CNI_CONTAINERID: container.id,
    CNI_NETNS: container.netns,
    CNI_IFNAME: 'eth0',
    CNI_PATH: dirname(program)
  }
  const since = performance.now()
  const child = spawn(program, [], { env, stdio: 'pipe' })
  let output = ''
  child.stdout.on('data', (chunk: Buffer) => (output += chunk.toString()))
  child.stdin.end(JSON.stringify(config))
  return new Promise((resolve, reject) => {
    child.on('error', reject)
    child.on('close', code => {
      if (code === 0) resolve(performance.now() - since)
      else reject(new Error(`${program} ${verb}: ${output}`))
    })
  })
}
