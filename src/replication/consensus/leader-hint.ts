// The leader as a client knows it from the feed: that of the latest term, until its messages stop. Pure.

import type { PeerId, Term } from '#model/ids.ts'

/**
 * A leader is forgotten after this much silence: six of its beats, and longer than voters take to elect another. A host
 * that was suspended for that long forgets it too, until the next beat.
 */
const EXPIRES_AFTER_MS = 3_000

export class LeaderHint {
  #last: { readonly leader: PeerId; readonly term: Term; readonly atMs: number } | null = null

  /**
   * @returns false for a message of an earlier term, which changes nothing while the later leader is known. Afterwards it
   * counts: a term that no server confirms any more must not hide the leader for ever.
   */
  update(leader: PeerId, term: Term, nowMs: number): boolean {
    if (term < this.term && this.leader(nowMs) !== null) return false
    this.#last = { leader, term, atMs: nowMs }
    return true
  }

  /** The term of the leader seen last; 0 at first. */
  get term(): Term {
    return this.#last?.term ?? (0 as Term)
  }

  leader(nowMs: number): PeerId | null {
    return this.#last !== null && nowMs - this.#last.atMs < EXPIRES_AFTER_MS ? this.#last.leader : null
  }
}
