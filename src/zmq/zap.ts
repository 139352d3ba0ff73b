// Authentication of ZeroMQ clients: CURVE proves a client's key, and only listed keys are accepted (ZeroMQ RFC 27, ZAP
// version 1.0). Without CURVE every client is accepted, but must speak ZMTP 3.0: the library reads other bytes, such as
// an HTTP request, as ZMTP 1.0, and refuses that version when a handler is set.

import { Reply } from 'zeromq'
import type { Clock } from '#platform/clock.ts'
import { isErrno } from '#platform/storage-error.ts'

const ADDRESS = 'inproc://zeromq.zap.01'
const VERSION = '1.0'
/** How long a closed socket may keep the address; usually some milliseconds. */
const [FREED_MS, RETRY_MS] = [2_000, 5]

/** Base85 of ZeroMQ RFC 32. */
const ALPHABET = '0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ.-:+=^!/*?&<>()[]{}@%$#'

/** Answers the library's authentication requests until closed. */
export class ZapHandler {
  readonly #socket = new Reply()
  readonly #allowed: ReadonlySet<string> | null
  readonly #onAdmit: (domain: string) => void

  /**
   * One handler per process. @param p.allowedKeys null: no key is needed
   * @param p.onAdmit called with the domain of a socket before a client is let in there
   */
  constructor(p: { readonly allowedKeys: readonly string[] | null; readonly onAdmit: (domain: string) => void }) {
    this.#allowed = p.allowedKeys === null ? null : new Set(p.allowedKeys)
    this.#onAdmit = p.onAdmit
  }

  /** Waits for the address while a handler that was closed before still has it. @throws Error with code EADDRINUSE */
  async start(clock: Pick<Clock, 'nowMs' | 'sleep'>): Promise<void> {
    for (const until = clock.nowMs() + FREED_MS; ;) {
      try {
        await this.#socket.bind(ADDRESS)
        break
      } catch (err) {
        if (!isErrno(err, 'EADDRINUSE') || clock.nowMs() >= until) throw err
        await clock.sleep(RETRY_MS)
      }
    }
    void this.#serve()
  }

  /** The library frees the address a moment later. Unbinding it before makes libzmq abort while a client is let in. */
  close(): void {
    this.#socket.close()
  }

  async #serve(): Promise<void> {
    try {
      for await (const question of this.#socket) await this.#socket.send(this.#verdict(question))
    } catch (err) {
      if (!this.#socket.closed) throw err
    }
  }

  #verdict(question: readonly Buffer[]): (string | Buffer)[] {
    const [version = '', requestId = '', domain = '', , , mechanism = '', key] = question
    if (version.toString() === VERSION && this.#admits(mechanism.toString(), key)) {
      this.#onAdmit(domain.toString())
      return [VERSION, requestId, '200', 'OK', '', '']
    }
    return [VERSION, requestId, '400', 'this key is not allowed', '', '']
  }

  #admits(mechanism: string, key: Buffer | undefined): boolean {
    if (this.#allowed === null) return mechanism === 'NULL'
    return mechanism === 'CURVE' && key !== undefined && this.#allowed.has(encodeZ85(key))
  }
}

/** 32 bytes as the 40 characters of a key's text form. */
export function encodeZ85(bytes: Buffer): string {
  let text = ''
  for (let at = 0; at + 4 <= bytes.byteLength; at += 4) {
    let value = bytes.readUInt32BE(at)
    let group = ''
    for (let n = 0; n < 5; n++) {
      group = (ALPHABET[value % 85] ?? '') + group
      value = Math.floor(value / 85)
    }
    text += group
  }
  return text
}
