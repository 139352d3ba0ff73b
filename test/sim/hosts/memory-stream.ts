// One end of a byte stream in memory: in order and reliable until it closes. While its link is cut, bytes in flight wait.

import type { MeshStream } from '#replication/transport/mesh-port.ts'
import type { Life } from './life.ts'

type Listener = (event: { readonly data: Uint8Array }) => void

export type MemoryStreamOptions = {
  readonly from: Life
  readonly to: Life
  readonly nowMs: () => number
  /** Does the link carry bytes in this direction? */
  readonly isOpen: () => boolean
  readonly latencyMs: () => number
}

export class MemoryStream implements MeshStream {
  readonly #options: MemoryStreamOptions
  readonly #messageListeners: Listener[] = []
  readonly #closeListeners: (() => void)[] = []
  #other: MemoryStream | null = null
  #isClosed = false
  /** Chunks that arrived before anybody listened. */
  #unread: Uint8Array[] = []
  /** Chunks that wait for the link to heal. */
  #stalled: Uint8Array[] = []
  #lastArrivalMs = 0
  #bytesInFlight = 0

  constructor(options: MemoryStreamOptions) {
    this.#options = options
  }

  connect(other: MemoryStream): void {
    this.#other = other
  }

  get status(): string {
    return this.#isClosed ? 'closed' : 'open'
  }

  get writeBufferLength(): number {
    return this.#bytesInFlight
  }

  send(bytes: Uint8Array): void {
    const { from, nowMs, latencyMs } = this.#options
    if (!from.isAlive || this.#isClosed) return
    const chunk = Uint8Array.from(bytes)
    this.#bytesInFlight += chunk.byteLength
    this.#lastArrivalMs = Math.max(this.#lastArrivalMs, nowMs() + latencyMs())
    this.#options.to.after(this.#lastArrivalMs - nowMs(), () => {
      if (this.#stalled.length > 0 || !this.#options.isOpen()) this.#stalled.push(chunk)
      else this.#arrive(chunk)
    })
  }

  /** The link has healed. */
  resume(): void {
    const chunks = this.#stalled
    this.#stalled = []
    for (const chunk of chunks) this.#options.to.run(() => this.#arrive(chunk))
  }

  abort(): void {
    if (this.#isClosed) return
    this.#close()
    const other = this.#other
    if (this.#options.from.isAlive) this.#options.to.after(this.#options.latencyMs(), () => other?.closeByNetwork())
  }

  /** The connection is gone; bytes in flight are lost. */
  closeByNetwork(): void {
    this.#options.from.run(() => this.#close())
  }

  addEventListener(type: 'message', listener: Listener): void
  addEventListener(type: 'close' | 'remoteCloseWrite', listener: () => void): void
  addEventListener(type: string, listener: Listener & (() => void)): void {
    if (type === 'close') this.#closeListeners.push(listener)
    if (type !== 'message') return
    this.#messageListeners.push(listener)
    const chunks = this.#unread
    this.#unread = []
    for (const data of chunks) this.#emit(data)
  }

  #arrive(chunk: Uint8Array): void {
    this.#bytesInFlight -= chunk.byteLength
    this.#other?.receive(chunk)
  }

  receive(data: Uint8Array): void {
    if (this.#isClosed) return
    if (this.#messageListeners.length === 0) this.#unread.push(data)
    else this.#emit(data)
  }

  #emit(data: Uint8Array): void {
    for (const listener of this.#messageListeners) listener({ data })
  }

  #close(): void {
    if (this.#isClosed) return
    this.#isClosed = true
    this.#stalled = []
    for (const listener of this.#closeListeners) listener()
  }
}
