// Keeps the order of effects between disk and network: persists are written in batches, one batch at a time (group
// commit), and a message is held back until every persist before it is durable. Pure, so that the simulator runs it too.

import type { Effect, Message, Snapshot } from '#raft/types.ts'
import type { WalRecord } from './wal-record.ts'

/** Persists since the start of the process that are durable once this batch is. */
type Counted = { count: number }

export type Batch = Counted &
  (
    | { readonly kind: 'append'; readonly records: WalRecord[] }
    /** Always alone: the snapshot is saved, then the log is reset to its position. */
    | { readonly kind: 'install'; readonly snapshot: Snapshot }
  )

type Of<K extends Effect['kind']> = Extract<Effect, { readonly kind: K }>

export class WriteGate {
  readonly #batches: Batch[] = []
  #requested = 0
  #durable = 0
  #writing = false
  readonly #deferred: { readonly afterCount: number; readonly message: Message }[] = []

  persist({ hardState, truncateFrom, entries }: Of<'persist'>): void {
    this.#requested += 1
    let last = this.#batches.at(-1)
    if (last?.kind !== 'append') {
      last = { kind: 'append', records: [], count: 0 }
      this.#batches.push(last)
    }
    last.count = this.#requested
    if (hardState !== null) last.records.push({ kind: 'hard-state', hardState })
    if (truncateFrom !== null) last.records.push({ kind: 'truncate', from: truncateFrom })
    for (const entry of entries) last.records.push({ kind: 'entry', entry })
  }

  install({ snapshot }: Of<'install'>): void {
    this.#requested += 1
    this.#batches.push({ kind: 'install', snapshot, count: this.#requested })
  }

  /** True when the message may be sent now; otherwise it is deferred until `written` returns it. */
  admit({ message, beforePersist }: Of<'send'>): boolean {
    if (beforePersist || this.#durable === this.#requested) return true
    this.#deferred.push({ afterCount: this.#requested, message })
    return false
  }

  /** The next batch to write; null while a batch is in flight or none is queued. */
  next(): Batch | null {
    const batch = this.#writing ? undefined : this.#batches.shift()
    if (batch === undefined) return null
    this.#writing = true
    return batch
  }

  /** Marks a batch as durable. @returns the messages that were deferred until now, in order */
  written({ count }: Batch): Message[] {
    this.#writing = false
    this.#durable = count
    const stillDeferred = this.#deferred.findIndex(({ afterCount }) => afterCount > count)
    return this.#deferred
      .splice(0, stillDeferred === -1 ? this.#deferred.length : stillDeferred)
      .map(({ message }) => message)
  }
}
