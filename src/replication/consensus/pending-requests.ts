// The callers of one RaftNode that wait for the core: batches of proposals until they are applied or refused, reads until a
// majority has confirmed the leader.

import { VxmeshError, type ErrorCode } from '#model/errors.ts'
import type { LogIndex, Term } from '#model/ids.ts'
import type { Effect, Entry, RefusalReason } from '#raft/types.ts'

/** Determines whether and where the caller retries. */
const REFUSALS: Readonly<Record<RefusalReason, ErrorCode>> = {
  'not-leader': 'ERR_NOT_LEADER',
  transferring: 'ERR_NOT_LEADER',
  busy: 'ERR_BUSY',
  'no-own-commit': 'ERR_BUSY',
  'change-under-way': 'ERR_BUSY',
  'not-caught-up': 'ERR_BUSY',
  'too-few-alive': 'ERR_NO_QUORUM',
  'already-there': 'ERR_HOST_EXISTS',
  'no-such-learner': 'ERR_HOST_NOT_FOUND',
  'no-such-peer': 'ERR_HOST_NOT_FOUND',
  'last-voter': 'ERR_INVALID'
}

type Caller<T> = { readonly resolve: (result: T) => void; readonly reject: (err: VxmeshError) => void }

/** Consecutive entries in the log that are not all applied yet, and the results of those that are. */
type Appended = {
  readonly index: LogIndex
  readonly count: number
  readonly term: Term
  readonly results: unknown[]
  readonly caller: Caller<readonly unknown[]>
}

export class PendingRequests {
  #nextId = 1
  /** Not in the log yet, by id. */
  readonly #submitted = new Map<number, Caller<readonly unknown[]>>()
  /** Ascending by index: only a leader appends, and a former leader's are dropped. */
  readonly #appended: Appended[] = []
  readonly #reads = new Map<number, Caller<LogIndex>>()

  /** Resolves to a result for each proposal. @param submit hands them to the core under their id */
  proposals(submit: (id: number) => void): Promise<readonly unknown[]> {
    return this.#add(this.#submitted, submit)
  }

  /** @param submit hands the read to the core under its id */
  read(submit: (id: number) => void): Promise<LogIndex> {
    return this.#add(this.#reads, submit)
  }

  appended({ id, index, count, term }: Extract<Effect, { readonly kind: 'proposed' }>): void {
    const caller = this.#submitted.get(id)
    this.#submitted.delete(id)
    if (caller !== undefined) this.#appended.push({ index, count, term, results: [], caller })
  }

  refused({ id, reason, leader }: Extract<Effect, { readonly kind: 'refused' }>): void {
    const context = { reason, leader: leader ?? '' }
    const err = new VxmeshError(REFUSALS[reason], `refused by the consensus: ${reason}`, { context })
    this.#submitted.get(id)?.reject(err)
    this.#submitted.delete(id)
  }

  readReady(id: number, index: LogIndex): void {
    this.#reads.get(id)?.resolve(index)
    this.#reads.delete(id)
  }

  readFailed(id: number): void {
    this.#reads.get(id)?.reject(new VxmeshError('ERR_NOT_LEADER', 'this server does not lead'))
    this.#reads.delete(id)
  }

  /** Answers the batches among committed entries that are consecutive. @param results one each */
  applied(entries: readonly Entry[], results: readonly unknown[]): void {
    const start = entries[0]?.index ?? 0
    const end = start + entries.length
    for (let batch = this.#appended[0]; batch !== undefined && batch.index < end; batch = this.#appended[0]) {
      const { index, count, term, caller } = batch
      const from = Math.max(index - start, 0)
      const to = Math.min(index + count, end) - start
      const isForeign = entries.slice(from, to).some(entry => entry.term !== term)
      if (!isForeign) batch.results.push(...results.slice(from, to))
      if (!isForeign && batch.results.length < count) return
      this.#appended.shift()
      if (isForeign) caller.reject(outcomeUnknown('another leader wrote that entry'))
      else caller.resolve(batch.results)
    }
  }

  /** Fails the proposals that are in the log: they may be committed all the same. */
  failAppended(why: string): void {
    for (const { caller } of this.#appended.splice(0)) caller.reject(outcomeUnknown(why))
  }

  failAll(why: string): void {
    this.failAppended(why)
    for (const callers of [this.#submitted, this.#reads]) {
      for (const { reject } of callers.values()) reject(outcomeUnknown(why))
      callers.clear()
    }
  }

  #add<T>(callers: Map<number, Caller<T>>, submit: (id: number) => void): Promise<T> {
    return new Promise((resolve, reject) => {
      const id = this.#nextId++
      callers.set(id, { resolve, reject })
      submit(id)
    })
  }
}

function outcomeUnknown(why: string): VxmeshError {
  return new VxmeshError('ERR_NO_QUORUM', why)
}
