// The pool of a network's addresses: the bit vector of its subnet, or of the first 2^24 addresses of a larger one. The others
// of such a subnet are allocated on request only and are in no pool, so that a /64 takes no more memory than what it holds.
// Never allocated: the network address, the gateway and, with IPv4, the broadcast address.

import { addressAt, hostBits, isIpv4, offsetOf, type Ip, type Subnet } from '#model/ip.ts'
import { broadcastAddress, type Ipv4 } from '#model/ipv4.ts'
import { macBeyondPool, macOf, type Mac } from '#model/mac.ts'
import type { Network } from '#model/network.ts'
import { BITS_MAX } from './bit-vector.ts'
import { Pool } from './pool.ts'

/** The values of the pool are IPv4 addresses, or how far IPv6 addresses are into the subnet: see `poolValue`. */
export function addressPool(subnet: Subnet, gateway: Ip): Pool {
  const base = baseOf(subnet)
  const size = Math.min(2 ** hostBits(subnet), BITS_MAX)
  const reserved = [base, poolValue(subnet, gateway), lastOf(subnet)].filter(value => value !== null)
  return new Pool({ base, size, reserved, firstAutomatic: base + 1 })
}

/** The default gateway: the first host address, as in the paper. */
export function defaultGateway(subnet: Subnet): Ip {
  return addressAt(subnet, 1)
}

/** An address of the subnet as a value of its pool; null for one that is in no pool. */
export function poolValue(subnet: Subnet, address: Ip): number | null {
  const offset = offsetOf(subnet, address)
  return offset < BITS_MAX ? baseOf(subnet) + offset : null
}

/** The address that a value of the pool stands for. */
export function addressOfValue(subnet: Subnet, value: number): Ip {
  return isIpv4(subnet.base) ? (value as Ipv4) : addressAt(subnet, value)
}

/** The MAC of an endpoint with this address that asks for none. */
export function derivedMac({ vni, subnet }: Pick<Network, 'vni' | 'subnet'>, address: Ip): Mac {
  return isIpv4(address) || poolValue(subnet, address) !== null ? macOf(vni, address) : macBeyondPool(address)
}

function baseOf({ base }: Subnet): number {
  return isIpv4(base) ? base : 0
}

function lastOf({ base, prefixLength }: Subnet): number | null {
  return isIpv4(base) ? broadcastAddress({ base, prefixLength }) : null
}
