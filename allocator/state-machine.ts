// The replicated state machine: a fold over the committed log. The same entries give the same state on every host, bit
// vectors and remembered answers included. Nothing else changes the state.

import { FIRST_RULES, OWN_BUSINESS, UNGATED_RULES, type Command, type Outcome, type Request } from '#model/command.ts'
import { labelsOf, type Endpoint, type EndpointKey } from '#model/endpoint.ts'
import { isVacant, type Host } from '#model/host.ts'
import type {
  ContainerId,
  HostName,
  IfName,
  LogIndex,
  NamespaceName,
  NetworkName,
  PeerId,
  PolicyName,
  ServiceName,
  Vni
} from '#model/ids.ts'
import type { Ip } from '#model/ip.ts'
import { matches, type Selector } from '#model/labels.ts'
import type { Namespace } from '#model/namespace.ts'
import type { Network } from '#model/network.ts'
import type { Policy } from '#model/policy.ts'
import type { Service } from '#model/service.ts'
import { whyNotAllowed } from './allowed.ts'
import { attach, detach, update } from './apply-endpoint.ts'
import { registerHost, removeHost } from './apply-host.ts'
import { mapNamespace, openNamespace, unmapNamespace } from './apply-namespace.ts'
import { createNetwork, deleteNetwork, updateNetwork } from './apply-network.ts'
import { createPolicy, deletePolicy, updatePolicy } from './apply-policy.ts'
import { createService, deleteService, updateService } from './apply-service.ts'
import { endpointsFrom, endpointsNamed, ownerOf, serviceAt } from './network-table.ts'
import type { PoolUse } from './pool.ts'
import { Sessions } from './sessions.ts'
import { Tables } from './tables.ts'

/** Rows are returned by reference and never changed in place. Lists are in no particular order. */
export class ClusterState {
  #tables: Tables
  #sessions: Sessions
  #appliedIndex: LogIndex

  /** Empty, or restored from a snapshot. */
  constructor(restored?: { readonly tables: Tables; readonly sessions: Sessions; readonly appliedIndex: LogIndex }) {
    this.#tables = restored?.tables ?? new Tables()
    this.#sessions = restored?.sessions ?? new Sessions()
    this.#appliedIndex = restored?.appliedIndex ?? (0 as LogIndex)
  }

  /** For this folder's views, checks and snapshots; others use the methods below. */
  get tables(): Tables {
    return this.#tables
  }

  get sessions(): Sessions {
    return this.#sessions
  }

  /** Replaces the contents with those of another state, which must not be used afterwards. For installing a snapshot. */
  become(other: ClusterState): void {
    this.#tables = other.#tables
    this.#sessions = other.#sessions
    this.#appliedIndex = other.#appliedIndex
  }

