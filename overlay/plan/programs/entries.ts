// The entries of our maps as bytes, in the layout of programs/maps.h. Host byte order, which is little-endian on all
// supported machines, except for what the programs compare with a packet. Pure.

import type { Vni } from '#model/ids.ts'
import type { Ipv4 } from '#model/ipv4.ts'
import type { Mac } from '#model/mac.ts'

export type PortEntry = {
  readonly network: Vni
  readonly address: Ipv4
  readonly mac: Mac
  /** May what it sends leave by a redirect, past the bridge and past queues on its own device? */
  readonly redirects: boolean
  readonly mtu: number
}

/** How a station is reached: see programs/maps.h. */
export const HOW = { peer: 1, queue: 2, tunnel: 3, bridge: 4 } as const
export type StationEntry = { readonly ifindex: number; readonly how: keyof typeof HOW }

export type SettingsEntry = {
  readonly vtep: Ipv4
  /** UDP port of VXLAN. */
  readonly vxlanPort: number
  /** Limits of a container, in packets a second; 0 is no limit. See programs/maps.h. */
  readonly flowsRate: number
  readonly broadcastsRate: number
}

const PORT_REDIRECTS = 1

/** A number of 32 bits: an ifindex, a network, a count of bytes. */
export function word(value: number): Uint8Array {
  const bytes = new Uint8Array(4)
  new DataView(bytes.buffer).setUint32(0, value, true)
  return bytes
}

export function portValue({ network, address, mac, redirects, mtu }: PortEntry): Uint8Array {
  const bytes = addressKey(network, address, 20)
  writeMac(bytes, 8, mac)
  if (redirects) bytes[14] = PORT_REDIRECTS
  new DataView(bytes.buffer).setUint32(16, mtu, true)
  return bytes
}

/** What `portValue` wrote. */
export function readPort(bytes: Uint8Array): Pick<PortEntry, 'address' | 'mac' | 'mtu'> {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length)
  return { address: view.getUint32(4) as Ipv4, mac: readMac(bytes, 8), mtu: view.getUint32(16, true) }
}

export function stationKey(network: Vni, mac: Mac): Uint8Array {
  const bytes = new Uint8Array(12)
  new DataView(bytes.buffer).setUint32(0, network, true)
  writeMac(bytes, 4, mac)
  return bytes
}

export function stationValue({ ifindex, how }: StationEntry): Uint8Array {
  const bytes = new Uint8Array(8)
  const view = new DataView(bytes.buffer)
  view.setUint32(0, ifindex, true)
  view.setUint32(4, HOW[how], true)
  return bytes
}

/** Key of a local address. */
export function addressWord(address: Ipv4): Uint8Array {
  const bytes = new Uint8Array(4)
  new DataView(bytes.buffer).setUint32(0, address)
  return bytes
}

/** Key of a neighbour and of a VTEP. */
export function addressKey(network: Vni, address: Ipv4, length = 8): Uint8Array {
  const bytes = new Uint8Array(length)
  const view = new DataView(bytes.buffer)
  view.setUint32(0, network, true)
  view.setUint32(4, address)
  return bytes
}

export function neighbourValue(mac: Mac): Uint8Array {
  const bytes = new Uint8Array(8)
  writeMac(bytes, 0, mac)
  return bytes
}

export function settingsValue({ vtep, vxlanPort, flowsRate, broadcastsRate }: SettingsEntry): Uint8Array {
  const bytes = new Uint8Array(16)
  const view = new DataView(bytes.buffer)
  view.setUint32(0, vtep)
  view.setUint16(4, vxlanPort)
  view.setUint32(8, flowsRate, true)
  view.setUint32(12, broadcastsRate, true)
  return bytes
}

/** Where traffic of a network goes, or comes from: see programs/maps.h. */
export const SCOPES = ['host', 'sent', 'received', 'bridged'] as const
export const DROPS = ['stranger', 'malformed', 'no-port', 'to-host', 'forged', 'limited'] as const
export type Drop = (typeof DROPS)[number]

export function ledgerKey(network: Vni, scope: (typeof SCOPES)[number]): Uint8Array {
  const bytes = new Uint8Array(8)
  const view = new DataView(bytes.buffer)
  view.setUint32(0, network, true)
  view.setUint32(4, SCOPES.indexOf(scope), true)
  return bytes
}

/** What a container's port counted: see programs/maps.h. */
export type PortTraffic = {
  readonly sentPackets: number
  readonly sentBytes: number
  /** To the container, past its device on the host. */
  readonly redirectedPackets: number
  readonly redirectedBytes: number
  readonly droppedPackets: number
  readonly limitedPackets: number
}

export function portTraffic(value: Uint8Array): PortTraffic {
  const [sentPackets = 0, sentBytes = 0, redirectedPackets = 0, redirectedBytes = 0, ...rest] = summed(value, 6)
  const [droppedPackets = 0, limitedPackets = 0] = rest
  return { sentPackets, sentBytes, redirectedPackets, redirectedBytes, droppedPackets, limitedPackets }
}

/** Sums the fields, 64 bits each, of a value that is kept once for each processor. */
export function summed(value: Uint8Array, fields: number): number[] {
  const view = new DataView(value.buffer, value.byteOffset, value.length)
  const sums = Array.from({ length: fields }, () => 0n)
  for (let at = 0; at + fields * 8 <= value.length; at += fields * 8) {
    for (let i = 0; i < fields; i++) sums[i] = (sums[i] ?? 0n) + view.getBigUint64(at + i * 8, true)
  }
  return sums.map(Number)
}

/** Two digits each of the 256 bytes. */
const HEX = Array.from({ length: 256 }, (_, byte) => byte.toString(16).padStart(2, '0'))

export function readMac(bytes: Uint8Array, at: number): Mac {
  const [a, b, c] = [HEX[bytes[at] ?? 0], HEX[bytes[at + 1] ?? 0], HEX[bytes[at + 2] ?? 0]]
  const [d, e, f] = [HEX[bytes[at + 3] ?? 0], HEX[bytes[at + 4] ?? 0], HEX[bytes[at + 5] ?? 0]]
  return `${a}:${b}:${c}:${d}:${e}:${f}` as Mac
}

/** Of the six bytes, each two lower-case digits in a text of 17 characters. */
function writeMac(into: Uint8Array, at: number, mac: Mac): void {
  for (let i = 0; i < 6; i++) into[at + i] = (digit(mac, i * 3) << 4) | digit(mac, i * 3 + 1)
}

function digit(text: string, at: number): number {
  const code = text.charCodeAt(at)
  return code <= 57 ? code - 48 : code - 87
}
