// The table of one network: its endpoints and services, the pool of its addresses, and who has an address or a MAC. Its rows are
// changed by tables.ts alone.

import { mirroredBy } from '#model/addresses.ts'
import type { Endpoint } from '#model/endpoint.ts'
import type { ServiceName } from '#model/ids.ts'
import { compareIp, isIpv4, subnetContains, type Ip } from '#model/ip.ts'
import type { Ipv6 } from '#model/ipv6.ts'
import { lowBitsOf, lowBitsOfMac, type Mac } from '#model/mac.ts'
import type { Network } from '#model/network.ts'
import type { Service } from '#model/service.ts'
import { addressOfValue, addressPool, poolValue } from './address-pool.ts'
import { NameIndex } from './name-index.ts'
import type { Pool } from './pool.ts'

/** A network with its endpoints and services. */
export type NetworkTable = {
  network: Network
  readonly pool: Pool
  readonly byAddress: Map<Ip, Endpoint>
  /** Endpoints whose second address is not the mirror of their first one. */
  readonly byChosen6: Map<Ipv6, Endpoint>
  /** Endpoints whose address is in no pool. */
  readonly beyond: Set<Endpoint>
  /** Endpoints whose MAC does not tell their address: it is not derived from it, or the address is in no pool. */
  readonly byChosenMac: Map<Mac, Endpoint>
  /** Null while it has none: most networks take no memory for them. */
  services: ServiceTable | null
  /** Null until a name of the network is asked for. */
  names: NameIndex | null
}

export type ServiceTable = {
  readonly byName: Map<ServiceName, Service>
  readonly byAddress: Map<Ip, Service>
}

/** Of a network that is new. */
export function emptyTable(network: Network): NetworkTable {
  const pool = addressPool(network.subnet, network.gateway)
  const indexes = { byAddress: new Map(), byChosen6: new Map(), beyond: new Set<Endpoint>(), byChosenMac: new Map() }
  return { network, pool, ...indexes, services: null, names: null }
}

/** Those that a name of the network stands for. @param name in lower case. The first call of a network is O(endpoints) */
export function endpointsNamed(table: NetworkTable, name: string): readonly Endpoint[] {
  table.names ??= new NameIndex(table.byAddress.values())
  return table.names.find(name)
}

/** The endpoint of this network that has the MAC. */
export function ownerOfMac({ network, byAddress, byChosenMac }: NetworkTable, mac: Mac): Endpoint | undefined {
  const chosen = byChosenMac.get(mac)
  if (chosen !== undefined) return chosen
  // A derived MAC is in no index: it says whose it is.
  const low = lowBitsOfMac(network.vni, mac)
  if (low === null) return undefined
  const derived = byAddress.get(ofLowBits(network, low))
  return derived?.mac === mac ? derived : undefined
}

/** The endpoint of this network that has the address, as its first or its second one. */
export function ownerOf(table: NetworkTable, address: Ip): Endpoint | undefined {
  const first = table.byAddress.get(address)
  if (first !== undefined || isIpv4(address)) return first
  const chosen = table.byChosen6.get(address)
  if (chosen !== undefined) return chosen
  const mirrored = mirroredBy(table.network, address)
  const endpoint = mirrored === null ? undefined : table.byAddress.get(mirrored)
  return endpoint?.address6 === undefined ? endpoint : undefined
}

/** The only address of the pool whose lowest 32 bits these are. */
function ofLowBits({ subnet }: Network, low: number): Ip {
  if (isIpv4(subnet.base)) return low as Ip
  return addressOfValue(subnet, (low - lowBitsOf(subnet.base)) >>> 0)
}

/** The endpoints from an address of the subnet on, ascending: those of the pool, then those beyond it. */
export function* endpointsFrom(table: NetworkTable, from: Ip | null): Generator<Endpoint> {
  const { pool, network, byAddress, beyond } = table
  const first = from === null ? undefined : poolValue(network.subnet, from)
  if (first !== null)
    for (const value of pool.values(first)) {
      const endpoint = byAddress.get(addressOfValue(network.subnet, value))
      // A reserved value has none.
      if (endpoint !== undefined) yield endpoint
    }
  const rest = [...beyond].filter(({ address }) => from === null || compareIp(address, from) >= 0)
  yield* rest.sort((a, b) => compareIp(a.address, b.address))
}

/** The service of this network that has the address. */
export function serviceAt({ services }: NetworkTable, address: Ip): Service | undefined {
  return services?.byAddress.get(address)
}

/** The place of a service's address in the pool; null for one that is in no pool, or outside the subnet. */
export function pooled({ network }: NetworkTable, address: Ip): number | null {
  return subnetContains(network.subnet, address) ? poolValue(network.subnet, address) : null
}
