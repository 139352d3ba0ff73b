// The address families of a stage's networks: LAB_FAMILY is ipv4, ipv6 or both. Scenarios name places in IPv4; what they mean in a
// network of IPv6 is the address that mirrors it.

import { addressesOf } from '#model/addresses.ts'
import { addressAt, familyOf, formatIp, offsetOf, parseIp, parseSubnet, type Ip } from '#model/ip.ts'
import type { Network } from '#model/network.ts'

const FAMILIES = ['ipv4', 'ipv6', 'both'] as const
export type Families = (typeof FAMILIES)[number]

const subnet = parseSubnet('10.1.0.0/16')
const subnet6 = parseSubnet('fd00:1::/64')
const gateway = parseIp('10.1.0.1')
const DUAL = { subnet, subnet6, gateway }

export const families: Families = familiesNamed(process.env['LAB_FAMILY'] ?? 'ipv4')

export function isFamilies(text: string): text is Families {
  return (FAMILIES as readonly string[]).includes(text)
}

/** What a network of a stage has. */
export const SUBNETS: Pick<Network, 'subnet' | 'subnet6' | 'gateway'> = {
  ipv4: { subnet, gateway },
  ipv6: { subnet: subnet6, gateway: addressAt(subnet6, 1) },
  both: DUAL
}[families]

/** The address that a network allocates for a place. */
export function addressIn({ subnet: first }: Pick<Network, 'subnet'>, place: string): Ip {
  const address = parseIp(place)
  return familyOf(first.base) === familyOf(address) ? address : addressAt(first, offsetOf(subnet, address))
}

/** All addresses of a place, one for each family. */
export function addressesAt(place: string): readonly string[] {
  return addressesOf(SUBNETS, { address: addressIn(SUBNETS, place) }).map(formatIp)
}

function familiesNamed(text: string): Families {
  if (!isFamilies(text)) throw new Error(`LAB_FAMILY is ${FAMILIES.join(', ')}, not ${text}`)
  return text
}
