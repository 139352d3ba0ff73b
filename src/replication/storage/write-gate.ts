// What the order of effects means for a disk and a network: persists are written in batches, one at a time (group
// commit), and a message waits until every persist before it is durable. Pure, so that the simulator runs it too.

import type { Effect, Message, Snapshot } from '#raft/types.ts'
import type { WalRecord } from './wal-record.ts'

/** Counted since the start of the process: persists that are durable once this batch is. */
type Counted = { count: number }

export type Batch = Counted &
  (
    | { readonly kind: 'append'; readonly records: WalRecord[] }
    /** By itself: the snapshot is saved, and the log begins anew after it. */
    | { readonly kind: 'install'; readonly snapshot: Snapshot }
  )

type Of<K extends Effect['kind']> = Extract<Effect, { readonly kind: K }>

export class WriteGate {
  readonly #batches: Batch[] = []
  #asked = 0
  #done = 0
  #writing = false
  readonly #deferred: { readonly afterCount: number; readonly message: Message }[] = []

  persist({ hardState, truncateFrom, entries }: Of<'persist'>): void {
    this.#asked += 1
    let last = this.#batches.at(-1)
    if (last?.kind !== 'append') {
      last = { kind: 'append', records: [], count: 0 }
      this.#batches.push(last)
    }
    last.count = this.#asked
    if (hardState !== null) last.records.push({ kind: 'hard-state', hardState })
    if (truncateFrom !== null) last.records.push({ kind: 'truncate', from: truncateFrom })
    for (const entry of entries) last.records.push({ kind: 'entry', entry })
  }

  install({ snapshot }: Of<'install'>): void {
    this.#asked += 1
    this.#batches.push({ kind: 'install', snapshot, count: this.#asked })
  }

  /** May this message go now? Otherwise it is kept until it may. */
  admit({ message, beforePersist }: Of<'send'>): boolean {
    if (beforePersist || this.#done === this.#asked) return true
    this.#deferred.push({ afterCount: this.#asked, message })
    return false
  }

  /** The next batch to write, or null while one is being written or nothing is to be. */
  next(): Batch | null {
    const batch = this.#writing ? undefined : this.#batches.shift()
    if (batch === undefined) return null
    this.#writing = true
    return batch
  }

  /** A batch is durable. @returns the messages that waited for it, in order */
  written({ count }: Batch): Message[] {
    this.#writing = false
    this.#done = count
    const waiting = this.#deferred.findIndex(({ afterCount }) => afterCount > count)
    return this.#deferred.splice(0, waiting === -1 ? this.#deferred.length : waiting).map(({ message }) => message)
  }
}
