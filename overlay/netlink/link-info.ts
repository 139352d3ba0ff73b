// Decodes links (RTM_NEWLINK). Malformed or truncated input never throws: a field that cannot be read keeps its empty
// default. Pure.

import type { Ip } from '#model/ip.ts'
import type { Mac } from '#model/mac.ts'
import { attributesOf, eachAttribute, readIp, readMac, readText, readU16Be, readU32, readU8, viewOf } from './bytes.ts'
import * as k from './constants.ts'

export type LinkCounters = {
  readonly rxPackets: number
  readonly txPackets: number
  readonly rxBytes: number
  readonly txBytes: number
}

export type VxlanInfo = {
  readonly vni: number | null
  readonly local: Ip | null
  readonly port: number | null
  readonly ttl: number | null
  readonly learning: boolean | null
  /** Has a default remote, a lower device or external control. */
  readonly extra: boolean
}

export type BridgePortInfo = {
  readonly learning: boolean | null
  readonly unicastFlood: boolean | null
  readonly neighSuppress: boolean | null
  readonly isolated: boolean | null
}

export type LinkInfo = {
  readonly ifindex: number
  readonly name: string
  readonly alias: string
  readonly group: number
  readonly kind: string
  readonly mtu: number
  readonly mac: Mac | null
  readonly up: boolean
  /** Up, with a carrier, and the kernel has begun to send: its queue is active and its bridge forwards. */
  readonly running: boolean
  /** Ifindex of its bridge; 0 for none. */
  readonly master: number
  /** Of a veth: ifindex of its peer, in the namespace with the id `linkNetnsId` (null: the reader's own). */
  readonly link: number
  readonly linkNetnsId: number | null
  /** Is automatic IPv6 address generation off? Null when the kernel has no IPv6. */
  readonly addrGenNone: boolean | null
  readonly ipv6Disabled: boolean | null
  /** Does it follow router advertisements? */
  readonly ipv6AcceptsRouters: boolean | null
  readonly multicastSnooping: boolean | null
  readonly vxlan: VxlanInfo | null
  readonly bridgePort: BridgePortInfo | null
  readonly counters: LinkCounters | null
}

const HEADER_BYTES = 16
const EMPTY = new Uint8Array()

type Mutable = { -readonly [K in keyof LinkInfo]: LinkInfo[K] }

/** Decodes the payload of an RTM_NEWLINK; null when it is too short to be one. */
export function decodeLink(payload: Uint8Array): LinkInfo | null {
  if (payload.length < HEADER_BYTES) return null
  const view = viewOf(payload)
  const info: Mutable = {
    ifindex: view.getInt32(4, true),
    name: '',
    alias: '',
    group: 0,
    kind: '',
    mtu: 0,
    mac: null,
    up: (view.getUint32(8, true) & k.IFF_UP) !== 0,
    running: (view.getUint32(8, true) & k.IFF_RUNNING) !== 0,
    master: 0,
    link: 0,
    linkNetnsId: null,
    addrGenNone: null,
    ipv6Disabled: null,
    ipv6AcceptsRouters: null,
    multicastSnooping: null,
    vxlan: null,
    bridgePort: null,
    counters: null
  }
  eachAttribute(payload, HEADER_BYTES, (type, value) => decodeAttribute(info, type, value))
  return info
}

function decodeAttribute(info: Mutable, type: number, value: Uint8Array): void {
  switch (type) {
    case k.IFLA_IFNAME:
      info.name = readText(value)
      break
    case k.IFLA_IFALIAS:
      info.alias = readText(value)
      break
    case k.IFLA_GROUP:
      info.group = readU32(value) ?? 0
      break
    case k.IFLA_MTU:
      info.mtu = readU32(value) ?? 0
      break
    case k.IFLA_ADDRESS:
      info.mac = readMac(value)
      break
    case k.IFLA_MASTER:
      info.master = readU32(value) ?? 0
      break
    case k.IFLA_LINK:
      info.link = readU32(value) ?? 0
      break
    case k.IFLA_LINK_NETNSID:
      info.linkNetnsId = readU32(value)
      break
    case k.IFLA_LINKINFO:
      decodeLinkInfo(info, value)
      break
    case k.IFLA_AF_SPEC:
      decodeInet6(info, value)
      break
    case k.IFLA_STATS64:
      info.counters = decodeCounters(value)
      break
  }
}

