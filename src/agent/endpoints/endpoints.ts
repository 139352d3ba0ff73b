// Attach, update and detach on the container's own host. Attach commits the allocation first, then changes the kernel;
// detach does the reverse. If the kernel refuses an attach, its allocation is released. What ends without an answer is
// abandoned to unfinished.ts.

import type { ClusterState } from '#allocator/state-machine.ts'
import type { EndpointAttachRequest, EndpointUpdateRequest } from '#model/agent-port.ts'
import type { ResultOf } from '#model/command.ts'
import { endpointKey, type Endpoint, type EndpointKey, type Shaping } from '#model/endpoint.ts'
import { VxmeshError } from '#model/errors.ts'
import type { ContainerId, IfName, PeerId } from '#model/ids.ts'
import { changesShaping } from '#model/settings.ts'
import { detachRequest, shapeRequest, type Devices } from '#overlay/driver.ts'
import type { HeldNetns } from '#platform/container-netns.ts'
import type { Logger } from '#platform/log.ts'
import { KeyedSerial } from '#platform/serial.ts'
import type { Reconciler } from '../reconcile/reconciler.ts'
import type { LocalEndpoints } from './local-endpoints.ts'
import type { EndpointName } from './netns-records.ts'
import { mayHaveBeenMade, type Propose } from './propose.ts'

export type EndpointsOptions = {
  readonly self: PeerId
  readonly state: Pick<ClusterState, 'endpoint' | 'host' | 'network'>
  readonly devices: Pick<Devices, 'detach' | 'shape' | 'shapingSupport'>
  readonly reconciler: Pick<Reconciler, 'exclusively' | 'together' | 'wake' | 'withNetwork'>
  readonly local: Pick<LocalEndpoints, 'abandon' | 'attach' | 'forget' | 'handle' | 'netnsState' | 'unfinished'>
  /** Something was abandoned. */
  readonly abandoned: () => void
  /** Is this endpoint's container gone? Waits while it is stopping (Collector.waitUntilGone). */
  readonly waitUntilGone: (endpoint: Endpoint) => Promise<boolean>
  /** Opens the network namespace of a container. @throws ERR_NETNS */
  readonly holdNetns: (path: string) => HeldNetns
  readonly overlayMtu: () => number
  readonly propose: Propose
  readonly logger: Logger
}

export class Endpoints {
  readonly #options: EndpointsOptions
  /** Attach, update and detach of one container interface never overlap. */
  readonly #byContainer = new KeyedSerial()

  constructor(options: EndpointsOptions) {
    this.#options = options
  }

  /**
   * Resolves when the container has its interface.
   * @throws ERR_NETNS, ERR_UNSUPPORTED, ERR_DELAY_UNSUPPORTED, ERR_ENDPOINT_EXISTS, the state machine's refusals, ERR_KERNEL
   */
  attach(request: EndpointAttachRequest): Promise<Endpoint> {
    return this.#byContainer.run(endpointKey(request.containerId, request.ifname), () => this.#attach(request))
  }

  /**
   * Changes labels, rates and delay. On the endpoint's own host it resolves when the kernel has the rates and the delay; elsewhere
   * when the change is committed, and that host follows.
   * @throws ERR_ENDPOINT_NOT_FOUND, ERR_UNSUPPORTED, ERR_DELAY_UNSUPPORTED, the state machine's refusals, ERR_KERNEL
   */
  update(containerId: ContainerId, ifname: IfName, change: EndpointUpdateRequest): Promise<Endpoint> {
    const key = endpointKey(containerId, ifname)
    return this.#byContainer.run(key, () => this.#update(this.#find(containerId, ifname), change))
  }

