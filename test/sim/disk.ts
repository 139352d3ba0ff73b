// A server's simulated disk: what is durable, and writes that are not yet. A crash keeps a prefix of the unfinished
// records, as a checksummed log does: in their order, none of them half.

import type { LogIndex, Term } from '#model/ids.ts'
import type { DurableState, Effect, Entry, HardState } from '#raft/types.ts'
import type { Random } from './random.ts'

type Persist = Extract<Effect, { readonly kind: 'persist' }>
type Record =
  | { readonly kind: 'hard-state'; readonly hardState: HardState }
  | { readonly kind: 'truncate'; readonly from: LogIndex }
  | { readonly kind: 'entry'; readonly entry: Entry }

export class Disk {
  hardState: HardState = { term: 0 as Term, votedFor: null }
  readonly entries: Entry[] = []
  notedCommit = 0 as LogIndex
  #unfinished: Record[][] = []
  /** Complaints about what was written: a term or a vote that went back. */
  readonly onWrite: (before: HardState, after: HardState) => void

  constructor(onWrite: (before: HardState, after: HardState) => void) {
    this.onWrite = onWrite
  }

  begin(persist: Persist): void {
    const records: Record[] = []
    if (persist.hardState !== null) records.push({ kind: 'hard-state', hardState: persist.hardState })
    if (persist.truncateFrom !== null) records.push({ kind: 'truncate', from: persist.truncateFrom })
    for (const entry of persist.entries) records.push({ kind: 'entry', entry })
    this.#unfinished.push(records)
  }

  /** The oldest unfinished write is durable. */
  finish(): void {
    for (const record of this.#unfinished.shift() ?? []) this.#apply(record)
  }

  get unfinished(): number {
    return this.#unfinished.length
  }

  /** @returns how many unfinished records were lost */
  crash(random: Random, torn: boolean): number {
    const records = this.#unfinished.flat()
    const kept = torn ? random.below(records.length + 1) : 0
    for (const record of records.slice(0, kept)) this.#apply(record)
    this.#unfinished = []
    return records.length - kept
  }

  read(): DurableState {
    const commitIndex = Math.min(this.notedCommit, this.entries.length) as LogIndex
    return { hardState: this.hardState, entries: [...this.entries], commitIndex, snapshot: null }
  }

  #apply(record: Record): void {
    switch (record.kind) {
      case 'hard-state':
        this.onWrite(this.hardState, record.hardState)
        this.hardState = record.hardState
        return
      case 'truncate':
        this.entries.length = Math.min(this.entries.length, record.from - 1)
        return
      case 'entry':
        this.entries.push(record.entry)
    }
  }
}
