// The tables of the cluster state, their indexes, and the operations that change rows. Each operation keeps rows, indexes,
// pools and hash consistent. The apply functions decide what may change; an impossible change is a broken invariant.

import type { Endpoint } from '#model/endpoint.ts'
import { isVacant, type Host } from '#model/host.ts'
import type { HostName, NamespaceName, NetworkName, PeerId, Vni } from '#model/ids.ts'
import { hostRoutedSubnets, mirroredBy, mirrorOf } from '#model/addresses.ts'
import { UNGATED_RULES } from '#model/command.ts'
import { formatIp, ipv4Of, isIpv4, type Ip } from '#model/ip.ts'
import { macOf } from '#model/mac.ts'
import type { Namespace } from '#model/namespace.ts'
import type { Network } from '#model/network.ts'
import type { Policy } from '#model/policy.ts'
import type { Service } from '#model/service.ts'
import { addressOfValue, poolValue } from './address-pool.ts'
import { ContainerIndex } from './container-index.ts'
import { emptyTable, ownerOf, ownerOfMac, pooled, serviceAt, type NetworkTable } from './network-table.ts'
import type { Pool } from './pool.ts'
import { Policies } from './policies.ts'
import { SubnetIndex } from './subnet-index.ts'
import { endpointRow } from './rows.ts'
import { hashCursor, hashEndpoint, hashHost, hashNamespace, hashNetwork, hashService, SetHash } from './row-hash.ts'
import { vniPool } from './vni-pool.ts'

/** Is told of a row before it changes, so that a snapshot taken in slices can keep it (state-cursor.ts). */
export type RowWatcher = {
  /** @param address of the endpoint that changes; null for the network's own row, also when the network is removed, and its services */
  readonly beforeChange: (table: NetworkTable, address: Ip | null) => void
}

/** Whether the pool chose a VNI or address, which moves its cursor, or the caller did. */
export type Choice = 'automatic' | 'explicit'

/** The VNIs' own place among the cursors: no network has this VNI. */
export const VNIS = 0

export class Tables {
  readonly vnis: Pool = vniPool()
  readonly networks = new Map<NetworkName, NetworkTable>()
  readonly networkByVni = new Map<Vni, NetworkTable>()
  readonly containers = new ContainerIndex()
  readonly byHost = new Map<PeerId, Set<Endpoint>>()
  /** How many endpoints a host has in each network in which it has any. */
  readonly networksByHost = new Map<PeerId, Map<Vni, number>>()
  readonly hosts = new Map<PeerId, Host>()
  #present: readonly Host[] | null = null
  /** Without vacant hosts, as hostByVtep: another host may take a vacant host's name. */
  readonly hostByName = new Map<HostName, Host>()
  readonly hostByVtep = new Map<Ip, Host>()
  readonly namespaces = new Map<NamespaceName, Namespace>()
  serviceCount = 0
  /** The subnets to whose containers their hosts have routes. */
  readonly hostRouted = new SubnetIndex()
  /** The sum over all networks, endpoints, services, policies, hosts and namespaces. */
  readonly hash = new SetHash()
  readonly policies = new Policies(this.hash)
  /** Watch the rows of networks and endpoints. */
  readonly watchers = new Set<RowWatcher>()
  /** The sum over the cursors of all pools. */
  readonly cursors = new SetHash()
  /** The rules of the cluster: the newest by which a request is applied (docs/adr/0054). */
  rules: number = UNGATED_RULES

  constructor() {
    this.cursors.add(hashCursor(VNIS, this.vnis.cursor))
  }

