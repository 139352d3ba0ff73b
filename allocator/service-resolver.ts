// The backends of a network's services: which endpoints their selectors choose, or have the addresses that they name. It follows
// the state: what is asked again costs what has changed since, and what has not changed is answered with the same objects. Pure.

import { addressesOf, mirrorOf } from '#model/addresses.ts'
import { labelsOf, type Endpoint } from '#model/endpoint.ts'
import { isVacant } from '#model/host.ts'
import type { NetworkName, ServiceName } from '#model/ids.ts'
import { compareIp, familyOf, type Ip } from '#model/ip.ts'
import { formatTerm, matches } from '#model/labels.ts'
import type { Service, ServicePort } from '#model/service.ts'
import { ownerOf, type NetworkTable } from './network-table.ts'
import type { ClusterState } from './state-machine.ts'
import type { RowWatcher, Tables } from './tables.ts'

/** One address of a service, as the data plane needs it: a service of both families is two of these. */
export type ResolvedService = {
  readonly address: Ip
  readonly ports: readonly (Pick<ServicePort, 'protocol' | 'port'> & {
    /** By address, ascending, on every host; of the family of the service's address. */
    readonly backends: readonly { readonly address: Ip; readonly port: number }[]
  })[]
  readonly affinitySeconds: number
}

export class ServiceResolver implements RowWatcher {
  readonly #state: ClusterState
  #tables: Tables
  #networks = new WeakMap<NetworkTable, NetworkBackends>()

  /** Watches the state from now on, also when a snapshot replaces its contents. */
  constructor(state: ClusterState) {
    this.#state = state
    this.#tables = state.tables
    this.#tables.watchers.add(this)
  }

  /**
   * The services of a network that have addresses. The same list while none has changed, and the same object for each that has
   * not. O(endpoints) at first, then O(changed endpoints + backends of the services that these belong to)
   */
  servicesOf(network: NetworkName): readonly ResolvedService[] {
    return this.#backends(network)?.services() ?? NONE
  }

  /** The endpoints that answer for a service, in no particular order; none where there is no such service. */
  endpointsOf(network: NetworkName, name: ServiceName): readonly Endpoint[] {
    return this.#backends(network)?.endpointsOf(name) ?? []
  }

  beforeChange(table: NetworkTable, address: Ip | null): void {
    this.#networks.get(table)?.note(address)
  }

  #backends(network: NetworkName): NetworkBackends | null {
    const { tables } = this.#state
    if (tables !== this.#tables) {
      this.#tables.watchers.delete(this)
      this.#networks = new WeakMap()
      tables.watchers.add(this)
      this.#tables = tables
    }
    const table = tables.networks.get(network)
    if (table === undefined) return null
    const known = this.#networks.get(table)
    if (table.services === null && known === undefined) return null
    const backends = known ?? new NetworkBackends(table, tables)
    this.#networks.set(table, backends)
    return backends
  }
}

const NONE: readonly ResolvedService[] = []

type Entry = {
  service: Service
  /** The endpoints that its selector chooses, by first address. */
  readonly chosen: Map<Ip, Endpoint>
  /** Null after a change. */
  resolved: readonly ResolvedService[] | null
}

/** So many new services are compared one by one faster than they are looked up by each label of an endpoint. */
const FEW = 16

class NetworkBackends {
  readonly #table: NetworkTable
  readonly #tables: Tables
  readonly #entries = new Map<ServiceName, Entry>()
  /** By the first term of their selectors, so that an endpoint is compared with few of them. */
  readonly #byTerm = new Index<string>()
  readonly #byBackend = new Index<Ip>()
  /** By the first addresses of the endpoints that they have chosen. */
  readonly #byChosen = new Index<Ip>()
  /** First addresses of endpoints that came, went or changed. */
  readonly #changed = new Set<Ip>()
  /** Second addresses that such endpoints had. */
  readonly #seconds = new Set<Ip>()
  #servicesChanged = true
  #all: readonly ResolvedService[] | null = null

  constructor(table: NetworkTable, tables: Tables) {
    this.#table = table
    this.#tables = tables
  }

  note(address: Ip | null): void {
    if (address === null) {
      this.#servicesChanged = true
      return
    }
    this.#changed.add(address)
    const second = this.#table.byAddress.get(address)?.address6
    if (second !== undefined) this.#seconds.add(second)
  }

  services(): readonly ResolvedService[] {
    this.#follow()
    this.#all ??= [...this.#entries.values()].flatMap(entry => (entry.resolved ??= this.#resolve(entry)))
    return this.#all
  }

