// A member that has left keeps its entries for a while: a leave may be forged or accidental, and then the host is back
// within seconds. Meanwhile its containers still receive packets. Pure.

import type { PeerId } from '#model/ids.ts'
import type { MemberStatus } from '#model/member.ts'

/**
 * How long the entries of a host stay after it left. A Serf that was made to leave is restarted by its agent and rejoins
 * within 7 s, on a busy machine; a host that really left loses nothing by entries that stay longer.
 */
export const LEAVE_GRACE_MS = 10_000

type Statuses = ReadonlyMap<PeerId, MemberStatus>

export class LeaveGrace {
  /** When each member was first seen as left. A member that had left before this host first saw it gets no grace. */
  readonly #leftAtMs = new Map<PeerId, number>()
  #before: Statuses = new Map()

  /** The statuses for the overlay: a member that left less than LEAVE_GRACE_MS ago counts as leaving. */
  apply(statuses: Statuses, nowMs: number): Statuses {
    for (const [peer, status] of statuses) {
      if (status !== 'left') this.#leftAtMs.delete(peer)
      else if ((this.#before.get(peer) ?? 'left') !== 'left') this.#leftAtMs.set(peer, nowMs)
    }
    this.#before = statuses
    const seen = new Map(statuses)
    for (const [peer, atMs] of this.#leftAtMs) {
      if (nowMs - atMs >= LEAVE_GRACE_MS || !statuses.has(peer)) this.#leftAtMs.delete(peer)
      else seen.set(peer, 'leaving')
    }
    return seen
  }

  /** Time until the first of the running graces ends; null if none is running. */
  remainingMs(nowMs: number): number | null {
    const ends = [...this.#leftAtMs.values()].map(atMs => Math.max(0, atMs + LEAVE_GRACE_MS - nowMs))
    return ends.length === 0 ? null : Math.min(...ends)
  }
}
