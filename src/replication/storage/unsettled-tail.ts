// What a host that was a voter holds beyond what it knows to be committed. It may be committed all the same, with this
// host's own acknowledgement, so it goes only when a committed entry stands in its place. Pure.

import type { LogIndex } from '#model/ids.ts'
import type { Entry } from '#raft/types.ts'
import type { LogPosition, WalRecord } from './wal-record.ts'

export class UnsettledTail {
  readonly #first: number
  /** By index, from the first; shortened at the end only. */
  #entries: readonly Entry[]

  constructor(entries: readonly Entry[]) {
    this.#first = entries[0]?.index ?? 0
    this.#entries = entries
  }

  /** The records that make committed entries the log's; those that are there already need none. In the log's order. */
  settle(committed: readonly Entry[]): WalRecord[] {
    const records: WalRecord[] = []
    for (const entry of committed) {
      const held = this.#at(entry.index)
      if (held?.term === entry.term) continue
      if (held !== undefined) {
        records.push({ kind: 'truncate', from: entry.index })
        this.#entries = []
      }
      records.push({ kind: 'entry', entry })
    }
    return records
  }

  /** May a snapshot take the place of the whole log? Not where the log goes on after it. */
  yieldsTo({ lastIndex, lastTerm }: LogPosition): boolean {
    if (this.#at(lastIndex)?.term === lastTerm) return false
    this.#entries = []
    return true
  }

  #at(index: LogIndex): Entry | undefined {
    return this.#entries[index - this.#first]
  }
}
