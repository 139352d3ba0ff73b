// The tables of the cluster state and their indexes, and the few ways to change a row. Every change keeps rows, indexes
// and pools together; what may be changed is decided elsewhere.

import { endpointKey, type Endpoint, type EndpointKey } from '#model/endpoint.ts'
import type { Host } from '#model/host.ts'
import type { ContainerId, HostName, NetworkName, PeerId, Vni } from '#model/ids.ts'
import type { Ipv4 } from '#model/ipv4.ts'
import type { Mac } from '#model/mac.ts'
import type { Network } from '#model/network.ts'
import type { Pool } from './pool.ts'
import { addressPool, vniPool } from './pools.ts'

/** What belongs to one network. */
export type NetworkTable = {
  readonly network: Network
  readonly pool: Pool
  readonly endpoints: Map<EndpointKey, Endpoint>
  readonly byMac: Map<Mac, EndpointKey>
}

export class Tables {
  readonly vnis: Pool = vniPool()
  readonly networks = new Map<NetworkName, NetworkTable>()
  readonly networkByVni = new Map<Vni, NetworkName>()
  readonly endpoints = new Map<EndpointKey, Endpoint>()
  readonly byContainer = new Map<ContainerId, Set<EndpointKey>>()
  readonly byHost = new Map<PeerId, Set<EndpointKey>>()
  readonly hosts = new Map<PeerId, Host>()
  readonly hostByName = new Map<HostName, PeerId>()

  /** The VNI must have been taken from `vnis`. */
  addNetwork(network: Network): void {
    const pool = addressPool(network.subnet, network.gateway)
    this.networks.set(network.name, { network, pool, endpoints: new Map(), byMac: new Map() })
    this.networkByVni.set(network.vni, network.name)
  }

  replaceNetwork(table: NetworkTable, network: Network): void {
    this.networks.set(network.name, { ...table, network })
  }

  /** With all its endpoints. */
  removeNetwork(table: NetworkTable): void {
    for (const endpoint of table.endpoints.values()) this.removeEndpoint(endpoint)
    this.networks.delete(table.network.name)
    this.networkByVni.delete(table.network.vni)
    this.vnis.release(table.network.vni)
  }

  /** The address must have been taken from the network's pool. */
  addEndpoint(endpoint: Endpoint): void {
    const key = endpointKey(endpoint.containerId, endpoint.ifname)
    const table = this.networks.get(endpoint.network)
    if (table === undefined) throw new Error(`an endpoint of network ${endpoint.network}, which is not there`)
    this.endpoints.set(key, endpoint)
    table.endpoints.set(key, endpoint)
    table.byMac.set(endpoint.mac, key)
    addTo(this.byContainer, endpoint.containerId, key)
    addTo(this.byHost, endpoint.host, key)
  }

  removeEndpoint(endpoint: Endpoint): void {
    const key = endpointKey(endpoint.containerId, endpoint.ifname)
    const table = this.networks.get(endpoint.network)
    if (table === undefined) throw new Error(`an endpoint of network ${endpoint.network}, which is not there`)
    this.endpoints.delete(key)
    table.endpoints.delete(key)
    table.byMac.delete(endpoint.mac)
    table.pool.release(endpoint.address)
    removeFrom(this.byContainer, endpoint.containerId, key)
    removeFrom(this.byHost, endpoint.host, key)
  }

  putHost(host: Host): void {
    const before = this.hosts.get(host.peerId)
    if (before !== undefined) this.hostByName.delete(before.name)
    this.hosts.set(host.peerId, host)
    this.hostByName.set(host.name, host.peerId)
  }

  /** With all its endpoints; returns how many those were. */
  removeHost(host: Host): number {
    const keys = [...(this.byHost.get(host.peerId) ?? [])]
    for (const endpoint of this.rows(keys)) this.removeEndpoint(endpoint)
    this.hosts.delete(host.peerId)
    this.hostByName.delete(host.name)
    return keys.length
  }

  rows(keys: Iterable<EndpointKey>): Endpoint[] {
    return [...keys].flatMap(key => this.endpoints.get(key) ?? [])
  }

  hostWithVtep(vtep: Ipv4): Host | undefined {
    return [...this.hosts.values()].find(host => host.vtep === vtep)
  }
}

function addTo<K>(index: Map<K, Set<EndpointKey>>, at: K, key: EndpointKey): void {
  const keys = index.get(at)
  if (keys === undefined) index.set(at, new Set([key]))
  else keys.add(key)
}

function removeFrom<K>(index: Map<K, Set<EndpointKey>>, at: K, key: EndpointKey): void {
  const keys = index.get(at)
  keys?.delete(key)
  if (keys?.size === 0) index.delete(at)
}