function decodeLinkInfo(info: Mutable, value: Uint8Array): void {
  const found = attributesOf(value)
  info.kind = readText(found.get(k.IFLA_INFO_KIND) ?? EMPTY)
  const data = found.get(k.IFLA_INFO_DATA)
  if (data !== undefined && info.kind === 'vxlan') info.vxlan = decodeVxlan(data)
  if (data !== undefined && info.kind === 'bridge') {
    info.multicastSnooping = readFlag(attributesOf(data).get(k.IFLA_BR_MCAST_SNOOPING))
  }
  const port = found.get(k.IFLA_INFO_SLAVE_DATA)
  if (port !== undefined && readText(found.get(k.IFLA_INFO_SLAVE_KIND) ?? EMPTY) === 'bridge') {
    info.bridgePort = decodeBridgePort(port)
  }
}

function decodeVxlan(data: Uint8Array): VxlanInfo {
  const found = attributesOf(data)
  const read = <T>(type: number, reader: (value: Uint8Array) => T | null): T | null => {
    const value = found.get(type)
    return value === undefined ? null : reader(value)
  }
  return {
    vni: read(k.IFLA_VXLAN_ID, readU32),
    local: read(k.IFLA_VXLAN_LOCAL, readIp) ?? read(k.IFLA_VXLAN_LOCAL6, readIp),
    port: read(k.IFLA_VXLAN_PORT, readU16Be),
    ttl: read(k.IFLA_VXLAN_TTL, readU8),
    learning: readFlag(found.get(k.IFLA_VXLAN_LEARNING)),
    extra:
      found.has(k.IFLA_VXLAN_GROUP) ||
      found.has(k.IFLA_VXLAN_GROUP6) ||
      (read(k.IFLA_VXLAN_LINK, readU32) ?? 0) !== 0 ||
      (read(k.IFLA_VXLAN_COLLECT_METADATA, readU8) ?? 0) !== 0
  }
}

function decodeBridgePort(data: Uint8Array): BridgePortInfo {
  const found = attributesOf(data)
  return {
    learning: readFlag(found.get(k.IFLA_BRPORT_LEARNING)),
    unicastFlood: readFlag(found.get(k.IFLA_BRPORT_UNICAST_FLOOD)),
    neighSuppress: readFlag(found.get(k.IFLA_BRPORT_NEIGH_SUPPRESS)),
    isolated: readFlag(found.get(k.IFLA_BRPORT_ISOLATED))
  }
}

function decodeInet6(info: Mutable, value: Uint8Array): void {
  const inet6 = attributesOf(value).get(k.AF_INET6)
  if (inet6 === undefined) return
  const found = attributesOf(inet6)
  const mode = readU8(found.get(k.IFLA_INET6_ADDR_GEN_MODE) ?? EMPTY)
  info.addrGenNone = mode === null ? null : mode === k.ADDR_GEN_NONE
  const conf = found.get(k.IFLA_INET6_CONF)
  if (conf === undefined) return
  const view = viewOf(conf)
  const flag = (index: number): boolean | null =>
    conf.length >= index * 4 + 4 ? view.getInt32(index * 4, true) !== 0 : null
  info.ipv6Disabled = flag(k.DEVCONF_DISABLE_IPV6)
  info.ipv6AcceptsRouters = flag(k.DEVCONF_ACCEPT_RA)
}

/** struct rtnl_link_stats64 starts with rx_packets, tx_packets, rx_bytes, tx_bytes. Exact up to 2^53. */
export function decodeCounters(value: Uint8Array): LinkCounters | null {
  if (value.length < 32) return null
  const view = viewOf(value)
  const at = (index: number): number => Number(view.getBigUint64(index * 8, true))
  return { rxPackets: at(0), txPackets: at(1), rxBytes: at(2), txBytes: at(3) }
}

function readFlag(value: Uint8Array | undefined): boolean | null {
  const byte = value === undefined ? null : readU8(value)
  return byte === null ? null : byte !== 0
}
