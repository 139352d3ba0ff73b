// A program of ours in a namespace. It reads requests as lines of JSON and answers each with one line; its first line,
// unprompted, means that it is ready.

import { spawn, type ChildProcessWithoutNullStreams } from 'node:child_process'
import { once } from 'node:events'
import { createInterface, type Interface } from 'node:readline'

export class JsonProcess {
  readonly #child: ChildProcessWithoutNullStreams
  readonly #lines: AsyncIterator<string>
  readonly #ended: Promise<null>

  private constructor(child: ChildProcessWithoutNullStreams, lines: Interface) {
    this.#child = child
    this.#lines = lines[Symbol.asyncIterator]()
    this.#ended = once(child, 'exit').then(() => null)
  }

  /** @param script absolute path of a TypeScript file */
  static async start(namespace: string, script: string, args: readonly string[]): Promise<JsonProcess> {
    const child = spawn('ip', ['netns', 'exec', namespace, process.execPath, script, ...args])
    child.stderr.pipe(process.stderr)
    const started = new JsonProcess(child, createInterface({ input: child.stdout }))
    await started.#next()
    return started
  }

  /** `ip netns exec` becomes the program itself. */
  get pid(): number {
    return this.#child.pid ?? 0
  }

  /** @throws Error when the process ends without an answer */
  ask(question: unknown): Promise<unknown> {
    this.#child.stdin.write(`${JSON.stringify(question)}\n`)
    return this.#next()
  }

  /** Closes its standard input, which ends the process. */
  async stop(): Promise<void> {
    if (this.#child.exitCode !== null) return
    this.#child.stdin.end()
    await this.#ended
  }

  async #next(): Promise<unknown> {
    const line = await Promise.race([this.#lines.next(), this.#ended])
    if (line === null || line.done === true) throw new Error('the process ended')
    return JSON.parse(line.value) as unknown
  }
}

/** The other side: answers each line until its input ends. */
export async function answerLines(answer: (question: unknown) => Promise<unknown>): Promise<void> {
  process.stdout.write(`${JSON.stringify('ready')}\n`)
  for await (const line of createInterface({ input: process.stdin })) {
    process.stdout.write(`${JSON.stringify(await answer(JSON.parse(line)))}\n`)
  }
}
