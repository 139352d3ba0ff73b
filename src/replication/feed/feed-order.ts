// Puts the feed in order. Pure. Gossip arrives duplicated, shuffled or not at all; entries come out in index order, each
// once. Early entries are buffered up to a bound; those that do not fit are fetched later.

import type { LogIndex } from '#model/ids.ts'
import type { Entry } from '#raft/types.ts'

/** Early entries buffered while the gap before them is filled. */
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

  /** The next index to hand out. */
  get next(): LogIndex {
    return this.#next
  }

  /** The highest index known to be committed. */
  get highest(): LogIndex {
    return this.#highest
  }

  /** Is an entry known to be committed that was not handed out yet? */
  get missing(): boolean {
    return this.#next <= this.#highest
  }

  /** A snapshot covers all entries up to an index. Early entries beyond it stay buffered. */
  skipTo(index: LogIndex): void {
    if (index < this.#next) return
    for (const early of this.#early.keys()) if (early <= index) this.#early.delete(early)
    this.#next = (index + 1) as LogIndex
    if (index > this.#highest) this.#highest = index
  }

  /** No server has more than this: what was announced beyond it was not so. */
  confirm(commitIndex: LogIndex): void {
    this.#highest = Math.max(this.#next - 1, Math.min(this.#highest, commitIndex)) as LogIndex
  }

  /** Takes committed entries and the commit index of their message; returns the entries that are next in order. */
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
