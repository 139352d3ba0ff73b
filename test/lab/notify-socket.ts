// Collects what processes report to their service manager (sd_notify).

import { spawn } from 'node:child_process'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { waitFor } from './wait.ts'

export type Notice = { readonly pid: number; readonly lines: readonly string[] }

export class NotifySocket {
  readonly notices: Notice[] = []
  readonly #end: () => void

  private constructor(end: () => void) {
    this.#end = end
  }

  /** Listens at a path, or at `@name` for an abstract name. */
  static async open(address: string): Promise<NotifySocket> {
    const args = [join(import.meta.dirname, 'notify.py'), address]
    const child = spawn('/usr/bin/python3', args, { stdio: ['ignore', 'pipe', 'inherit'] })
    const socket = new NotifySocket(() => child.kill('SIGKILL'))
    createInterface({ input: child.stdout }).on('line', line => socket.notices.push(JSON.parse(line) as Notice))
    await waitFor(`something listens at ${address}`, () => socket.notices.length > 0)
    socket.notices.shift()
    return socket
  }

  /** All lines in their order. */
  get lines(): readonly string[] {
    return this.notices.flatMap(({ lines }) => lines)
  }

  close(): void {
    this.#end()
  }
}
