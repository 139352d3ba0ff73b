// The entries of our maps as bytes, in the layout of programs/maps.h. Host byte order, which is little-endian on all
// supported machines, except for what the programs compare with a packet. Pure.

import type { Vni } from '#model/ids.ts'
import { isIpv4, type Ip } from '#model/ip.ts'
import type { Ipv4 } from '#model/ipv4.ts'
import { bytesOfIpv6, ipv6OfBytes, type Ipv6 } from '#model/ipv6.ts'
import { macAt, type Mac } from '#model/mac.ts'
import type { ToldSubnet } from '../network/tells.ts'

export type PortEntry = {
  readonly network: Vni
  /** One of each family at most, the IPv4 one first. */
  readonly addresses: readonly Ip[]
  readonly mac: Mac
  /** May what it sends leave by a redirect, past the bridge and past queues on its own device? */
  readonly redirects: boolean
  /** Has its network services, and some with addresses that no neighbour has? None by default. */
  readonly services?: 'none' | 'inside' | 'beyond'
  readonly mtu: number
}

/** How a station is reached: see programs/maps.h. */
export const HOW = { peer: 1, queue: 2, tunnel: 3, bridge: 4 } as const
/**
 * `to` is the ifindex of its port, or, on another host (`tunnel`), that host's VTEP; 0: the VXLAN device knows the way. `tells`:
 * see ../network/tells.ts.
 */
export type StationEntry = { readonly to: number; readonly how: keyof typeof HOW; readonly tells: number }

export type SettingsEntry = {
  readonly vtep: Ipv4
  /** UDP port of VXLAN. */
  readonly vxlanPort: number
  /** Of the underlay's device. */
  readonly underlayMtu: number
  /** Limits of a container, in packets a second; 0 is no limit. See programs/maps.h. */
  readonly flowsRate: number
  readonly broadcastsRate: number
  /** Ifindex of the Ethernet device by which VXLAN leaves; 0: the programs wrap nothing, there may be several. */
  readonly underlay: number
  /** May the programs unwrap VXLAN, past the host's stack? */
  readonly unwraps: boolean
}

const PORT_REDIRECTS = 1
const PORT_SERVICES = { none: 0, inside: 2, beyond: 2 | 4 } as const
/** Of the values of a port, of the settings, and of a network. */
export const PORT_BYTES = 36
export const SETTINGS_BYTES = 24
export const NETWORK_BYTES = 28

/** A number of 32 bits: an ifindex, a network, a count of bytes. */
export function word(value: number): Uint8Array {
  const bytes = new Uint8Array(4)
  new DataView(bytes.buffer).setUint32(0, value, true)
  return bytes
}

export function portValue({ network, addresses, mac, redirects, services = 'none', mtu }: PortEntry): Uint8Array {
  const bytes = new Uint8Array(PORT_BYTES)
  const view = new DataView(bytes.buffer)
  view.setUint32(0, network, true)
  writeMac(view, 8, mac)
  bytes[14] = (redirects ? PORT_REDIRECTS : 0) | PORT_SERVICES[services]
  view.setUint32(16, mtu, true)
  for (const address of addresses) writeAddress(bytes, isIpv4(address) ? 4 : 20, address)
  return bytes
}

/** What `portValue` wrote. */
export function readPort(bytes: Uint8Array): Required<Pick<PortEntry, 'addresses' | 'mac' | 'services' | 'mtu'>> {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length)
  const [ipv4, ipv6] = [view.getUint32(4) as Ipv4, ipv6OfBytes(bytes.subarray(20, PORT_BYTES))]
  // Of a family in which the container has no address, it is zero.
  const addresses = [ipv4, ipv6].filter(address => address !== 0 && address !== '::')
  const flags = bytes[14] ?? 0
  const services = (flags & 2) === 0 ? 'none' : (flags & 4) === 0 ? 'inside' : 'beyond'
  return { addresses, mac: macAt(bytes, 8), services, mtu: view.getUint32(16, true) }
}

export function writeStationKey(into: DataView, at: number, p: { readonly network: number; readonly mac: Mac }): void {
  into.setUint32(at, p.network, true)
  writeMac(into, at + 4, p.mac)
  into.setUint16(at + 10, 0)
}

/** A station's value with the number of the way, which may be none of HOW. */
export type StationNumbers = {
  readonly to: number
  readonly how: number
  readonly tells: number
  /** On this host, 1: it may receive answers of services' backends. 0 by default. */
  readonly awaits?: number
}

/** A VTEP is in network order. */
export function readStation(bytes: Uint8Array): StationNumbers {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length)
  const how = view.getUint16(4, true)
  return { to: view.getUint32(0, how !== HOW.tunnel), how, tells: view.getUint8(6), awaits: view.getUint8(7) }
}

/** Where the programs find a network, and which of its IPv6 addresses MACs tell. */
export type NetworkEntry = { readonly tunnel: number; readonly told: ToldSubnet | null }

export function networkValue({ tunnel, told }: NetworkEntry): Uint8Array {
  const bytes = new Uint8Array(NETWORK_BYTES)
  const view = new DataView(bytes.buffer)
  view.setUint32(0, tunnel, true)
  if (told === null) return bytes
  view.setUint32(4, told.first, true)
  view.setUint32(8, told.count, true)
  bytes.set(bytesOfIpv6(told.subnet.base as Ipv6), 12)
  return bytes
}

function writeAddress(into: Uint8Array, at: number, address: Ip): void {
  if (isIpv4(address)) new DataView(into.buffer).setUint32(at, address)
  else into.set(bytesOfIpv6(address), at)
}

export function settingsValue(settings: SettingsEntry): Uint8Array {
  const bytes = new Uint8Array(SETTINGS_BYTES)
  const view = new DataView(bytes.buffer)
  view.setUint32(0, settings.vtep)
  view.setUint16(4, settings.vxlanPort)
  view.setUint16(6, settings.underlayMtu, true)
  view.setUint32(8, settings.flowsRate, true)
  view.setUint32(12, settings.broadcastsRate, true)
  view.setUint32(16, settings.underlay, true)
  view.setUint32(20, Number(settings.unwraps), true)
  return bytes
}

/** Where traffic of a network goes, or comes from: see programs/maps.h. */
export const SCOPES = ['host', 'sent', 'received', 'bridged'] as const
export const DROPS = ['stranger', 'malformed', 'no-port', 'to-host', 'forged', 'limited', 'nobody', 'fragment'] as const
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

/** Of the six bytes, each two lower-case digits in a text of 17 characters. */
export function writeMac(into: DataView, at: number, mac: Mac): void {
  for (let i = 0; i < 6; i++) into.setUint8(at + i, (digit(mac, i * 3) << 4) | digit(mac, i * 3 + 1))
}

function digit(text: string, at: number): number {
  const code = text.charCodeAt(at)
  return code <= 57 ? code - 48 : code - 87
}
