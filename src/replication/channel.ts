// A channel: one libp2p stream that carries frames both ways. Bounded: a writer that outruns its peer is told so.

import type { Stream } from '@libp2p/interface'
import { asVxmeshError, type VxmeshError } from '#model/errors.ts'
import { encodeFrame, FrameReader } from './frame.ts'

/** Bytes that may wait in a stream before `send` refuses. */
const MAX_WAITING_BYTES = 16 * 1024 * 1024

export type ChannelHandlers = {
  /** A payload; a throw closes the channel. */
  readonly frame: (payload: Uint8Array) => void
  /** Called once. */
  readonly closed: (reason: VxmeshError | null) => void
}

export class Channel {
  readonly #stream: Stream
  readonly #handlers: ChannelHandlers
  #reason: VxmeshError | null = null
  #closed = false

  constructor(stream: Stream, handlers: ChannelHandlers) {
    this.#stream = stream
    this.#handlers = handlers
    const reader = new FrameReader()
    stream.addEventListener('message', event => {
      try {
        for (const payload of reader.push(event.data.subarray())) handlers.frame(payload)
      } catch (err) {
        this.close(asVxmeshError(err))
      }
    })
    stream.addEventListener('close', () => this.#finish())
    stream.addEventListener('remoteCloseWrite', () => this.close(null))
  }

  /** Queues a frame. False when it was dropped: the channel is closed, or too much waits already. */
  send(payload: Uint8Array): boolean {
    if (this.#closed || this.#stream.status !== 'open') return false
    if (this.#stream.writeBufferLength + payload.byteLength > MAX_WAITING_BYTES) return false
    try {
      this.#stream.send(encodeFrame(payload))
      return true
    } catch (err) {
      this.close(asVxmeshError(err))
      return false
    }
  }

  close(reason: VxmeshError | null): void {
    if (this.#closed) return
    this.#reason = reason
    this.#stream.abort(reason ?? new Error('closed'))
    this.#finish()
  }

  #finish(): void {
    if (this.#closed) return
    this.#closed = true
    this.#handlers.closed(this.#reason)
  }
}
