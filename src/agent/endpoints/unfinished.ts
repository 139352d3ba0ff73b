// Finishes what ended without an answer: a committed change that this host saw too late, or one whose outcome nobody knows.
// Its caller has been told that it failed, so an endpoint of it that shows up in the state is released. The records of
// what is unfinished survive a restart.

import type { ClusterState } from '#allocator/state-machine.ts'
import type { Endpoint, EndpointKey } from '#model/endpoint.ts'
import type { PeerId } from '#model/ids.ts'
import { vethName } from '#overlay/plan/network/names.ts'
import type { Cancel, Clock } from '#platform/clock.ts'
import type { Logger } from '#platform/log.ts'
import { nameOf, type LocalEndpoints } from './local-endpoints.ts'

const CHECK_MS = 1_000
/** Longer than a change whose caller gave up can take until it is committed. */
const SETTLED_MS = 30_000

export type UnfinishedOptions = {
  readonly self: PeerId
  readonly local: Pick<LocalEndpoints, 'forget' | 'isBusy' | 'unfinished'>
  readonly state: Pick<ClusterState, 'endpoint'>
  /** Has the local state caught up with the cluster's? */
  readonly current: () => boolean
  /** Resolves when the local state has everything that was acknowledged before the call. @throws ERR_NO_QUORUM, ERR_TIMEOUT */
  readonly refresh: () => Promise<void>
  /** Interfaces of this host, by name. @throws ERR_KERNEL */
  readonly interfaces: () => Promise<ReadonlyMap<string, unknown>>
  /** See Endpoints.releaseIf. */
  readonly release: (endpoint: Endpoint, still: () => Promise<boolean>) => Promise<boolean>
  readonly clock: Clock
  readonly logger: Logger
}

export class Unfinished {
  readonly #options: UnfinishedOptions
  #cancel: Cancel | null = null
  #round: Promise<void> = Promise.resolve()
  #stopped = false

  constructor(options: UnfinishedOptions) {
    this.#options = options
  }

  /** Checks regularly until nothing is unfinished; to be called when something may be. */
  wake(): void {
    if (this.#stopped || this.#cancel !== null || this.#options.local.unfinished.size === 0) return
    this.#cancel = this.#options.clock.after(CHECK_MS, () => {
      this.#round = this.#check()
        .catch((err: unknown) => this.#options.logger.debug({ err }, 'what was unfinished is not finished yet'))
        .finally(() => {
          this.#cancel = null
          this.wake()
        })
    })
  }

  async stop(): Promise<void> {
    this.#stopped = true
    this.#cancel?.()
    await this.#round
  }

  async #check(): Promise<void> {
    const { clock, current, local, refresh, self, state } = this.#options
    if (!current()) return
    const settled: EndpointKey[] = []
    for (const [key, sinceMs] of [...local.unfinished]) {
      if (this.#stopped || local.isBusy(key)) continue
      const endpoint = state.endpoint(key)
      if (endpoint?.host === self) await this.#finish(endpoint, key)
      else if (clock.nowMs() - sinceMs >= SETTLED_MS) settled.push(key)
    }
    if (settled.length === 0) return
    await refresh()
    for (const key of settled) {
      if (local.unfinished.has(key) && !local.isBusy(key) && state.endpoint(key)?.host !== self)
        local.forget(nameOf(key))
    }
  }

  async #finish(endpoint: Endpoint, key: EndpointKey): Promise<void> {
    const { interfaces, local, release, logger } = this.#options
    const { containerId, ifname, network } = endpoint
    const isUnused = async (): Promise<boolean> => {
      if (!local.unfinished.has(key)) return false
      if (!(await interfaces()).has(vethName(containerId, ifname))) return true
      // Its container has the interface. The collector releases it when that is gone.
      local.forget({ containerId, ifname })
      return false
    }
    if (await release(endpoint, isUnused)) {
      logger.info({ containerId, ifname, network }, 'released: its attach or detach ended without an answer')
    }
  }
}
