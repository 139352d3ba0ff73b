// The log in memory: the entries after the snapshot, consecutive. Index 0 and the snapshot's last index have a term but
// no entry.

import type { LogIndex, Term } from '#model/ids.ts'
import type { Entry } from './types.ts'

export class RaftLog {
  readonly #entries: Entry[]
  /** Positions in #entries of the config entries, ascending. */
  readonly #configs: number[] = []
  readonly baseIndex: LogIndex
  readonly baseTerm: Term

  constructor(base: { readonly index: LogIndex; readonly term: Term }, entries: readonly Entry[]) {
    this.baseIndex = base.index
    this.baseTerm = base.term
    this.#entries = []
    for (const entry of entries) this.append(entry)
  }

  get lastIndex(): LogIndex {
    return (this.baseIndex + this.#entries.length) as LogIndex
  }

  get lastTerm(): Term {
    return this.#entries.at(-1)?.term ?? this.baseTerm
  }

  at(index: LogIndex): Entry | undefined {
    return index > this.baseIndex ? this.#entries[index - this.baseIndex - 1] : undefined
  }

  /** The term at an index, or undefined where the log does not reach or was compacted. */
  termAt(index: LogIndex): Term | undefined {
    return index === this.baseIndex ? this.baseTerm : this.at(index)?.term
  }

  append(entry: Entry): void {
    if (entry.index !== this.lastIndex + 1) throw new Error(`entry ${entry.index} after ${this.lastIndex}`)
    if (entry.kind === 'config') this.#configs.push(this.#entries.length)
    this.#entries.push(entry)
  }

  truncateFrom(index: LogIndex): void {
    this.#entries.length = index - this.baseIndex - 1
    while ((this.#configs.at(-1) ?? -1) >= this.#entries.length) this.#configs.pop()
  }

  /** Entries in (after, upTo]. */
  between(after: LogIndex, upTo: LogIndex): readonly Entry[] {
    return this.#entries.slice(after - this.baseIndex, upTo - this.baseIndex)
  }

  /** Entries from an index on, at least one if there is one, until their data exceeds maxBytes. */
  page(from: LogIndex, maxBytes: number): readonly Entry[] {
    const start = from - this.baseIndex - 1
    let end = start
    for (let bytes = 0; end < this.#entries.length; end++) {
      bytes += this.#entries[end]?.data.byteLength ?? 0
      if (bytes > maxBytes && end > start) break
    }
    return this.#entries.slice(start, end)
  }

  lastConfigEntry(): Entry | undefined {
    const at = this.#configs.at(-1)
    return at === undefined ? undefined : this.#entries[at]
  }

  /** The highest index at or below `index` whose entry is of `term` or an earlier one. O(entries passed). */
  lastOfTermAtMost(term: Term, index: LogIndex): LogIndex {
    let at = index < this.lastIndex ? index : this.lastIndex
    while (at > this.baseIndex && (this.termAt(at) ?? 0) > term) at = (at - 1) as LogIndex
    return at
  }
}
