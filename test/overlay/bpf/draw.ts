// Random choices for packets that are mostly right.

export class Draw {
  /** A whole number below `bound`. */
  readonly below: (bound: number) => number

  constructor(below: (bound: number) => number) {
    this.below = below
  }

  one<T>(values: readonly T[]): T {
    return values[this.below(values.length)] as T
  }

  mostly<T>(value: T, otherwise: () => T): T {
    return this.below(12) === 0 ? otherwise() : value
  }

  /** Fewer than `most`. */
  bytes(most: number): Buffer {
    return Buffer.from(Array.from({ length: this.below(most) }, () => this.below(256)))
  }
}