  /** Hosts that are not vacant. The list is replaced whenever one of them changes, so identity means unchanged. */
  get presentHosts(): readonly Host[] {
    return (this.#present ??= [...this.hosts.values()].filter(host => !isVacant(host)))
  }

  addNetwork(network: Network, vni: Choice): NetworkTable {
    if (this.networks.has(network.name)) throw new Error(`network ${network.name} already exists`)
    this.#allocate({ pool: this.vnis, key: VNIS, value: network.vni, choice: vni })
    const table = emptyTable(network)
    this.#addTable(table)
    return table
  }

  /** Replaces a network's row; name, VNI, subnet, gateway and hostAccess must stay the same, and a second subnet that it has. */
  replaceNetwork(table: NetworkTable, network: Network): void {
    this.#beforeChange(table, null)
    this.hostRouted.remove(network.name, hostRoutedSubnets(table.network))
    this.hostRouted.add(network.name, hostRoutedSubnets(network))
    this.hash.remove(hashNetwork(table.network))
    table.network = network
    this.hash.add(hashNetwork(network))
  }

  /**
   * Replaces the row of a network of IPv6 by one whose first subnet is an IPv4 one, which the other mirrors. Its endpoints are
   * filed by their IPv4 addresses from now on, and keep their MACs. The table before it stays as it is, for those who read it in
   * slices. O(endpoints)
   */
  putIpv4First(before: NetworkTable, network: Network): NetworkTable {
    const inFirst = (address: Ip): Ip | null => (isIpv4(address) ? null : mirroredBy(network, address))
    this.#dropTable(before)
    const table = emptyTable(network)
    const cursor = inFirst(addressOfValue(before.network.subnet, before.pool.cursor))
    if (cursor !== null) table.pool.restoreCursor(ipv4Of(cursor))
    // Their addresses are of IPv6, and stay.
    table.services = before.services
    this.#addTable(table)
    for (const endpoint of before.byAddress.values()) {
      const { vni, host, mac } = endpoint
      const address = inFirst(endpoint.address)
      if (address === null) throw new Error(`${formatIp(endpoint.address)} mirrors no address of ${network.name}`)
      const after = endpointRow(endpoint, { network: network.name, vni, host, mac, address })
      this.containers.replace(endpoint, after)
      this.#file(table, after, 'explicit')
      const onHost = this.byHost.get(host)
      onHost?.delete(endpoint)
      onHost?.add(after)
      this.hash.remove(hashEndpoint(endpoint))
      this.hash.add(hashEndpoint(after))
    }
    return table
  }

  /** Removes a network with its endpoints, its services, its policies and every mapping and grant of it. O(namespaces). */
  removeNetwork(table: NetworkTable): void {
    const { network } = table
    this.#beforeChange(table, null)
    for (const namespace of this.namespacesOf(network.name)) {
      if (namespace.network === network.name) this.removeNamespace(namespace)
      else this.putNamespace({ ...namespace, grants: namespace.grants.filter(name => name !== network.name) })
    }
    for (const endpoint of [...table.byAddress.values()]) this.removeEndpoint(endpoint)
    for (const service of [...(table.services?.byName.values() ?? [])]) this.removeService(service)
    this.policies.removeOf(network.name)
    this.#dropTable(table)
    this.vnis.release(network.vni)
  }

  /** Restores a network's cursor from a snapshot. @throws Error when it is out of range */
  restoreCursor({ network, pool }: NetworkTable, cursor: number): void {
    this.#moveCursor(pool, network.vni, () => pool.restoreCursor(cursor))
  }

  /** The same for the VNIs'. */
  restoreVniCursor(cursor: number): void {
    this.#moveCursor(this.vnis, VNIS, () => this.vnis.restoreCursor(cursor))
  }

  /** @param choice of the address */
  addEndpoint(endpoint: Endpoint, choice: Choice): void {
    const table = this.#tableOf(endpoint)
    const onHost = this.byHost.get(endpoint.host)
    if (onHost === undefined) throw new Error(`an endpoint on host ${endpoint.host}, which does not exist`)
    this.containers.add(endpoint)
    this.#file(table, endpoint, choice)
    onHost.add(endpoint)
    this.#countNetwork(endpoint, 1)
    this.hash.add(hashEndpoint(endpoint))
  }

  removeEndpoint(endpoint: Endpoint): void {
    const table = this.#tableOf(endpoint)
    this.containers.remove(endpoint)
    this.#beforeChange(table, endpoint.address)
    const value = poolValue(table.network.subnet, endpoint.address)
    if (value !== null) table.pool.release(value)
    table.beyond.delete(endpoint)
    table.byAddress.delete(endpoint.address)
    if (endpoint.address6 !== undefined) table.byChosen6.delete(endpoint.address6)
    table.byChosenMac.delete(endpoint.mac)
    table.names?.remove(endpoint)
    this.#removeFromHost(endpoint)
    this.hash.remove(hashEndpoint(endpoint))
  }

  /** Replaces an endpoint's row; network, container, interface, addresses and MAC must stay the same. */
  replaceEndpoint(before: Endpoint, after: Endpoint): void {
    const table = this.#tableOf(before)
    this.containers.replace(before, after)
    this.#beforeChange(table, after.address)
    table.byAddress.set(after.address, after)
    if (after.address6 !== undefined) table.byChosen6.set(after.address6, after)
    if (table.beyond.delete(before)) table.beyond.add(after)
    if (table.byChosenMac.has(after.mac)) table.byChosenMac.set(after.mac, after)
    table.names?.remove(before)
    table.names?.add(after)
    this.byHost.get(after.host)?.add(after)
    this.#countNetwork(after, 1)
    this.#removeFromHost(before)
    this.hash.remove(hashEndpoint(before))
    this.hash.add(hashEndpoint(after))
  }

  /** @param choice of its addresses */
  addService(service: Service, choice: Choice): void {
    const table = this.#tableOf(service)
    const services = (table.services ??= { byName: new Map(), byAddress: new Map() })
    if (services.byName.has(service.name)) throw new Error(`service ${service.name} already exists`)
    const taken = service.addresses.find(one => services.byAddress.has(one) || ownerOf(table, one) !== undefined)
    if (taken !== undefined) throw new Error(`${formatIp(taken)} is already in use in network ${service.network}`)
    this.#beforeChange(table, null)
    for (const address of service.addresses) {
      const value = pooled(table, address)
      if (value !== null) this.#allocate({ pool: table.pool, key: table.network.vni, value, choice })
      services.byAddress.set(address, service)
    }
    services.byName.set(service.name, service)
    this.serviceCount += 1
    this.hash.add(hashService(service))
  }

  removeService(service: Service): void {
    const table = this.#tableOf(service)
    this.#beforeChange(table, null)
    for (const address of service.addresses) {
      const value = pooled(table, address)
      if (value !== null) table.pool.release(value)
      table.services?.byAddress.delete(address)
    }
    table.services?.byName.delete(service.name)
    if (table.services?.byName.size === 0) table.services = null
    this.serviceCount -= 1
    this.hash.remove(hashService(service))
  }

  /** Replaces a service's row; network, name and addresses must stay the same. */
  replaceService(before: Service, after: Service): void {
    const table = this.#tableOf(before)
    const { services } = table
    this.#beforeChange(table, null)
    services?.byName.set(after.name, after)
    for (const address of after.addresses) services?.byAddress.set(address, after)
    this.hash.remove(hashService(before))
    this.hash.add(hashService(after))
  }

  addPolicy(policy: Policy): void {
    if (!this.networks.has(policy.network)) throw new Error(`policy ${policy.name} is of a network that does not exist`)
    this.policies.add(policy)
  }

  /** Creates or replaces the row of a peer id; its endpoints stay. */
  putHost(host: Host): void {
    const before = this.hosts.get(host.peerId)
    if (before !== undefined) this.#dropHost(before)
    if (!isVacant(host)) this.#index(host)
    this.hosts.set(host.peerId, host)
    if (!this.byHost.has(host.peerId)) this.byHost.set(host.peerId, new Set())
    if (!this.networksByHost.has(host.peerId)) this.networksByHost.set(host.peerId, new Map())
    this.hash.add(hashHost(host))
  }

  /** Removes a host with its endpoints; returns how many endpoints. */
  removeHost(host: Host): number {
    const endpoints = [...(this.byHost.get(host.peerId) ?? [])]
    for (const endpoint of endpoints) this.removeEndpoint(endpoint)
    if (this.hosts.has(host.peerId)) this.#dropHost(host)
    this.#dropEndpoints(host)
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

  #beforeChange(table: NetworkTable, address: Ip | null): void {
    if (this.watchers.size > 0) for (const watcher of this.watchers) watcher.beforeChange(table, address)
  }

  #addTable(table: NetworkTable): void {
    const { network, pool } = table
    this.networks.set(network.name, table)
    this.networkByVni.set(network.vni, table)
    this.hostRouted.add(network.name, hostRoutedSubnets(network))
    this.cursors.add(hashCursor(network.vni, pool.cursor))
    this.hash.add(hashNetwork(network))
  }

