// A sparse bit vector. Bits live in chunks of 4,096 that exist only while one of them is set, each with its count, so
// the whole VNI space or a /8 costs memory for what is used, and a search passes a full chunk in one step.

const CHUNK_BITS = 4_096
const WORD_BITS = 32

type Chunk = { readonly words: Uint32Array; count: number }

export class BitVector {
  readonly size: number
  readonly #chunks = new Map<number, Chunk>()
  #count = 0

  /** @param size number of bits, up to 2^32 */
  constructor(size: number) {
    this.size = size
  }

  /** Bits that are set. */
  get count(): number {
    return this.#count
  }

  has(bit: number): boolean {
    const chunk = this.#chunks.get(Math.floor(bit / CHUNK_BITS))
    if (chunk === undefined) return false
    const at = bit % CHUNK_BITS
    return (((chunk.words[at >>> 5] ?? 0) >>> (at & 31)) & 1) === 1
  }

  /** @throws Error when the bit is out of range or set already: an allocation made twice is a broken invariant */
  set(bit: number): void {
    if (!Number.isInteger(bit) || bit < 0 || bit >= this.size || this.has(bit))
      throw new Error(`bit ${bit} cannot be set`)
    const key = Math.floor(bit / CHUNK_BITS)
    const chunk = this.#chunks.get(key) ?? { words: new Uint32Array(CHUNK_BITS / WORD_BITS), count: 0 }
    const at = bit % CHUNK_BITS
    chunk.words[at >>> 5] = (chunk.words[at >>> 5] ?? 0) | (1 << (at & 31))
    chunk.count += 1
    this.#count += 1
    this.#chunks.set(key, chunk)
  }

  /** @throws Error when the bit is not set */
  clear(bit: number): void {
    const key = Math.floor(bit / CHUNK_BITS)
    const chunk = this.#chunks.get(key)
    if (chunk === undefined || !this.has(bit)) throw new Error(`bit ${bit} cannot be cleared`)
    const at = bit % CHUNK_BITS
    chunk.words[at >>> 5] = (chunk.words[at >>> 5] ?? 0) & ~(1 << (at & 31))
    chunk.count -= 1
    this.#count -= 1
    if (chunk.count === 0) this.#chunks.delete(key)
  }

  /** The first clear bit at or after `from`, going round the end once; null when all are set. O(chunks). */
  nextClear(from: number): number | null {
    if (this.#count >= this.size) return null
    return this.#clearBetween(from, this.size) ?? this.#clearBetween(0, from)
  }

  /** The set bits in ascending order. O(set chunks). */
  *bits(): Generator<number> {
    for (const key of [...this.#chunks.keys()].sort((a, b) => a - b)) {
      const words = this.#chunks.get(key)?.words ?? []
      for (const [at, word] of words.entries()) {
        for (let rest = word; rest !== 0; rest &= rest - 1) {
          yield key * CHUNK_BITS + at * WORD_BITS + (31 - Math.clz32(rest & -rest))
        }
      }
    }
  }

  #clearBetween(from: number, to: number): number | null {
    for (let bit = from; bit < to;) {
      const key = Math.floor(bit / CHUNK_BITS)
      const chunk = this.#chunks.get(key)
      if (chunk === undefined) return bit
      const end = Math.min(to, (key + 1) * CHUNK_BITS)
      if (chunk.count < CHUNK_BITS) {
        const found = clearInChunk(chunk.words, bit % CHUNK_BITS, end - key * CHUNK_BITS)
        if (found !== null) return key * CHUNK_BITS + found
      }
      bit = end
    }
    return null
  }
}

function clearInChunk(words: Uint32Array, from: number, to: number): number | null {
  for (let at = from; at < to; at = ((at >>> 5) + 1) << 5) {
    // Bits before `at` count as set, so that only later ones are found.
    const free = ~((words[at >>> 5] ?? 0) | ((1 << (at & 31)) - 1))
    if (free === 0) continue
    const bit = ((at >>> 5) << 5) + (31 - Math.clz32(free & -free))
    return bit < to ? bit : null
  }
  return null
}
