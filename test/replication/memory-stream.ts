// A byte stream between two hosts in memory. Each direction keeps its order; bytes arrive after the network's delay, and wait
// while the hosts are cut off from each other.

import type { MeshStream } from '#replication/transport/mesh-port.ts'

type Events = {
  readonly message: (event: { readonly data: Uint8Array }) => void
  readonly close: () => void
  readonly remoteCloseWrite: () => void
}

/** Runs `deliver` at the other end after the delay, in order; returns false when the connection is closed. */
export type Carrier = (deliver: () => void) => boolean

type Later = (run: () => void) => void

export class MemoryStream implements MeshStream {
  status: 'open' | 'closed' = 'open'
  writeBufferLength = 0
  #other: MemoryStream | null = null
  readonly #carry: Carrier
  readonly #closed: () => void
  readonly #later: Later
  /** Bytes that arrived before the first listener was added. */
  #early: Uint8Array[] = []
  readonly #listeners: { [K in keyof Events]: Events[K][] } = { message: [], close: [], remoteCloseWrite: [] }

  /** Two ends. @param p.closed runs once either end is closed @param p.later runs something a moment later, at each end */
  static pair(p: {
    there: Carrier
    back: Carrier
    closed: () => void
    later: readonly [near: Later, far: Later]
  }): [MemoryStream, MemoryStream] {
    const near = new MemoryStream(p.there, p.closed, p.later[0])
    const far = new MemoryStream(p.back, p.closed, p.later[1])
    near.#other = far
    far.#other = near
    return [near, far]
  }

  private constructor(carry: Carrier, closed: () => void, later: Later) {
    this.#carry = carry
    this.#closed = closed
    this.#later = later
  }

  send(bytes: Uint8Array): void {
    if (this.status !== 'open') throw new Error('the stream is closed')
    // The sender may reuse its buffer.
    const copy = Uint8Array.from(bytes)
    this.writeBufferLength += copy.byteLength
    this.#carry(() => {
      this.writeBufferLength -= copy.byteLength
      if (this.#other !== null) this.#other.#receive(copy)
    })
  }

  abort(): void {
    if (this.status !== 'open') return
    this.close()
    this.#carry(() => this.#other?.close())
  }

  /** The connection is gone. As with a socket, the event follows the status, and something else may run in between. */
  close(): void {
    if (this.status !== 'open') return
    this.status = 'closed'
    this.#closed()
    this.#later(() => {
      for (const listener of this.#listeners.close) listener()
    })
  }

  addEventListener<K extends keyof Events>(type: K, listener: Events[K]): void {
    this.#listeners[type].push(listener)
    if (type !== 'message') return
    const early = this.#early
    this.#early = []
    for (const bytes of early) this.#receive(bytes)
  }

  #receive(bytes: Uint8Array): void {
    if (this.status !== 'open') return
    if (this.#listeners.message.length === 0) this.#early.push(bytes)
    for (const listener of this.#listeners.message) listener({ data: bytes })
  }
}
