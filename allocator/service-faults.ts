// The self-check of services: part of consistency.ts. Pure.

import { gatewaysOf, subnetsOf } from '#model/addresses.ts'
import { SERVICES } from '#model/command.ts'
import { formatIp, isHostAddress, subnetContains } from '#model/ip.ts'
import { asBackends, asPorts, asSelect, asServiceAddresses, whyUnfit, type Service } from '#model/service.ts'
import { ownerOf, type NetworkTable } from './network-table.ts'
import type { Tables } from './tables.ts'

/** Every inconsistency, as text. The pools are compared with the addresses by consistency.ts. O(services) */
export function* serviceFaults({ rules, networks, serviceCount }: Tables): Generator<string> {
  let rows = 0
  for (const table of networks.values()) {
    const { network, services } = table
    if (services === null) continue
    const { byName, byAddress } = services
    rows += byName.size
    if (byName.size === 0) yield `network ${network.name} has a table of services, and none in it`
    if (rules < SERVICES) yield `network ${network.name} has services by rules ${rules}`
    let addresses = 0
    for (const [name, service] of byName) {
      if (service.name !== name) yield `service ${service.name} is filed under ${name}`
      addresses += service.addresses.length
      yield* faultsOf(table, service)
    }
    if (byAddress.size !== addresses)
      yield `network ${network.name}: its services have ${addresses} addresses, ${byAddress.size} in the index`
  }
  if (rows !== serviceCount) yield `${rows} services, ${serviceCount} counted`
}

function* faultsOf(table: NetworkTable, service: Service): Generator<string> {
  const { network, services } = table
  const what = `service ${network.name}/${service.name}`
  if (service.network !== network.name) yield `${what} is filed in ${network.name}`
  for (const address of service.addresses) {
    const text = formatIp(address)
    if (services?.byAddress.get(address) !== service) yield `${what} is not found by ${text}`
    if (gatewaysOf(network).includes(address)) yield `${what} has the address of the gateway`
    const subnet = subnetsOf(network).find(one => subnetContains(one, address))
    if (subnet !== undefined && !isHostAddress(subnet, address)) yield `${what} has ${text}, which no host may have`
    if (subnet !== undefined && ownerOf(table, address) !== undefined) yield `${what} has ${text}, as a container has`
  }
  const { addresses, ports, select, backends } = service
  if ((select === undefined) === (backends === undefined)) yield `${what} needs a selector or backends`
  const unfit = whyUnfit(service)
  if (unfit !== null) yield `${what}: its ${unfit.field} ${unfit.why}`
  const isSame = (row: unknown, canonical: unknown): boolean => JSON.stringify(row) === JSON.stringify(canonical)
  if (!isSame(ports, asPorts(ports))) yield `${what}: its ports are out of order`
  if (select !== undefined && !isSame(select, asSelect(select))) yield `${what}: its selector is out of order`
  if (backends !== undefined && !isSame(backends, asBackends(backends))) yield `${what}: its backends are out of order`
  if (addresses.length > 0 && !isSame(addresses, asServiceAddresses(addresses)))
    yield `${what}: its addresses are out of order`
}
