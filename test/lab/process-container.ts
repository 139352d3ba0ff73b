// A container that is one process, as a runtime without named namespaces has it.

import { spawn } from 'node:child_process'
import { once } from 'node:events'

export type ProcessContainer = {
  /** Path of its network namespace. */
  readonly netns: string
  /** Kills the process, and with it the namespace. Idempotent. */
  readonly end: () => Promise<void>
}

/** Ends by itself after 10 minutes. */
export async function startProcessContainer(): Promise<ProcessContainer> {
  const child = spawn('unshare', ['--net', 'sh', '-c', 'echo up; exec sleep 600'], {
    stdio: ['ignore', 'pipe', 'inherit']
  })
  await once(child.stdout, 'data')
  const end = (): Promise<void> => {
    child.kill('SIGKILL')
    return Promise.resolve()
  }
  return { netns: `/proc/${child.pid}/ns/net`, end }
}
