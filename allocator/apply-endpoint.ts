// Commands about endpoints: allocation and release of addresses.

import { addressesOf, gatewayMacOf, gatewaysOf, mirrorOf } from '#model/addresses.ts'
import {
  BOTH_FAMILIES,
  DISJOINT_HOST_ACCESS,
  LABELS,
  needsLabels,
  SERVICES,
  type CommandOf,
  type OutcomeOf,
  type Refusal
} from '#model/command.ts'
import { labelsOf, type Endpoint } from '#model/endpoint.ts'
import { isVacant } from '#model/host.ts'
import type { PeerId } from '#model/ids.ts'
import type { Network } from '#model/network.ts'
import { formatIp, formatSubnet, isHostAddress, isIpv4, type Ip } from '#model/ip.ts'
import type { Ipv6 } from '#model/ipv6.ts'
import { whyTooMany } from '#model/labels.ts'
import { isDeviceMac, isServiceMac, macOf, type Mac } from '#model/mac.ts'
import type { Service } from '#model/service.ts'
import { holderOnHost, refuseHeld, rivalsOf } from './host-overlap.ts'
import { ownerOf, ownerOfMac, serviceAt, type NetworkTable } from './network-table.ts'
import { MAX_ENDPOINTS_PER_HOST, MAX_ENDPOINTS_PER_NETWORK, whyFull } from './quotas.ts'
import { addressOfValue, derivedMac, poolValue } from './address-pool.ts'
import { noNetwork, refuse, refuseOldRules } from './refuse.ts'
import { endpointRow, updatedEndpoint } from './rows.ts'
import type { Tables } from './tables.ts'

type Attach = CommandOf<'endpoint-attach'>
type Chosen = { readonly address: Ip; readonly address6?: Ipv6; readonly mac: Mac }

/**
 * Allocates an address. Attaching an existing container interface again, on the same host and network and without asking
 * for another address or MAC, returns its endpoint unchanged: the request's other fields are ignored, since a retry must
 * not undo a later update. An endpoint of a vacant host moves to the host that has its name. An address that another network
 * with hostAccess has on the host is passed over, or refused if asked for.
 */
export function attach(tables: Tables, command: Attach, rules: number): OutcomeOf<'endpoint-attach'> {
  const { containerId, ifname, host } = command
  const table = tables.networks.get(command.network)
  if (table === undefined) return noNetwork(command.network, 'network')
  const onHost = tables.hosts.get(host)
  if (onHost === undefined) {
    return refuse('ERR_HOST_NOT_REGISTERED', `no host with peer id ${host} is registered in the cluster`, 'host')
  }
  if (rules < LABELS && needsLabels(command)) return refuseOldRules(tables, 'labels', LABELS)
  const asked = askedFor(tables, { table, command, rules })
  if ('ok' in asked) return asked
  const existing = tables.containers.get(containerId, ifname)
  if (existing !== undefined) return attachAgain(tables, { existing, command, asked })
  const full = whyNoMore(tables, { table, host, rules })
  if (full !== null) return full
  if (rules >= SERVICES && command.mac !== undefined && isServiceMac(command.mac))
    return refuse('ERR_MAC_IN_USE', `mac: ${command.mac} is in the range of services`, 'mac')
  const rivals = rules < DISJOINT_HOST_ACCESS || tables.hostRouted.isDisjoint ? [] : rivalsOf(tables, table.network)
  const { address } = asked
  const target = { table, rivals, address6: asked.address6 }
  const chosen = address === undefined ? automatic(target, command) : explicit(target, command, address)
  if ('ok' in chosen) return chosen
  const { name: network, vni } = table.network
  const endpoint = endpointRow(command, { ...chosen, network, vni, host: onHost.peerId })
  tables.addEndpoint(endpoint, address === undefined ? 'automatic' : 'explicit')
  return { ok: true, result: { kind: 'endpoint', endpoint, created: true } }
}