  /** The same applied index and sessions with other rows. */
  withTables(tables: Tables): ClusterState {
    return new ClusterState({ tables, sessions: this.#sessions, appliedIndex: this.#appliedIndex })
  }

  /** Index of the last entry that was applied or skipped; 0 before the first. */
  get appliedIndex(): LogIndex {
    return this.#appliedIndex
  }

  /**
   * Applies a committed request. A refused request changes nothing but the remembered answer; a repeated one gets its
   * first answer. @throws Error when the index is not the next one: a broken invariant
   */
  apply(index: LogIndex, request: Request): Outcome {
    this.skip(index)
    const { by, command } = request
    const rules = Math.min(request.rules ?? FIRST_RULES, Math.max(UNGATED_RULES, this.rules))
    if (command.kind === 'session-open') {
      return this.#sessions.open(request.session, index, { rules, hosts: this.#tables.hosts.size })
    }
    return this.#sessions.once(request, index, () => {
      const refused = by === undefined || rules < OWN_BUSINESS ? null : whyNotAllowed(this.#tables, command, by)
      return refused ?? carryOut(this.#tables, command, rules)
    })
  }

  /** Skips an entry without a command. @throws Error as `apply` does */
  skip(index: LogIndex): void {
    if (index !== this.#appliedIndex + 1) {
      throw new Error(`applying index ${index} after ${this.#appliedIndex}`)
    }
    this.#appliedIndex = index
  }

  /** The rules of the cluster: the newest by which a request is applied. */
  get rules(): number {
    return this.tables.rules
  }

  get networkCount(): number {
    return this.tables.networks.size
  }

  get endpointCount(): number {
    return this.tables.containers.size
  }

  get hostCount(): number {
    return this.tables.hosts.size
  }

  /** Registered hosts, without vacant records of a restore. The same list as long as none of them changes. */
  presentHosts(): readonly Host[] {
    return this.tables.presentHosts
  }

  *networks(): Generator<Network> {
    for (const { network } of this.tables.networks.values()) yield network
  }

  /** The networks from a VNI on, ascending. */
  *networksFrom(vni: number): Generator<Network> {
    for (const each of this.tables.vnis.values(vni)) {
      const table = this.tables.networkByVni.get(each as Vni)
      if (table !== undefined) yield table.network
    }
  }

  network(name: NetworkName): Network | undefined {
    return this.tables.networks.get(name)?.network
  }

  networkByVni(vni: Vni): Network | undefined {
    return this.tables.networkByVni.get(vni)?.network
  }

  /** Use of a network's address pool. */
  addressUse(name: NetworkName): PoolUse | undefined {
    return this.tables.networks.get(name)?.pool.use()
  }

  *endpoints(): Generator<Endpoint> {
    for (const { byAddress } of this.tables.networks.values()) yield* byAddress.values()
  }

  endpoint(key: EndpointKey): Endpoint | undefined {
    // Neither part can contain a slash (model/ids.ts).
    const [containerId, ifname] = key.split('/')
    return this.tables.containers.get(containerId as ContainerId, ifname as IfName)
  }

  /** The endpoints of a network from an address on, ascending; null: from the first. */
  *endpointsFrom(network: NetworkName, from: Ip | null): Generator<Endpoint> {
    const table = this.tables.networks.get(network)
    if (table !== undefined) yield* endpointsFrom(table, from)
  }

  endpointsOf(network: NetworkName): readonly Endpoint[] {
    return [...(this.tables.networks.get(network)?.byAddress.values() ?? [])]
  }

  /** The endpoints of a network that a selector chooses. O(endpoints of the network) */
  *endpointsChosenBy(network: NetworkName, selector: Selector): Generator<Endpoint> {
    for (const endpoint of this.tables.networks.get(network)?.byAddress.values() ?? []) {
      if (matches(selector, labelsOf(endpoint))) yield endpoint
    }
  }

  /** Those that a name of the network stands for (model/dns-name.ts). @param name in lower case. The first call of a network is O(endpoints) */
  endpointsNamed(network: NetworkName, name: string): readonly Endpoint[] {
    const table = this.tables.networks.get(network)
    return table === undefined ? [] : endpointsNamed(table, name)
  }

  /** The endpoint of a network that has the address. */
  endpointAt(network: NetworkName, address: Ip): Endpoint | undefined {
    const table = this.tables.networks.get(network)
    return table === undefined ? undefined : ownerOf(table, address)
  }

  endpointCountOf(network: NetworkName): number {
    return this.tables.networks.get(network)?.byAddress.size ?? 0
  }

  endpointOf(containerId: ContainerId, ifname: IfName): Endpoint | undefined {
    return this.tables.containers.get(containerId, ifname)
  }

  endpointsOnHost(peer: PeerId): readonly Endpoint[] {
    return [...(this.tables.byHost.get(peer) ?? [])]
  }

  endpointCountOn(peer: PeerId): number {
    return this.tables.byHost.get(peer)?.size ?? 0
  }

  /** The networks in which a host has endpoints. O(networks of the host). */
  networksOnHost(peer: PeerId): readonly Network[] {
    const vnis = [...(this.tables.networksByHost.get(peer)?.keys() ?? [])]
    return vnis.map(vni => this.networkByVni(vni)).filter(network => network !== undefined)
  }

  /** Whether a host has endpoints in a network. */
  isOnHost(vni: Vni, peer: PeerId): boolean {
    return this.tables.networksByHost.get(peer)?.has(vni) === true
  }

  endpointsOfContainer(id: ContainerId): readonly Endpoint[] {
    return this.tables.containers.of(id)
  }

  get serviceCount(): number {
    return this.tables.serviceCount
  }

  *services(): Generator<Service> {
    for (const { services } of this.tables.networks.values()) if (services !== null) yield* services.byName.values()
  }

  /** Those of a network. */
  servicesOf(network: NetworkName): readonly Service[] {
    return [...(this.tables.networks.get(network)?.services?.byName.values() ?? [])]
  }

  service(network: NetworkName, name: ServiceName): Service | undefined {
    return this.tables.networks.get(network)?.services?.byName.get(name)
  }

  /** The service of a network that has the address. */
  serviceAt(network: NetworkName, address: Ip): Service | undefined {
    const table = this.tables.networks.get(network)
    return table === undefined ? undefined : serviceAt(table, address)
  }

  get policyCount(): number {
    return this.tables.policies.count
  }

  policies(): Generator<Policy> {
    return this.tables.policies.all()
  }

  /** Those of a network. */
  policiesOf(network: NetworkName): readonly Policy[] {
    return this.tables.policies.of(network)
  }

  policy(network: NetworkName, name: PolicyName): Policy | undefined {
    return this.tables.policies.get(network, name)
  }

  hosts(): IterableIterator<Host> {
    return this.tables.hosts.values()
  }

  host(peer: PeerId): Host | undefined {
    return this.tables.hosts.get(peer)
  }

  /** The host of that name, or a vacant one. O(hosts) for a name that no present host has. */
  hostByName(name: HostName): Host | undefined {
    return this.tables.hostByName.get(name) ?? this.vacantByName(name)
  }

  /** A vacant host of that name, from a restored backup. O(hosts) */
  vacantByName(name: HostName): Host | undefined {
    return [...this.tables.hosts.values()].find(host => isVacant(host) && host.name === name)
  }

  namespaces(): IterableIterator<Namespace> {
    return this.tables.namespaces.values()
  }

  namespace(name: NamespaceName): Namespace | undefined {
    return this.tables.namespaces.get(name)
  }
}

function carryOut(
  tables: Tables,
  command: Exclude<Command, { readonly kind: 'session-open' }>,
  rules: number
): Outcome {
  switch (command.kind) {
    case 'network-create':
      return createNetwork(tables, command, rules)
    case 'network-update':
      return updateNetwork(tables, command, rules)
    case 'network-delete':
      return deleteNetwork(tables, command, rules)
    case 'endpoint-attach':
      return attach(tables, command, rules)
    case 'endpoint-update':
      return update(tables, command, rules)
    case 'endpoint-detach':
      return detach(tables, command)
    case 'host-register':
      return registerHost(tables, command, rules)
    case 'host-remove':
      return removeHost(tables, command)
    case 'namespace-map':
      return mapNamespace(tables, command, rules)
    case 'namespace-unmap':
      return unmapNamespace(tables, command)
    case 'namespace-open':
      return openNamespace(tables, command, rules)
    case 'service-create':
      return createService(tables, command, rules)
    case 'service-update':
      return updateService(tables, command, rules)
    case 'service-delete':
      return deleteService(tables, command, rules)
    case 'policy-create':
      return createPolicy(tables, command, rules)
    case 'policy-update':
      return updatePolicy(tables, command, rules)
    case 'policy-delete':
      return deletePolicy(tables, command, rules)
  }
}
