// For each network of this host that is not yet right: what is left to do, why, and when it is retried. Each network
// backs off by itself; `host` is what belongs to no network.

import type { Vni } from '#model/ids.ts'

const RETRY_MIN_MS = 500
const RETRY_MAX_MS = 15_000

export type Scope = Vni | 'host'

export type Problem = {
  /** How many differences are left. */
  readonly left: number
  /** One line a cause, for people; empty when the rest only has to wait. */
  readonly why: readonly string[]
}

type RetryEntry = Problem & { readonly retryMs: number; readonly dueMs: number }

export class RetryState {
  readonly #entries = new Map<Scope, RetryEntry>()

  /** What a pass over this scope left; null when it is as desired. */
  found(scope: Scope, problem: Problem | null, nowMs: number): void {
    if (problem === null) {
      this.#entries.delete(scope)
      return
    }
    const before = this.#entries.get(scope)
    const retryMs = before === undefined ? RETRY_MIN_MS : Math.min(before.retryMs * 2, RETRY_MAX_MS)
    this.#entries.set(scope, { ...problem, retryMs, dueMs: nowMs + retryMs })
  }

  has(scope: Scope): boolean {
    return this.#entries.has(scope)
  }

  scopes(): readonly Scope[] {
    return [...this.#entries.keys()]
  }

  due(nowMs: number): readonly Scope[] {
    return [...this.#entries].filter(([, entry]) => entry.dueMs <= nowMs).map(([scope]) => scope)
  }

  /** When the first of them is due; Infinity when there is none. */
  nextDueMs(): number {
    return Math.min(Infinity, ...[...this.#entries.values()].map(entry => entry.dueMs))
  }

  get left(): number {
    return [...this.#entries.values()].reduce((sum, entry) => sum + entry.left, 0)
  }

  /** One line a cause. */
  why(): readonly string[] {
    return [...this.#entries.values()].flatMap(entry => entry.why)
  }
}
