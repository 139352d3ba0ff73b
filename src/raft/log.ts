// The log in memory: consecutive entries after a base. The base is index 0, a snapshot, or the last compacted entry; it
// has a term and a configuration, but no entry.

import type { LogIndex, Term } from '#model/ids.ts'
import { decodeConfiguration } from './configuration.ts'
import type { Configuration, Entry, SnapshotMeta } from './types.ts'

type Page = {
  readonly from: LogIndex
  readonly lastIndex: LogIndex
  readonly maxBytes: number
  readonly entries: readonly Entry[]
}

export class RaftLog {
  #entries: Entry[] = []
  /** The configurations of the config entries, ascending by index. */
  #configs: { readonly index: LogIndex; readonly configuration: Configuration }[] = []
  #base: SnapshotMeta
  /** The last page: a leader asks for the same one for each of its followers. */
  #page: Page | null = null

  constructor(base: SnapshotMeta, entries: readonly Entry[]) {
    this.#base = base
    for (const entry of entries) this.append(entry)
  }

  get baseIndex(): LogIndex {
    return this.#base.lastIndex
  }

  get baseTerm(): Term {
    return this.#base.lastTerm
  }

  get lastIndex(): LogIndex {
    return (this.#base.lastIndex + this.#entries.length) as LogIndex
  }

  get lastTerm(): Term {
    return this.#entries.at(-1)?.term ?? this.#base.lastTerm
  }

  /** The index of the last config entry; 0 when the log holds none. */
  get lastConfigIndex(): LogIndex {
    return this.#configs.at(-1)?.index ?? (0 as LogIndex)
  }

  at(index: LogIndex): Entry | undefined {
    return index > this.baseIndex ? this.#entries[index - this.baseIndex - 1] : undefined
  }

  /** The term at an index; undefined beyond the end of the log and where it was compacted. */
  termAt(index: LogIndex): Term | undefined {
    return index === this.baseIndex ? this.baseTerm : this.at(index)?.term
  }

  /** The configuration in force at an index that is not compacted. O(config entries). */
  configurationAt(index: LogIndex): Configuration {
    return this.#configs.findLast(config => config.index <= index)?.configuration ?? this.#base.configuration
  }

  append(entry: Entry): void {
    if (entry.index !== this.lastIndex + 1) throw new Error(`entry ${entry.index} appended after ${this.lastIndex}`)
    if (entry.kind === 'config') {
      this.#configs.push({ index: entry.index, configuration: decodeConfiguration(entry.data) })
    }
    this.#entries.push(entry)
  }

  truncateFrom(index: LogIndex): void {
    this.#page = null
    this.#entries.length = index - this.baseIndex - 1
    while ((this.#configs.at(-1)?.index ?? 0) >= index) this.#configs.pop()
  }

  /** Drops the entries up to an index. O(entries kept). */
  compactTo(index: LogIndex): void {
    this.#page = null
    const lastTerm = this.termAt(index)
    if (lastTerm === undefined) throw new Error(`cannot compact up to ${index}, which is not in the log`)
    const configuration = this.configurationAt(index)
    this.#entries = this.#entries.slice(index - this.baseIndex)
    this.#configs = this.#configs.filter(config => config.index > index)
    this.#base = { lastIndex: index, lastTerm, configuration }
  }

  /** Replaces the whole log by an empty one that starts after a snapshot. */
  reset(base: SnapshotMeta): void {
    this.#page = null
    this.#entries = []
    this.#configs = []
    this.#base = base
  }

  /** Entries in (after, upTo]. */
  between(after: LogIndex, upTo: LogIndex): readonly Entry[] {
    return this.#entries.slice(after - this.baseIndex, upTo - this.baseIndex)
  }

  /** Entries from an index on, up to maxBytes of data, but at least one if there is one. */
  page(from: LogIndex, maxBytes: number): readonly Entry[] {
    const { lastIndex } = this
    const known = this.#page
    if (known?.from === from && known.lastIndex === lastIndex && known.maxBytes === maxBytes) return known.entries
    const start = from - this.baseIndex - 1
    let end = start
    for (let bytes = 0; end < this.#entries.length; end++) {
      bytes += this.#entries[end]?.data.byteLength ?? 0
      if (bytes > maxBytes && end > start) break
    }
    const entries = this.#entries.slice(start, end)
    this.#page = { from, lastIndex, maxBytes, entries }
    return entries
  }

  /** The highest index at or below `index` whose term is at most `term`. O(entries skipped). */
  lastOfTermAtMost(term: Term, index: LogIndex): LogIndex {
    let at = index < this.lastIndex ? index : this.lastIndex
    while (at > this.baseIndex && (this.termAt(at) ?? 0) > term) at = (at - 1) as LogIndex
    return at
  }
}
