// The family of the addresses that hosts of a lab have on their underlay. With LAB_UNDERLAY=ipv6 it is IPv6, and they have no
// IPv4 address there: whatever runs in a lab runs over IPv6.

import { FAMILIES, parseIp, type Family } from '#model/ip.ts'
import { vxlanUnderlay } from '#overlay/plan/underlay/underlay.ts'

const asked = process.env['LAB_UNDERLAY'] ?? 'ipv4'
const known = FAMILIES.find(family => family === asked)
if (known === undefined) throw new Error(`LAB_UNDERLAY is ${asked}, and neither of ${FAMILIES.join(' and ')}`)

export const UNDERLAY_FAMILY: Family = known
export const UNDERLAY_MTU = 1500
export const UNDERLAY_PREFIX: Readonly<Record<Family, number>> = { ipv4: 24, ipv6: 64 }

/** The address of host n: 192.0.2.n or 2001:db8::n. */
export function hostAddress(n: number, family: Family = UNDERLAY_FAMILY): string {
  return family === 'ipv4' ? `192.0.2.${n}` : `2001:db8::${n}`
}

/** What the underlay leaves to containers. */
export const OVERLAY_MTU = UNDERLAY_MTU - vxlanUnderlay(parseIp(hostAddress(1))).overheadBytes
