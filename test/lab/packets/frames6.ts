// IPv6 packets made by hand: extension headers, fragments, neighbour discovery. Lengths and checksums are right, so that
// nothing but the point of an attack is wrong with a packet.

import type { Mac } from '#model/mac.ts'
import { bytesOfIpv6, type Ipv6 } from '#model/ipv6.ts'
import { checksum, ether, labelled, ETHER, macBytes, u16, u32, UDP } from './frames.ts'

export const NEXT = {
  hopByHop: 0,
  ipv4: 4,
  tcp: 6,
  udp: UDP,
  ipv6: 41,
  routing: 43,
  fragment: 44,
  gre: 47,
  authentication: 51,
  icmp6: 58,
  none: 59,
  destination: 60,
  unknown: 253
} as const

export const TYPE = {
  unreachable: 1,
  packetTooBig: 2,
  timeExceeded: 3,
  echoRequest: 128,
  listenerQuery: 130,
  listenerReport: 131,
  listenerDone: 132,
  routerSolicitation: 133,
  routerAdvertisement: 134,
  solicitation: 135,
  advertisement: 136,
  redirect: 137,
  nodeInformation: 139,
  inverseSolicitation: 141,
  listenerReport2: 143
} as const

export const [SOURCE_LINK, TARGET_LINK] = [1, 2]
export const ALL_NODES_MAC = '33:33:00:00:00:01' as Mac
/** Flags of an advertisement (RFC 4861 section 4.4). */
export const [ROUTER, SOLICITED, OVERRIDE] = [0x8000_0000, 0x4000_0000, 0x2000_0000]

export type Ends = { readonly from: Buffer; readonly to: Buffer }

export function addressBytes(address: Ipv6): Buffer {
  return Buffer.from(bytesOfIpv6(address))
}

/** The group that a solicitation for an address is sent to (RFC 4291 section 2.7.1), and its MAC. */
export function solicitedNode(address: Buffer): { readonly group: Buffer; readonly mac: Mac } {
  const group = Buffer.concat([Buffer.from('ff0200000000000000000001ff', 'hex'), address.subarray(13)])
  const mac = ['33', '33', ...[...group.subarray(12)].map(byte => byte.toString(16).padStart(2, '0'))].join(':')
  return { group, mac: mac as Mac }
}

export type PacketOptions = Ends & {
  readonly next: number
  readonly version?: number
  /** Instead of the payload's own. */
  readonly length?: number
}

/** With hop limit 255, which ND requires. */
export function packet({ from, to, next, version = 6, length }: PacketOptions, payload: Buffer): Buffer {
  const first = Buffer.from([version << 4, 0, 0, 0])
  return Buffer.concat([first, u16(length ?? payload.length), Buffer.from([next, 255]), from, to, payload])
}

/** An extension header of 8 bytes that says nothing: hop-by-hop or destination options, padded (RFC 8200 section 4.2). */
export function options(next: number): Buffer {
  return Buffer.from([next, 0, 1, 4, 0, 0, 0, 0])
}

/** The payload is longer than its own header can say (RFC 2675). */
export function jumboOption(next: number, length: number): Buffer {
  return Buffer.concat([Buffer.from([next, 0, 0xc2, 4]), u32(length)])
}

/** Type 0, by one address (RFC 5095 has abolished it). @param left how many more are to be visited */
export function routing0(next: number, by: Buffer, left: number): Buffer {
  return Buffer.concat([Buffer.from([next, 2, 0, left]), u32(0), by])
}

/** @param offset in units of 8 bytes */
export function fragment(p: { next: number; id: number; offset?: number; more?: boolean }): Buffer {
  const at = ((p.offset ?? 0) << 3) | (p.more === true ? 1 : 0)
  return Buffer.concat([Buffer.from([p.next, 0]), u16(at), u32(p.id)])
}

/** Without a digest. */
export function authentication(next: number): Buffer {
  return Buffer.concat([Buffer.from([next, 1, 0, 0]), u32(7), u32(1)])
}

export function udp6(ends: Ends, ports: readonly [from: number, to: number], payload: Buffer): Buffer {
  const datagram = Buffer.concat([u16(ports[0]), u16(ports[1]), u16(8 + payload.length), u16(0), payload])
  return summed(ends, { next: UDP, at: 6 }, datagram)
}

/** A SYN. */
export function tcp6(ends: Ends, ports: readonly [from: number, to: number], payload: Buffer): Buffer {
  const rest = [u32(1), u32(0), Buffer.from([0x50, 2]), u16(8_192), u16(0), u16(0), payload]
  return summed(ends, { next: NEXT.tcp, at: 16 }, Buffer.concat([u16(ports[0]), u16(ports[1]), ...rest]))
}

/** The ICMPv6 message alone. */
export function message6(ends: Ends, type: number, rest: Buffer): Buffer {
  return summed(ends, { next: NEXT.icmp6, at: 2 }, Buffer.concat([Buffer.from([type, 0, 0, 0]), rest]))
}

export function linkOption(type: number, mac: Mac): Buffer {
  return Buffer.concat([Buffer.from([type, 1]), macBytes(mac)])
}

/** A solicitation, an advertisement or a redirect up to its options. */
export function discovery(flags: number, target: Buffer, ...more: readonly Buffer[]): Buffer {
  return Buffer.concat([u32(flags >>> 0), target, ...more])
}

/** @param mark for a packet that has none in its payload */
export function frame6(link: { to: Mac; from: Mac; type?: number }, packet: Buffer, mark?: Buffer): Buffer {
  return ether({ type: ETHER.ipv6, ...link }, mark === undefined ? packet : labelled(packet, mark))
}

/** Sets the checksum over the pseudo-header (RFC 8200 section 8.1). */
function summed({ from, to }: Ends, p: { next: number; at: number }, payload: Buffer): Buffer {
  const pseudo = Buffer.concat([from, to, u32(payload.length), u32(p.next)])
  // 0 would mean that there is none.
  payload.writeUInt16BE(checksum(Buffer.concat([pseudo, payload])) || 0xffff, p.at)
  return payload
}
