// What a process tells its service manager, as it comes.

import { spawn } from 'node:child_process'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { waitFor } from './wait.ts'

export type Notice = { readonly pid: number; readonly lines: readonly string[] }

export class NotifySocket {
  readonly heard: Notice[] = []
  readonly #end: () => void

  private constructor(end: () => void) {
    this.#end = end
  }

  /** Listens at a path, or at `@name` for an abstract name; from here on nothing is missed. */
  static async open(address: string): Promise<NotifySocket> {
    const args = [join(import.meta.dirname, 'notify.py'), address]
    const child = spawn('/usr/bin/python3', args, { stdio: ['ignore', 'pipe', 'inherit'] })
    const socket = new NotifySocket(() => child.kill('SIGKILL'))
    createInterface({ input: child.stdout }).on('line', line => socket.heard.push(JSON.parse(line) as Notice))
    await waitFor(`something listens at ${address}`, () => socket.heard.length > 0)
    socket.heard.shift()
    return socket
  }

  /** Everything that was said, in its order. */
  get lines(): readonly string[] {
    return this.heard.flatMap(({ lines }) => lines)
  }

  close(): void {
    this.#end()
  }
}
