// IPv4 addresses as unsigned 32-bit numbers, and subnets. Parsing is strict: four decimal octets without leading
// zeros (inet_aton's octal and short forms have been used to bypass filters), and a prefix length from 0 to 32.

import type { Brand } from './brand.ts'
import { invalid } from './errors.ts'
import { quote } from './ids.ts'

/** An IPv4 address: 10.0.0.5 is 0x0A000005. */
export type Ipv4 = Brand<number, 'Ipv4'>

/** A subnet: the network address (host bits zero) and the prefix length. */
export type Subnet = { readonly base: Ipv4; readonly prefixLength: number }

const OCTET = '(0|[1-9][0-9]{0,2})'
const ADDRESS = new RegExp(`^${OCTET}\\.${OCTET}\\.${OCTET}\\.${OCTET}$`)

/** @throws ERR_INVALID naming the field */
export function parseIpv4(text: string, field = 'address'): Ipv4 {
  const octets = ADDRESS.exec(text)?.slice(1).map(Number)
  if (octets === undefined || octets.some(o => o > 255)) {
    throw invalid(field, `must be an IPv4 address like 10.0.0.5, got ${quote(text)}`)
  }
  return octets.reduce((sum, octet) => sum * 256 + octet, 0) as Ipv4
}

export function formatIpv4(address: Ipv4): string {
  return `${address >>> 24}.${(address >>> 16) & 255}.${(address >>> 8) & 255}.${address & 255}`
}

/** Prefix lengths of a tenant subnet: a /8 has 2^24 addresses; a /30 has room for one gateway and one container. */
export const SUBNET_PREFIX_MIN = 8
export const SUBNET_PREFIX_MAX = 30

/** A tenant subnet in CIDR notation, host bits zero. @throws ERR_INVALID naming the field */
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
  const base = parseIpv4(address, field)
  const subnet = { base: networkAddress(base, prefixLength), prefixLength }
  if (subnet.base !== base) throw invalid(field, `has host bits set; did you mean ${formatSubnet(subnet)}?`)
  if (!isUnicast(base) || base >>> 24 === 127 || base >>> 16 === 0xa9fe) {
    throw invalid(field, `${text} is not a unicast range that containers can use`)
  }
  return subnet
}

/** The range of the routers' transit addresses: a /8, since an address is its base plus the 24-bit VNI. @throws ERR_INVALID */
export function parseTransitRange(text: string, field = 'transit'): Subnet {
  const [address = '', length, ...rest] = text.split('/')
  const base = parseIpv4(address, field)
  if (length === '8' && rest.length === 0 && networkAddress(base, 8) === base) return { base, prefixLength: 8 }
  throw invalid(field, `must be a /8 like 240.0.0.0/8, got ${quote(text)}`)
}

export function formatSubnet(subnet: Subnet): string {
  return `${formatIpv4(subnet.base)}/${subnet.prefixLength}`
}

/** Whether this can be a host's address: not in 0.0.0.0/8, multicast, reserved or broadcast. */
export function isUnicast(address: Ipv4): boolean {
  const firstOctet = address >>> 24
  return firstOctet > 0 && firstOctet < 224
}

export function networkAddress(address: Ipv4, prefixLength: number): Ipv4 {
  return ((address & netmask(prefixLength)) >>> 0) as Ipv4
}

export function broadcastAddress(subnet: Subnet): Ipv4 {
  return (subnet.base + subnetSize(subnet) - 1) as Ipv4
}

/** The number of addresses in a subnet, network and broadcast included. */
export function subnetSize(subnet: Subnet): number {
  return 2 ** (32 - subnet.prefixLength)
}

export function subnetContains(subnet: Subnet, address: Ipv4): boolean {
  return networkAddress(address, subnet.prefixLength) === subnet.base
}

/** Whether a container or gateway may have this address: inside the subnet, and neither network nor broadcast address. */
export function isHostAddress(subnet: Subnet, address: Ipv4): boolean {
  return subnetContains(subnet, address) && address !== subnet.base && address !== broadcastAddress(subnet)
}

function netmask(prefixLength: number): number {
  return prefixLength === 0 ? 0 : (0xffffffff << (32 - prefixLength)) >>> 0
}
