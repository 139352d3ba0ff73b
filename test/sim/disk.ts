// A server's simulated disk: what is durable, and the one write that may be under way. A crash keeps a prefix of that
// write's records, as a checksummed log does: in their order, none of them half. A snapshot is there whole or not at
// all; when it replaces the log, a crash may come between the two.

import type { LogIndex, Term } from '#model/ids.ts'
import type { DurableState, Entry, HardState, Snapshot } from '#raft/types.ts'
import type { WalRecord } from '#replication/storage/wal-record.ts'
import type { Batch } from '#replication/storage/write-gate.ts'
import type { Random } from './random.ts'

export class Disk {
  /** Drawn anew when the disk is wiped; 0 on a founder's first. */
  incarnation: number
  /** Bytes turned over in the middle of the log: the server that finds them does not start. */
  damaged = false
  /** Every write fails. */
  full = false
  snapshot: Snapshot | null = null
  #hardState: HardState = { term: 0 as Term, votedFor: null }
  #entries: Entry[] = []
  #commitIndex = 0 as LogIndex
  #writing: Batch | null = null
  readonly #onVote: (before: HardState, after: HardState) => void

  /** @param onVote hears of every term and vote that become durable */
  constructor(incarnation: number, onVote: (before: HardState, after: HardState) => void) {
    this.incarnation = incarnation
    this.#onVote = onVote
  }

  /** An empty disk in the place of this one. */
  wipe(incarnation: number): void {
    this.incarnation = incarnation
    this.damaged = false
    this.snapshot = null
    this.#hardState = { term: 0 as Term, votedFor: null }
    this.#entries = []
    this.#commitIndex = 0 as LogIndex
    this.#writing = null
  }

  begin(batch: Batch): void {
    this.#writing = batch
  }

  finish(): void {
    this.#keep(Infinity)
  }

  noteCommit(index: LogIndex): void {
    this.#commitIndex = index
  }

  /** A snapshot of the own state machine: the segments before it go. */
  saveSnapshot(snapshot: Snapshot): void {
    if (snapshot.meta.lastIndex <= (this.snapshot?.meta.lastIndex ?? 0)) return
    this.snapshot = snapshot
    this.#entries = this.#entries.filter(entry => entry.index > snapshot.meta.lastIndex)
  }

  /** @returns how many records were lost, and how many of the same write were not */
  crash(random: Random, torn: boolean): { readonly lost: number; readonly kept: number } {
    const all = this.#writing === null ? 0 : this.#writing.kind === 'append' ? this.#writing.records.length : 2
    const kept = torn ? random.below(all + 1) : 0
    this.#keep(kept)
    return { lost: all - kept, kept }
  }

  get lastConfigIndex(): LogIndex {
    return this.#entries.findLast(entry => entry.kind === 'config')?.index ?? (0 as LogIndex)
  }

  read(): DurableState {
    const [hardState, commitIndex, snapshot] = [this.#hardState, this.#commitIndex, this.snapshot?.meta ?? null]
    return { hardState, entries: [...this.#entries], commitIndex, snapshot }
  }

  #keep(count: number): void {
    const writing = this.#writing
    this.#writing = null
    if (writing?.kind === 'append') {
      const { records } = writing
      for (let n = 0; n < records.length && n < count; n++) this.#fold(records[n])
    } else if (writing !== null && count > 0) {
      const { meta } = writing.snapshot
      this.snapshot = writing.snapshot
      // With the snapshot saved and the old log still there: what does not go on from the snapshot is not taken up.
      const goesOn = this.#entries.some(entry => entry.index === meta.lastIndex && entry.term === meta.lastTerm)
      this.#entries = goesOn && count === 1 ? this.#entries.filter(entry => entry.index > meta.lastIndex) : []
    }
  }

  #fold(record: WalRecord | undefined): void {
    switch (record?.kind) {
      case 'hard-state':
        this.#onVote(this.#hardState, record.hardState)
        this.#hardState = record.hardState
        return
      case 'truncate': {
        const first = this.#entries[0]?.index ?? record.from
        this.#entries.length = Math.max(0, Math.min(this.#entries.length, record.from - first))
        return
      }
      case 'entry':
        this.#entries.push(record.entry)
        return
      case 'commit':
        this.#commitIndex = record.index
        return
      case 'origin':
      case undefined:
    }
  }
}
