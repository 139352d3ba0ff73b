// A server's simulated disk: its durable state and the one write in flight. A crash keeps a prefix of that write's
// records, each complete, as a checksummed log does. A snapshot is saved atomically; when it replaces the log, a crash
// may happen between the two steps.

import type { LogIndex, Term } from '#model/ids.ts'
import type { DurableState, Entry, HardState, Snapshot } from '#raft/types.ts'
import type { WalRecord } from '#replication/storage/wal-record.ts'
import type { Batch } from '#replication/storage/write-gate.ts'
import type { Random } from './random.ts'

export class Disk {
  /** 0 on a founder's first disk; a wiped disk draws a new one. */
  incarnation: number
  /** Bits are flipped in the middle of the log: a server that reads them does not start. */
  damaged = false
  /** Every write fails. */
  full = false
  snapshot: Snapshot | null = null
  #hardState: HardState = { term: 0 as Term, votedFor: null }
  #entries: Entry[] = []
  #commitIndex = 0 as LogIndex
  #writing: Batch | null = null
  readonly #onVote: (before: HardState, after: HardState) => void

  /** @param onVote called when a term or vote becomes durable */
  constructor(incarnation: number, onVote: (before: HardState, after: HardState) => void) {
    this.incarnation = incarnation
    this.#onVote = onVote
  }

  /** Replaces the disk by an empty one. */
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

  /** Saves a snapshot of the server's own state machine and drops the log before it. */
  saveSnapshot(snapshot: Snapshot): void {
    if (snapshot.meta.lastIndex <= (this.snapshot?.meta.lastIndex ?? 0)) return
    this.snapshot = snapshot
    this.#entries = this.#entries.filter(entry => entry.index > snapshot.meta.lastIndex)
  }

  /** @returns how many records of the write in flight were lost and how many were kept */
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
      // The snapshot is saved and the old log still there: entries that do not continue the snapshot are dropped.
      const continues = this.#entries.some(entry => entry.index === meta.lastIndex && entry.term === meta.lastTerm)
      this.#entries = continues && count === 1 ? this.#entries.filter(entry => entry.index > meta.lastIndex) : []
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
