// The tables of the cluster state, their indexes, and the operations that change rows. Each operation keeps rows, indexes,
// pools and hash consistent. The apply functions decide what may change; an impossible change is a broken invariant.

import type { Endpoint } from '#model/endpoint.ts'
import { isVacant, type Host } from '#model/host.ts'
import type { HostName, NamespaceName, NetworkName, PeerId, Vni } from '#model/ids.ts'
import { ipv4Of, type Ip } from '#model/ip.ts'
import type { Mac } from '#model/mac.ts'
import type { Namespace } from '#model/namespace.ts'
import type { Network } from '#model/network.ts'
import { addressPool } from './address-pool.ts'
import { ContainerIndex } from './container-index.ts'
import type { Pool } from './pool.ts'
import { SubnetIndex } from './subnet-index.ts'
import { hashEndpoint, hashHost, hashNamespace, hashNetwork, SetHash } from './row-hash.ts'
import { vniPool } from './vni-pool.ts'

/** A network with its endpoints. */
export type NetworkTable = {
  network: Network
  readonly pool: Pool
  readonly byAddress: Map<Ip, Endpoint>
  readonly byMac: Map<Mac, Endpoint>
}

/** Whether the pool chose a VNI or address, which moves its cursor, or the caller did. */
export type Choice = 'automatic' | 'explicit'

export class Tables {
  readonly vnis: Pool = vniPool()
  readonly networks = new Map<NetworkName, NetworkTable>()
  readonly networkByVni = new Map<Vni, NetworkTable>()
  readonly containers = new ContainerIndex()
  readonly byHost = new Map<PeerId, Set<Endpoint>>()
  readonly hosts = new Map<PeerId, Host>()
  /** Without vacant hosts, as hostByVtep: another host may take a vacant host's name. */
  readonly hostByName = new Map<HostName, Host>()
  readonly hostByVtep = new Map<Ip, Host>()
  readonly namespaces = new Map<NamespaceName, Namespace>()
  /** The networks whose containers their hosts reach. */
  readonly hostAccess = new SubnetIndex()
  /** The sum over all networks, endpoints, hosts and namespaces. */
  readonly hash = new SetHash()

  addNetwork(network: Network, vni: Choice): NetworkTable {
    if (this.networks.has(network.name)) throw new Error(`network ${network.name} already exists`)
    allocate(this.vnis, network.vni, vni)
    const pool = addressPool(network.subnet, network.gateway)
    const table = { network, pool, byAddress: new Map(), byMac: new Map() }
    this.networks.set(network.name, table)
    this.networkByVni.set(network.vni, table)
    if (network.hostAccess) this.hostAccess.add(network)
    this.hash.add(hashNetwork(network))
    return table
  }

  /** Replaces a network's row; name, VNI, subnet, gateway and hostAccess must stay the same. */
  replaceNetwork(table: NetworkTable, network: Network): void {
    this.hash.remove(hashNetwork(table.network))
    table.network = network
    this.hash.add(hashNetwork(network))
  }

  /** Removes a network with its endpoints and every mapping and grant of it. O(namespaces). */
  removeNetwork(table: NetworkTable): void {
    const { network } = table
    for (const namespace of this.namespacesOf(network.name)) {
      if (namespace.network === network.name) this.removeNamespace(namespace)
      else this.putNamespace({ ...namespace, grants: namespace.grants.filter(name => name !== network.name) })
    }
    for (const endpoint of [...table.byAddress.values()]) this.removeEndpoint(endpoint)
    this.networks.delete(network.name)
    this.networkByVni.delete(network.vni)
    this.hostAccess.remove(network)
    this.vnis.release(network.vni)
    this.hash.remove(hashNetwork(network))
  }

  addEndpoint(endpoint: Endpoint, address: Choice): void {
    const table = this.#tableOf(endpoint)
    const onHost = this.byHost.get(endpoint.host)
    if (onHost === undefined) throw new Error(`an endpoint on host ${endpoint.host}, which does not exist`)
    if (table.byMac.has(endpoint.mac))
      throw new Error(`MAC ${endpoint.mac} is already in use in network ${endpoint.network}`)
    this.containers.add(endpoint)
    allocate(table.pool, ipv4Of(endpoint.address), address)
    table.byAddress.set(endpoint.address, endpoint)
    table.byMac.set(endpoint.mac, endpoint)
    onHost.add(endpoint)
    this.hash.add(hashEndpoint(endpoint))
  }

