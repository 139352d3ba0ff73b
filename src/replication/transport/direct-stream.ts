// A direct stream as the channels use it: a TLS socket that is this stream's alone, whose peer has proved who it is.

import type { TLSSocket } from 'node:tls'
import type { PeerId } from '#model/ids.ts'
import type { MeshStream } from './mesh-port.ts'

/** A frame without a payload: it says only that this end is alive. */
const KEEP_ALIVE = new Uint8Array(4)
/** Rounds without a byte of the peer, each with a keep-alive of its own, after which it counts as lost. */
const MAX_SILENT_ROUNDS = 4
/** Rounds after which the dialler closes a stream on which it has sent nothing: one of the many hosts that ask a leader rarely. */
const MAX_IDLE_ROUNDS = 60

type Listeners = {
  readonly message: ((event: { readonly data: Uint8Array }) => void)[]
  readonly close: (() => void)[]
  readonly remoteCloseWrite: (() => void)[]
}

export class DirectStream implements MeshStream {
  readonly peer: PeerId
  readonly protocol: string
  readonly direction: 'inbound' | 'outbound'
  readonly remoteAddress: string
  readonly hasKeepAlives = true
  readonly #socket: TLSSocket
  readonly #listeners: Listeners = { message: [], close: [], remoteCloseWrite: [] }
  #silentRounds = 0
  #idleRounds = 0

  constructor(
    socket: TLSSocket,
    p: { readonly peer: PeerId; readonly protocol: string; readonly direction: 'inbound' | 'outbound' }
  ) {
    this.#socket = socket
    this.peer = p.peer
    this.protocol = p.protocol
    this.direction = p.direction
    this.remoteAddress = socket.remoteAddress ?? ''
    // An error is followed by `close`.
    socket.on('error', () => undefined)
    socket.on('close', () => this.#listeners.close.forEach(listener => listener()))
    socket.on('end', () => this.#listeners.remoteCloseWrite.forEach(listener => listener()))
  }

  get status(): 'open' | 'closed' {
    return this.#socket.writable ? 'open' : 'closed'
  }

  get writeBufferLength(): number {
    return this.#socket.writableLength
  }

  send(bytes: Uint8Array): void {
    this.#idleRounds = 0
    this.#socket.write(bytes)
  }

  abort(): void {
    this.#socket.destroy()
  }

  /** Closes the stream when the peer is silent or the stream unused; otherwise the peer hears of this end once a round. */
  keepAlive(): void {
    const isUsed = this.#idleRounds === 0
    this.#silentRounds += 1
    this.#idleRounds += 1
    const isIdle = this.direction === 'outbound' && this.#idleRounds > MAX_IDLE_ROUNDS
    if (isIdle || this.#silentRounds > MAX_SILENT_ROUNDS) this.abort()
    else if (!isUsed) this.#socket.write(KEEP_ALIVE)
  }

  addEventListener(type: 'message', listener: (event: { readonly data: Uint8Array }) => void): void
  addEventListener(type: 'close' | 'remoteCloseWrite', listener: () => void): void
  addEventListener<K extends keyof Listeners>(type: K, listener: Listeners[K][number]): void {
    const listeners: Listeners[K][number][] = this.#listeners[type]
    listeners.push(listener)
    if (type === 'message' && listeners.length === 1) this.#read()
  }

  #read(): void {
    this.#socket.on('data', (data: Buffer) => {
      this.#silentRounds = 0
      for (const listener of this.#listeners.message) listener({ data })
    })
    // What arrives before is held back by TCP.
    this.#socket.resume()
  }
}
