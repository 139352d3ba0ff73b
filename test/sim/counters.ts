// What a run did and reached: counters by name. A probe is a rare situation; one that is never reached is untested.

export class Tally {
  readonly counts: Record<string, number> = {}

  constructor(names: readonly string[]) {
    for (const name of names) this.counts[name] = 0
  }

  add(name: string, n = 1): void {
    const count = this.counts[name]
    if (count === undefined) throw new Error(`there is no counter ${name}`)
    this.counts[name] = count + n
  }

  merge(other: Tally): void {
    for (const [name, n] of Object.entries(other.counts)) this.add(name, n)
  }
}

/** A rolling hash of everything that happens: two runs with one hash went the same way. FNV-1a over 32-bit words. */
export class Trace {
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
