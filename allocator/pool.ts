// A pool: a bit vector, a base and a cursor. Next-fit: the cursor rotates, so what was released is given again only
// after everything else, when stale caches of it have died out.

import { BitVector } from './bit-vector.ts'

export type PoolUse = {
  readonly base: number
  /** Values in the pool, reserved ones included. */
  readonly size: number
  /** Given to owners. */
  readonly used: number
  readonly reserved: number
  readonly cursor: number
}

export class Pool {
  readonly #base: number
  readonly #bits: BitVector
  readonly #reserved: ReadonlySet<number>
  /** Offset from which the next search starts. */
  #cursor: number

  /** @param p.reserved values that are never given and count as used from the start */
  constructor(p: {
    readonly base: number
    readonly size: number
    readonly reserved: readonly number[]
    readonly first: number
  }) {
    this.#base = p.base
    this.#bits = new BitVector(p.size)
    this.#reserved = new Set(p.reserved)
    this.#cursor = p.first - p.base
    for (const value of this.#reserved) this.#bits.set(value - p.base)
  }

  /** The next free value, or null when there is none. */
  take(): number | null {
    const value = this.peek()
    if (value !== null) this.takeAt(value)
    return value
  }

  /** What `take` would give, skipping values that `refuse` does not want; null when there is none. */
  peek(refuse: (value: number) => boolean = () => false): number | null {
    let from = this.#cursor
    for (let tries = 0; tries <= this.#bits.size - this.#bits.count; tries++) {
      const offset = this.#bits.nextClear(from)
      if (offset === null) return null
      if (!refuse(this.#base + offset)) return this.#base + offset
      from = (offset + 1) % this.#bits.size
    }
    return null
  }

  /** Takes a value that was found by `peek` and moves the cursor past it. */
  takeAt(value: number): void {
    this.claim(value)
    this.#cursor = (value - this.#base + 1) % this.#bits.size
  }

  /** Is this value in the pool's range, and neither reserved nor given? */
  isFree(value: number): boolean {
    const offset = value - this.#base
    return offset >= 0 && offset < this.#bits.size && !this.#bits.has(offset)
  }

  isReserved(value: number): boolean {
    return this.#reserved.has(value)
  }

  /** Gives a value that its owner chose. The cursor stays. @throws Error unless it is free */
  claim(value: number): void {
    this.#bits.set(value - this.#base)
  }

  /** @throws Error when the value is reserved or not given */
  release(value: number): void {
    if (this.#reserved.has(value)) throw new Error(`${value} is reserved`)
    this.#bits.clear(value - this.#base)
  }

  use(): PoolUse {
    const reserved = this.#reserved.size
    const { count, size } = this.#bits
    return { base: this.#base, size, used: count - reserved, reserved, cursor: this.#base + this.#cursor }
  }

  /** All values that are not free, reserved ones included, ascending. */
  *values(): Generator<number> {
    for (const bit of this.#bits.bits()) yield this.#base + bit
  }

  /** Puts the cursor where a snapshot says that it was. */
  restoreCursor(value: number): void {
    this.#cursor = value - this.#base
  }
}
