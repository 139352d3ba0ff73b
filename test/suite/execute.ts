// Runs the suite's programs. Background programs get only the processor time that others leave, so that they do not delay
// tests with deadlines.

import { spawn } from 'node:child_process'
import { constants } from 'node:os'
import { join, resolve } from 'node:path'
import { kill } from '../lab/kernel.ts'
import { prioritize } from '../lab/priority.ts'
import { sessionOf } from '../lab/session.ts'

export const root = resolve(import.meta.dirname, '../..')
const BIN = join(root, 'node_modules/.bin')

/** Of a program without a bound of its own. */
const MAX_SECONDS = 7_200

export type Execution = { readonly code: number; readonly output: string }
export type ExecuteOptions = {
  /** Added to the suite's own environment. */
  readonly env?: Readonly<Record<string, string>>
  /** Then the program is killed, and its output so far returned. */
  readonly boundSeconds?: number
}
export type Execute = (file: string, args: readonly string[], options?: ExecuteOptions) => Promise<Execution>

/** Our own Node comes first in PATH, and processes share the compile cache. */
const environment = (): NodeJS.ProcessEnv => ({
  NODE_COMPILE_CACHE: join(root, 'node_modules/.cache/node'),
  ...process.env,
  PATH: `${BIN}:${process.env['PATH'] ?? ''}`
})

export const execute: Execute = (file, args, options) => start(file, args, { ...options, detached: false }).done

/** Programs in the background, each in its own session. */
export class Background {
  readonly #leaders = new Set<number>()
  #nice: number = constants.priority.PRIORITY_LOW

  constructor() {
    process.on('exit', () => this.kill())
    for (const signal of ['SIGINT', 'SIGTERM'] as const) process.on(signal, () => process.exit(1))
  }

  readonly execute: Execute = async (file, args, options) => {
    const { pid, done } = start(file, args, { ...options, detached: true })
    if (pid === undefined) return done
    this.#leaders.add(pid)
    prioritize(pid, this.#nice)
    return done.finally(() => this.#leaders.delete(pid))
  }

  /** Restores their normal priority, because the suite waits for them now. */
  raise(): void {
    this.#nice = constants.priority.PRIORITY_NORMAL
    for (const leader of this.#leaders) prioritize(leader, this.#nice)
  }

  /** All their processes. */
  readonly pids = (): number[] => [...this.#leaders].flatMap(sessionOf)

  kill(): void {
    for (const pid of this.pids()) kill(pid)
  }
}

function start(
  file: string,
  args: readonly string[],
  p: ExecuteOptions & { readonly detached: boolean }
): { readonly pid: number | undefined; readonly done: Promise<Execution> } {
  const child = spawn(file, args, {
    cwd: root,
    env: { ...environment(), ...p.env },
    stdio: ['ignore', 'pipe', 'inherit'],
    detached: p.detached
  })
  const bound = setTimeout(
    () => {
      child.kill('SIGKILL')
      // Its own children may hold the pipe open.
      child.stdout.destroy()
    },
    (p.boundSeconds ?? MAX_SECONDS) * 1_000
  )
  const chunks: Buffer[] = []
  child.stdout.on('data', (chunk: Buffer) => chunks.push(chunk))
  const done = new Promise<Execution>((resolve, reject) => {
    child.on('error', reject)
    child.on('close', code => resolve({ code: code ?? 1, output: Buffer.concat(chunks).toString() }))
  }).finally(() => clearTimeout(bound))
  return { pid: child.pid, done }
}
