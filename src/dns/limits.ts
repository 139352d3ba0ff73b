// What one container, one network and all of them together may have in flight. The router's rules bound the packets (overlay/plan/gateway/
// limits.ts), so what is bounded here is memory, and time by TCP. Pure.

/** Queries that wait for an upstream resolver. */
export const FORWARDED = { container: 64, network: 512, host: 2_048 } as const
/** Connections to the resolvers. */
export const CONNECTIONS = { container: 8, network: 128, host: 1_024 } as const

export type Limits = { readonly container: number; readonly network: number; readonly host: number }

/** Counts what is in flight. One counter is shared by all networks of the host. */
export class InFlight {
  readonly #limits: Limits
  readonly #host: { count: number }
  readonly #containers = new Map<string, number>()
  #network = 0

  /** @param host shared by all networks */
  constructor(limits: Limits, host: { count: number }) {
    this.#limits = limits
    this.#host = host
  }

  /** @param container its address @returns what to call at the end, once; null if it is one too many */
  enter(container: string): (() => void) | null {
    const its = this.#containers.get(container) ?? 0
    const { container: most, network, host } = this.#limits
    if (its >= most || this.#network >= network || this.#host.count >= host) return null
    this.#add(container, 1)
    return () => this.#add(container, -1)
  }

  #add(container: string, change: 1 | -1): void {
    const its = (this.#containers.get(container) ?? 0) + change
    if (its === 0) this.#containers.delete(container)
    else this.#containers.set(container, its)
    this.#network += change
    this.#host.count += change
  }
}

/** A bucket of tokens, one a query; full at first. */
export class QueryRate {
  readonly #perSecond: number
  #tokens: number
  #atMs: number

  constructor(perSecond: number, nowMs: number) {
    this.#perSecond = perSecond
    this.#tokens = perSecond
    this.#atMs = nowMs
  }

  /** Time until the next query may be answered, in ms; 0: it may now, and is counted. */
  take(nowMs: number): number {
    this.#tokens = Math.min(this.#perSecond, this.#tokens + ((nowMs - this.#atMs) / 1_000) * this.#perSecond)
    this.#atMs = nowMs
    if (this.#tokens < 1) return Math.ceil(((1 - this.#tokens) / this.#perSecond) * 1_000)
    this.#tokens -= 1
    return 0
  }
}
