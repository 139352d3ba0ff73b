// What keeps networks of this host from being as desired: what is left, why, and when it is tried again. Each network
// backs off by itself; `host` is what belongs to no network.

import type { Vni } from '#model/ids.ts'

const RETRY_MIN_MS = 500
const RETRY_MAX_MS = 15_000

export type Scope = Vni | 'host'

export type Problem = {
  /** How many differences are left. */
  readonly left: number
  /** For people; empty when it is only a matter of time. */
  readonly why: readonly string[]
}

type RetryEntry = Problem & { readonly retryMs: number; readonly dueMs: number }

export class RetryState {
  readonly #at = new Map<Scope, RetryEntry>()

  /** What a pass over this place has found: null when it is as desired. */
  found(place: Scope, problem: Problem | null, nowMs: number): void {
    if (problem === null) {
      this.#at.delete(place)
      return
    }
    const before = this.#at.get(place)
    const retryMs = before === undefined ? RETRY_MIN_MS : Math.min(before.retryMs * 2, RETRY_MAX_MS)
    this.#at.set(place, { ...problem, retryMs, dueMs: nowMs + retryMs })
  }

  scopes(): readonly Scope[] {
    return [...this.#at.keys()]
  }

  /** Those whose time to be tried again has come. */
  due(nowMs: number): readonly Scope[] {
    return [...this.#at].filter(([, trouble]) => trouble.dueMs <= nowMs).map(([place]) => place)
  }

  /** Infinity when there is none. */
  nextDueMs(): number {
    return Math.min(Infinity, ...[...this.#at.values()].map(trouble => trouble.dueMs))
  }

  get left(): number {
    return [...this.#at.values()].reduce((sum, trouble) => sum + trouble.left, 0)
  }

  /** One line a cause. */
  why(): readonly string[] {
    return [...this.#at.values()].flatMap(trouble => trouble.why)
  }
}
