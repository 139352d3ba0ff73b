// Who leads, as a host that is no voter has it from the feed: the latest term's leader, for as long as it is heard.

import type { PeerId, Term } from '#model/ids.ts'

/**
 * After so long without a word no leader is known: six of its beats, and longer than voters take to elect another. A host
 * that stood still itself so long knows none either, until the next beat.
 */
const KEPT_MS = 3_000

export class LeaderHint {
  #last: { readonly leader: PeerId; readonly term: Term; readonly atMs: number } | null = null

  /** @returns false for word of an earlier term, which changes nothing */
  update(leader: PeerId, term: Term, nowMs: number): boolean {
    if (term < this.term) return false
    this.#last = { leader, term, atMs: nowMs }
    return true
  }

  /** The latest term that was heard of; 0 at first. */
  get term(): Term {
    return this.#last?.term ?? (0 as Term)
  }

  leader(nowMs: number): PeerId | null {
    return this.#last !== null && nowMs - this.#last.atMs < KEPT_MS ? this.#last.leader : null
  }
}
