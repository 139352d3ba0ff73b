// Commands about networks.

import { hostRoutedSubnets, mirroredBy, mirrorOf, subnetsOf, whyNoPair } from '#model/addresses.ts'
import {
  BOTH_FAMILIES,
  DISJOINT_HOST_ACCESS,
  ORDERED_NAMESPACES,
  type CommandOf,
  type OutcomeOf,
  type Refusal
} from '#model/command.ts'
import { VNI_MAX, type NetworkName, type Vni } from '#model/ids.ts'
import { formatIp, formatSubnet, isHostAddress, isIpv4, lastAddress, type Ip, type Subnet } from '#model/ip.ts'
import type { Namespace } from '#model/namespace.ts'
import type { Network } from '#model/network.ts'
import { MTU_MIN_IPV6 } from '#model/quantity.ts'
import { defaultGateway } from './address-pool.ts'
import { refuseOverlap } from './host-overlap.ts'
import { endpointsFrom, type NetworkTable } from './network-table.ts'
import { MAX_NETWORKS, whyFull } from './quotas.ts'
import { noNetwork, refuse, refuseOldRules } from './refuse.ts'
import { networkRow, updatedRow } from './rows.ts'
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
  const hasIpv6 = !isIpv4(subnet.base) || command.subnet6 !== undefined
  if (hasIpv6 && rules < BOTH_FAMILIES) return refuseOldRules(tables, 'subnet')
  if (command.egressV6 !== undefined && rules < BOTH_FAMILIES) return refuseOldRules(tables, 'egressV6')
  const unfit = hasIpv6 ? whyTooSmall(command) : null
  if (unfit !== null) return unfit
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

/** An interface with a smaller MTU has no IPv6 (RFC 8200 section 5). */
function whyTooSmall({ mtu }: Pick<Network, 'mtu'>): Refusal | null {
  if (mtu === 0 || mtu >= MTU_MIN_IPV6) return null
  return refuse('ERR_INVALID', `mtu: IPv6 needs ${MTU_MIN_IPV6} at least, and the network has ${mtu}`, 'mtu')
}

/** Changes settings, and adds a subnet of the other family: each endpoint gets the address in it that goes with its own. */
export function updateNetwork(
  tables: Tables,
  command: CommandOf<'network-update'>,
  rules: number
): OutcomeOf<'network-update'> {
  const table = tables.networks.get(command.name)
  if (table === undefined) return noNetwork(command.name, 'name')
  const { addSubnet, egressV6 } = command
  if (egressV6 !== undefined && rules < BOTH_FAMILIES) return refuseOldRules(tables, 'egressV6')
  const pair = addSubnet === undefined ? null : pairWith(tables, { table, addSubnet, rules })
  if (pair !== null && 'ok' in pair) return pair
  const before = table.network
  const changed = updatedRow({ ...before, ...pair }, command)
  const claimsMore = hostRoutedSubnets(changed).length > hostRoutedSubnets(before).length
  const overlap = claimsMore ? refuseOverlap(tables, changed, addSubnet === undefined ? 'egressV6' : 'subnet') : null
  if (overlap !== null) return overlap
  if (pair === null || pair.subnet === before.subnet) {
    tables.replaceNetwork(table, changed)
    return networkOutcome(changed)
  }
  const gateway = gatewayInFirst(table, pair)
  if (typeof gateway === 'object') return gateway
  const network = { ...changed, gateway, wasIpv6: true } as const
  tables.putIpv4First(table, network)
  return networkOutcome(network)
}

type Pair = Required<Pick<Network, 'subnet' | 'subnet6'>>

/** The network's two subnets with this one added; null if it has it; or why it cannot have it. */
function pairWith(
  tables: Tables,
  p: { readonly table: NetworkTable; readonly addSubnet: Subnet; readonly rules: number }
): Pair | Refusal | null {
  const { addSubnet } = p
  const { network } = p.table
  if (p.rules < BOTH_FAMILIES) return refuseOldRules(tables, 'subnet')
  const present = subnetsOf(network).map(formatSubnet)
  if (present.includes(formatSubnet(addSubnet))) return null
  if (network.subnet6 !== undefined)
    return refuse('ERR_INVALID', `subnet: network ${network.name} has ${present.join(' and ')} already`, 'subnet')
  const pair = isIpv4(addSubnet.base)
    ? { subnet: addSubnet, subnet6: network.subnet }
    : { subnet: network.subnet, subnet6: addSubnet }
  const unfit = whyNoPair(pair.subnet, pair.subnet6)
  if (unfit !== null) return refuse('ERR_INVALID', `subnet: ${unfit}`, 'subnet')
  return whyTooSmall(network) ?? pair
}

/** The gateway and each endpoint need an address in the IPv4 subnet, which their own mirrors. */
function gatewayInFirst(table: NetworkTable, pair: Pair): Ip | Refusal {
  const { network } = table
  const unfit = (address: Ip, whose: string): Refusal => {
    const what = `${formatIp(address)} of ${whose} would mirror no host address of ${formatSubnet(pair.subnet)}`
    return refuse('ERR_INVALID', `subnet: ${what}`, 'subnet')
  }
  const gateway = isIpv4(network.gateway) ? null : mirroredBy(pair, network.gateway)
  if (gateway === null || !isHostAddress(pair.subnet, gateway)) return unfit(network.gateway, 'the gateway')
  // The lowest of them, so that every replica names the same one.
  const [outside] = endpointsFrom(table, mirrorOf(pair, lastAddress(pair.subnet)))
  if (outside !== undefined) return unfit(outside.address, `container ${outside.containerId}`)
  return gateway
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
  const services = table.services?.byName.size ?? 0
  if (services > 0 && !force) {
    return refuse(
      'ERR_NETWORK_IN_USE',
      `network ${name} has ${services} ${services === 1 ? 'service' : 'services'}`,
      'name'
    )
  }
  const policies = tables.policies.countOf(name)
  if (policies > 0 && !force) {
    return refuse(
      'ERR_NETWORK_IN_USE',
      `network ${name} has ${policies} ${policies === 1 ? 'policy' : 'policies'}`,
      'name'
    )
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
