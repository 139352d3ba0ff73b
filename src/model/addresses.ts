// The addresses of a network and of its endpoints, in both families. In a network with two subnets, an IPv6 address is as far
// into the IPv6 subnet as the IPv4 address that it mirrors is into the other (docs/adr/0053). Pure.

import type { Endpoint } from './endpoint.ts'
import { invalid } from './errors.ts'
import { addressAt, compareIp, familyOf, formatSubnet, hostBits, isIpv4, offsetOf, type Ip, type Subnet } from './ip.ts'
import type { Ipv6 } from './ipv6.ts'
import { macOf, type Mac } from './mac.ts'
import type { Network } from './network.ts'

type Subnets = Pick<Network, 'subnet' | 'subnet6'>

/** One or two, the IPv4 one first. */
export function subnetsOf({ subnet, subnet6 }: Subnets): readonly Subnet[] {
  return subnet6 === undefined ? [subnet] : [subnet, subnet6]
}

/** Those whose containers their hosts have routes to: for hostAccess, and for IPv6 that is not translated (docs/adr/0055). */
export function hostRoutedSubnets(
  network: Subnets & Pick<Network, 'egress' | 'egressV6' | 'hostAccess'>
): readonly Subnet[] {
  const isRouted = network.egress && network.egressV6 === 'routed'
  return subnetsOf(network).filter(({ base }) => network.hostAccess || (isRouted && !isIpv4(base)))
}

/** One for each subnet. */
export function gatewaysOf(network: Subnets & Pick<Network, 'gateway'>): readonly Ip[] {
  return withMirror(network, network.gateway, undefined)
}

/**
 * On every host; no endpoint has it. It stays as it was when the network gets its second subnet: containers remember it, and would send
 * to nobody until they ask anew.
 */
export function gatewayMacOf(network: Subnets & Pick<Network, 'vni' | 'gateway' | 'wasIpv6'>): Mac {
  const mirror = network.wasIpv6 === true ? mirrorOf(network, network.gateway) : null
  return macOf(network.vni, mirror ?? network.gateway)
}

/** One for each subnet. A row from before its network got an IPv4 subnet has the IPv6 address as its first. */
export function addressesOf(
  network: Subnets,
  { address, address6 }: Pick<Endpoint, 'address' | 'address6'>
): readonly Ip[] {
  if (isIpv4(address) || !isIpv4(network.subnet.base)) return withMirror(network, address, address6)
  const first = mirroredBy(network, address)
  return first === null ? [address] : [first, address]
}

/** Subnets in any order, as a network has them. @throws ERR_INVALID naming the field unless they are one or a pair */
export function asSubnets(given: readonly Subnet[], field = 'subnets'): Subnets {
  const [subnet, subnet6] = oneOfEach(given, { ip: ({ base }) => base, field })
  if (subnet6 === undefined) return { subnet }
  const unfit = whyNoPair(subnet, subnet6)
  if (unfit !== null) throw invalid(field, unfit)
  return { subnet, subnet6 }
}

/** Addresses in any order, as an attach asks for them; of none, nothing. @throws ERR_INVALID naming the field if two are of one family */
export function asAddresses(
  given: readonly Ip[],
  field = 'addresses'
): Partial<Pick<Endpoint, 'address' | 'address6'>> {
  if (given.length === 0) return {}
  const [address, address6] = oneOfEach(given, { ip: each => each, field })
  return address6 === undefined ? { address } : { address, address6: address6 as Ipv6 }
}

/** The IPv6 address that mirrors this one; null in a network with one subnet. */
export function mirrorOf({ subnet, subnet6 }: Subnets, address: Ip): Ipv6 | null {
  return subnet6 === undefined ? null : (addressAt(subnet6, offsetOf(subnet, address)) as Ipv6)
}

/** The address of which this one is the mirror; null if there is none. */
export function mirroredBy({ subnet, subnet6 }: Subnets, address6: Ipv6): Ip | null {
  if (subnet6 === undefined) return null
  const offset = offsetOf(subnet6, address6)
  return offset >= 0 && offset < 2 ** hostBits(subnet) ? addressAt(subnet, offset) : null
}

/** Why these cannot be the two subnets of a network; null if they can. */
export function whyNoPair(subnet: Subnet, subnet6: Subnet): string | null {
  if (familyOf(subnet.base) !== 'ipv4' || familyOf(subnet6.base) !== 'ipv6')
    return `a network has one subnet of each family at most: ${formatSubnet(subnet)} and ${formatSubnet(subnet6)} are no IPv4 and IPv6 subnet`
  if (hostBits(subnet6) >= hostBits(subnet)) return null
  return `${formatSubnet(subnet6)} has fewer addresses than ${formatSubnet(subnet)}, which it must mirror`
}

/** The IPv4 one first. */
function oneOfEach<T>(
  given: readonly T[],
  { ip, field }: { readonly ip: (one: T) => Ip; readonly field: string }
): readonly [first: T, second?: T] {
  const [first, second, ...more] = given.toSorted((a, b) => compareIp(ip(a), ip(b)))
  const isTwice = first !== undefined && second !== undefined && familyOf(ip(first)) === familyOf(ip(second))
  if (first === undefined || isTwice || more.length > 0) throw invalid(field, 'must be one, or one of each family')
  return second === undefined ? [first] : [first, second]
}

function withMirror(network: Subnets, address: Ip, address6: Ipv6 | undefined): readonly Ip[] {
  const second = address6 ?? mirrorOf(network, address)
  return second === null ? [address] : [address, second]
}
