// Splits a byte stream into JSON objects. OVSDB sends objects back to back without separators (RFC 7047 section 4): an
// object ends where the nesting of braces outside strings returns to zero. Scanning bytes is safe: UTF-8 multi-byte
// sequences contain no ASCII.

import { VxmeshError } from '#model/errors.ts'

/** Maximum size of an object. A select of 10,000 ports is about 10 MB. */
const OBJECT_BYTES = 64 * 1024 * 1024

const [QUOTE, BACKSLASH, OPEN, CLOSE] = [0x22, 0x5c, 0x7b, 0x7d]

export class JsonStream {
  readonly #limit: number
  #parts: Uint8Array[] = []
  #bytes = 0
  #depth = 0
  #inString = false
  #escaped = false

  constructor(limit = OBJECT_BYTES) {
    this.#limit = limit
  }

  /** The objects that this chunk completes. @throws ERR_KERNEL for malformed or oversized input; the stream is unusable then */
  push(chunk: Uint8Array): readonly unknown[] {
    const found: unknown[] = []
    let start = 0
    for (let i = 0; i < chunk.length; i++) {
      const byte = chunk[i] ?? 0
      if (this.#inString) this.#string(byte)
      else if (byte === QUOTE) this.#inString = true
      else if (byte === OPEN) this.#depth++
      else if (byte === CLOSE && --this.#depth === 0) {
        this.#keep(chunk.subarray(start, i + 1))
        start = i + 1
        found.push(this.#take())
      }
      if (this.#depth < 0) throw malformed('an unmatched closing brace')
    }
    this.#keep(chunk.subarray(start))
    return found
  }

  #string(byte: number): void {
    if (this.#escaped) this.#escaped = false
    else if (byte === BACKSLASH) this.#escaped = true
    else if (byte === QUOTE) this.#inString = false
  }

  #keep(part: Uint8Array): void {
    this.#bytes += part.length
    if (this.#bytes > this.#limit) throw malformed(`an object of more than ${this.#limit} bytes`)
    if (part.length > 0) this.#parts.push(part)
  }

  #take(): unknown {
    const text = Buffer.concat(this.#parts).toString('utf8')
    this.#parts = []
    this.#bytes = 0
    try {
      return JSON.parse(text)
    } catch (err) {
      throw malformed('invalid JSON', err)
    }
  }
}

function malformed(what: string, cause?: unknown): VxmeshError {
  return new VxmeshError('ERR_KERNEL', `ovsdb-server sent ${what}`, { cause })
}
