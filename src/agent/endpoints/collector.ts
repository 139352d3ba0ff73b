// Releases endpoints of this host whose container is gone without a word: no runtime is sure to tell. Gone is an endpoint
// that has no interface on this host any more (the kernel takes it away with the namespace, and with nothing else) and
// whose recorded path leads nowhere, both for a while. One that lives fails both, whatever its path looks like: a mount
// that is not there yet, a /proc/PID of a process that has ended, a path that means another namespace by now.

import { endpointKey, type Endpoint, type EndpointKey } from '#model/endpoint.ts'
import type { ContainerId, IfName } from '#model/ids.ts'
import { vethName } from '#overlay/plan/network/names.ts'
import { sleep } from '#platform/clock.ts'
import type { Logger } from '#platform/log.ts'
import type { LocalEndpoints } from './local-endpoints.ts'

/** Releases under way at once. */
const AT_ONCE = 32
const PERIOD_MIN_MS = 500
/** The kernel takes a namespace's interfaces away some time after its name, longer when many go at once. */
const GOING_MS = 3_000
const GOING_POLL_MS = 50

type Key = { readonly containerId: ContainerId; readonly ifname: IfName }

export type CollectorOptions = {
  readonly local: LocalEndpoints
  readonly endpoints: () => readonly Endpoint[]
  /** Is the state as new as the cluster's? An old one says too little and too much. */
  readonly current: () => boolean
  /** Host interfaces that there are. */
  readonly interfaces: () => Promise<ReadonlyMap<string, unknown>>
  /** Releases the endpoint in its container's turn, if `still` says so then. */
  readonly release: (endpoint: Endpoint, still: () => Promise<boolean>) => Promise<boolean>
  /** How long an endpoint must have been gone; 0: nothing is released without being asked for. */
  readonly afterMs: number
  readonly nowMs: () => number
  readonly logger: Logger
}

export class Collector {
  readonly #options: CollectorOptions
  /** Since when what is gone has been. */
  readonly #since = new Map<EndpointKey, number>()
  #afterMs: number
  #timer: NodeJS.Timeout | null = null
  #running: Promise<unknown> | null = null

  constructor(options: CollectorOptions) {
    this.#options = options
    this.#afterMs = options.afterMs
  }

  start(): void {
    if (this.#afterMs === 0) return
    this.#timer = setInterval(() => this.#tick(), Math.max(this.#afterMs / 3, PERIOD_MIN_MS))
  }

  /** Another patience from now on, 0 for endless. */
  setAfter(ms: number): void {
    if (ms === this.#afterMs) return
    this.#afterMs = ms
    if (this.#timer !== null) clearInterval(this.#timer)
    this.#timer = null
    this.start()
  }

  async stop(): Promise<void> {
    if (this.#timer !== null) clearInterval(this.#timer)
    await this.#running
  }

  /** Is this endpoint's container gone, as far as can be seen now? */
  async isGone({ containerId, ifname }: Key): Promise<boolean> {
    if (!this.#lostPath(endpointKey(containerId, ifname))) return false
    return !(await this.#options.interfaces()).has(vethName(containerId, ifname))
  }

  /** The same, but a container that is going has time to go: it may come back under its name at once. */
  async waitUntilGone(key: Key): Promise<boolean> {
    const until = this.#options.nowMs() + GOING_MS
    for (;;) {
      if (await this.isGone(key)) return true
      const fate = this.#options.local.netnsState(endpointKey(key.containerId, key.ifname))
      if (fate === 'alive' || fate === 'unreadable' || this.#options.nowMs() >= until) return false
      await sleep(GOING_POLL_MS)
    }
  }

  /**
   * Releases what is gone now and not to be kept. @returns how many
   * @throws ERR_KERNEL when the host's interfaces cannot be read, and what releasing throws
   */
  async collect(keep: ReadonlySet<EndpointKey>): Promise<number> {
    return this.#release((await this.#gone()).filter(endpoint => !keep.has(keyOf(endpoint))))
  }

  #tick(): void {
    if (this.#running !== null) return
    this.#running = this.#round()
      .catch((err: unknown) =>
        this.#options.logger.warn({ err }, 'endpoints of containers that are gone are not released')
      )
      .finally(() => (this.#running = null))
  }

  async #round(): Promise<void> {
    const { nowMs, current } = this.#options
    if (!current()) return
    const gone = await this.#gone()
    const keys = new Set(gone.map(keyOf))
    for (const key of [...this.#since.keys()]) if (!keys.has(key)) this.#since.delete(key)
    for (const key of keys) if (!this.#since.has(key)) this.#since.set(key, nowMs())
    await this.#release(gone.filter(one => nowMs() - (this.#since.get(keyOf(one)) ?? nowMs()) >= this.#afterMs))
  }

  async #gone(): Promise<readonly Endpoint[]> {
    const lost = this.#options.endpoints().filter(endpoint => this.#lostPath(keyOf(endpoint)))
    if (lost.length === 0) return []
    const present = await this.#options.interfaces()
    return lost.filter(({ containerId, ifname }) => !present.has(vethName(containerId, ifname)))
  }

  #lostPath(key: EndpointKey): boolean {
    const { local } = this.#options
    if (local.isInHand(key)) return false
    const fate = local.netnsState(key)
    // Without an interface and without a record nobody has got it: its attach was never done, or its detach not to the end.
    return fate === 'gone' || fate === 'unrecorded'
  }

  async #release(gone: readonly Endpoint[]): Promise<number> {
    let released = 0
    for (let at = 0; at < gone.length; at += AT_ONCE) {
      const some = gone.slice(at, at + AT_ONCE).map(async endpoint => {
        const done = await this.#options.release(endpoint, () => this.isGone(endpoint))
        if (!done) return
        released += 1
        const { containerId, ifname, network } = endpoint
        this.#options.logger.info({ containerId, ifname, network }, 'released: its container is gone')
      })
      const failed = (await Promise.allSettled(some)).find(outcome => outcome.status === 'rejected')
      if (failed !== undefined) throw failed.reason
    }
    return released
  }
}

function keyOf({ containerId, ifname }: Key): EndpointKey {
  return endpointKey(containerId, ifname)
}
