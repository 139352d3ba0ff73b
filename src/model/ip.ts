// IP addresses and subnets of any family. Code that does not depend on a family names `Ip` and `Subnet` and uses the
// operations here. Code for one family narrows with `isIpv4`, or with `ipv4Of` where an IPv6 address is impossible.
//
// Both families are usable as keys of a Map, and `typeof` tells them apart: an `Ipv4` is a branded number, an `Ipv6` a
// branded string in canonical form (RFC 5952).

import { invalid } from './errors.ts'
import { quote } from './ids.ts'
import {
  broadcastAddress,
  formatIpv4,
  isUnicastIpv4,
  networkAddress,
  parseIpv4,
  type Ipv4,
  type Ipv4Subnet
} from './ipv4.ts'
import {
  compareIpv6,
  ipv6At,
  isLinkLocalIpv6,
  isUnicastIpv6,
  lastAddressIpv6,
  networkAddressIpv6,
  offsetOfIpv6,
  parseIpv6,
  type Ipv6
} from './ipv6.ts'

export type Ip = Ipv4 | Ipv6

export const FAMILIES = ['ipv4', 'ipv6'] as const
export type Family = (typeof FAMILIES)[number]

/** A subnet: the network address (host bits zero) and the prefix length. */
export type Subnet = { readonly base: Ip; readonly prefixLength: number }

/** The bits of an address. */
const ADDRESS_BITS: Readonly<Record<Family, number>> = { ipv4: 32, ipv6: 128 }

export function isIpv4(ip: Ip): ip is Ipv4 {
  return typeof ip === 'number'
}

export function familyOf(ip: Ip): Family {
  return isIpv4(ip) ? 'ipv4' : 'ipv6'
}

/** Narrows an address where only IPv4 is possible. @throws Error for another: a broken invariant */
export function ipv4Of(ip: Ip): Ipv4 {
  if (!isIpv4(ip)) throw new Error(`${ip} where only IPv4 is possible`)
  return ip
}

/** Narrows a subnet where only IPv4 is possible. */
export function ipv4SubnetOf({ base, prefixLength }: Subnet): Ipv4Subnet {
  return { base: ipv4Of(base), prefixLength }
}

/** @throws ERR_INVALID naming the field */
export function parseIp(text: string, field = 'address'): Ip {
  return text.includes(':') ? parseIpv6(text, field) : parseIpv4(text, field)
}

/** The canonical text, which `parseIp` accepts. */
export function formatIp(ip: Ip): string {
  return isIpv4(ip) ? formatIpv4(ip) : ip
}

/** For sorting: IPv4 first, ascending within a family. */
export function compareIp(a: Ip, b: Ip): number {
  if (isIpv4(a)) return isIpv4(b) ? a - b : -1
  return isIpv4(b) ? 1 : compareIpv6(a, b)
}

/** Can this be the address of one host: see isUnicastIpv4 and isUnicastIpv6. */
export function isUnicast(ip: Ip): boolean {
  return isIpv4(ip) ? isUnicastIpv4(ip) : isUnicastIpv6(ip)
}

/** Can this be the tunnel address of a host: unicast, and not an IPv6 address that is valid on one link only. */
export function isTunnelAddress(ip: Ip): boolean {
  return isUnicast(ip) && (isIpv4(ip) || !isLinkLocalIpv6(ip))
}

/** The network address: host bits zero. */
export function networkOf(ip: Ip, prefixLength: number): Ip {
  return isIpv4(ip) ? networkAddress(ip, prefixLength) : networkAddressIpv6(ip, prefixLength)
}

/** The subnet of a single address. */
export function singleAddress(ip: Ip): Subnet {
  return { base: ip, prefixLength: ADDRESS_BITS[familyOf(ip)] }
}

export function isSingleAddress({ base, prefixLength }: Subnet): boolean {
  return prefixLength === ADDRESS_BITS[familyOf(base)]
}

/**
 * The smallest and largest prefix lengths of a tenant subnet. A /8 has 2^24 addresses, as many as a network allocates by
 * itself; a /30 and a /126 have two containers' worth.
 */
export const SUBNET_PREFIXES: Readonly<Record<Family, readonly [min: number, max: number]>> = {
  ipv4: [8, 30],
  ipv6: [48, 126]
}

