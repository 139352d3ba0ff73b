// Commands about services: their addresses come from the pool of their network, or are asked for (docs/adr/0064).

import { gatewaysOf, mirrorOf, subnetsOf } from '#model/addresses.ts'
import { SERVICES, type CommandOf, type OutcomeOf, type Refusal, type ServiceKey } from '#model/command.ts'
import {
  familyOf,
  formatIp,
  formatSubnet,
  isHostAddress,
  isLocal,
  isUnicast,
  subnetContains,
  type Ip
} from '#model/ip.ts'
import type { Network } from '#model/network.ts'
import { whyUnfit, type Backend, type Service } from '#model/service.ts'
import { addressOfValue } from './address-pool.ts'
import { ownerOf, serviceAt, type NetworkTable } from './network-table.ts'
import { MAX_SERVICES, MAX_SERVICES_PER_NETWORK, whyFull } from './quotas.ts'
import { noNetwork, refuse, refuseOldRules } from './refuse.ts'
import { serviceRow, updatedService } from './rows.ts'
import type { Tables } from './tables.ts'

/**
 * Allocates its addresses. A request with the same name and request id as an existing service is a retry whose session was lost:
 * it gets that service, whatever its other fields.
 */
export function createService(
  tables: Tables,
  command: CommandOf<'service-create'>,
  rules: number
): OutcomeOf<'service-create'> {
  const table = rules < SERVICES ? refuseOldRules(tables, 'name', SERVICES) : networkOf(tables, command)
  if ('ok' in table) return table
  const { name, requestId, backends = [] } = command
  const existing = table.services?.byName.get(name)
  if (existing !== undefined) {
    if (requestId !== undefined && requestId === existing.requestId) return outcome(existing, false)
    return refuse('ERR_SERVICE_EXISTS', `service ${name} already exists in network ${command.network}`, 'name')
  }
  const refused = whyNoMore(tables, table, rules) ?? whyOutside(table.network, backends)
  if (refused !== null) return refused
  const addresses = addressesFor(tables, table, command)
  if ('ok' in addresses) return addresses
  const service = serviceRow(command, { network: table.network.name, addresses })
  const unfit = refuseUnfit(service)
  if (unfit !== null) return unfit
  tables.addService(service, command.addresses === undefined ? 'automatic' : 'explicit')
  return outcome(service, true)
}

/** Changes ports, backends and affinity; those that are absent stay, and so do its addresses. */
export function updateService(
  tables: Tables,
  command: CommandOf<'service-update'>,
  rules: number
): OutcomeOf<'service-update'> {
  const found = serviceOf(tables, command, rules)
  if ('ok' in found) return found
  const { table, service } = found
  const changed = updatedService(service, command)
  const refused = whyOutside(table.network, command.backends ?? []) ?? refuseUnfit(changed)
  if (refused !== null) return refused
  tables.replaceService(service, changed)
  return outcome(changed, false)
}

/** Frees its addresses. */
export function deleteService(
  tables: Tables,
  command: CommandOf<'service-delete'>,
  rules: number
): OutcomeOf<'service-delete'> {
  const found = serviceOf(tables, command, rules)
  if ('ok' in found) return found
  tables.removeService(found.service)
  return outcome(found.service, false)
}

function networkOf(tables: Tables, { network }: Pick<ServiceKey, 'network'>): NetworkTable | Refusal {
  return tables.networks.get(network) ?? noNetwork(network, 'network')
}

function serviceOf(
  tables: Tables,
  key: ServiceKey,
  rules: number
): { readonly table: NetworkTable; readonly service: Service } | Refusal {
  if (rules < SERVICES) return refuseOldRules(tables, 'name', SERVICES)
  const table = networkOf(tables, key)
  if ('ok' in table) return table
  const service = table.services?.byName.get(key.name)
  if (service !== undefined) return { table, service }
  return refuse('ERR_SERVICE_NOT_FOUND', `network ${key.network} has no service ${key.name}`, 'name')
}

