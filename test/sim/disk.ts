// A server's simulated disk: what is durable, and the one write that may be under way. A crash keeps a prefix of that
// write's records, as a checksummed log does: in their order, none of them half.

import type { LogIndex, Term } from '#model/ids.ts'
import type { DurableState, Entry, HardState } from '#raft/types.ts'
import type { WalRecord } from '#replication/wal-record.ts'
import type { Random } from './random.ts'

export class Disk {
  #hardState: HardState = { term: 0 as Term, votedFor: null }
  readonly #entries: Entry[] = []
  #commitIndex = 0 as LogIndex
  #writing: readonly WalRecord[] = []
  readonly #onVote: (before: HardState, after: HardState) => void

  /** @param onVote hears of every term and vote that become durable */
  constructor(onVote: (before: HardState, after: HardState) => void) {
    this.#onVote = onVote
  }

  begin(records: readonly WalRecord[]): void {
    this.#writing = records
  }

  finish(): void {
    this.#keep(this.#writing.length)
  }

  noteCommit(index: LogIndex): void {
    this.#commitIndex = index
  }

  /** @returns how many records were lost, and how many of the same write were not */
  crash(random: Random, torn: boolean): { readonly lost: number; readonly kept: number } {
    const all = this.#writing.length
    const kept = torn ? random.below(all + 1) : 0
    this.#keep(kept)
    return { lost: all - kept, kept }
  }

  read(): DurableState {
    const [hardState, commitIndex] = [this.#hardState, this.#commitIndex]
    return { hardState, entries: [...this.#entries], commitIndex, snapshot: null }
  }

  #keep(count: number): void {
    for (const record of this.#writing.slice(0, count)) this.#fold(record)
    this.#writing = []
  }

  #fold(record: WalRecord): void {
    switch (record.kind) {
      case 'hard-state':
        this.#onVote(this.#hardState, record.hardState)
        this.#hardState = record.hardState
        return
      case 'truncate':
        this.#entries.length = Math.min(this.#entries.length, record.from - 1)
        return
      case 'entry':
        this.#entries.push(record.entry)
        return
      case 'commit':
        this.#commitIndex = record.index
        return
      case 'origin':
    }
  }
}
