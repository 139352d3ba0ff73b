// MAC addresses. An endpoint's MAC is derived from its VNI and address, so a reused address has the same MAC and no
// neighbour cache in a container goes stale (design section 4).

import type { Brand } from './brand.ts'
import { invalid } from './errors.ts'
import { quote, type Vni } from './ids.ts'
import { ipv4Of, type Ip } from './ip.ts'

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
  return `02:${hex(vni & 255)}:${[24, 16, 8, 0].map(shift => hex((bits >>> shift) & 255)).join(':')}` as Mac
}

/** Whether this MAC is in the range of vxmesh's own devices (bridges). A container with such a MAC could attract their traffic. */
export function isDeviceMac(mac: Mac): boolean {
  return mac.startsWith(DEVICE_PREFIX)
}

function hex(octet: number): string {
  return octet.toString(16).padStart(2, '0')
}
