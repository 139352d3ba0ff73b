// Simulated time: a heap of scheduled actions, ordered by time and then by insertion.

type Item = { readonly atMs: number; readonly order: number; readonly run: () => void }

export class Schedule {
  nowMs = 0
  readonly #heap: Item[] = []
  #order = 0

  at(atMs: number, run: () => void): void {
    const item = { atMs: Math.max(atMs, this.nowMs), order: this.#order++, run }
    this.#heap.push(item)
    this.#up(item)
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
    this.#down(last)
  }

  /** Puts an item at the end in order. */
  #up(item: Item): void {
    const heap = this.#heap
    let at = heap.length - 1
    while (at > 0) {
      const above = (at - 1) >> 1
      const parent = heap[above]
      if (parent === undefined || isBefore(parent, item)) break
      heap[at] = parent
      at = above
    }
    heap[at] = item
  }

  /** Replaces the first item. */
  #down(item: Item): void {
    const heap = this.#heap
    let at = 0
    for (;;) {
      let below = 2 * at + 1
      let child = heap[below]
      if (child === undefined) break
      const right = heap[below + 1]
      if (right !== undefined && isBefore(right, child)) {
        child = right
        below += 1
      }
      if (isBefore(item, child)) break
      heap[at] = child
      at = below
    }
    heap[at] = item
  }
}

function isBefore(a: Item, b: Item): boolean {
  return a.atMs < b.atMs || (a.atMs === b.atMs && a.order < b.order)
}
