// The state that the log's records add up to, without the entries' data: a pure fold. The log updates it on append and
// writes it at the head of each segment; recovery updates it while it reads and checks each segment head against it.

import { VxmeshError } from '#model/errors.ts'
import type { LogIndex, PeerId, Term } from '#model/ids.ts'
import type { HardState } from '#raft/types.ts'
import type { LogPosition, LogRecord, Origin, SegmentHead } from './wal-record.ts'

export class LogState {
  self: PeerId | null = null
  origin: Origin | null = null
  hardState: HardState = { term: 0 as Term, votedFor: null }
  commitIndex = 0 as LogIndex
  lastIndex = 0 as LogIndex
  /** The first index of each term, ascending; the first element also gives the term of the entry before the log. */
  #terms: { readonly from: LogIndex; readonly term: Term }[] = [{ from: 0 as LogIndex, term: 0 as Term }]

  /** @throws ERR_STORAGE on a record that cannot follow the ones before it */
  fold(record: LogRecord): void {
    switch (record.kind) {
      case 'origin':
        this.#setOrigin(record.origin)
        return
      case 'hard-state':
        this.hardState = record.hardState
        return
      case 'entry': {
        const { index, term } = record.entry
        if (index !== this.lastIndex + 1) throw contradiction(`entry ${index} after entry ${this.lastIndex}`)
        this.lastIndex = index
        if (this.#terms.at(-1)?.term !== term) this.#terms.push({ from: index, term })
        return
      }
      case 'truncate': {
        const { from } = record
        if (from <= this.commitIndex) throw contradiction(`entry ${from} is committed and would be truncated`)
        if (from > this.lastIndex) return
        this.lastIndex = (from - 1) as LogIndex
        while ((this.#terms.at(-1)?.from ?? 0) >= from) this.#terms.pop()
        return
      }
      case 'commit':
        if (record.index > this.commitIndex) this.commitIndex = record.index
        return
      case 'reset':
        this.#reset(record.position)
        return
      case 'segment':
        this.#setHead(record.head)
    }
  }

  /** The term of an entry, or undefined where the log does not know it. */
  termAt(index: LogIndex): Term | undefined {
    return index > this.lastIndex ? undefined : this.#terms.findLast(({ from }) => from <= index)?.term
  }

  head(): SegmentHead {
    const { self, origin, hardState, commitIndex, lastIndex } = this
    // Unknown only below a snapshot's end, where it is never read.
    return { self, origin, hardState, commitIndex, lastIndex, lastTerm: this.termAt(lastIndex) ?? (0 as Term) }
  }

  #setHead(head: SegmentHead): void {
    this.self = head.self
    if (head.origin !== null) this.#setOrigin(head.origin)
    this.hardState = head.hardState
    this.commitIndex = head.commitIndex
    this.lastIndex = head.lastIndex
    this.#terms = [{ from: head.lastIndex, term: head.lastTerm }]
  }

  #reset({ lastIndex, lastTerm }: LogPosition): void {
    if (lastIndex < this.commitIndex) {
      throw contradiction(`entry ${this.commitIndex} is committed, and the log would restart after entry ${lastIndex}`)
    }
    this.commitIndex = lastIndex
    this.lastIndex = lastIndex
    this.#terms = [{ from: lastIndex, term: lastTerm }]
  }

  #setOrigin(origin: Origin): void {
    if (this.origin !== null && this.origin.clusterId !== origin.clusterId) {
      throw contradiction(`it belongs to cluster ${this.origin.clusterId} and to cluster ${origin.clusterId}`)
    }
    this.origin = origin
  }
}

function contradiction(what: string): VxmeshError {
  return new VxmeshError('ERR_STORAGE', `the log contradicts itself: ${what}`)
}
