// Runs programs as #platform/process.ts does, but starts them by a small helper (run.py): Node forks, which copies the page
// tables of a large process. A test starts hundreds, and in User-Mode Linux a fork of Node takes a tenth of a second.

import { spawn, type ChildProcessWithoutNullStreams } from 'node:child_process'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { VxmeshError } from '#model/errors.ts'
import type { RunResult } from '#platform/process.ts'

type Answer = {
  readonly id: number
  readonly code: number | null
  readonly stdout: string
  readonly stderr: string
  /** Why there is no exit code. */
  readonly why: string | null
}

/** A process or a pipe to it, which are sockets here. */
type Held = { ref(): void; unref(): void }

const DEBIAN_PYTHON = '/usr/bin/python3'
const DEFAULT_TIMEOUT_MS = 10_000

/** Runs a program to its end. A non-zero exit is a result. @throws ERR_INTERNAL when it cannot start or times out */
export async function run(
  file: string,
  args: readonly string[],
  options: { input?: string; timeoutMs?: number } = {}
): Promise<RunResult> {
  helper ??= new Helper()
  const { code, stdout, stderr, why } = await helper.ask({ command: [file, ...args], ...options })
  if (why !== null || code === null) throw new VxmeshError('ERR_INTERNAL', `${file} did not run: ${why ?? ''}`)
  return { stdout: withoutNewline(stdout), stderr: withoutNewline(stderr), exitCode: code }
}

const withoutNewline = (text: string): string => text.replace(/\r?\n$/, '')

/** One for this process; it ends with it. */
let helper: Helper | null = null

class Helper {
  readonly #child: ChildProcessWithoutNullStreams
  readonly #waiting = new Map<number, { resolve: (answer: Answer) => void; reject: (err: Error) => void }>()
  #environment = JSON.stringify(process.env)
  #last = 0

  constructor() {
    this.#child = spawn(DEBIAN_PYTHON, ['-I', '-S', join(import.meta.dirname, 'run.py')])
    this.#child.stderr.pipe(process.stderr)
    createInterface({ input: this.#child.stdout }).on('line', line => this.#answered(JSON.parse(line) as Answer))
    const gone = (why: string): void => {
      helper = null
      for (const { reject } of this.#waiting.values()) reject(new Error(`run.py ended: ${why}`))
    }
    this.#child.on('error', err => gone(err.message))
    this.#child.on('exit', (code, signal) => gone(String(signal ?? code)))
    this.#child.stdin.on('error', () => undefined)
    this.#hold(false)
  }

  ask(p: {
    readonly command: readonly string[]
    readonly input?: string
    readonly timeoutMs?: number
  }): Promise<Answer> {
    const id = ++this.#last
    const seconds = (p.timeoutMs ?? DEFAULT_TIMEOUT_MS) / 1_000
    const question = { id, command: p.command, input: p.input ?? null, seconds, env: this.#changedEnvironment() }
    this.#hold(true)
    this.#child.stdin.write(`${JSON.stringify(question)}\n`)
    return new Promise((resolve, reject) => this.#waiting.set(id, { resolve, reject }))
  }

  #answered(answer: Answer): void {
    this.#waiting.get(answer.id)?.resolve(answer)
    this.#waiting.delete(answer.id)
    if (this.#waiting.size === 0) this.#hold(false)
  }

  /** Whether it keeps this process from ending. */
  #hold(isNeeded: boolean): void {
    const { stdin, stdout, stderr } = this.#child
    for (const each of [this.#child, stdin, stdout, stderr] as unknown as readonly Held[])
      if (isNeeded) each.ref()
      else each.unref()
  }

  /** A program gets this process's environment as it is now. */
  #changedEnvironment(): NodeJS.ProcessEnv | null {
    const now = JSON.stringify(process.env)
    if (now === this.#environment) return null
    this.#environment = now
    return process.env
  }
}
