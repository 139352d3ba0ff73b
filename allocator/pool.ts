// A pool: a bit vector, a base and a cursor. Next-fit: the cursor follows the last allocation and wraps around, so a
// value that has just been released is reused last, when caches of it have expired.

import { BitVector } from './bit-vector.ts'

export type PoolOptions = {
  /** The value of bit 0. */
  readonly base: number
  /** Values in the pool, reserved ones included; 1 to BITS_MAX. */
  readonly size: number
  /** Never allocated; their bits are always set. */
  readonly reserved: readonly number[]
  /** The first automatic value; lower ones are allocated only on request. */
  readonly firstAutomatic: number
}

export type PoolUse = {
  readonly base: number
  readonly size: number
  /** Allocated values, without reserved ones. */
  readonly used: number
  readonly reserved: number
  /** Where the next search for an automatic value starts. */
  readonly cursor: number
}

export class Pool {
  readonly #base: number
  readonly #bits: BitVector
  readonly #reserved: ReadonlySet<number>
  readonly #low: number
  #cursor: number

  constructor({ base, size, reserved, firstAutomatic }: PoolOptions) {
    this.#base = base
    this.#bits = new BitVector(size)
    this.#reserved = new Set(reserved)
    this.#low = firstAutomatic - base
    this.#cursor = this.#low
    for (const value of this.#reserved) this.#bits.set(value - base)
  }

  /**
   * The next automatic value, for `take`; null when none is free. Allocates nothing.
   * @param refuse true for a free value that cannot be used; each costs one more search
   */
  next(refuse?: (value: number) => boolean): number | null {
    const first = this.#bits.nextFree(this.#cursor, this.#low)
    let offset = first
    while (offset !== null) {
      const value = this.#base + offset
      if (refuse?.(value) !== true) return value
      offset = this.#bits.nextFree(offset + 1, this.#low)
      if (offset === first) return null
    }
    return null
  }

  /** Allocates a value that `next` found and moves the cursor past it. @throws Error unless it is free */
  take(value: number): void {
    this.claim(value)
    this.#cursor = value - this.#base + 1
    if (this.#cursor === this.#bits.size) this.#cursor = this.#low
  }

  /** Allocates a value that the caller chose; the cursor stays. @throws Error unless it is free */
  claim(value: number): void {
    this.#bits.set(value - this.#base)
  }

  /** @throws Error when the value is reserved or not allocated: a broken invariant */
  release(value: number): void {
    if (this.#reserved.has(value)) throw new Error(`${value} is reserved`)
    this.#bits.clear(value - this.#base)
  }

  /** Whether the value is in the pool's range, and neither reserved nor allocated. */
  isFree(value: number): boolean {
    const offset = value - this.#base
    return offset >= 0 && offset < this.#bits.size && !this.#bits.has(offset)
  }

  isReserved(value: number): boolean {
    return this.#reserved.has(value)
  }

  use(): PoolUse {
    const reserved = this.#reserved.size
    const { count, size } = this.#bits
    return { base: this.#base, size, used: count - reserved, reserved, cursor: this.cursor }
  }

  get cursor(): number {
    return this.#base + this.#cursor
  }

  /** Restores the cursor from a snapshot. @throws Error when it is out of range */
  restoreCursor(value: number): void {
    const offset = value - this.#base
    if (!Number.isInteger(offset) || offset < this.#low || offset >= this.#bits.size) {
      throw new Error(`a cursor at ${value} in a pool of ${this.#bits.size} from ${this.#base}`)
    }
    this.#cursor = offset
  }

  /** All values from one on whose bit is set, reserved ones included, ascending. */
  *values(from = this.#base): Generator<number> {
    for (const bit of this.#bits.bits(Math.max(0, from - this.#base))) yield this.#base + bit
  }

  /** The same as runs of [first, last]. */
  *runs(): Generator<readonly [first: number, last: number]> {
    for (const [first, last] of this.#bits.runs()) yield [this.#base + first, this.#base + last]
  }
}
