// The field encodings of the paper's messages: 32-bit signed little-endian integers, and strings as a length in bytes
// followed by UTF-8. Never reads past the received bytes, whatever a length field claims. Pure.

import { invalid } from '#model/errors.ts'

const INT_BYTES = 4
/** The longest text that is decoded: twice what a detail with the longest labels, paths and names takes. */
export const MAX_TEXT_BYTES = 16 * 1024
const INT_MAX = 0x7fffffff
const utf8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true })

export class FieldReader {
  readonly #bytes: Buffer
  #at = 0

  constructor(bytes: Buffer) {
    this.#bytes = bytes
  }

  /** @throws ERR_INVALID naming the field */
  int(field: string): number {
    if (this.#left < INT_BYTES) throw invalid(field, `needs ${INT_BYTES} bytes, but ${this.#left} are left`)
    const value = this.#bytes.readInt32LE(this.#at)
    this.#at += INT_BYTES
    return value
  }

  /** @throws ERR_INVALID naming the field */
  text(field: string): string {
    const length = this.int(`${field}Len`)
    if (length < 0 || length > this.#left) {
      throw invalid(`${field}Len`, `is ${length}, but ${this.#left} bytes are left`)
    }
    if (length > MAX_TEXT_BYTES) throw invalid(field, `has ${length} bytes, and ${MAX_TEXT_BYTES} are the most`)
    const part = this.#bytes.subarray(this.#at, this.#at + length)
    this.#at += length
    if (part.includes(0)) throw invalid(field, 'contains a zero byte')
    try {
      return utf8.decode(part)
    } catch (cause) {
      throw invalid(field, `is not UTF-8: ${cause instanceof Error ? cause.message : String(cause)}`)
    }
  }

  /** @throws ERR_INVALID when bytes are left over */
  end(): void {
    if (this.#left > 0) throw invalid('msgLen', `leaves ${this.#left} bytes after the last field`)
  }

  get #left(): number {
    return this.#bytes.byteLength - this.#at
  }
}

export class FieldWriter {
  readonly #fields: (number | string)[] = []
  #bytes = 0

  /** Saturates at the bounds of 32 bits. */
  int(value: number): this {
    this.#fields.push(Math.trunc(Math.min(INT_MAX, Math.max(-INT_MAX - 1, value))))
    this.#bytes += INT_BYTES
    return this
  }

  /** An IPv4 address as 32 bits; the upper half of the address space is negative. */
  address(value: number): this {
    return this.int(value | 0)
  }

  text(value: string): this {
    const bytes = Buffer.byteLength(value)
    this.int(bytes)
    this.#fields.push(value)
    this.#bytes += bytes
    return this
  }

  finish(): Buffer {
    const bytes = Buffer.allocUnsafe(this.#bytes)
    let at = 0
    for (const field of this.#fields) {
      if (typeof field === 'string') at += bytes.write(field, at)
      else at = bytes.writeInt32LE(field, at)
    }
    return bytes
  }
}
