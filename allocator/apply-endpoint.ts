// Commands about endpoints: allocation and release of addresses.

import type { Command, Outcome } from '#model/command.ts'
import { endpointKey, type Endpoint } from '#model/endpoint.ts'
import { formatIpv4, formatSubnet, isHostAddress, type Ipv4 } from '#model/ipv4.ts'
import { macOf, type Mac } from '#model/mac.ts'
import { noNetwork, refuse } from './refuse.ts'
import type { NetworkTable, Tables } from './tables.ts'

type Of<K extends Command['kind']> = Extract<Command, { readonly kind: K }>
type Attach = Of<'endpoint-attach'>

/**
 * Allocates an address. The same container interface again on the same host and network gets what it has; rates and
 * delay of such a repeated attach are not looked at, for they have a command of their own.
 */
export function attach(tables: Tables, command: Attach): Outcome {
  const existing = tables.endpoints.get(endpointKey(command.containerId, command.ifname))
  if (existing !== undefined) return again(existing, command)
  const table = tables.networks.get(command.network)
  if (table === undefined) return noNetwork(command.network)
  if (!tables.hosts.has(command.host)) {
    return refuse('ERR_HOST_NOT_REGISTERED', `host ${command.host} is not part of the cluster`, 'host')
  }
  const chosen = choose(table, command)
  if ('ok' in chosen) return chosen
  const { address, mac } = chosen
  if (command.address === undefined) table.pool.takeAt(address)
  else table.pool.claim(address)
  const { kind: _, ...facts } = command
  const endpoint: Endpoint = { ...facts, vni: table.network.vni, address, mac }
  tables.addEndpoint(endpoint)
  return { ok: true, result: { kind: 'endpoint', endpoint, created: true } }
}

export function detach(tables: Tables, command: Of<'endpoint-detach'>): Outcome {
  const endpoint = tables.endpoints.get(endpointKey(command.containerId, command.ifname))
  if (endpoint === undefined) {
    const what = `${command.containerId} ${command.ifname}`
    return refuse('ERR_ENDPOINT_NOT_FOUND', `there is no endpoint of container ${what}`, 'containerId')
  }
  tables.removeEndpoint(endpoint)
  return { ok: true, result: { kind: 'endpoint-released', endpoint } }
}

function again(existing: Endpoint, command: Attach): Outcome {
  const same =
    existing.network === command.network &&
    existing.host === command.host &&
    (command.address === undefined || command.address === existing.address) &&
    (command.mac === undefined || command.mac === existing.mac)
  if (same) return { ok: true, result: { kind: 'endpoint', endpoint: existing, created: false } }
  const has = `${existing.network} ${formatIpv4(existing.address)} ${existing.mac} on ${existing.host}`
  const what = `container ${command.containerId} ${command.ifname}`
  return refuse('ERR_ENDPOINT_EXISTS', `${what} is attached already: ${has}`, 'containerId')
}

/** The address and MAC that the endpoint will have; takes nothing yet. */
function choose(table: NetworkTable, command: Attach): { readonly address: Ipv4; readonly mac: Mac } | Outcome {
  const { network, pool, byMac } = table
  if (command.mac !== undefined && byMac.has(command.mac)) {
    return refuse('ERR_MAC_IN_USE', `mac: ${command.mac} is used in network ${network.name}`, 'mac')
  }
  const macFor = (address: Ipv4): Mac => command.mac ?? macOf(network.vni, address)
  if (command.address !== undefined) {
    const text = formatIpv4(command.address)
    if (!isHostAddress(network.subnet, command.address) || pool.isReserved(command.address)) {
      const why = `address: ${text} cannot be given in ${formatSubnet(network.subnet)}`
      return refuse('ERR_INVALID', why, 'address')
    }
    if (!pool.isFree(command.address)) {
      return refuse('ERR_ADDRESS_IN_USE', `address: ${text} is used in network ${network.name}`, 'address')
    }
    const mac = macFor(command.address)
    if (!byMac.has(mac)) return { address: command.address, mac }
    return refuse('ERR_MAC_IN_USE', `address: its MAC ${mac} was given to another container`, 'address')
  }
  // An address whose MAC someone chose for another container is passed over.
  const address = pool.peek(value => byMac.has(macFor(value as Ipv4))) as Ipv4 | null
  if (address !== null) return { address, mac: macFor(address) }
  const { used, reserved, size } = pool.use()
  const counts = `${used} of ${size - reserved} addresses are used`
  return refuse('ERR_SUBNET_EXHAUSTED', `network ${network.name} has no free address: ${counts}`, 'network')
}
