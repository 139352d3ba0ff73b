// What the agent knows of this host's containers beyond the replicated state: the network namespace of each, so that a lost
// interface can be made again, and a changed MTU or a second subnet applied.

import type { ClusterState } from '#allocator/state-machine.ts'
import { subnetsOf } from '#model/addresses.ts'
import { endpointKey, type Endpoint, type EndpointKey } from '#model/endpoint.ts'
import { asVxmeshError, VxmeshError } from '#model/errors.ts'
import { parseContainerId, parseIfName, type PeerId, type Vni } from '#model/ids.ts'
import { formatSubnet } from '#model/ip.ts'
import { attachRequest, type AttachRequest, type AttachResult, type Devices } from '#overlay/driver.ts'
import type { DesiredHost } from '#overlay/plan/network/desired.ts'
import type { HeldNetns } from '#platform/container-netns.ts'
import type { Clock } from '#platform/clock.ts'
import { isErrno } from '#platform/storage-error.ts'
import { isSameNetns } from '#platform/netns.ts'
import { UseCounts } from '#platform/use-counts.ts'
import type { Restored } from '../reconcile/reconciler.ts'
import type { EndpointName, NetnsRecord, NetnsRecords } from './netns-records.ts'

/**
 * What an endpoint's namespace is, judged by its path alone. `unreadable`: it cannot be judged now. `gone` is no proof yet:
 * a namespace outlives its path while a process is in it, and then our interface is still there.
 */
export type NetnsState = 'alive' | 'gone' | 'unreadable' | 'unrecorded'

/**
 * How long after its attach an endpoint is young. A container that ends before is hardly known to anybody, and its runtime
 * may still wait for the answer: nobody detaches it.
 */
const YOUNG_MS = 10_000

/** Network namespaces by path; see platform/netns.ts. */
export type NetnsLookup = {
  /** @throws ERR_NETNS */
  readonly hold: (path: string) => HeldNetns
  readonly isNetns: (path: string, lastingId: string) => boolean
}

export type LocalEndpointsOptions = {
  readonly bootId: string
  readonly self: PeerId
  readonly state: Pick<ClusterState, 'endpoint' | 'endpointsOnHost' | 'network'>
  readonly devices: Pick<Devices, 'attach' | 'updateContainer'>
  /** The desired state of one network on this host. */
  readonly desired: (vni: Vni) => DesiredHost
  readonly records: NetnsRecords
  readonly netns: NetnsLookup
  readonly overlayMtu: () => number
  /** A container of this boot has ended. Returns whether its endpoint will be released automatically. */
  readonly ended: (endpoint: Endpoint) => boolean
  readonly clock: Clock
}

export class LocalEndpoints {
  readonly #options: LocalEndpointsOptions
  readonly #records = new Map<EndpointKey, NetnsRecord>()
  /** When this agent attached them. */
  readonly #attachedMs = new Map<EndpointKey, number>()
  /** Endpoints that are being attached or detached; the reconciler leaves them alone. */
  readonly #busy = new UseCounts<EndpointKey>()
  /** Since when each attach or detach has been known to have ended without an answer. */
  readonly #unfinished = new Map<EndpointKey, number>()
  /** What each container's interface was last set up with. */
  readonly #setUpWith = new Map<EndpointKey, string>()

  constructor(options: LocalEndpointsOptions) {
    this.#options = options
  }

  /** Reads the records of earlier runs. @throws ERR_STORAGE */
  async load(): Promise<void> {
    for (const [key, record] of await this.#options.records.load()) {
      if (record === 'unfinished') this.#unfinished.set(key, this.#options.clock.nowMs())
      else this.#records.set(key, record)
    }
  }

  /** Runs the work of an attach or detach; meanwhile the endpoint is busy. */
  handle<T>(key: EndpointKey, work: () => Promise<T>): Promise<T> {
    return this.#busy.during(key, work)
  }

  isBusy(key: EndpointKey): boolean {
    return this.#busy.has(key)
  }

