// The only source of randomness of a simulation: sfc32. The same seed gives the same run on every machine.

export class Random {
  #a: number
  #b: number
  #c = 0x9e3779b9
  #d = 1

  constructor(seed: number) {
    this.#a = seed >>> 0
    this.#b = Math.floor(seed / 2 ** 32) >>> 0
    for (let n = 0; n < 15; n++) this.#next()
  }

  /** Uniform in [0, 1). */
  unit(): number {
    return this.#next() / 2 ** 32
  }

  /** A uniform integer from 0 to n - 1. */
  below(n: number): number {
    return Math.floor(this.unit() * n)
  }

  between(low: number, high: number): number {
    return low + this.unit() * (high - low)
  }

  chance(probability: number): boolean {
    return this.unit() < probability
  }

  pick<T>(items: readonly T[]): T {
    const item = items[this.below(items.length)]
    if (item === undefined) throw new Error('cannot pick from an empty list')
    return item
  }

  #next(): number {
    const t = (((this.#a + this.#b) >>> 0) + this.#d) >>> 0
    this.#d = (this.#d + 1) >>> 0
    this.#a = (this.#b ^ (this.#b >>> 9)) >>> 0
    this.#b = (this.#c + (this.#c << 3)) >>> 0
    this.#c = (((this.#c << 21) | (this.#c >>> 11)) + t) >>> 0
    return t
  }
}
