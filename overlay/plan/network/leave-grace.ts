// A member that has left keeps its entries for a while: a leave may be forged or accidental, and then the host is back
// within seconds. Meanwhile its containers still receive packets. Pure.

import type { PeerId } from '#model/ids.ts'
import type { MemberStatus } from '#model/member.ts'
import type { MemberStatuses } from '../underlay/peers.ts'

/**
 * How long the entries of a host stay after it left. A Serf that was made to leave is restarted by its agent and rejoins
 * within 7 s, on a busy machine; a host that really left loses nothing by entries that stay longer.
 */
export const LEAVE_GRACE_MS = 10_000

type Statuses = MemberStatuses & Iterable<readonly [PeerId, MemberStatus]>

export class LeaveGrace {
  /** When each member was first seen as left. A member that had left before this host first saw it gets no grace. */
  readonly #leftAtMs = new Map<PeerId, number>()
  #before: Statuses = new Map()
  /** The last answer; null when a grace has begun or ended since. */
  #seen: MemberStatuses | null = null

  /**
   * The statuses for the overlay: a member that left less than LEAVE_GRACE_MS ago counts as leaving. The same map as the
   * last time if nothing has changed.
   */
  apply(statuses: Statuses, nowMs: number): MemberStatuses {
    if (statuses !== this.#before) this.#follow(statuses, nowMs)
    for (const [peer, atMs] of this.#leftAtMs) {
      if (nowMs - atMs < LEAVE_GRACE_MS && statuses.get(peer) !== undefined) continue
      this.#leftAtMs.delete(peer)
      this.#seen = null
    }
    return (this.#seen ??= this.#withGrace(statuses))
  }

  /** The members whose grace is running. */
  get leaving(): readonly PeerId[] {
    return [...this.#leftAtMs.keys()]
  }

  /** Time until the first of the running graces ends; null if none is running. */
  remainingMs(nowMs: number): number | null {
    const ends = [...this.#leftAtMs.values()].map(atMs => Math.max(0, atMs + LEAVE_GRACE_MS - nowMs))
    return ends.length === 0 ? null : Math.min(...ends)
  }

  #follow(statuses: Statuses, nowMs: number): void {
    for (const peer of this.leaving) if (statuses.get(peer) !== 'left') this.#leftAtMs.delete(peer)
    for (const [peer, status] of statuses) {
      if (status === 'left' && (this.#before.get(peer) ?? 'left') !== 'left') this.#leftAtMs.set(peer, nowMs)
    }
    this.#before = statuses
    this.#seen = null
  }

  #withGrace(statuses: Statuses): MemberStatuses {
    if (this.#leftAtMs.size === 0) return statuses
    const leaving = new Set(this.leaving)
    return { get: peer => (leaving.has(peer) ? 'leaving' : statuses.get(peer)) }
  }
}
