// Frames on a byte stream: a 4-byte big-endian length, then the payload. All our streams use this framing. Pure.

import { VxmeshError } from '#model/errors.ts'

/** Largest payload accepted, bytes: enough for a full append-request or a page of catch-up. */
export const MAX_FRAME_BYTES = 4 * 1024 * 1024

const HEADER_BYTES = 4

/** Prefixes a payload with its length. @throws ERR_TOO_LARGE */
export function encodeFrame(payload: Uint8Array): Uint8Array {
  if (payload.byteLength > MAX_FRAME_BYTES) {
    throw new VxmeshError('ERR_TOO_LARGE', `a frame of ${payload.byteLength} bytes is over ${MAX_FRAME_BYTES}`)
  }
  const frame = new Uint8Array(HEADER_BYTES + payload.byteLength)
  new DataView(frame.buffer).setUint32(0, payload.byteLength)
  frame.set(payload, HEADER_BYTES)
  return frame
}

/** Splits a stream of chunks into frames. Buffers at most one incomplete frame and the last chunk. */
export class FrameReader {
  #chunks: Uint8Array[] = []
  #bytes = 0

  /**
   * Takes the next chunk and returns the payloads that it completes.
   * @throws ERR_TOO_LARGE when a length exceeds MAX_FRAME_BYTES; the stream must then be closed
   */
  push(chunk: Uint8Array): Uint8Array[] {
    if (chunk.byteLength > 0) {
      this.#chunks.push(chunk)
      this.#bytes += chunk.byteLength
    }
    const payloads: Uint8Array[] = []
    for (;;) {
      if (this.#bytes < HEADER_BYTES) return payloads
      const head = this.#gather(HEADER_BYTES)
      const length = new DataView(head.buffer, head.byteOffset, HEADER_BYTES).getUint32(0)
      if (length > MAX_FRAME_BYTES) {
        throw new VxmeshError('ERR_TOO_LARGE', `a frame announces ${length} bytes, over ${MAX_FRAME_BYTES}`)
      }
      if (this.#bytes < HEADER_BYTES + length) return payloads
      const whole = this.#gather(HEADER_BYTES + length)
      payloads.push(whole.subarray(HEADER_BYTES, HEADER_BYTES + length))
      this.#drop(HEADER_BYTES + length)
    }
  }

  /** Returns the first chunk, extended to at least `bytes`. Copies only when a frame spans chunks. */
  #gather(bytes: number): Uint8Array {
    let first = this.#chunks[0]
    if (first === undefined) throw new Error('gathering from an empty reader')
    if (first.byteLength >= bytes) return first
    first = Buffer.concat(this.#chunks, this.#bytes)
    this.#chunks = [first]
    return first
  }

  #drop(bytes: number): void {
    const first = this.#chunks[0]
    if (first === undefined) throw new Error('dropping from an empty reader')
    this.#bytes -= bytes
    if (first.byteLength === bytes) this.#chunks.shift()
    else this.#chunks[0] = first.subarray(bytes)
  }
}