function whyNoMore(tables: Tables, { services, network }: NetworkTable, rules: number): Refusal | null {
  const count = services?.byName.size ?? 0
  const what = `services in network ${network.name}`
  return (
    whyFull(rules, { count, max: MAX_SERVICES_PER_NETWORK, what, field: 'network' }) ??
    whyFull(rules, { count: tables.serviceCount, max: MAX_SERVICES, what: 'services', field: 'name' })
  )
}

/** Backends are containers of the network. */
function whyOutside(network: Network, backends: readonly Backend[]): Refusal | null {
  const outside = backends.find(({ address }) => {
    const isInside = subnetsOf(network).some(subnet => isHostAddress(subnet, address))
    return !isInside || gatewaysOf(network).includes(address)
  })
  if (outside === undefined) return null
  const subnets = subnetsOf(network).map(formatSubnet).join(' and ')
  const what = `${formatIp(outside.address)} is no address of a container in network ${network.name}, ${subnets}`
  return refuse('ERR_INVALID', `backends: ${what}`, 'backends')
}

function refuseUnfit(service: Service): Refusal | null {
  const unfit = whyUnfit(service)
  return unfit === null ? null : refuse('ERR_INVALID', `${unfit.field}: ${unfit.why}`, unfit.field)
}

function addressesFor(
  tables: Tables,
  table: NetworkTable,
  { headless, addresses }: CommandOf<'service-create'>
): readonly Ip[] | Refusal {
  if (headless) return []
  if (addresses === undefined) return automatic(table)
  for (const address of addresses) {
    const refused = whyNotAddress(tables, table, address)
    if (refused !== null) return refused
  }
  return addresses
}

/** The pool's next address and, in a network with two subnets, its mirror. */
function automatic(table: NetworkTable): readonly Ip[] | Refusal {
  const { network, pool, byChosen6 } = table
  const { subnet, subnet6 } = network
  const isTaken = (value: number): boolean => {
    const mirror = mirrorOf(network, addressOfValue(subnet, value))
    return mirror !== null && (byChosen6.has(mirror) || serviceAt(table, mirror) !== undefined)
  }
  const value = pool.next(subnet6 === undefined ? undefined : isTaken)
  if (value === null) {
    const { used, reserved, size } = pool.use()
    const counts = `${used} of ${size - reserved} addresses of ${formatSubnet(subnet)} are allocated`
    return refuse('ERR_SUBNET_EXHAUSTED', `network ${network.name} has no free address: ${counts}`, 'network')
  }
  const address = addressOfValue(subnet, value)
  const mirror = mirrorOf(network, address)
  return mirror === null ? [address] : [address, mirror]
}

/** Why a service of this network cannot have this address; null if it can. It may be outside the network's subnets. */
function whyNotAddress(tables: Tables, table: NetworkTable, address: Ip): Refusal | null {
  const { network } = table
  const text = formatIp(address)
  const isBad = (what: string): Refusal => refuse('ERR_INVALID', `address: ${text} ${what}`, 'address')
  const isHeld = (by: string): Refusal => refuse('ERR_ADDRESS_IN_USE', `address: ${text} belongs to ${by}`, 'address')
  const subnet = subnetsOf(network).find(({ base }) => familyOf(base) === familyOf(address))
  if (subnet === undefined) return isBad(`is of a family of which network ${network.name} has no subnet`)
  const isInside = subnetContains(subnet, address)
  if (isInside && !isHostAddress(subnet, address)) return isBad(`is not a host address of ${formatSubnet(subnet)}`)
  if (gatewaysOf(network).includes(address)) return isBad(`is the gateway of network ${network.name}`)
  if (!isInside && (!isUnicast(address) || isLocal(address))) return isBad('is no unicast address beyond one link')
  const endpoint = isInside ? ownerOf(table, address) : undefined
  if (endpoint !== undefined) return isHeld(`container ${endpoint.containerId}`)
  const service = serviceAt(table, address)
  if (service !== undefined) return isHeld(`service ${service.name}`)
  const host = isInside ? undefined : tables.hostByVtep.get(address)
  return host === undefined ? null : isHeld(`host ${host.name}`)
}

function outcome(service: Service, created: boolean): OutcomeOf<'service-create'> {
  return { ok: true, result: { kind: 'service', service, created } }
}