/** Changes settings and labels; those that are absent stay. */
export function update(
  tables: Tables,
  command: CommandOf<'endpoint-update'>,
  rules: number
): OutcomeOf<'endpoint-update'> {
  const existing = tables.containers.get(command.containerId, command.ifname)
  if (existing === undefined) return noEndpoint(command)
  if (rules < LABELS && needsLabels(command)) return refuseOldRules(tables, 'labels', LABELS)
  const endpoint = updatedEndpoint(existing, command)
  const tooMany = whyTooMany(labelsOf(endpoint))
  if (tooMany !== null) return refuse('ERR_INVALID', `labels: ${tooMany}`, 'labels')
  tables.replaceEndpoint(existing, endpoint)
  return { ok: true, result: { kind: 'endpoint', endpoint, created: false } }
}

export function detach(tables: Tables, command: CommandOf<'endpoint-detach'>): OutcomeOf<'endpoint-detach'> {
  const endpoint = tables.containers.get(command.containerId, command.ifname)
  if (endpoint === undefined) return noEndpoint(command)
  tables.removeEndpoint(endpoint)
  return { ok: true, result: { kind: 'endpoint-released', endpoint } }
}

/** The addresses that the caller asks for, in the network's first and in its second subnet. */
type Asked = { readonly address: Ip | undefined; readonly address6: Ipv6 | undefined }

function askedFor(
  tables: Tables,
  p: { readonly table: NetworkTable; readonly command: Attach; readonly rules: number }
): Asked | Refusal {
  const { name, subnet, subnet6 } = p.table.network
  const given = [p.command.address, p.command.address6].filter(address => address !== undefined)
  const [first, second] = [given.find(isIpv4), given.find(address => !isIpv4(address))]
  if (second !== undefined && p.rules < BOTH_FAMILIES) return refuseOldRules(tables, 'address')
  const other = given.find(address => !isIpv4(address) && address !== second)
  if (other !== undefined) {
    const what = `${formatIp(other)} and ${second} are two IPv6 addresses`
    return refuse('ERR_INVALID', `address: ${what}; an endpoint has one`, 'address')
  }
  const lacks = (family: string, address: Ip): Refusal =>
    refuse('ERR_INVALID', `address: network ${name} has no ${family} subnet for ${formatIp(address)}`, 'address')
  if (!isIpv4(subnet.base)) {
    return first === undefined ? { address: second, address6: undefined } : lacks('IPv4', first)
  }
  if (second !== undefined && subnet6 === undefined) return lacks('IPv6', second)
  return { address: first, address6: second }
}

/** Why neither host nor network takes one more endpoint; null if both do. */
function whyNoMore(
  tables: Tables,
  { table, host, rules }: { readonly table: NetworkTable; readonly host: PeerId; readonly rules: number }
): Refusal | null {
  const [count, inNetwork] = [tables.byHost.get(host)?.size ?? 0, table.byAddress.size]
  return (
    whyFull(rules, { count, max: MAX_ENDPOINTS_PER_HOST, what: 'endpoints on this host', field: 'host' }) ??
    whyFull(rules, {
      count: inNetwork,
      max: MAX_ENDPOINTS_PER_NETWORK,
      what: 'endpoints in this network',
      field: 'network'
    })
  )
}

function noEndpoint({ containerId, ifname }: Pick<Endpoint, 'containerId' | 'ifname'>): Refusal {
  return refuse('ERR_ENDPOINT_NOT_FOUND', `container ${containerId} has no endpoint ${ifname}`, 'containerId')
}

