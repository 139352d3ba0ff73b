// Hand-made Ethernet frames with correct lengths and IPv4 checksums, so that nothing but the point of an attack is wrong
// with them. Every frame carries a mark by which listeners recognise it.

import { isIpv4, type Ip } from '#model/ip.ts'
import { bytesOfIpv6 } from '#model/ipv6.ts'
import type { Mac } from '#model/mac.ts'

export const ETHER = { ipv4: 0x0800, arp: 0x0806, rarp: 0x8035, vlan: 0x8100, ipv6: 0x86dd, qinq: 0x88a8 } as const
export const BROADCAST = 'ff:ff:ff:ff:ff:ff' as Mac

const MARK = Buffer.from('vxmark')

export function mark(id: number): Buffer {
  const bytes = Buffer.alloc(MARK.length + 2)
  MARK.copy(bytes)
  bytes.writeUInt16BE(id, MARK.length)
  return bytes
}

/** Version 6, a traffic class and the first bits of a flow label that nothing else here uses. */
const LABEL = 0x6b7a

/**
 * Where the mark would make a packet longer than it may be: in its traffic class and flow label. (Bytes that follow a packet
 * in its frame are cut off on some ways.)
 */
export function labelled(packet: Buffer, mark: Buffer): Buffer {
  const marked = Buffer.from(packet)
  marked.writeUInt16BE(LABEL, 0)
  marked.writeUInt16BE(mark.readUInt16BE(MARK.length), 2)
  return marked
}

export function markOf(frame: Buffer): number | null {
  const isLabelled = frame.length >= 18 && frame.readUInt16BE(12) === ETHER.ipv6 && frame.readUInt16BE(14) === LABEL
  if (isLabelled) return frame.readUInt16BE(16)
  const at = frame.indexOf(MARK)
  return at === -1 || at + MARK.length + 2 > frame.length ? null : frame.readUInt16BE(at + MARK.length)
}

/** Padded to Ethernet's minimum of 60 bytes. */
export function ether(p: { to: Mac; from: Mac; type: number }, payload: Buffer): Buffer {
  const frame = Buffer.concat([macBytes(p.to), macBytes(p.from), u16(p.type), payload])
  return frame.length < 60 ? Buffer.concat([frame, Buffer.alloc(60 - frame.length)]) : frame
}

/** IEEE 802.3: a length instead of a type, then LLC. */
export function llc(p: { to: Mac; from: Mac }, payload: Buffer): Buffer {
  return ether({ ...p, type: payload.length }, payload)
}

export function vlanTag(id: number, innerType: number, payload: Buffer): Buffer {
  return Buffer.concat([u16(id), u16(innerType), payload])
}

export type IpOptions = {
  readonly from: number
  readonly to: number
  readonly protocol: number
  readonly id?: number
  /** In units of 8 bytes. */
  readonly offset?: number
  readonly more?: boolean
}

export function ipv4(p: IpOptions, payload: Buffer): Buffer {
  const header = Buffer.alloc(20)
  header.writeUInt8(0x45, 0)
  header.writeUInt16BE(20 + payload.length, 2)
  header.writeUInt16BE(p.id ?? 0, 4)
  header.writeUInt16BE((p.more === true ? 0x2000 : 0) | (p.offset ?? 0), 6)
  header.writeUInt8(64, 8)
  header.writeUInt8(p.protocol, 9)
  header.writeUInt32BE(p.from, 12)
  header.writeUInt32BE(p.to, 16)
  header.writeUInt16BE(checksum(header), 10)
  return Buffer.concat([header, payload])
}

/** A packet of the addresses' family; of IPv6, a fragment has a header that says so. */
export function ipPacket(
  p: Omit<IpOptions, 'from' | 'to'> & { readonly from: Ip; readonly to: Ip },
  payload: Buffer
): Buffer {
  const { from, to, protocol, id = 0, offset = 0, more = false } = p
  if (isIpv4(from) && isIpv4(to)) return ipv4({ ...p, from, to }, payload)
  const ends = { from: sixteen(from), to: sixteen(to) }
  if (!more && offset === 0) return ipv6({ ...ends, next: protocol }, payload)
  const fragment = [Buffer.from([protocol, 0]), u16((offset << 3) | Number(more)), u32(id)]
  return ipv6({ ...ends, next: FRAGMENT }, Buffer.concat([...fragment, payload]))
}

