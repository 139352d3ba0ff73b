// Simulated time: a heap of scheduled actions, ordered by time and then by insertion.

type Item = { readonly atMs: number; readonly order: number; readonly run: () => void }

export class Schedule {
  nowMs = 0
  readonly #heap: Item[] = []
  #order = 0

  at(atMs: number, run: () => void): void {
    this.#heap.push({ atMs: Math.max(atMs, this.nowMs), order: this.#order++, run })
    this.#up(this.#heap.length - 1)
  }

  after(ms: number, run: () => void): void {
    this.at(this.nowMs + ms, run)
  }

  /** Runs all actions that are due before a time; returns false as soon as `go` does. */
  runUntil(untilMs: number, go: () => boolean): boolean {
    while (this.runNext(untilMs)) if (!go()) return false
    this.nowMs = untilMs
    return true
  }

  /** Runs the next action that is due before a time. @returns false if there is none */
  runNext(untilMs: number): boolean {
    const next = this.#heap[0]
    if (next === undefined || next.atMs > untilMs) return false
    this.#pop()
    this.nowMs = next.atMs
    next.run()
    return true
  }

  #pop(): void {
    const last = this.#heap.pop()
    if (last === undefined || this.#heap.length === 0) return
    this.#heap[0] = last
    this.#down(0)
  }

  #up(at: number): void {
    for (let child = at; child > 0;) {
      const parent = (child - 1) >> 1
      if (!this.#before(child, parent)) return
      this.#swap(child, parent)
      child = parent
    }
  }

  #down(at: number): void {
    for (let parent = at; ;) {
      let least = parent
      for (const child of [2 * parent + 1, 2 * parent + 2]) {
        if (child < this.#heap.length && this.#before(child, least)) least = child
      }
      if (least === parent) return
      this.#swap(parent, least)
      parent = least
    }
  }

  #before(a: number, b: number): boolean {
    const [x, y] = [this.#heap[a], this.#heap[b]]
    if (x === undefined || y === undefined) return false
    return x.atMs < y.atMs || (x.atMs === y.atMs && x.order < y.order)
  }

  #swap(a: number, b: number): void {
    const [x, y] = [this.#heap[a], this.#heap[b]]
    if (x === undefined || y === undefined) return
    this.#heap[a] = y
    this.#heap[b] = x
  }
}
