// Releases this host's endpoints whose container is gone, because a runtime does not always say so. Gone means that the
// endpoint's interface is missing on this host (the kernel removes it with the namespace, and only then) and its recorded
// path leads nowhere, both for a while unless it was attached a moment ago. A container that lives fails both tests, whatever its path looks like: a mount that
// is not there yet, a /proc/PID of a process that has ended, a path that leads to another namespace by now.

import { endpointKey, type Endpoint, type EndpointKey } from '#model/endpoint.ts'
import { vethName } from '#overlay/plan/network/names.ts'
import type { Cancel, Clock } from '#platform/clock.ts'
import type { Logger } from '#platform/log.ts'
import type { LocalEndpoints } from './local-endpoints.ts'
import type { EndpointName } from './netns-records.ts'

/** Endpoints released concurrently. */
const MAX_CONCURRENT = 32
const PERIOD_MIN_MS = 500
/** The kernel removes a namespace's interfaces some time after its name, later when many are removed at once. */
const GOING_MS = 3_000
const GOING_POLL_MS = 50

export type CollectorOptions = {
  readonly local: Pick<LocalEndpoints, 'isBusy' | 'isYoung' | 'netnsState'>
  /** This host's endpoints. */
  readonly endpoints: () => readonly Endpoint[]
  /**
   * Has the local state caught up with the cluster's? A stale one lacks new endpoints and still lists released ones.
   */
  readonly current: () => boolean
  /** Interfaces of this host, by name. @throws ERR_KERNEL */
  readonly interfaces: () => Promise<ReadonlyMap<string, unknown>>
  /** See Endpoints.releaseIf. */
  readonly release: (endpoint: Endpoint, still: () => Promise<boolean>) => Promise<boolean>
  /** How long an endpoint must have been gone; 0: nothing is released unless `collect` is called. */
  readonly afterMs: number
  readonly clock: Clock
  readonly logger: Logger
}

export class Collector {
  readonly #options: CollectorOptions
  /** When each missing endpoint was first found missing. */
  readonly #goneSinceMs = new Map<EndpointKey, number>()
  #afterMs: number
  #started = false
  #cancel: Cancel = () => undefined
  #round: Promise<unknown> | null = null
  /** Releases of young endpoints in progress. */
  readonly #early = new Set<Promise<unknown>>()

  constructor(options: CollectorOptions) {
    this.#options = options
    this.#afterMs = options.afterMs
  }

  start(): void {
    this.#started = true
    this.#schedule()
  }

  /** Changes how long an endpoint must have been gone; 0: no release by itself. */
  setAfter(ms: number): void {
    if (ms === this.#afterMs) return
    this.#afterMs = ms
    if (this.#started) this.#schedule()
  }

  async stop(): Promise<void> {
    this.#started = false
    this.#cancel()
    await this.#round
    await Promise.all(this.#early)
  }

  /**
   * A pass found that the container of this host's endpoint has ended. A young endpoint is released at once, any other when
   * it is overdue. @returns false when nothing is released automatically
   */
  containerEnded(endpoint: Endpoint): boolean {
    const { local, current, logger } = this.#options
    if (this.#afterMs === 0) return false
    if (!local.isYoung(keyOf(endpoint)) || !current()) return true
    const releasing: Promise<unknown> = this.#release([endpoint])
      .catch((err: unknown) => logger.warn({ err }, 'the endpoint of a container that ended is not released yet'))
      .finally(() => this.#early.delete(releasing))
    this.#early.add(releasing)
    return true
  }

  /** Does this endpoint's container appear to be gone? @throws ERR_KERNEL */
  async isGone({ containerId, ifname }: EndpointName): Promise<boolean> {
    if (!this.#hasLostPath(endpointKey(containerId, ifname))) return false
    return !(await this.#options.interfaces()).has(vethName(containerId, ifname))
  }

  /** As isGone, but polls for up to GOING_MS while the container is stopping: a new one may already have its name. */
  async waitUntilGone(name: EndpointName): Promise<boolean> {
    const { clock, local } = this.#options
    const untilMs = clock.nowMs() + GOING_MS
    for (;;) {
      if (await this.isGone(name)) return true
      const state = local.netnsState(keyOf(name))
      if (state === 'alive' || state === 'unreadable' || clock.nowMs() >= untilMs) return false
      await clock.sleep(GOING_POLL_MS)
    }
  }

  /**
   * Releases what is gone now, except `keep`. @returns how many were released
   * @throws ERR_KERNEL when the host's interfaces cannot be read, and what releasing throws
   */
  async collect(keep: ReadonlySet<EndpointKey>): Promise<number> {
    return this.#release((await this.#findGone()).filter(endpoint => !keep.has(keyOf(endpoint))))
  }

  #schedule(): void {
    this.#cancel()
    if (this.#afterMs === 0) return
    this.#cancel = this.#options.clock.every(Math.max(this.#afterMs / 3, PERIOD_MIN_MS), () => this.#tick())
  }

  #tick(): void {
    if (this.#round !== null) return
    this.#round = this.#collectOverdue()
      .catch((err: unknown) =>
        this.#options.logger.warn({ err }, 'endpoints of containers that are gone are not released')
      )
      .finally(() => (this.#round = null))
  }

  async #collectOverdue(): Promise<void> {
    const { clock, current } = this.#options
    if (!current()) return
    const gone = await this.#findGone()
    const keys = new Set(gone.map(keyOf))
    for (const key of [...this.#goneSinceMs.keys()]) if (!keys.has(key)) this.#goneSinceMs.delete(key)
    for (const key of keys) if (!this.#goneSinceMs.has(key)) this.#goneSinceMs.set(key, clock.nowMs())
    const goneMs = (endpoint: Endpoint): number =>
      clock.nowMs() - (this.#goneSinceMs.get(keyOf(endpoint)) ?? clock.nowMs())
    await this.#release(gone.filter(endpoint => goneMs(endpoint) >= this.#afterMs))
  }

  async #findGone(): Promise<readonly Endpoint[]> {
    const lost = this.#options.endpoints().filter(endpoint => this.#hasLostPath(keyOf(endpoint)))
    if (lost.length === 0) return []
    const present = await this.#options.interfaces()
    return lost.filter(({ containerId, ifname }) => !present.has(vethName(containerId, ifname)))
  }

  #hasLostPath(key: EndpointKey): boolean {
    const { local } = this.#options
    if (local.isBusy(key)) return false
    const state = local.netnsState(key)
    // Neither an interface nor a record: its attach, or its detach, stopped half-way.
    return state === 'gone' || state === 'unrecorded'
  }

  async #release(gone: readonly Endpoint[]): Promise<number> {
    let released = 0
    for (let at = 0; at < gone.length; at += MAX_CONCURRENT) {
      const batch = gone.slice(at, at + MAX_CONCURRENT).map(async endpoint => {
        const done = await this.#options.release(endpoint, () => this.isGone(endpoint))
        if (!done) return
        released += 1
        const { containerId, ifname, network } = endpoint
        this.#options.logger.info({ containerId, ifname, network }, 'released: its container is gone')
      })
      const failed = (await Promise.allSettled(batch)).find(outcome => outcome.status === 'rejected')
      if (failed !== undefined) throw failed.reason
    }
    return released
  }
}

function keyOf({ containerId, ifname }: EndpointName): EndpointKey {
  return endpointKey(containerId, ifname)
}
