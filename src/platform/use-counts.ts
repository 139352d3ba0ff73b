// Which keys are in use, each perhaps several times at once; a key is forgotten when its last use ends.

export class UseCounts<K> {
  readonly #counts = new Map<K, number>()

  has(key: K): boolean {
    return this.#counts.has(key)
  }

  /** Runs the work; the key is in use until it has ended, well or not. */
  async during<T>(key: K, work: () => Promise<T>): Promise<T> {
    this.#counts.set(key, (this.#counts.get(key) ?? 0) + 1)
    try {
      return await work()
    } finally {
      const left = (this.#counts.get(key) ?? 1) - 1
      if (left === 0) this.#counts.delete(key)
      else this.#counts.set(key, left)
    }
  }
}