function attachAgain(
  tables: Tables,
  p: { readonly existing: Endpoint; readonly command: Attach; readonly asked: Asked }
): OutcomeOf<'endpoint-attach'> {
  const { existing, command, asked } = p
  const network = tables.networks.get(existing.network)?.network
  const addresses = network === undefined ? [existing.address] : addressesOf(network, existing)
  const holder = tables.hosts.get(existing.host)
  const isWaiting = holder !== undefined && isVacant(holder) && holder.name === tables.hosts.get(command.host)?.name
  const compatible =
    existing.network === command.network &&
    (existing.host === command.host || isWaiting) &&
    [asked.address, asked.address6].every(address => address === undefined || addresses.includes(address)) &&
    (command.mac === undefined || command.mac === existing.mac)
  if (compatible) {
    const endpoint = isWaiting ? { ...existing, host: command.host } : existing
    if (isWaiting) tables.replaceEndpoint(existing, endpoint)
    return { ok: true, result: { kind: 'endpoint', endpoint, created: false } }
  }
  const host = holder?.name ?? existing.host
  const where = `network ${existing.network}, ${addresses.map(formatIp).join(' and ')}, ${existing.mac}, host ${host}`
  const what = `container ${command.containerId} already has an endpoint ${command.ifname}: ${where}`
  return refuse('ERR_ENDPOINT_EXISTS', what, 'containerId')
}

type Target = {
  readonly table: NetworkTable
  readonly rivals: readonly NetworkTable[]
  readonly address6: Ipv6 | undefined
}

/** The address that the caller asked for. */
function explicit(target: Target, { mac, host }: Attach, address: Ip): Chosen | Refusal {
  const { table, rivals, address6 } = target
  const { network } = table
  const text = formatIp(address)
  if (!isHostAddress(network.subnet, address)) {
    return refuse('ERR_INVALID', `address: ${text} is not a host address of ${formatSubnet(network.subnet)}`, 'address')
  }
  if (address === network.gateway) {
    return refuse('ERR_INVALID', `address: ${text} is the gateway of network ${network.name}`, 'address')
  }
  const holder = holderOf(table.byAddress.get(address), serviceAt(table, address))
  if (holder !== null) return refuse('ERR_ADDRESS_IN_USE', `address: ${text} belongs to ${holder}`, 'address')
  const taken = whyNotSecond(table, { address, address6 })
  if (taken !== null) return taken
  const addresses = addressesOf(network, rowAddresses(network, address, address6))
  const rival = holderOnHost(rivals, { host, addresses })
  if (rival !== undefined) return refuseHeld(address, rival)
  const wanted = mac ?? derivedMac(network, address)
  return refusedMac(table, wanted) ?? { ...rowAddresses(network, address, address6), mac: wanted }
}

/** As a row has them: the mirror is not written down. */
function rowAddresses(network: Network, address: Ip, address6: Ipv6 | undefined): Omit<Chosen, 'mac'> {
  return address6 === undefined || address6 === mirrorOf(network, address) ? { address } : { address, address6 }
}

/** Why an endpoint cannot have this second address, or, without one, the mirror of its first; null if it can. */
function whyNotSecond(table: NetworkTable, { address, address6 }: Asked): Refusal | null {
  const { network } = table
  if (network.subnet6 === undefined) return null
  if (address6 === undefined) {
    const mirror = address === undefined ? null : mirrorOf(network, address)
    const holder = mirror === null ? null : holderOf(table.byChosen6.get(mirror), serviceAt(table, mirror))
    if (holder === null || mirror === null) return null
    const what = `${mirror}, which goes with it, belongs to ${holder}; ask for another IPv6 address, too`
    return refuse('ERR_ADDRESS_IN_USE', `address: ${what}`, 'address')
  }
  if (!isHostAddress(network.subnet6, address6)) {
    const what = `${address6} is not a host address of ${formatSubnet(network.subnet6)}`
    return refuse('ERR_INVALID', `address: ${what}`, 'address')
  }
  if (gatewaysOf(network).includes(address6)) {
    return refuse('ERR_INVALID', `address: ${address6} is the gateway of network ${network.name}`, 'address')
  }
  const holder = holderOf(ownerOf(table, address6), serviceAt(table, address6))
  if (holder === null) return null
  return refuse('ERR_ADDRESS_IN_USE', `address: ${address6} belongs to ${holder}`, 'address')
}

