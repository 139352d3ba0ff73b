// The network between hosts that carries the overlay's packets, as configured and as observed; peers.ts has its peers.
// Pure.

import { familyOf, type Family, type Ip } from '#model/ip.ts'

export type UnderlaySpec = {
  /** This host's tunnel address: the source of its tunnel packets. */
  readonly local: Ip
  /** What each packet of a container grows by on the underlay's device, in bytes. */
  readonly overheadBytes: number
}

export type Underlay = UnderlaySpec & {
  /** The device that has the local address. */
  readonly device: string
  readonly ifindex: number
  /** In bytes, at most what a VXLAN device takes. */
  readonly mtu: number
  /** What is left to containers, in bytes. */
  readonly overlayMtu: number
}

/**
 * The outer Ethernet header is not part of the MTU; inner Ethernet 14 + VXLAN 8 + UDP 8 + IPv4 20 or IPv6 40 (RFC 7348
 * section 5).
 */
const VXLAN_BYTES: Readonly<Record<Family, number>> = { ipv4: 50, ipv6: 70 }

/** VXLAN straight over the network of this host's tunnel address. */
export function vxlanUnderlay(local: Ip): UnderlaySpec {
  return { local, overheadBytes: VXLAN_BYTES[familyOf(local)] }
}
