// Cuts a stream into JSON texts. OVSDB sends objects back to back with nothing between them (RFC 7047 section 4): an end
// is where the depth of braces outside strings is zero again. Bytes alone: multi-byte characters hold none of these.

import { VxmeshError } from '#model/errors.ts'

/** A monitor's first answer of 10,000 ports is some 10 MB. */
const TEXT_BYTES = 64 * 1024 * 1024

const [QUOTE, BACKSLASH, OPEN, CLOSE] = [0x22, 0x5c, 0x7b, 0x7d]

export class JsonStream {
  readonly #limit: number
  #parts: Uint8Array[] = []
  #bytes = 0
  #depth = 0
  #inString = false
  #escaped = false

  constructor(limit = TEXT_BYTES) {
    this.#limit = limit
  }

  /** The objects that end in this chunk. @throws ERR_KERNEL for what is no object, or too long; the stream is of no use then */
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
      if (this.#depth < 0) throw broken('a brace that closes nothing')
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
    if (this.#bytes > this.#limit) throw broken(`an object of more than ${this.#limit} bytes`)
    if (part.length > 0) this.#parts.push(part)
  }

  #take(): unknown {
    const text = Buffer.concat(this.#parts).toString('utf8')
    this.#parts = []
    this.#bytes = 0
    try {
      return JSON.parse(text)
    } catch (err) {
      throw broken('what is no JSON', err)
    }
  }
}

function broken(what: string, cause?: unknown): VxmeshError {
  return new VxmeshError('ERR_KERNEL', `ovsdb-server sent ${what}`, { cause })
}
