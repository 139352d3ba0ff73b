// Commands about networks.

import { DISJOINT_HOST_ACCESS, ORDERED_NAMESPACES, type CommandOf, type OutcomeOf } from '#model/command.ts'
import { VNI_MAX, type NetworkName, type Vni } from '#model/ids.ts'
import { formatIp, formatSubnet, isHostAddress } from '#model/ip.ts'
import type { Namespace } from '#model/namespace.ts'
import type { Network } from '#model/network.ts'
import { changesOf, NETWORK_SETTINGS } from '#model/settings.ts'
import { defaultGateway } from './address-pool.ts'
import { refuseOverlap } from './host-overlap.ts'
import { MAX_NETWORKS, whyFull } from './quotas.ts'
import { noNetwork, refuse } from './refuse.ts'
import { networkRow } from './rows.ts'
import type { Tables } from './tables.ts'
import { FIRST_AUTOMATIC_VNI } from './vni-pool.ts'

/**
 * Allocates a VNI and creates the network. A request with the same name and request id as an existing network is a retry
 * whose session was lost: it gets that network, whatever its other fields. Two networks may have the same subnet, unless
 * both have hostAccess.
 */
export function createNetwork(
  tables: Tables,
  command: CommandOf<'network-create'>,
  rules: number
): OutcomeOf<'network-create'> {
  const { name, subnet } = command
  const existing = tables.networks.get(name)?.network
  if (existing !== undefined) {
    if (command.requestId !== undefined && command.requestId === existing.requestId) return networkOutcome(existing)
    return refuse('ERR_NETWORK_EXISTS', `network ${name} already exists, with VNI ${existing.vni}`, 'name')
  }
  const gateway = command.gateway ?? defaultGateway(subnet)
  if (!isHostAddress(subnet, gateway)) {
    const what = `${formatIp(gateway)} is not a host address of ${formatSubnet(subnet)}`
    return refuse('ERR_INVALID', `gateway: ${what}`, 'gateway')
  }
  const full = whyFull(rules, { count: tables.networks.size, max: MAX_NETWORKS, what: 'networks', field: 'name' })
  if (full !== null) return full
  const overlap = rules < DISJOINT_HOST_ACCESS ? null : refuseOverlap(tables, command)
  if (overlap !== null) return overlap
  const vni = command.vni ?? (tables.vnis.next() as Vni | null)
  if (vni === null) {
    const { used } = tables.vnis.use()
    const range = `${FIRST_AUTOMATIC_VNI} to ${VNI_MAX}`
    return refuse('ERR_VNI_EXHAUSTED', `no automatic VNI (${range}) is free: ${used} are allocated`, 'vni')
  }
  if (!tables.vnis.isFree(vni)) {
    const owner = tables.networkByVni.get(vni)?.network.name
    const what = owner === undefined ? `${vni} is reserved` : `${vni} belongs to network ${owner}`
    return refuse('ERR_VNI_IN_USE', `vni: ${what}`, 'vni')
  }
  const network = networkRow(command, { vni, gateway })
  tables.addNetwork(network, command.vni === undefined ? 'automatic' : 'explicit')
  return networkOutcome(network)
}

/** No changeable field affects the overlap rules. */
export function updateNetwork(tables: Tables, command: CommandOf<'network-update'>): OutcomeOf<'network-update'> {
  const table = tables.networks.get(command.name)
  if (table === undefined) return noNetwork(command.name, 'name')
  tables.replaceNetwork(table, { ...table.network, ...changesOf(NETWORK_SETTINGS, command) })
  return networkOutcome(table.network)
}

export function deleteNetwork(
  tables: Tables,
  { name, force }: CommandOf<'network-delete'>,
  rules: number
): OutcomeOf<'network-delete'> {
  const table = tables.networks.get(name)
  if (table === undefined) return noNetwork(name, 'name')
  const { size } = table.byAddress
  if (size > 0 && !force) {
    return refuse('ERR_NETWORK_IN_USE', `network ${name} has ${size} ${size === 1 ? 'endpoint' : 'endpoints'}`, 'name')
  }
  const [namespace] = force ? [] : namespacesOf(tables, name, rules)
  if (namespace !== undefined) {
    const what = `namespace ${namespace.name} is mapped to network ${name}`
    return refuse('ERR_NETWORK_IN_USE', `${what}: vxmesh namespace unmap ${namespace.name}`, 'name')
  }
  tables.removeNetwork(table)
  return networkOutcome(table.network)
}

/** A restored replica has them in another order than one that mapped them. */
function namespacesOf(tables: Tables, name: NetworkName, rules: number): readonly Namespace[] {
  const found = tables.namespacesOf(name)
  return rules < ORDERED_NAMESPACES ? found : found.toSorted((a, b) => (a.name < b.name ? -1 : 1))
}

function networkOutcome(network: Network): OutcomeOf<'network-create'> {
  return { ok: true, result: { kind: 'network', network } }
}
