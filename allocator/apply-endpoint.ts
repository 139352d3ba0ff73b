// Commands about endpoints: allocation and release of addresses.

import { DISJOINT_HOST_ACCESS, type CommandOf, type OutcomeOf, type Refusal } from '#model/command.ts'
import type { Endpoint } from '#model/endpoint.ts'
import { isVacant } from '#model/host.ts'
import type { PeerId } from '#model/ids.ts'
import { formatIp, formatSubnet, ipv4Of, isHostAddress, type Ip } from '#model/ip.ts'
import type { Ipv4 } from '#model/ipv4.ts'
import { isDeviceMac, macOf, type Mac } from '#model/mac.ts'
import { changesOf, ENDPOINT_SETTINGS } from '#model/settings.ts'
import { holderOnHost, refuseHeld, rivalsOf } from './host-overlap.ts'
import { MAX_ENDPOINTS_PER_HOST, MAX_ENDPOINTS_PER_NETWORK, whyFull } from './quotas.ts'
import { noNetwork, refuse } from './refuse.ts'
import { endpointRow } from './rows.ts'
import { ownerOfMac, type NetworkTable, type Tables } from './tables.ts'

type Attach = CommandOf<'endpoint-attach'>
type Chosen = { readonly address: Ip; readonly mac: Mac }

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
  const existing = tables.containers.get(containerId, ifname)
  if (existing !== undefined) return attachAgain(tables, existing, command)
  const full = whyNoMore(tables, { table, host, rules })
  if (full !== null) return full
  const rivals = rules < DISJOINT_HOST_ACCESS || tables.hostAccess.isDisjoint ? [] : rivalsOf(tables, table.network)
  const target = { table, rivals }
  const chosen = command.address === undefined ? automatic(target, command) : explicit(target, command, command.address)
  if ('ok' in chosen) return chosen
  const { name: network, vni } = table.network
  const endpoint = endpointRow(command, { ...chosen, network, vni, host: onHost.peerId })
  tables.addEndpoint(endpoint, command.address === undefined ? 'automatic' : 'explicit')
  return { ok: true, result: { kind: 'endpoint', endpoint, created: true } }
}

/** Changes settings; those that are absent stay. */
export function update(tables: Tables, command: CommandOf<'endpoint-update'>): OutcomeOf<'endpoint-update'> {
  const existing = tables.containers.get(command.containerId, command.ifname)
  if (existing === undefined) return noEndpoint(command)
  const endpoint: Endpoint = { ...existing, ...changesOf(ENDPOINT_SETTINGS, command) }
  tables.replaceEndpoint(existing, endpoint)
  return { ok: true, result: { kind: 'endpoint', endpoint, created: false } }
}

export function detach(tables: Tables, command: CommandOf<'endpoint-detach'>): OutcomeOf<'endpoint-detach'> {
  const endpoint = tables.containers.get(command.containerId, command.ifname)
  if (endpoint === undefined) return noEndpoint(command)
  tables.removeEndpoint(endpoint)
  return { ok: true, result: { kind: 'endpoint-released', endpoint } }
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

function attachAgain(tables: Tables, existing: Endpoint, command: Attach): OutcomeOf<'endpoint-attach'> {
  const holder = tables.hosts.get(existing.host)
  const isWaiting = holder !== undefined && isVacant(holder) && holder.name === tables.hosts.get(command.host)?.name
  const compatible =
    existing.network === command.network &&
    (existing.host === command.host || isWaiting) &&
    (command.address === undefined || command.address === existing.address) &&
    (command.mac === undefined || command.mac === existing.mac)
  if (compatible) {
    const endpoint = isWaiting ? { ...existing, host: command.host } : existing
    if (isWaiting) tables.replaceEndpoint(existing, endpoint)
    return { ok: true, result: { kind: 'endpoint', endpoint, created: false } }
  }
  const host = holder?.name ?? existing.host
  const where = `network ${existing.network}, ${formatIp(existing.address)}, ${existing.mac}, host ${host}`
  const what = `container ${command.containerId} already has an endpoint ${command.ifname}: ${where}`
  return refuse('ERR_ENDPOINT_EXISTS', what, 'containerId')
}

type Target = { readonly table: NetworkTable; readonly rivals: readonly NetworkTable[] }

/** The address that the caller asked for. */
function explicit({ table, rivals }: Target, { mac, host }: Attach, address: Ip): Chosen | Refusal {
  const { network, pool } = table
  const text = formatIp(address)
  if (!isHostAddress(network.subnet, address)) {
    return refuse('ERR_INVALID', `address: ${text} is not a host address of ${formatSubnet(network.subnet)}`, 'address')
  }
  if (address === network.gateway) {
    return refuse('ERR_INVALID', `address: ${text} is the gateway of network ${network.name}`, 'address')
  }
  if (!pool.isFree(ipv4Of(address))) {
    const owner = table.byAddress.get(address)?.containerId ?? 'no container'
    return refuse('ERR_ADDRESS_IN_USE', `address: ${text} belongs to container ${owner}`, 'address')
  }
  const holder = holderOnHost(rivals, { host, address })
  if (holder !== undefined) return refuseHeld(address, holder)
  const wanted = mac ?? macOf(network.vni, address)
  return refusedMac(table, wanted) ?? { address, mac: wanted }
}

/**
 * The pool's next address. Skips an address whose derived MAC was given to another container explicitly, so that a
 * reused address always has the MAC that neighbour caches hold.
 */
function automatic({ table, rivals }: Target, { mac, host }: Attach): Chosen | Refusal {
  const { network, pool, byChosenMac } = table
  if (mac !== undefined) {
    const refused = refusedMac(table, mac)
    if (refused !== null) return refused
  }
  const macIsTaken = (address: Ipv4): boolean => mac === undefined && byChosenMac.has(macOf(network.vni, address))
  const isHeld = (address: Ipv4): boolean => holderOnHost(rivals, { host, address }) !== undefined
  const refuseAddress = (value: number): boolean => macIsTaken(value as Ipv4) || isHeld(value as Ipv4)
  const mayRefuse = (mac === undefined && byChosenMac.size > 0) || rivals.length > 0
  const address = pool.next(mayRefuse ? refuseAddress : undefined) as Ipv4 | null
  if (address !== null) return { address, mac: mac ?? macOf(network.vni, address) }
  const { used, reserved, size } = pool.use()
  const usable = size - reserved
  const blocked = usable - used
  const counts = `${used} of ${usable} addresses of ${formatSubnet(network.subnet)} are allocated`
  const why =
    blocked === 0
      ? counts
      : `${counts}, and the other ${blocked} cannot be used: their MACs were asked for by other containers, or another ` +
        'network with hostAccess has them on this host'
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
  if (mac !== macOf(network.vni, network.gateway)) return null
  return refuse('ERR_MAC_IN_USE', `mac: ${mac} belongs to the gateway of network ${network.name}`, 'mac')
}