  #dropTable({ network, pool }: NetworkTable): void {
    this.networks.delete(network.name)
    this.networkByVni.delete(network.vni)
    this.hostRouted.remove(network.name, hostRoutedSubnets(network))
    this.cursors.remove(hashCursor(network.vni, pool.cursor))
    this.hash.remove(hashNetwork(network))
  }

  /** Adds an endpoint to its network's indexes and pool. */
  #file(table: NetworkTable, endpoint: Endpoint, choice: Choice): void {
    const { vni, mac, address, address6 } = endpoint
    const value = poolValue(table.network.subnet, address)
    const isDerived = value !== null && mac === macOf(vni, address)
    if ((isDerived ? table.byChosenMac.get(mac) : ownerOfMac(table, mac)) !== undefined)
      throw new Error(`MAC ${mac} is already in use in network ${endpoint.network}`)
    // Only a chosen one can be in the way of another; to compute it takes longer than all else here.
    const isAlone = address6 === undefined && table.byChosen6.size === 0 && table.services === null
    const second = isAlone ? null : (address6 ?? mirrorOf(table.network, address))
    const isOther6 =
      second !== null && (address6 === undefined ? table.byChosen6.has(second) : ownerOf(table, second) !== undefined)
    if (isOther6 || (second !== null && serviceAt(table, second) !== undefined))
      throw new Error(`${second} is already in use in network ${endpoint.network}`)
    if (value === null && (table.byAddress.has(address) || serviceAt(table, address) !== undefined))
      throw new Error(`${formatIp(address)} is already in use`)
    this.#beforeChange(table, address)
    if (value === null) table.beyond.add(endpoint)
    else this.#allocate({ pool: table.pool, key: vni, value, choice })
    table.byAddress.set(address, endpoint)
    if (address6 !== undefined) table.byChosen6.set(address6, endpoint)
    if (!isDerived) table.byChosenMac.set(mac, endpoint)
    table.names?.add(endpoint)
  }

  #index(host: Host): void {
    this.#present = null
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
    this.#countNetwork(endpoint, -1)
    if (host === undefined || left === undefined || left.size > 0 || !isVacant(host)) return
    this.#dropHost(host)
    this.#dropEndpoints(host)
  }

  #countNetwork({ host, vni }: Endpoint, change: 1 | -1): void {
    const counts = this.networksByHost.get(host)
    const count = (counts?.get(vni) ?? 0) + change
    if (count === 0) counts?.delete(vni)
    else counts?.set(vni, count)
  }

  #dropEndpoints({ peerId }: Host): void {
    this.byHost.delete(peerId)
    this.networksByHost.delete(peerId)
  }

  #allocate(p: { readonly pool: Pool; readonly key: number; readonly value: number; readonly choice: Choice }): void {
    const { pool, key, value, choice } = p
    if (choice === 'automatic') this.#moveCursor(pool, key, () => pool.take(value))
    else pool.claim(value)
  }

  #moveCursor(pool: Pool, key: number, move: () => void): void {
    const before = pool.cursor
    move()
    this.cursors.remove(hashCursor(key, before))
    this.cursors.add(hashCursor(key, pool.cursor))
  }

  /** Removes a host's row; its endpoints stay. */
  #dropHost(host: Host): void {
    this.hosts.delete(host.peerId)
    if (!isVacant(host)) {
      this.#present = null
      this.hostByName.delete(host.name)
      this.hostByVtep.delete(host.vtep)
    }
    this.hash.remove(hashHost(host))
  }

  #tableOf({ network }: Pick<Endpoint | Service, 'network'>): NetworkTable {
    const table = this.networks.get(network)
    if (table === undefined) throw new Error(`a row of network ${network}, which does not exist`)
    return table
  }
}
