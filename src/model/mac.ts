// MAC addresses. An endpoint's MAC is derived from its VNI and address, so a reused address has the same MAC and no
// neighbour cache in a container goes stale (design section 4).

import type { Brand } from './brand.ts'
import { invalid } from './errors.ts'
import { quote, type Vni } from './ids.ts'
import { isIpv4, type Ip } from './ip.ts'
import { lowBitsOfIpv6, numberOfIpv6, type Ipv6 } from './ipv6.ts'

/** Six lower-case hex octets with colons, unicast. */
export type Mac = Brand<string, 'Mac'>

/** Locally administered; endpoints use 02 and, for addresses in no pool, 0a; devices use 06, services 0e. */
const DEVICE_PREFIX = '06:76:78:'
const SERVICE_PREFIX = '0e:76:78:'
/** 2^128 / the golden ratio, odd: its multiples differ in their highest bits even if the factors differ in few. */
const SPREAD = 0x9e3779b97f4a7c15f39cc0605cedc835n
const MAC = /^[0-9a-f]{2}(?::[0-9a-f]{2}){5}$/

/** A unicast MAC address. @throws ERR_INVALID naming the field */
export function parseMac(text: string, field = 'mac'): Mac {
  const lower = text.toLowerCase()
  if (!MAC.test(lower)) throw invalid(field, `must be a MAC address like 02:00:0a:00:00:05, got ${quote(text)}`)
  if ((Number.parseInt(lower.slice(0, 2), 16) & 1) === 1) throw invalid(field, `must be unicast, got ${quote(text)}`)
  if (lower === '00:00:00:00:00:00') throw invalid(field, 'must not be all zero')
  return lower as Mac
}

/**
 * The MAC of the endpoint with this address: locally administered, and injective within one VNI in the lowest 32 bits of the
 * address, in which all addresses of a pool differ.
 */
export function macOf(vni: Vni, address: Ip): Mac {
  const bits = lowBitsOf(address)
  const v = (shift: number): number => digitCode((vni >>> shift) & 15)
  const n = (shift: number): number => digitCode((bits >>> shift) & 15)
  // By codes in one piece, 48 is 0 and 58 a colon: every attach builds it twice, and joining octets takes eight times as long.
  return String.fromCharCode(
    48,
    50,
    58,
    v(4),
    v(0),
    58,
    n(28),
    n(24),
    58,
    n(20),
    n(16),
    58,
    n(12),
    n(8),
    58,
    n(4),
    n(0)
  ) as Mac
}

/** Is this the MAC that `macOf` derives from an address with these lowest 32 bits? Without a text of its own: passes ask it of all. */
export function tellsNumber(mac: Mac, vni: Vni, number: number): boolean {
  const is = (at: number, value: number): boolean => mac.charCodeAt(at) === digitCode(value & 15)
  return (
    is(0, 0) &&
    is(1, 2) &&
    is(3, vni >>> 4) &&
    is(4, vni) &&
    is(6, number >>> 28) &&
    is(7, number >>> 24) &&
    is(9, number >>> 20) &&
    is(10, number >>> 16) &&
    is(12, number >>> 12) &&
    is(13, number >>> 8) &&
    is(15, number >>> 4) &&
    is(16, number)
  )
}

/** The six bytes there as text; they may be none of a unicast MAC. */
export function macAt(bytes: Uint8Array, at: number): Mac {
  const high = (i: number): number => digitCode((bytes[at + i] ?? 0) >>> 4)
  const low = (i: number): number => digitCode((bytes[at + i] ?? 0) & 15)
  // By codes in one piece, 58 is a colon: a pass reads tens of thousands, and joining octets takes four times as long.
  return String.fromCharCode(
    high(0),
    low(0),
    58,
    high(1),
    low(1),
    58,
    high(2),
    low(2),
    58,
    high(3),
    low(3),
    58,
    high(4),
    low(4),
    58,
    high(5),
    low(5)
  ) as Mac
}

/**
 * The MAC of the endpoint with this address, which is in no pool. Its lowest 32 bits may be those of another one, so all bits
 * count: two such addresses have the same MAC once in 2^40, and none has the MAC of one in a pool.
 */
export function macBeyondPool(address: Ipv6): Mac {
  const bits = BigInt.asUintN(128, numberOfIpv6(address) * SPREAD) >> 88n
  return `0a${bits.toString(16).padStart(10, '0').replaceAll(/../g, ':$&')}` as Mac
}

/** The lowest 32 bits of the addresses from which this MAC is derived in the network; null if it is derived from none. */
export function lowBitsOfMac(vni: Vni, mac: Mac): number | null {
  if (!mac.startsWith(`02:${hex(vni & 255)}:`)) return null
  return Number.parseInt(mac.slice(6).replaceAll(':', ''), 16)
}

/** The lowest 32 bits of an address, unsigned: all of an IPv4 address. */
export function lowBitsOf(address: Ip): number {
  return isIpv4(address) ? address : lowBitsOfIpv6(address)
}

/** Is it in the range of the MACs that the addresses of services resolve to? */
export function isServiceMac(mac: Mac): boolean {
  return mac.startsWith(SERVICE_PREFIX)
}

/** Whether this MAC is in the range of vxmesh's own devices (bridges). A container with such a MAC could attract their traffic. */
export function isDeviceMac(mac: Mac): boolean {
  return mac.startsWith(DEVICE_PREFIX)
}

function hex(octet: number): string {
  return octet.toString(16).padStart(2, '0')
}

/** The character code of a hexadecimal digit. */
function digitCode(value: number): number {
  return value < 10 ? 48 + value : 87 + value
}