  removeEndpoint(endpoint: Endpoint): void {
    const table = this.#tableOf(endpoint)
    this.containers.remove(endpoint)
    table.pool.release(ipv4Of(endpoint.address))
    table.byAddress.delete(endpoint.address)
    table.byMac.delete(endpoint.mac)
    this.#removeFromHost(endpoint)
    this.hash.remove(hashEndpoint(endpoint))
  }

  /** Replaces an endpoint's row; network, container, interface, address and MAC must stay the same. */
  replaceEndpoint(before: Endpoint, after: Endpoint): void {
    const table = this.#tableOf(before)
    this.containers.replace(before, after)
    table.byAddress.set(after.address, after)
    table.byMac.set(after.mac, after)
    this.byHost.get(after.host)?.add(after)
    this.#removeFromHost(before)
    this.hash.remove(hashEndpoint(before))
    this.hash.add(hashEndpoint(after))
  }

  /** Creates or replaces the row of a peer id; its endpoints stay. */
  putHost(host: Host): void {
    const before = this.hosts.get(host.peerId)
    if (before !== undefined) this.#dropHost(before)
    if (!isVacant(host)) this.#index(host)
    this.hosts.set(host.peerId, host)
    if (!this.byHost.has(host.peerId)) this.byHost.set(host.peerId, new Set())
    this.hash.add(hashHost(host))
  }

  /** Removes a host with its endpoints; returns how many endpoints. */
  removeHost(host: Host): number {
    const endpoints = [...(this.byHost.get(host.peerId) ?? [])]
    for (const endpoint of endpoints) this.removeEndpoint(endpoint)
    if (this.hosts.has(host.peerId)) this.#dropHost(host)
    this.byHost.delete(host.peerId)
    return endpoints.length
  }

  /** Creates or replaces the row. */
  putNamespace(namespace: Namespace): void {
    const before = this.namespaces.get(namespace.name)
    if (before !== undefined) this.removeNamespace(before)
    if (![namespace.network, ...namespace.grants].every(name => this.networks.has(name))) {
      throw new Error(`namespace ${namespace.name} is mapped to a network that does not exist`)
    }
    this.namespaces.set(namespace.name, namespace)
    this.hash.add(hashNamespace(namespace))
  }

  removeNamespace(namespace: Namespace): void {
    this.namespaces.delete(namespace.name)
    this.hash.remove(hashNamespace(namespace))
  }

  /** Namespaces whose pods may use the network. O(namespaces). */
  namespacesOf(network: NetworkName): readonly Namespace[] {
    return [...this.namespaces.values()].filter(row => row.network === network || row.grants.includes(network))
  }

  #index(host: Host): void {
    if (this.hostByName.has(host.name)) throw new Error(`host name ${host.name} is already in use`)
    if (this.hostByVtep.has(host.vtep)) throw new Error(`the VTEP of host ${host.name} is already in use`)
    this.hostByName.set(host.name, host)
    this.hostByVtep.set(host.vtep, host)
  }

  /** Removes an endpoint from its host's set; a vacant host goes with its last endpoint. */
  #removeFromHost(endpoint: Endpoint): void {
    const left = this.byHost.get(endpoint.host)
    const host = this.hosts.get(endpoint.host)
    left?.delete(endpoint)
    if (host === undefined || left === undefined || left.size > 0 || !isVacant(host)) return
    this.#dropHost(host)
    this.byHost.delete(host.peerId)
  }

  /** Removes a host's row; its endpoints stay. */
  #dropHost(host: Host): void {
    this.hosts.delete(host.peerId)
    if (!isVacant(host)) {
      this.hostByName.delete(host.name)
      this.hostByVtep.delete(host.vtep)
    }
    this.hash.remove(hashHost(host))
  }

  #tableOf(endpoint: Endpoint): NetworkTable {
    const table = this.networks.get(endpoint.network)
    if (table === undefined) throw new Error(`an endpoint of network ${endpoint.network}, which does not exist`)
    return table
  }
}

function allocate(pool: Pool, value: number, choice: Choice): void {
  if (choice === 'automatic') pool.take(value)
  else pool.claim(value)
}