/** Who has an address, for people. */
function holderOf(endpoint: Endpoint | undefined, service: Service | undefined): string | null {
  if (endpoint !== undefined) return `container ${endpoint.containerId}`
  return service === undefined ? null : `service ${service.name}`
}

/**
 * The pool's next address. Skips an address whose derived MAC was given to another container explicitly, so that a
 * reused address always has the MAC that neighbour caches hold, and one whose mirror was.
 */
function automatic({ table, rivals, address6 }: Target, { mac, host }: Attach): Chosen | Refusal {
  const { network, pool, byChosenMac, byChosen6 } = table
  const { subnet } = network
  const taken = address6 === undefined ? null : whyNotSecond(table, { address: undefined, address6 })
  if (taken !== null) return taken
  if (mac !== undefined) {
    const refused = refusedMac(table, mac)
    if (refused !== null) return refused
  }
  const macIsTaken = (address: Ip): boolean => {
    const derived = macOf(network.vni, address)
    return mac === undefined && (byChosenMac.has(derived) || derived === gatewayMacOf(network))
  }
  const mirrorIsTaken = (address: Ip): boolean => {
    const mirror = address6 === undefined ? mirrorOf(network, address) : null
    return mirror !== null && (byChosen6.has(mirror) || serviceAt(table, mirror) !== undefined)
  }
  const isHeld = (address: Ip): boolean => {
    const addresses = addressesOf(network, rowAddresses(network, address, address6))
    return holderOnHost(rivals, { host, addresses }) !== undefined
  }
  const refuseValue = (value: number): boolean => {
    const address = addressOfValue(subnet, value)
    return macIsTaken(address) || mirrorIsTaken(address) || isHeld(address)
  }
  // Within the pool, only the gateway's own address has the gateway's MAC.
  const mayBeMacs = mac === undefined && (byChosenMac.size > 0 || poolValue(subnet, network.gateway) === null)
  const mayRefuse = mayBeMacs || byChosen6.size > 0 || table.services !== null || rivals.length > 0
  const value = pool.next(mayRefuse ? refuseValue : undefined)
  if (value !== null) {
    const address = addressOfValue(subnet, value)
    return { ...rowAddresses(network, address, address6), mac: mac ?? macOf(network.vni, address) }
  }
  const { used, reserved, size } = pool.use()
  const usable = size - reserved
  const blocked = usable - used
  const counts = `${used} of ${usable} addresses of ${formatSubnet(network.subnet)} are allocated`
  // With IPv4 alone, word for word what earlier versions say: answers are in the digest.
  const taken6 = network.subnet6 === undefined ? '' : ' or IPv6 addresses'
  const why =
    blocked === 0
      ? counts
      : `${counts}, and the other ${blocked} cannot be used: their MACs${taken6} were asked for by other containers, ` +
        'or another network with hostAccess has them on this host'
  return refuse('ERR_SUBNET_EXHAUSTED', `network ${network.name} has no free address: ${why}`, 'network')
}

/** Why an endpoint of this network cannot have this MAC; null if it can. */
function refusedMac(table: NetworkTable, mac: Mac): Refusal | null {
  const { network } = table
  const owner = ownerOfMac(table, mac)
  if (owner !== undefined) {
    const what = `${mac} belongs to container ${owner.containerId} in network ${network.name}`
    return refuse('ERR_MAC_IN_USE', `mac: ${what}`, 'mac')
  }
  if (isDeviceMac(mac)) return refuse('ERR_MAC_IN_USE', `mac: ${mac} is in the range of the hosts' own devices`, 'mac')
  if (mac !== gatewayMacOf(network)) return null
  return refuse('ERR_MAC_IN_USE', `mac: ${mac} belongs to the gateway of network ${network.name}`, 'mac')
}
