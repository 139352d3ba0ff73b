// Frames on a byte stream: a 4-byte big-endian length, then the payload. All our streams use this framing. Pure.

import { VxmeshError } from '#model/errors.ts'

/** Largest payload accepted, bytes: enough for a full append-request or a page of catch-up. */
export const MAX_FRAME_BYTES = 4 * 1024 * 1024

const HEADER_BYTES = 4

/** Prefixes a payload with its length. @throws ERR_TOO_LARGE */
export function encodeFrame(payload: Uint8Array): Uint8Array {
  return encodeFrames([payload])
}

/** The frames of several payloads, back to back: each payload is copied once. @throws ERR_TOO_LARGE */
export function encodeFrames(payloads: readonly Uint8Array[]): Uint8Array {
  let size = 0
  for (const { byteLength } of payloads) size += HEADER_BYTES + byteLength
  const frames = Buffer.allocUnsafe(size)
  let at = 0
  for (const payload of payloads) {
    checkLength(payload.byteLength)
    at = frames.writeUInt32BE(payload.byteLength, at)
    frames.set(payload, at)
    at += payload.byteLength
  }
  return frames
}

/** @throws ERR_TOO_LARGE */
export function checkLength(byteLength: number): void {
  if (byteLength <= MAX_FRAME_BYTES) return
  throw new VxmeshError('ERR_TOO_LARGE', `a frame of ${byteLength} bytes is over ${MAX_FRAME_BYTES}`)
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
