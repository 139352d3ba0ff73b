// When the reconcile loop runs which pass. Wakes are coalesced: many of them make one pass.

import type { Vni } from '#model/ids.ts'

const FULL_PASS_MS = 30_000
/** Changes inside a router's namespace send no notification to the host: the poll interval. */
const ROUTERS_MS = 5_000
/** Polling that takes t is repeated after 50 t at the earliest: it takes at most 2 % of the time. */
const ROUTERS_REST_FACTOR = 50
/** From this many networks on, a full pass is cheaper than a pass for each. */
const MANY_NETWORKS = 64
/** After a pass that took t, the next of its kind waits 4 t: a storm of events takes at most a fifth of the time. */
const REST_FACTOR = 4

export type Turn =
  | { readonly kind: 'full' }
  | { readonly kind: 'network'; readonly vni: Vni }
  /** What the host holds of all other hosts, outside of networks. */
  | { readonly kind: 'peers' }
  | { readonly kind: 'routers' }

export class Schedule {
  readonly #networks = new Set<Vni>()
  /** Networks with a kernel notification since their last pass; for the others the result of that pass still holds. */
  readonly #kernelChanged = new Set<Vni>()
  /** `urgent`: does not wait for the pause after the last full pass. */
  #full: 'no' | 'asked' | 'urgent' = 'no'
  #fullDueMs = 0
  #peers = false
  #routersDueMs = Infinity
  #restUntilMs = 0
  #peersRestUntilMs = 0

  /** The cluster's state changed: in these networks, or (null) anywhere. Such a pass does not wait for the pause. */
  stateChanged(networks: Iterable<Vni> | null): void {
    if (networks === null) this.#full = 'urgent'
    else for (const vni of networks) this.#networks.add(vni)
  }

  /** What filters hold outside of networks changed: addresses of other hosts, or of containers. */
  peersChanged(): void {
    this.#peers = true
  }

  /**
   * Another program changed the kernel. Such changes may come at any rate, so a full pass (null) waits for the pause.
   */
  kernelChanged(networks: Iterable<Vni> | null): void {
    if (networks === null) this.askFull()
    else {
      for (const vni of networks) {
        this.#networks.add(vni)
        this.#kernelChanged.add(vni)
      }
    }
  }

  askFull(): void {
    if (this.#full === 'no') this.#full = 'asked'
  }

  get isAsked(): boolean {
    return this.#full !== 'no' || this.#peers || this.#networks.size > 0
  }

  /** May the kernel have changed in the network since its last pass? */
  isStale(vni: Vni): boolean {
    return this.#full !== 'no' || this.#kernelChanged.has(vni)
  }

  /** What to run now; null: nothing. */
  next(nowMs: number): Turn | null {
    if (this.#networks.size > MANY_NETWORKS) this.askFull()
    const [vni] = this.#networks
    const rested = this.#full === 'urgent' || nowMs >= this.#restUntilMs
    if (this.#full !== 'no' && rested) return { kind: 'full' }
    if (this.#peers && nowMs >= this.#peersRestUntilMs) return { kind: 'peers' }
    if (vni !== undefined) return { kind: 'network', vni }
    return nowMs >= this.#routersDueMs ? { kind: 'routers' } : null
  }

  /**
   * A wake after this asks for another pass: the state may have been read before the change that it announces.
   * @returns whether the kernel has changed in the network
   */
  begin(turn: Turn): { readonly kernelChanged: boolean } {
    switch (turn.kind) {
      case 'full':
        this.#full = 'no'
        this.#peers = false
        this.#networks.clear()
        this.#kernelChanged.clear()
        return { kernelChanged: true }
      case 'network':
        this.#networks.delete(turn.vni)
        return { kernelChanged: this.#kernelChanged.delete(turn.vni) }
      case 'peers':
        this.#peers = false
        return { kernelChanged: false }
      case 'routers':
        return { kernelChanged: false }
    }
  }

  ended(turn: Turn, p: { readonly sinceMs: number; readonly nowMs: number }): void {
    const tookMs = p.nowMs - p.sinceMs
    switch (turn.kind) {
      case 'full':
        this.#fullDueMs = p.nowMs + FULL_PASS_MS
        this.#restUntilMs = p.nowMs + REST_FACTOR * tookMs
        this.#routersDueMs = p.nowMs + ROUTERS_MS
        break
      case 'peers':
        this.#peersRestUntilMs = p.nowMs + REST_FACTOR * tookMs
        break
      case 'routers':
        this.#routersDueMs = p.nowMs + Math.max(ROUTERS_MS, ROUTERS_REST_FACTOR * tookMs)
        break
      case 'network':
        break
    }
  }

  /** When to run again if nothing wakes the loop before; `retryMs` is when the next failed network is due. */
  wakeAtMs(retryMs: number): number {
    const dueMs = this.#full === 'no' ? Math.min(this.#fullDueMs, this.#routersDueMs, retryMs) : this.#restUntilMs
    return this.#peers ? Math.min(dueMs, this.#peersRestUntilMs) : dueMs
  }

  /** Asks for what has become due: the periodic full pass, and retries. */
  expire(nowMs: number, retries: { readonly host: boolean; readonly networks: Iterable<Vni> }): void {
    if (nowMs >= this.#fullDueMs || retries.host) this.askFull()
    this.stateChanged(retries.networks)
  }
}
