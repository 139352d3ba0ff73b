// What the order of effects means for a disk and a network: persists are written in batches, one at a time (group
// commit), and a message waits until every persist before it is durable. Pure, so that the simulator runs it too.

import type { Effect, Message } from '#raft/types.ts'
import type { WalRecord } from './wal-record.ts'

export type Batch = {
  readonly records: readonly WalRecord[]
  /** Persists that are durable once these records are, counted since the start of the process. */
  readonly count: number
}

type Of<K extends Effect['kind']> = Extract<Effect, { readonly kind: K }>

export class WriteGate {
  #records: WalRecord[] = []
  #asked = 0
  #done = 0
  #writing = false
  readonly #deferred: { readonly afterCount: number; readonly message: Message }[] = []

  persist({ hardState, truncateFrom, entries }: Of<'persist'>): void {
    this.#asked += 1
    if (hardState !== null) this.#records.push({ kind: 'hard-state', hardState })
    if (truncateFrom !== null) this.#records.push({ kind: 'truncate', from: truncateFrom })
    for (const entry of entries) this.#records.push({ kind: 'entry', entry })
  }

  /** May this message go now? Otherwise it is kept until it may. */
  admit({ message, beforePersist }: Of<'send'>): boolean {
    if (beforePersist || this.#done === this.#asked) return true
    this.#deferred.push({ afterCount: this.#asked, message })
    return false
  }

  /** The next batch to write, or null while one is being written or nothing is to be. */
  next(): Batch | null {
    if (this.#writing || this.#done === this.#asked) return null
    this.#writing = true
    const records = this.#records
    this.#records = []
    return { records, count: this.#asked }
  }

  /** A batch is durable. @returns the messages that waited for it, in order */
  written({ count }: Batch): Message[] {
    this.#writing = false
    this.#done = count
    const waiting = this.#deferred.findIndex(({ afterCount }) => afterCount > count)
    return this.#deferred.splice(0, waiting === -1 ? this.#deferred.length : waiting).map(({ message }) => message)
  }
}