  endpointsOf(name: ServiceName): readonly Endpoint[] {
    this.#follow()
    const entry = this.#entries.get(name)
    if (entry === undefined) return []
    if (entry.service.backends === undefined) return [...entry.chosen.values()]
    return [...new Set(entry.service.backends.flatMap(({ address }) => this.#present(ownerOf(this.#table, address))))]
  }

  #follow(): void {
    const services = this.#table.services?.byName
    if (this.#servicesChanged)
      for (const entry of this.#entries.values()) this.#followService(entry, services?.get(entry.service.name))
    for (const address of this.#changed) this.#followEndpoint(address)
    for (const address of this.#seconds) this.#byBackend.each(address, entry => this.#stale(entry))
    this.#changed.clear()
    this.#seconds.clear()
    if (!this.#servicesChanged) return
    this.#addAll([...(services?.values() ?? [])].filter(({ name }) => !this.#entries.has(name)))
    this.#servicesChanged = false
  }

  /** @param now its row, if it is still there */
  #followService(entry: Entry, now: Service | undefined): void {
    if (now === entry.service) return
    if (now === undefined || !isSameTarget(now, entry.service)) {
      this.#forget(entry)
      return
    }
    entry.service = now
    this.#stale(entry)
  }

  #followEndpoint(address: Ip): void {
    const [endpoint] = this.#present(this.#table.byAddress.get(address))
    const now = endpoint === undefined ? new Set<Entry>() : this.#choosing(endpoint)
    const isSame = (entry: Entry): boolean => entry.chosen.get(address)?.address6 === endpoint?.address6
    for (const entry of [...this.#byChosen.of(address)]) {
      if (endpoint !== undefined && now.has(entry) && isSame(entry)) continue
      this.#stale(entry)
      entry.chosen.delete(address)
      this.#byChosen.delete(address, entry)
    }
    if (endpoint !== undefined) for (const entry of now) this.#choose(entry, endpoint)
    const mirror = mirrorOf(this.#table.network, address)
    for (const each of [address, mirror, endpoint?.address6])
      if (each !== null && each !== undefined) this.#byBackend.each(each, entry => this.#stale(entry))
  }

  /** The services whose selectors choose the endpoint. */
  #choosing(endpoint: Endpoint): Set<Entry> {
    const labels = labelsOf(endpoint)
    const found = new Set<Entry>()
    for (const [key, value] of Object.entries(labels))
      for (const term of [{ key }, { key, value }])
        this.#byTerm.each(formatTerm(term), entry => {
          if (matches(entry.service.select ?? [], labels)) found.add(entry)
        })
    return found
  }

  #choose(entry: Entry, endpoint: Endpoint): void {
    if (!entry.chosen.has(endpoint.address)) this.#stale(entry)
    entry.chosen.set(endpoint.address, endpoint)
    this.#byChosen.add(endpoint.address, entry)
  }

  /** One look at each endpoint, however many services are new. */
  #addAll(services: readonly Service[]): void {
    const added = new Set(services.map(service => this.#add(service)))
    if (!services.some(({ select }) => select !== undefined)) return
    const few = added.size <= FEW ? added : null
    for (const endpoint of this.#table.byAddress.values()) {
      const { labels } = endpoint
      if (labels === undefined) continue
      for (const entry of few ?? this.#choosing(endpoint)) {
        const { select } = entry.service
        if (!added.has(entry) || select === undefined || !matches(select, labels)) continue
        for (const present of this.#present(endpoint)) this.#choose(entry, present)
      }
    }
  }

  /** Without the endpoints that it chooses. */
  #add(service: Service): Entry {
    const entry: Entry = { service, chosen: new Map(), resolved: null }
    const { name, select, backends = [] } = service
    this.#entries.set(name, entry)
    this.#all = null
    for (const { address } of backends) this.#byBackend.add(address, entry)
    const [first] = select ?? []
    if (first !== undefined) this.#byTerm.add(formatTerm(first), entry)
    return entry
  }

  #forget(entry: Entry): void {
    const { name, select, backends = [] } = entry.service
    this.#entries.delete(name)
    this.#all = null
    for (const { address } of backends) this.#byBackend.delete(address, entry)
    for (const address of entry.chosen.keys()) this.#byChosen.delete(address, entry)
    const [first] = select ?? []
    if (first !== undefined) this.#byTerm.delete(formatTerm(first), entry)
  }

  #stale(entry: Entry): void {
    entry.resolved = null
    this.#all = null
  }

  #resolve({ service, chosen }: Entry): readonly ResolvedService[] {
    const { network } = this.#table
    const all = [...chosen.values()].flatMap(endpoint => addressesOf(network, endpoint)).sort(compareIp)
    const named = (service.backends ?? []).filter(
      ({ address }) => this.#present(ownerOf(this.#table, address)).length > 0
    )
    const { affinitySeconds } = service
    return service.addresses.map(address => {
      const isOfFamily = (other: Ip): boolean => familyOf(other) === familyOf(address)
      const backendsOf = ({ targetPort }: ServicePort): ResolvedService['ports'][number]['backends'] => [
        ...all.filter(isOfFamily).map(each => ({ address: each, port: targetPort })),
        ...named.filter(each => isOfFamily(each.address)).map(each => ({ port: targetPort, ...each }))
      ]
      const ports = service.ports.map(one => ({ protocol: one.protocol, port: one.port, backends: backendsOf(one) }))
      return { address, ports, affinitySeconds }
    })
  }

  /** It, or nothing for one whose container runs nowhere: its host is that of a restored backup. */
  #present(endpoint: Endpoint | undefined): readonly Endpoint[] {
    const host = endpoint === undefined ? undefined : this.#tables.hosts.get(endpoint.host)
    return endpoint === undefined || host === undefined || isVacant(host) ? [] : [endpoint]
  }
}

/** Does an update leave the choice of backends as it is? */
function isSameTarget(one: Service, other: Service): boolean {
  return JSON.stringify([one.select, one.backends]) === JSON.stringify([other.select, other.backends])
}

/** Services by something that leads to them. */
class Index<Key> {
  readonly #sets = new Map<Key, Set<Entry>>()

  add(key: Key, entry: Entry): void {
    const entries = this.#sets.get(key)
    if (entries === undefined) this.#sets.set(key, new Set([entry]))
    else entries.add(entry)
  }

  delete(key: Key, entry: Entry): void {
    const entries = this.#sets.get(key)
    entries?.delete(entry)
    if (entries?.size === 0) this.#sets.delete(key)
  }

  of(key: Key): Iterable<Entry> {
    return this.#sets.get(key) ?? []
  }

  each(key: Key, visit: (entry: Entry) => void): void {
    for (const entry of this.of(key)) visit(entry)
  }
}
