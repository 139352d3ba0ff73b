// The replicated state machine of the simulation: counters behind client sessions (Raft thesis 6.3). A command adds to a
// counter and returns the sum; a retried command returns the first result. The digest covers every entry and result.

import type { LogIndex } from '#model/ids.ts'
import type { Entry } from '#raft/types.ts'

export type Command = { readonly client: number; readonly seq: number; readonly key: number; readonly amount: number }
/** `index`: the entry that took effect; for a retried command the first one. */
export type Outcome = { readonly index: LogIndex; readonly result: number }

const KEYS = 8
const COMMAND_BYTES = 10
const SESSION_BYTES = 16
const HEAD_BYTES = 8 + 4 * KEYS

export class Machine {
  digest = 1
  repeated = 0
  readonly #counters = new Int32Array(KEYS)
  readonly #sessions = new Map<number, Outcome & { readonly seq: number }>()

  /** @returns the result of a command; null for other entries */
  apply(entry: Entry): Outcome | null {
    this.#updateDigest(entry.index)
    this.#updateDigest(entry.term)
    if (entry.kind !== 'command') return null
    const { client, seq, key, amount } = decodeCommand(entry.data)
    const known = this.#sessions.get(client)
    if (known !== undefined && seq <= known.seq) {
      this.repeated += 1
      return known
    }
    const result = ((this.#counters[key] ?? 0) + amount) | 0
    this.#counters[key] = result
    const outcome = { seq, index: entry.index, result }
    this.#sessions.set(client, outcome)
    this.#updateDigest(client)
    this.#updateDigest(result)
    return outcome
  }

  /** @param first the session that is written first, so that equal states can have different encodings */
  encode(first: number): Uint8Array {
    const bytes = new Uint8Array(HEAD_BYTES + SESSION_BYTES * this.#sessions.size)
    const view = new DataView(bytes.buffer)
    view.setInt32(0, this.digest)
    view.setUint32(4, this.#sessions.size)
    for (const [key, value] of this.#counters.entries()) view.setInt32(8 + 4 * key, value)
    let at = HEAD_BYTES
    const sessions = [...this.#sessions]
    for (const [client, { seq, index, result }] of [...sessions.slice(first), ...sessions.slice(0, first)]) {
      for (const [n, value] of [client, seq, index, result].entries()) view.setInt32(at + 4 * n, value)
      at += SESSION_BYTES
    }
    return bytes
  }

  static decode(bytes: Uint8Array): Machine {
    const machine = new Machine()
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
    machine.digest = view.getInt32(0)
    for (let key = 0; key < KEYS; key++) machine.#counters[key] = view.getInt32(8 + 4 * key)
    for (let n = 0, at = HEAD_BYTES; n < view.getUint32(4); n++, at += SESSION_BYTES) {
      const outcome = {
        seq: view.getInt32(at + 4),
        index: view.getInt32(at + 8) as LogIndex,
        result: view.getInt32(at + 12)
      }
      machine.#sessions.set(view.getInt32(at), outcome)
    }
    return machine
  }

  #updateDigest(word: number): void {
    this.digest = Math.imul(this.digest ^ word, 0x9e3779b1) ^ (this.digest >>> 13)
  }
}

/** @param padding bytes after the command, so that entries differ in size */
export function encodeCommand(command: Command, padding: number): Uint8Array {
  const bytes = new Uint8Array(COMMAND_BYTES + padding)
  const view = new DataView(bytes.buffer)
  view.setUint32(0, command.client)
  view.setUint32(4, command.seq)
  view.setUint8(8, command.key)
  view.setUint8(9, command.amount)
  return bytes
}

function decodeCommand(bytes: Uint8Array): Command {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  return { client: view.getUint32(0), seq: view.getUint32(4), key: view.getUint8(8) % KEYS, amount: view.getUint8(9) }
}