  /** Must run with exclusive access to the kernel, so that the MTU cannot change meanwhile. @throws see Devices.attach */
  async attach(endpoint: Endpoint, p: { netns: HeldNetns; portNumber?: number | undefined }): Promise<AttachResult> {
    const { netns, portNumber } = p
    const { devices, desired, bootId, records } = this.#options
    const asked = portNumber === undefined ? {} : { portNumber }
    const setUpWith = this.#setupOf(endpoint)
    const result = await devices.attach({ ...this.#request(endpoint, netns.held), ...asked }, () =>
      desired(endpoint.vni)
    )
    // Recorded only now: a failed attach must not overwrite the record of an interface that is there.
    const record = { netns: netns.path, netnsId: netns.id, bootId }
    const key = endpointKey(endpoint.containerId, endpoint.ifname)
    this.#records.set(key, record)
    this.#setUpWith.set(key, setUpWith)
    this.#unfinished.delete(key)
    this.#attachedMs.set(key, this.#options.clock.nowMs())
    records.save(endpoint, record)
    return result
  }

  forget(name: EndpointName): void {
    const key = endpointKey(name.containerId, name.ifname)
    this.#records.delete(key)
    this.#setUpWith.delete(key)
    this.#unfinished.delete(key)
    this.#attachedMs.delete(key)
    this.#options.records.remove(name)
  }

  /**
   * An attach or detach ended without an answer: whether the endpoint is allocated is unknown, also after a restart. An
   * endpoint with a record was attached before, and stays as it is.
   */
  abandon(name: EndpointName): void {
    const key = endpointKey(name.containerId, name.ifname)
    if (this.#records.has(key)) return
    this.#unfinished.set(key, this.#options.clock.nowMs())
    this.#options.records.save(name, 'unfinished')
  }

  /** When each attach or detach that ended without an answer was abandoned, or found after a restart. */
  get unfinished(): ReadonlyMap<EndpointKey, number> {
    return this.#unfinished
  }

  isYoung(key: EndpointKey): boolean {
    const attachedMs = this.#attachedMs.get(key)
    return attachedMs !== undefined && this.#options.clock.nowMs() - attachedMs < YOUNG_MS
  }

  netnsState(key: EndpointKey): NetnsState {
    const record = this.#records.get(key)
    if (record === undefined) return 'unrecorded'
    if (record.bootId !== this.#options.bootId) return 'gone'
    try {
      return this.#options.netns.isNetns(record.netns, record.netnsId) ? 'alive' : 'gone'
    } catch (err) {
      const { cause } = asVxmeshError(err)
      // No cause: the path is there but is no namespace, its mount is gone. ESRCH: the process of a path in /proc is gone.
      return cause === undefined || isErrno(cause, 'ENOENT') || isErrno(cause, 'ESRCH') ? 'gone' : 'unreadable'
    }
  }

  /** See ReconcilerOptions.restore. */
  async restore(key: EndpointKey): Promise<Restored> {
    if (this.#busy.has(key) || this.#unfinished.has(key)) return 'pending'
    const endpoint = this.#options.state.endpoint(key)
    if (endpoint?.host !== this.#options.self) return 'pending'
    if (this.#hasEnded(key) && this.#options.ended(endpoint)) return 'pending'
    try {
      const netns = this.#holdRecordedNetns(key)
      try {
        const { devices, desired } = this.#options
        await devices.attach(this.#request(endpoint, netns.held), () => desired(endpoint.vni))
        return 'restored'
      } finally {
        netns.close()
      }
    } catch (err) {
      const { code, message, context } = asVxmeshError(err)
      const what = `the interface of container ${key} is gone and cannot be made again: ${message}`
      return new VxmeshError(code, what, { cause: err, context })
    }
  }

  /**
   * Gives the containers of one network, or of all, what it has got since they were attached: another overlay MTU, or an
   * address in its second subnet. @throws ERR_KERNEL
   */
  async follow(only: Vni | null): Promise<void> {
    const { state, self, devices } = this.#options
    for (const endpoint of state.endpointsOnHost(self)) {
      if (only !== null && endpoint.vni !== only) continue
      const key = endpointKey(endpoint.containerId, endpoint.ifname)
      const record = this.#records.get(key)
      const setup = this.#setupOf(endpoint)
      if (record === undefined || this.#setUpWith.get(key) === setup) continue
      try {
        await devices.updateContainer(this.#request(endpoint, record.netns))
      } catch (err) {
        // A namespace that is gone has no interface either, and the plan reports it.
        if (asVxmeshError(err).code !== 'ERR_NETNS') throw err
      }
      this.#setUpWith.set(key, setup)
    }
  }

  /** Forgets endpoints that the state no longer places on this host. Only for a state that is current. */
  prune(): void {
    const { state, self } = this.#options
    for (const key of [...this.#records.keys()]) {
      if (this.#busy.has(key) || state.endpoint(key)?.host === self) continue
      this.forget(nameOf(key))
    }
  }

  /** A reboot ends all containers at once and is reported. */
  #hasEnded(key: EndpointKey): boolean {
    return this.#records.get(key)?.bootId === this.#options.bootId && this.netnsState(key) === 'gone'
  }

  /** @throws ERR_NETNS with the reason if the container's namespace is not there */
  #holdRecordedNetns(key: EndpointKey): HeldNetns {
    const record = this.#records.get(key)
    const gone = (why: string): VxmeshError => new VxmeshError('ERR_NETNS', `${why}; attach it again or detach it`)
    if (record === undefined) throw gone('its namespace is not known')
    if (record.bootId !== this.#options.bootId) throw gone('the host has rebooted since')
    let netns: HeldNetns
    try {
      netns = this.#options.netns.hold(record.netns)
    } catch {
      throw gone(`its namespace ${record.netns} is gone`)
    }
    if (isSameNetns(netns.id, record.netnsId)) return netns
    netns.close()
    throw gone(`${record.netns} is another namespace by now`)
  }

  /** What may change for a container that is attached. */
  #setupOf(endpoint: Endpoint): string {
    const network = this.#options.state.network(endpoint.network)
    const subnets = network === undefined ? [] : subnetsOf(network).map(formatSubnet)
    return [this.#options.overlayMtu(), ...subnets].join(' ')
  }

  #request(endpoint: Endpoint, netns: string): AttachRequest {
    const network = this.#options.state.network(endpoint.network)
    if (network === undefined) throw new VxmeshError('ERR_NETWORK_NOT_FOUND', `network ${endpoint.network} was deleted`)
    return attachRequest({ endpoint, network, overlayMtu: this.#options.overlayMtu(), netns, withRoute: true })
  }
}

export function nameOf(key: EndpointKey): EndpointName {
  const [containerId = '', ifname = ''] = key.split('/')
  return { containerId: parseContainerId(containerId), ifname: parseIfName(ifname) }
}
