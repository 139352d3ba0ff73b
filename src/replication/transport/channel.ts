// A channel: a stream that carries frames both ways. Bounded: `send` refuses a frame when the peer reads too
// slowly. The frames of one turn of the event loop are coalesced, so that muxer, encryption and kernel see one write.

import { asVxmeshError, type VxmeshError } from '#model/errors.ts'
import type { MeshStream } from './mesh-port.ts'
import { checkLength, encodeFrames, FrameReader } from './frame.ts'

/** Bytes that may be queued here and in the stream before `send` refuses a frame. */
const MAX_QUEUED_BYTES = 16 * 1024 * 1024
/** Queued bytes at which frames are written at once instead of at the end of the turn. */
const FLUSH_BYTES = 64 * 1024

type ChannelHandlers = {
  /** Receives one payload; an exception closes the channel. */
  readonly frame: (payload: Uint8Array) => void
  /** Called once, with the error that closed the channel or null; never before the constructor has returned. */
  readonly closed: (reason: VxmeshError | null) => void
}

export class Channel {
  readonly #stream: MeshStream
  readonly #handlers: ChannelHandlers
  /** What has arrived already is taken in the constructor, and may close the channel before its owner has it. */
  #isMade = false
  #reason: VxmeshError | null = null
  #closed = false
  #queue: Uint8Array[] = []
  #queuedBytes = 0

  constructor(stream: MeshStream, handlers: ChannelHandlers) {
    this.#stream = stream
    this.#handlers = handlers
    const reader = new FrameReader()
    stream.addEventListener('message', event => {
      try {
        for (const payload of reader.push(event.data.subarray())) {
          if (payload.byteLength > 0 || stream.hasKeepAlives !== true) handlers.frame(payload)
        }
      } catch (err) {
        this.close(asVxmeshError(err))
      }
    })
    stream.addEventListener('close', () => this.#finish())
    stream.addEventListener('remoteCloseWrite', () => this.close(null))
    this.#isMade = true
  }

  /**
   * Queues a frame; its payload must not change afterwards.
   * @returns false when it was dropped because the channel is closed or the queue is full @throws ERR_TOO_LARGE
   */
  send(payload: Uint8Array): boolean {
    // A stream that closed before the listeners were added emits no event.
    if (this.#stream.status !== 'open') this.close(null)
    if (this.#closed) return false
    const queued = this.#stream.writeBufferLength + this.#queuedBytes
    if (queued + payload.byteLength > MAX_QUEUED_BYTES) return false
    checkLength(payload.byteLength)
    if (this.#queue.push(payload) === 1) setImmediate(() => this.flush())
    this.#queuedBytes += payload.byteLength
    if (this.#queuedBytes >= FLUSH_BYTES) this.flush()
    return true
  }

  /** Writes the queued frames now; for a caller that has nothing to add in this turn. */
  flush(): void {
    const payloads = this.#queue
    if (payloads.length === 0 || this.#closed || this.#stream.status !== 'open') return
    this.#queue = []
    this.#queuedBytes = 0
    try {
      this.#stream.send(encodeFrames(payloads))
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
    const closed = (): void => this.#handlers.closed(this.#reason)
    if (this.#isMade) closed()
    else queueMicrotask(closed)
  }
}
