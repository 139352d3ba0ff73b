// Which of an endpoint's addresses its MAC tells. Almost all do: the MAC of an endpoint that asked for none is derived from its
// address (src/model/mac.ts). The programs compute those, and need entries for the rest alone. Pure.

import { addressesOf } from '#model/addresses.ts'
import type { Endpoint } from '#model/endpoint.ts'
import type { Vni } from '#model/ids.ts'
import { hostBits, isIpv4, offsetOf, type Ip, type Subnet } from '#model/ip.ts'
import { lowBitsOf, tellsNumber } from '#model/mac.ts'
import type { Network } from '#model/network.ts'

/** Its MAC tells its address of this family. As programs/maps.h has them. */
export const TELLS = { ipv4: 1, ipv6: 2 } as const

/** The addresses of an IPv6 subnet that MACs tell: `count` of them, of which the first has the number `first`. */
export type ToldSubnet = { readonly subnet: Subnet; readonly first: number; readonly count: number }

/** A pool of IPv6 addresses is no larger (docs/adr/0053). */
const POOL_MAX = 2 ** 24

/** Null in a network without IPv6. */
export function toldSubnet({ subnet, subnet6 }: Pick<Network, 'subnet' | 'subnet6'>): ToldSubnet | null {
  if (subnet6 !== undefined) return { subnet: subnet6, first: lowBitsOf(subnet.base), count: 2 ** hostBits(subnet) }
  if (isIpv4(subnet.base)) return null
  return { subnet, first: lowBitsOf(subnet.base), count: Math.min(2 ** hostBits(subnet), POOL_MAX) }
}

export class Telling {
  /** What the MAC of an endpoint tells that asked for nothing. */
  readonly usual: number
  readonly #network: Network
  readonly #told: ToldSubnet | null

  constructor(network: Network) {
    this.#network = network
    this.#told = toldSubnet(network)
    this.usual = (isIpv4(network.subnet.base) ? TELLS.ipv4 : 0) | (this.#told === null ? 0 : TELLS.ipv6)
  }

  /** Both bits of TELLS, or one, or none. */
  of(endpoint: Pick<Endpoint, 'address' | 'address6' | 'mac'>): number {
    const { vni } = this.#network
    const { address, address6, mac } = endpoint
    if (isIpv4(address) && address6 === undefined) return tellsNumber(mac, vni, address) ? this.usual : 0
    return addressesOf(this.#network, endpoint).reduce((bits, each) => bits | this.#bitOf(vni, mac, each), 0)
  }

  #bitOf(vni: Vni, mac: Endpoint['mac'], address: Ip): number {
    if (isIpv4(address)) return tellsNumber(mac, vni, address) ? TELLS.ipv4 : 0
    if (this.#told === null) return 0
    const { subnet, first, count } = this.#told
    const offset = offsetOf(subnet, address)
    return offset >= 0 && offset < count && tellsNumber(mac, vni, first + offset) ? TELLS.ipv6 : 0
  }
}

/** The bit of an address. */
export function tellsBit(address: Ip): number {
  return isIpv4(address) ? TELLS.ipv4 : TELLS.ipv6
}
