// IP addresses and subnets of any family. Code that does not depend on a family names `Ip` and `Subnet` and uses the
// operations here. Code that really is IPv4 names `Ipv4` and narrows with `ipv4Of`, which no longer compiles once `Ip` gets
// a second family: then every such place is found by the compiler.
//
// Both families are usable as keys of a Map, and `typeof` tells them apart: an `Ipv4` is a branded number, an `Ipv6` will
// be a branded string in canonical form (RFC 5952).

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

export type Ip = Ipv4

export type Family = 'ipv4'

/** A subnet: the network address (host bits zero) and the prefix length. */
export type Subnet = { readonly base: Ip; readonly prefixLength: number }

/** The bits of an address. */
const ADDRESS_BITS: Readonly<Record<Family, number>> = { ipv4: 32 }

export function familyOf(ip: Ip): Family {
  // eslint-disable-next-line @typescript-eslint/switch-exhaustiveness-check -- the compiler requires one case a family
  switch (typeof ip) {
    case 'number':
      return 'ipv4'
  }
}

/** Narrows an address where only IPv4 is possible. */
export function ipv4Of(ip: Ip): Ipv4 {
  return ip
}

/** Narrows a subnet where only IPv4 is possible. */
export function ipv4SubnetOf({ base, prefixLength }: Subnet): Ipv4Subnet {
  return { base: ipv4Of(base), prefixLength }
}

/** @throws ERR_INVALID naming the field */
export function parseIp(text: string, field = 'address'): Ip {
  return parseIpv4(text, field)
}

/** The canonical text, which `parseIp` accepts. */
export function formatIp(ip: Ip): string {
  return formatIpv4(ipv4Of(ip))
}

/** For sorting: ascending within a family. */
export function compareIp(a: Ip, b: Ip): number {
  return ipv4Of(a) - ipv4Of(b)
}

/** Can this be the address of one host: none of 0.0.0.0/8, multicast, reserved or broadcast? */
export function isUnicast(ip: Ip): boolean {
  return isUnicastIpv4(ipv4Of(ip))
}

/** The subnet of a single address. */
export function singleAddress(ip: Ip): Subnet {
  return { base: ip, prefixLength: ADDRESS_BITS[familyOf(ip)] }
}

export function isSingleAddress({ base, prefixLength }: Subnet): boolean {
  return prefixLength === ADDRESS_BITS[familyOf(base)]
}

/** The smallest and largest prefix lengths of a tenant subnet: a /8 has 2^24 addresses, a /30 two containers' worth. */
export const SUBNET_PREFIX_MIN = 8
export const SUBNET_PREFIX_MAX = 30

/** A tenant subnet in CIDR form, host bits zero. @throws ERR_INVALID naming the field */
export function parseSubnet(text: string, field = 'subnet'): Subnet {
  const parts = text.split('/')
  const [address, length] = parts
  if (parts.length !== 2 || address === undefined || length === undefined || !/^(0|[1-9][0-9]?)$/.test(length)) {
    throw invalid(field, `must be a subnet like 10.1.0.0/16, got ${quote(text)}`)
  }
  const prefixLength = Number(length)
  if (prefixLength < SUBNET_PREFIX_MIN || prefixLength > SUBNET_PREFIX_MAX) {
    throw invalid(field, `prefix length must be ${SUBNET_PREFIX_MIN} to ${SUBNET_PREFIX_MAX}, got /${length}`)
  }
  const base = ipv4Of(parseIp(address, field))
  const subnet = { base: networkAddress(base, prefixLength), prefixLength }
  if (subnet.base !== base) throw invalid(field, `has host bits set; did you mean ${formatSubnet(subnet)}?`)
  if (!isUnicast(base) || base >>> 24 === 127 || base >>> 16 === 0xa9fe) {
    throw invalid(field, `${text} is not a unicast range that containers can use`)
  }
  return subnet
}

/** A prefix of any length in CIDR form, host bits zero. @throws ERR_INVALID naming the field */
export function parsePrefix(text: string, field = 'prefix'): Subnet {
  const [address = '', length = '', ...rest] = text.split('/')
  const base = parseIp(address, field)
  const prefixLength = /^(0|[1-9][0-9]?)$/.test(length) ? Number(length) : NaN
  if (rest.length > 0 || !(prefixLength <= ADDRESS_BITS[familyOf(base)]))
    throw invalid(field, `must be a prefix like 172.17.0.0/16, got ${quote(text)}`)
  if (networkAddress(ipv4Of(base), prefixLength) !== base) throw invalid(field, `${quote(text)} has host bits set`)
  return { base, prefixLength }
}

/** CIDR form. */
export function formatSubnet({ base, prefixLength }: Subnet): string {
  return `${formatIp(base)}/${prefixLength}`
}

/** The number of addresses in a subnet, network and broadcast included. */
export function subnetSize({ base, prefixLength }: Subnet): number {
  return 2 ** (ADDRESS_BITS[familyOf(base)] - prefixLength)
}

export function subnetContains({ base, prefixLength }: Subnet, ip: Ip): boolean {
  return networkAddress(ipv4Of(ip), prefixLength) === base
}

/** May this address be given to a container or a gateway: inside, and neither network nor broadcast address? */
export function isHostAddress(subnet: Subnet, ip: Ip): boolean {
  return subnetContains(subnet, ip) && ip !== subnet.base && ip !== broadcastAddress(ipv4SubnetOf(subnet))
}