  /**
   * Removes the interface and releases the allocation, also when the namespace, or the host, is gone.
   * @param describe called while the endpoint and its network still exist
   * @returns what `describe` returned
   * @throws ERR_ENDPOINT_NOT_FOUND, ERR_KERNEL, see Propose
   */
  detach<T>(containerId: ContainerId, ifname: IfName, describe: (endpoint: Endpoint) => T): Promise<T> {
    return this.#byContainer.run(endpointKey(containerId, ifname), async () => {
      // Looked up under the lock: an attach whose caller has gone away may be in flight.
      const endpoint = this.#find(containerId, ifname)
      const described = describe(endpoint)
      await this.#detach(endpoint)
      return described
    })
  }

  /** Detaches this host's endpoint if `still` holds under the endpoint's lock. @returns whether it was detached */
  releaseIf({ containerId, ifname }: Endpoint, still: () => Promise<boolean>): Promise<boolean> {
    const key = endpointKey(containerId, ifname)
    return this.#byContainer.run(key, async () => {
      const endpoint = this.#options.state.endpoint(key)
      if (endpoint?.host !== this.#options.self || !(await still())) return false
      await this.#detach(endpoint)
      return true
    })
  }

  /** The namespace is opened once, before anything is allocated: its path is not followed again. */
  async #attach(request: EndpointAttachRequest): Promise<Endpoint> {
    const netns = this.#options.holdNetns(request.netns)
    try {
      return await this.#attachHeld({ ...request, netns })
    } finally {
      netns.close()
    }
  }

  async #attachHeld(request: Omit<EndpointAttachRequest, 'netns'> & { readonly netns: HeldNetns }): Promise<Endpoint> {
    const { self, state, local, reconciler, propose } = this.#options
    await this.#refuseUnsupportedShaping(request)
    const { netns, exclusive = false, portNumber, ...facts } = request
    const key = endpointKey(facts.containerId, facts.ifname)
    if (exclusive) await this.#evictStaleEndpoint(key)
    return local.handle(key, async () => {
      const attach = (): Promise<ResultOf<'endpoint-attach'>> =>
        propose({ kind: 'endpoint-attach', ...facts, host: self })
      // An endpoint that this host had before, from a restored backup for example, is kept for the next attempt.
      const { endpoint, created } = await (state.endpoint(key) === undefined
        ? this.#orAbandon(facts, attach)
        : attach())
      if (exclusive && !created) throw attachedAlready(endpoint)
      try {
        await reconciler.withNetwork(endpoint.vni, () => local.attach(endpoint, { netns, portNumber }))
        await this.#refuseDead(endpoint)
        return endpoint
      } catch (err) {
        if (created) await this.#releaseFailed(endpoint)
        throw err
      } finally {
        reconciler.wake([endpoint.vni])
      }
    })
  }

  /** Detaches what a container that is gone has left under this key. @throws ERR_ENDPOINT_EXISTS if the container lives */
  async #evictStaleEndpoint(key: EndpointKey): Promise<void> {
    const { state, self, waitUntilGone } = this.#options
    const existing = state.endpoint(key)
    if (existing === undefined) return
    if (existing.host !== self || !(await waitUntilGone(existing))) throw attachedAlready(existing)
    // The collector may have released it meanwhile.
    if (state.endpoint(key) !== undefined) await this.#detach(existing)
  }

  async #update(before: Endpoint, change: EndpointUpdateRequest): Promise<Endpoint> {
    const { self, state, reconciler, devices, overlayMtu, propose } = this.#options
    const { containerId, ifname, host } = before
    if (host === self) await this.#refuseUnsupportedShaping(change)
    else if ((change.delayUs ?? 0) > 0) throw delayOnlyOnOwnHost(state.host(host)?.name ?? host)
    const { endpoint } = await propose({ kind: 'endpoint-update', containerId, ifname, ...change })
    const network = state.network(endpoint.network)
    if (endpoint.host === self && network !== undefined && changesShaping(change)) {
      const request = shapeRequest({ endpoint, network, overlayMtu: overlayMtu() })
      await reconciler.exclusively(() => devices.shape(request))
    }
    return endpoint
  }

  async #detach(endpoint: Endpoint): Promise<void> {
    const { self, local, reconciler, devices, propose } = this.#options
    const { containerId, ifname } = endpoint
    const key = endpointKey(containerId, ifname)
    await local.handle(key, async () => {
      if (endpoint.host === self) await reconciler.together(() => devices.detach(detachRequest(endpoint)))
      // What is known to be unfinished stays so until it is released.
      const isUnfinished = local.unfinished.has(key)
      if (!isUnfinished) local.forget(endpoint)
      const release = (): Promise<unknown> => propose({ kind: 'endpoint-detach', containerId, ifname })
      await (endpoint.host === self ? this.#orAbandon(endpoint, release) : release())
      if (isUnfinished) local.forget(endpoint)
    })
  }

  /** Runs a proposal about an endpoint of this host; if it ends without an answer, the endpoint is abandoned. */
  async #orAbandon<T>(name: EndpointName, run: () => Promise<T>): Promise<T> {
    try {
      return await run()
    } catch (err) {
      if (mayHaveBeenMade(err)) {
        this.#options.local.abandon(name)
        this.#options.abandoned()
      }
      throw err
    }
  }

  /**
   * Undoes an attach whose container ended meanwhile: the namespace that we hold open accepted the interface all the
   * same. @throws ERR_NETNS
   */
  async #refuseDead(endpoint: Endpoint): Promise<void> {
    const { local, reconciler, devices } = this.#options
    const { containerId, ifname } = endpoint
    if (local.netnsState(endpointKey(containerId, ifname)) !== 'gone') return
    await reconciler.together(() => devices.detach(detachRequest(endpoint)))
    throw new VxmeshError('ERR_NETNS', `netns: container ${containerId} ended while it was attached`, {
      field: 'netns'
    })
  }

  async #releaseFailed({ containerId, ifname }: Endpoint): Promise<void> {
    const { local, propose, logger } = this.#options
    local.forget({ containerId, ifname })
    try {
      await this.#orAbandon({ containerId, ifname }, () => propose({ kind: 'endpoint-detach', containerId, ifname }))
    } catch (err) {
      logger.warn({ err, containerId }, 'a failed attach could not be released')
    }
  }

  /** Called before anything is changed: shaping that this kernel cannot enforce must not be accepted. */
  async #refuseUnsupportedShaping(asked: Partial<Shaping>): Promise<void> {
    const field = (['ingressRate', 'egressRate', 'delayUs'] as const).find(name => (asked[name] ?? 0) > 0)
    if (field === undefined) return
    const support = await this.#options.devices.shapingSupport()
    if (!support.rate) {
      const what =
        'this host cannot shape traffic (it needs sch_tbf, sch_ingress, cls_u32, act_mirred, ifb and a datapath in the kernel)'
      throw new VxmeshError('ERR_UNSUPPORTED', `${field}: ${what}`, { field })
    }
    if (!support.delay && (asked.delayUs ?? 0) > 0) {
      const what = 'delayUs: this kernel has no netem (sch_netem), which delays packets'
      throw new VxmeshError('ERR_DELAY_UNSUPPORTED', what, { field: 'delayUs' })
    }
  }

  #find(containerId: ContainerId, ifname: IfName): Endpoint {
    const endpoint = this.#options.state.endpoint(endpointKey(containerId, ifname))
    if (endpoint === undefined) throw noEndpoint(containerId, ifname)
    return endpoint
  }
}

/** @param ifname undefined: of any name */
export function noEndpoint(containerId: ContainerId, ifname: IfName | undefined): VxmeshError {
  const what = ifname === undefined ? containerId : `${containerId} ${ifname}`
  return new VxmeshError('ERR_ENDPOINT_NOT_FOUND', `there is no endpoint of container ${what}`, {
    field: 'containerId'
  })
}

function attachedAlready({ containerId, ifname, network }: Endpoint): VxmeshError {
  const what = `container ${containerId} has an endpoint ${ifname} in network ${network} already`
  return new VxmeshError('ERR_ENDPOINT_EXISTS', what, { field: 'containerId' })
}

function delayOnlyOnOwnHost(host: string): VxmeshError {
  const what = `delay: only the endpoint's own host, ${host}, knows whether its kernel can delay: ask its agent`
  return new VxmeshError('ERR_DELAY_UNSUPPORTED', what, { field: 'delayUs' })
}
