// The order of the feed. Pure. Gossip arrives doubled, shuffled or not at all; out come entries in index order, each
// once, and the word whether some are missing. Holds a bounded number of early entries; what does not fit is fetched.

import type { LogIndex } from '#model/ids.ts'
import type { Entry } from '#raft/types.ts'

/** Early entries kept while a gap before them is filled. */
export const MAX_EARLY_ENTRIES = 8_192

export class FeedOrder {
  #next: LogIndex
  #highest: LogIndex
  readonly #early = new Map<LogIndex, Entry>()

  /** @param applied the last index that this host already has */
  constructor(applied: LogIndex) {
    this.#next = (applied + 1) as LogIndex
    this.#highest = applied
  }

  /** The index that is wanted next. */
  get next(): LogIndex {
    return this.#next
  }

  /** The highest index that is known to be committed. */
  get highest(): LogIndex {
    return this.#highest
  }

  /** Is something known to be committed that has not been handed out? */
  get missing(): boolean {
    return this.#next <= this.#highest
  }

  /** A snapshot stands for all entries up to an index. What is early and beyond it stays. */
  skipTo(index: LogIndex): void {
    if (index < this.#next) return
    for (const early of this.#early.keys()) if (early <= index) this.#early.delete(early)
    this.#next = (index + 1) as LogIndex
    if (index > this.#highest) this.#highest = index
  }

  /** Takes committed entries and the commit index that came with them; returns what is now in order. */
  accept(entries: readonly Entry[], commitIndex: LogIndex): Entry[] {
    if (commitIndex > this.#highest) this.#highest = commitIndex
    for (const entry of entries) {
      if (entry.index < this.#next) continue
      if (entry.index > this.#highest) this.#highest = entry.index
      if (entry.index === this.#next || this.#early.size < MAX_EARLY_ENTRIES) this.#early.set(entry.index, entry)
    }
    const ready: Entry[] = []
    for (let entry = this.#early.get(this.#next); entry !== undefined; entry = this.#early.get(this.#next)) {
      this.#early.delete(this.#next)
      ready.push(entry)
      this.#next = (this.#next + 1) as LogIndex
    }
    return ready
  }
}
