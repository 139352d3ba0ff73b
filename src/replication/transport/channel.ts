// A channel: one libp2p stream that carries frames both ways. Bounded: a writer that outruns its peer is told so.
// Frames of one turn of the event loop leave together: what a write costs on its way through muxer, encryption and
// kernel is then paid once for many.

import type { Stream } from '@libp2p/interface'
import { asVxmeshError, type VxmeshError } from '#model/errors.ts'
import { encodeFrame, FrameReader } from './frame.ts'

/** Bytes that may wait here and in the stream before `send` refuses. */
const MAX_WAITING_BYTES = 16 * 1024 * 1024
/** Frames are handed on at the end of the turn, or as soon as so many bytes have gathered. */
const FLUSH_BYTES = 64 * 1024

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
  #waiting: Uint8Array[] = []
  #waitingBytes = 0

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
    // A stream that ended before anybody listened will not say so any more.
    if (this.#stream.status !== 'open') this.close(null)
    if (this.#closed) return false
    const ahead = this.#stream.writeBufferLength + this.#waitingBytes
    if (ahead + payload.byteLength > MAX_WAITING_BYTES) return false
    const frame = encodeFrame(payload)
    if (this.#waiting.push(frame) === 1) setImmediate(() => this.flush())
    this.#waitingBytes += frame.byteLength
    if (this.#waitingBytes >= FLUSH_BYTES) this.flush()
    return true
  }

  /** Hands on what waits now, for a caller who knows that nothing follows. */
  flush(): void {
    const frames = this.#waiting
    if (frames.length === 0 || this.#closed || this.#stream.status !== 'open') return
    this.#waiting = []
    this.#waitingBytes = 0
    try {
      this.#stream.send(frames.length === 1 && frames[0] !== undefined ? frames[0] : Buffer.concat(frames))
    } catch (err) {
      this.close(asVxmeshError(err))
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
