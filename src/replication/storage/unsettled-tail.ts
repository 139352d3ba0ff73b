// The entries of a former voter beyond its commit index. They may be committed nevertheless, by this host's own
// acknowledgement, so an entry is dropped only when a different committed entry has the same index. Pure.

import type { LogIndex } from '#model/ids.ts'
import type { Entry } from '#raft/types.ts'
import type { LogPosition, WalRecord } from './wal-record.ts'

export class UnsettledTail {
  readonly #first: number
  /** In index order from `#first`; emptied at the first conflict. */
  #entries: readonly Entry[]

  constructor(entries: readonly Entry[]) {
    this.#first = entries[0]?.index ?? 0
    this.#entries = entries
  }

  /** The records, in order, that append committed entries to the log; entries that it already holds need none. */
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

  /** Does a snapshot replace the whole log? Not when the log holds the snapshot's last entry. */
  yieldsTo({ lastIndex, lastTerm }: LogPosition): boolean {
    if (this.#at(lastIndex)?.term === lastTerm) return false
    this.#entries = []
    return true
  }

  #at(index: LogIndex): Entry | undefined {
    return this.#entries[index - this.#first]
  }
}