/** A UDP datagram, over IPv6 with the checksum that it must have there (RFC 8200 section 8.1). */
export function udpBetween(
  ends: { readonly from: Ip; readonly to: Ip },
  ...[from, to, payload]: Parameters<typeof udp>
): Buffer {
  const datagram = udp(from, to, payload)
  if (isIpv4(ends.from)) return datagram
  const pseudo = Buffer.concat([sixteen(ends.from), sixteen(ends.to), u32(datagram.length), u32(UDP)])
  datagram.writeUInt16BE(checksum(Buffer.concat([pseudo, datagram])) || 0xffff, 6)
  return datagram
}

function sixteen(ip: Ip): Buffer {
  if (isIpv4(ip)) throw new Error('two families in one packet')
  return Buffer.from(bytesOfIpv6(ip))
}

const FRAGMENT = 44
export const UDP = 17
export const ICMP = 1
const ICMP6 = 58

/** Without a checksum, which IPv4 allows. */
export function udp(from: number, to: number, payload: Buffer): Buffer {
  return Buffer.concat([u16(from), u16(to), u16(8 + payload.length), u16(0), payload])
}

export function icmp(type: number, code: number, rest: Buffer): Buffer {
  const message = Buffer.concat([Buffer.from([type, code, 0, 0]), rest])
  message.writeUInt16BE(checksum(message), 2)
  return message
}

export function arp(p: {
  operation: number
  fromMac: Mac
  fromAddress: number
  toMac: Mac
  toAddress: number
  macLength?: number
}): Buffer {
  return Buffer.concat([
    u16(1),
    u16(ETHER.ipv4),
    Buffer.from([p.macLength ?? 6, 4]),
    u16(p.operation),
    macBytes(p.fromMac),
    u32(p.fromAddress),
    macBytes(p.toMac),
    u32(p.toAddress)
  ])
}

export function ipv6(p: { from: Buffer; to: Buffer; next: number }, payload: Buffer): Buffer {
  const header = Buffer.from([0x60, 0, 0, 0, 0, 0, p.next, 255])
  header.writeUInt16BE(payload.length, 4)
  return Buffer.concat([header, p.from, p.to, payload])
}

export function icmp6(p: { from: Buffer; to: Buffer }, type: number, rest: Buffer): Buffer {
  const message = Buffer.concat([Buffer.from([type, 0, 0, 0]), rest])
  const pseudo = Buffer.concat([p.from, p.to, u32(message.length), u32(ICMP6)])
  message.writeUInt16BE(checksum(Buffer.concat([pseudo, message])), 2)
  return ipv6({ ...p, next: ICMP6 }, message)
}

/** The interface identifier of a MAC (RFC 4291, appendix A) under fe80::/64. */
export function linkLocal(mac: Mac): Buffer {
  const m = macBytes(mac)
  const id = [(m[0] ?? 0) ^ 2, m[1] ?? 0, m[2] ?? 0, 0xff, 0xfe, m[3] ?? 0, m[4] ?? 0, m[5] ?? 0]
  return Buffer.from([0xfe, 0x80, 0, 0, 0, 0, 0, 0, ...id])
}

export const ALL_NODES = Buffer.from('ff020000000000000000000000000001', 'hex')

/** RFC 7348 section 5; `flags` is the whole first word. */
export function vxlan(p: { vni: number; flags?: number; reserved?: number }, inner: Buffer): Buffer {
  return Buffer.concat([u32(p.flags ?? 0x0800_0000), u32(((p.vni << 8) | (p.reserved ?? 0)) >>> 0), inner])
}

export function macBytes(mac: Mac): Buffer {
  return Buffer.from(mac.replaceAll(':', ''), 'hex')
}

export function u16(value: number): Buffer {
  const bytes = Buffer.alloc(2)
  bytes.writeUInt16BE(value)
  return bytes
}

export function u32(value: number): Buffer {
  const bytes = Buffer.alloc(4)
  bytes.writeUInt32BE(value)
  return bytes
}

/** RFC 1071. */
export function checksum(bytes: Buffer): number {
  let sum = 0
  for (let i = 0; i < bytes.length; i += 2) sum += i + 1 < bytes.length ? bytes.readUInt16BE(i) : (bytes[i] ?? 0) << 8
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >>> 16)
  return ~sum & 0xffff
}
