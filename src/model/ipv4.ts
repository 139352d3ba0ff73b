// IPv4 addresses as unsigned 32-bit numbers, and their arithmetic. Parsing is strict: four decimal octets without leading
// zeros, because inet_aton's octal and short forms have let filters be bypassed. Code that does not depend on IPv4 uses
// ip.ts instead.

import type { Brand } from './brand.ts'
import { invalid } from './errors.ts'
import { quote } from './ids.ts'

/** An IPv4 address: 10.0.0.5 is 0x0A000005. */
export type Ipv4 = Brand<number, 'Ipv4'>

/** The network address (host bits zero) and the prefix length. */
export type Ipv4Subnet = { readonly base: Ipv4; readonly prefixLength: number }

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

/** The range of routers' own addresses: a /8, for an address is its base plus the 24-bit VNI. @throws ERR_INVALID */
export function parseTransitRange(text: string, field = 'transit'): Ipv4Subnet {
  const [address = '', length, ...rest] = text.split('/')
  const base = parseIpv4(address, field)
  if (length === '8' && rest.length === 0 && networkAddress(base, 8) === base) return { base, prefixLength: 8 }
  throw invalid(field, `must be a /8 like 240.0.0.0/8, got ${quote(text)}`)
}

/** None of 0.0.0.0/8, multicast, reserved or broadcast. */
export function isUnicastIpv4(address: Ipv4): boolean {
  const firstOctet = address >>> 24
  return firstOctet > 0 && firstOctet < 224
}

export function networkAddress(address: Ipv4, prefixLength: number): Ipv4 {
  return ((address & netmask(prefixLength)) >>> 0) as Ipv4
}

export function broadcastAddress({ base, prefixLength }: Ipv4Subnet): Ipv4 {
  return (base + 2 ** (32 - prefixLength) - 1) as Ipv4
}

function netmask(prefixLength: number): number {
  return prefixLength === 0 ? 0 : (0xffffffff << (32 - prefixLength)) >>> 0
}
