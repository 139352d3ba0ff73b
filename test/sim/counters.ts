// Named counters of a run, and the hash of its trace. A probe counts a rare situation: one at 0 was never tested.

export class Counters {
  readonly counts: Record<string, number> = {}

  constructor(names: readonly string[]) {
    for (const name of names) this.counts[name] = 0
  }

  add(name: string, n = 1): void {
    const count = this.counts[name]
    if (count === undefined) throw new Error(`no counter is named ${name}`)
    this.counts[name] = count + n
  }

  merge(other: Counters): void {
    for (const [name, n] of Object.entries(other.counts)) this.add(name, n)
  }
}

/** A rolling hash of all events: equal hashes mean equal runs. FNV-1a over 32-bit words. */
export class TraceHash {
  #a = 0x811c9dc5
  #b = 0x01000193

  add(...words: readonly number[]): void {
    for (const word of words) {
      this.#a = Math.imul(this.#a ^ word, 0x01000193)
      this.#b = Math.imul(((this.#b << 5) | (this.#b >>> 27)) ^ word, 0x9e3779b1)
    }
  }

  get hex(): string {
    return [this.#a, this.#b].map(word => (word >>> 0).toString(16).padStart(8, '0')).join('')
  }
}
