// MAC addresses. An endpoint's MAC is derived from its VNI and address, so a reused address has the same MAC and no
// neighbour cache in a container goes stale (design section 4).

import type { Brand } from './brand.ts'
import { invalid } from './errors.ts'
import { quote, type Vni } from './ids.ts'
import { ipv4Of, type Ip } from './ip.ts'
import type { Ipv4 } from './ipv4.ts'

/** Six lower-case hex octets with colons, unicast. */
export type Mac = Brand<string, 'Mac'>

/** Locally administered; endpoints use 02, devices 06. */
const DEVICE_PREFIX = '06:76:78:'
const MAC = /^[0-9a-f]{2}(?::[0-9a-f]{2}){5}$/

/** A unicast MAC address. @throws ERR_INVALID naming the field */
export function parseMac(text: string, field = 'mac'): Mac {
  const lower = text.toLowerCase()
  if (!MAC.test(lower)) throw invalid(field, `must be a MAC address like 02:00:0a:00:00:05, got ${quote(text)}`)
  if ((Number.parseInt(lower.slice(0, 2), 16) & 1) === 1) throw invalid(field, `must be unicast, got ${quote(text)}`)
  if (lower === '00:00:00:00:00:00') throw invalid(field, 'must not be all zero')
  return lower as Mac
}

/** The MAC of the endpoint with this address: locally administered, injective in the address within one VNI. */
export function macOf(vni: Vni, address: Ip): Mac {
  const bits = ipv4Of(address)
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

/** The address from which this MAC is derived in the network; null if it is derived from none. */
export function addressOfMac(vni: Vni, mac: Mac): Ipv4 | null {
  if (!mac.startsWith(`02:${hex(vni & 255)}:`)) return null
  return Number.parseInt(mac.slice(6).replaceAll(':', ''), 16) as Ipv4
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