const PREFIX_LENGTH = /^(0|[1-9][0-9]{0,2})$/

/** A tenant subnet in CIDR form, host bits zero. @throws ERR_INVALID naming the field */
export function parseSubnet(text: string, field = 'subnet'): Subnet {
  const parts = text.split('/')
  const [address, length] = parts
  if (parts.length !== 2 || address === undefined || length === undefined || !PREFIX_LENGTH.test(length)) {
    throw invalid(field, `must be a subnet like 10.1.0.0/16 or fd00:1::/64, got ${quote(text)}`)
  }
  const base = parseIp(address, field)
  const prefixLength = Number(length)
  const [min, max] = SUBNET_PREFIXES[familyOf(base)]
  if (prefixLength < min || prefixLength > max) {
    throw invalid(field, `prefix length must be ${min} to ${max}, got /${length}`)
  }
  const subnet = { base: networkOf(base, prefixLength), prefixLength }
  if (subnet.base !== base) throw invalid(field, `has host bits set; did you mean ${formatSubnet(subnet)}?`)
  if (!isUnicast(base) || isLocal(base)) {
    throw invalid(field, `${text} is not a unicast range that containers can use`)
  }
  return subnet
}

/** Loopback or link-local. */
export function isLocal(ip: Ip): boolean {
  return isIpv4(ip) ? ip >>> 24 === 127 || ip >>> 16 === 0xa9fe : isLinkLocalIpv6(ip)
}

/** A prefix of any length in CIDR form, host bits zero. @throws ERR_INVALID naming the field */
export function parsePrefix(text: string, field = 'prefix'): Subnet {
  const [address = '', length = '', ...rest] = text.split('/')
  const base = parseIp(address, field)
  const prefixLength = PREFIX_LENGTH.test(length) ? Number(length) : NaN
  if (rest.length > 0 || !(prefixLength <= ADDRESS_BITS[familyOf(base)]))
    throw invalid(field, `must be a prefix like 172.17.0.0/16, got ${quote(text)}`)
  if (networkOf(base, prefixLength) !== base) throw invalid(field, `${quote(text)} has host bits set`)
  return { base, prefixLength }
}

/** CIDR form. */
export function formatSubnet({ base, prefixLength }: Subnet): string {
  return `${formatIp(base)}/${prefixLength}`
}

/** The number of addresses in a subnet, network and broadcast included; of a large IPv6 subnet, rounded. */
export function subnetSize(subnet: Subnet): number {
  return 2 ** hostBits(subnet)
}

export function subnetContains({ base, prefixLength }: Subnet, ip: Ip): boolean {
  return familyOf(ip) === familyOf(base) && networkOf(ip, prefixLength) === base
}

/**
 * May this address be given to a container or a gateway: inside, and neither the network address (IPv6: the routers'
 * anycast address, RFC 4291 section 2.6.1) nor, with IPv4, the broadcast address?
 */
export function isHostAddress(subnet: Subnet, ip: Ip): boolean {
  if (!subnetContains(subnet, ip) || ip === subnet.base) return false
  return !isIpv4(ip) || ip !== broadcastAddress(ipv4SubnetOf(subnet))
}

/** How many bits of an address differ within the subnet. */
export function hostBits({ base, prefixLength }: Subnet): number {
  return ADDRESS_BITS[familyOf(base)] - prefixLength
}

/** The last address: with IPv4, the broadcast address. */
export function lastAddress(subnet: Subnet): Ip {
  const { base, prefixLength } = subnet
  if (isIpv4(base)) return broadcastAddress({ base, prefixLength })
  return lastAddressIpv6({ base, prefixLength })
}

/** The address so many after the network address. @param offset less than the size of the subnet */
export function addressAt({ base, prefixLength }: Subnet, offset: number): Ip {
  return isIpv4(base) ? ((base + offset) as Ipv4) : ipv6At({ base, prefixLength }, offset)
}

/** How many addresses after the network address of its subnet; from 2^53 on, rounded. */
export function offsetOf({ base, prefixLength }: Subnet, ip: Ip): number {
  if (isIpv4(base)) return ipv4Of(ip) - base
  if (isIpv4(ip)) throw new Error(`${formatIp(ip)} is no address of an IPv6 subnet`)
  return offsetOfIpv6({ base, prefixLength }, ip)
}
