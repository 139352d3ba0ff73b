// A sparse bit vector of up to 2^24 bits. A chunk of 4,096 bits exists only while one of them is set, so that the whole
// VNI space or a /8 takes memory only for what is used: 512 bytes per chunk. One more bit per chunk says whether it is
// full, so that a search skips 32 full chunks at a time and reads at most 256 words in 2^24 bits.

const CHUNK_BITS = 4_096
const CHUNK_SHIFT = 12
const WORD_BITS = 32

/** The most bits of one vector: the addresses of a /8, or all VNIs. */
export const BITS_MAX = 2 ** 24

type Chunk = { readonly words: Uint32Array; count: number }

export class BitVector {
  /** Number of bits; the last is size - 1. */
  readonly size: number
  readonly #chunks = new Map<number, Chunk>()
  readonly #full: Uint32Array
  #count = 0

  /** @param size number of bits, 1 to BITS_MAX. @throws Error on anything else: a broken invariant */
  constructor(size: number) {
    if (!Number.isInteger(size) || size < 1 || size > BITS_MAX) throw new Error(`a bit vector of ${size} bits`)
    this.size = size
    this.#full = new Uint32Array(wordsFor(this.#chunkTotal))
  }

  /** How many bits are set. */
  get count(): number {
    return this.#count
  }

  /** Allocated chunks: the memory that the vector takes. */
  get chunkCount(): number {
    return this.#chunks.size
  }

  /** False for a bit out of range. */
  has(bit: number): boolean {
    const chunk = this.#chunks.get(bit >>> CHUNK_SHIFT)
    return chunk !== undefined && this.#inRange(bit) && testBit(chunk.words, bit % CHUNK_BITS)
  }

  /** @throws Error when the bit is out of range or already set: a double allocation is a broken invariant */
  set(bit: number): void {
    if (!this.#inRange(bit) || this.has(bit)) throw new Error(`bit ${bit} of ${this.size} cannot be set`)
    const key = bit >>> CHUNK_SHIFT
    let chunk = this.#chunks.get(key)
    if (chunk === undefined) {
      chunk = { words: new Uint32Array(wordsFor(this.#bitsIn(key))), count: 0 }
      this.#chunks.set(key, chunk)
    }
    setBit(chunk.words, bit % CHUNK_BITS)
    chunk.count += 1
    this.#count += 1
    if (chunk.count === this.#bitsIn(key)) setBit(this.#full, key)
  }

  /** @throws Error when the bit is not set: a double release is a broken invariant */
  clear(bit: number): void {
    const key = bit >>> CHUNK_SHIFT
    const chunk = this.#chunks.get(key)
    if (chunk === undefined || !this.has(bit)) throw new Error(`bit ${bit} of ${this.size} cannot be cleared`)
    clearBit(chunk.words, bit % CHUNK_BITS)
    clearBit(this.#full, key)
    chunk.count -= 1
    this.#count -= 1
    if (chunk.count === 0) this.#chunks.delete(key)
  }

  /**
   * The first clear bit in [from, size), or else in [low, from); null when all of these are set.
   * @param from 0 to size
   */
  nextFree(from: number, low = 0): number | null {
    if (this.#count === this.size) return null
    return this.#freeBetween(Math.max(from, low), this.size) ?? this.#freeBetween(low, Math.min(from, this.size))
  }

  /** The set bits from one on, ascending. O(those bits + chunks log chunks). */
  *bits(from = 0): Generator<number> {
    for (const key of [...this.#chunks.keys()].sort((a, b) => a - b)) {
      const first = from - key * CHUNK_BITS
      if (first >= CHUNK_BITS) continue
      const words = this.#chunks.get(key)?.words ?? new Uint32Array()
      for (let at = Math.max(0, first) >>> 5; at < words.length; at++) {
        for (let rest = words[at] ?? 0; rest !== 0; rest &= rest - 1) {
          const bit = at * WORD_BITS + lowestBit(rest)
          if (bit >= first) yield key * CHUNK_BITS + bit
        }
      }
    }
  }

  /** The set bits as maximal runs of [first, last], ascending. O(set bits). */
  *runs(): Generator<readonly [first: number, last: number]> {
    let first = -1
    let last = -1
    for (const bit of this.bits()) {
      if (first >= 0 && bit !== last + 1) {
        yield [first, last]
        first = bit
      }
      if (first < 0) first = bit
      last = bit
    }
    if (first >= 0) yield [first, last]
  }

  get #chunkTotal(): number {
    return Math.ceil(this.size / CHUNK_BITS)
  }

  #bitsIn(key: number): number {
    return Math.min(CHUNK_BITS, this.size - key * CHUNK_BITS)
  }

  #inRange(bit: number): boolean {
    return Number.isInteger(bit) && bit >= 0 && bit < this.size
  }

  #freeBetween(from: number, to: number): number | null {
    let bit = from
    while (bit < to) {
      const key = firstClear(this.#full, bit >>> CHUNK_SHIFT, this.#chunkTotal)
      if (key === null) return null
      bit = Math.max(bit, key * CHUNK_BITS)
      if (bit >= to) return null
      const chunk = this.#chunks.get(key)
      if (chunk === undefined) return bit
      const end = Math.min(to, (key + 1) * CHUNK_BITS)
      const found = firstClear(chunk.words, bit % CHUNK_BITS, end - key * CHUNK_BITS)
      if (found !== null) return key * CHUNK_BITS + found
      bit = end
    }
    return null
  }
}

function wordsFor(bits: number): number {
  return Math.ceil(bits / WORD_BITS)
}

function testBit(words: Uint32Array, bit: number): boolean {
  return (((words[bit >>> 5] ?? 0) >>> (bit & 31)) & 1) === 1
}

function setBit(words: Uint32Array, bit: number): void {
  words[bit >>> 5] = (words[bit >>> 5] ?? 0) | (1 << (bit & 31))
}

function clearBit(words: Uint32Array, bit: number): void {
  words[bit >>> 5] = (words[bit >>> 5] ?? 0) & ~(1 << (bit & 31))
}

function lowestBit(word: number): number {
  return 31 - Math.clz32(word & -word)
}

/** The first clear bit in [from, to), or null. */
function firstClear(words: Uint32Array, from: number, to: number): number | null {
  for (let at = from; at < to; at = ((at >>> 5) + 1) << 5) {
    // Treats bits before `at` as set, so that only later ones are found.
    const free = ~((words[at >>> 5] ?? 0) | ((1 << (at & 31)) - 1))
    if (free === 0) continue
    const bit = ((at >>> 5) << 5) + lowestBit(free)
    return bit < to ? bit : null
  }
  return null
}
