// Encodes requests for links (ifinfomsg): creates bridge, VXLAN, veth and IFB devices, changes and deletes them. Pure.

import { isIpv4, type Ip } from '#model/ip.ts'
import type { Mac } from '#model/mac.ts'
import { Writer, type Message } from './bytes.ts'
import * as k from './constants.ts'

/** A link by its ifindex, or by its name while the ifindex is unknown. */
export type LinkRef = number | string

export type BridgeSpec = { readonly name: string; readonly mac: Mac; readonly mtu: number; readonly group: number }

export type VxlanSpec = {
  readonly name: string
  readonly vni: number
  readonly local: Ip
  readonly port: number
  readonly ttl: number
  readonly mtu: number
  readonly group: number
  readonly master: number
}

export type VethSpec = {
  readonly name: string
  readonly mtu: number
  readonly group: number
  /** Without `netnsFd` the peer is created in the same namespace. */
  readonly peer: { readonly name: string; readonly mac: Mac; readonly netnsFd?: number }
}

/** Only the given settings are changed. */
export type LinkSettings = {
  readonly alias?: string
  readonly group?: number
  readonly mtu?: number
  readonly mac?: Mac
  /** Ifindex of the bridge; 0 takes the port out of its bridge. */
  readonly master?: number
  readonly addrGenNone?: boolean
  readonly up?: boolean
}

export type BridgePortSettings = {
  readonly learning: boolean
  readonly unicastFlood: boolean
  readonly neighSuppress: boolean
  readonly isolated?: boolean
}

const CREATE = k.NLM_F_CREATE | k.NLM_F_EXCL

/** Creates a bridge, down. Multicast snooping is off: a tenant network has no querier. */
export function createBridge(spec: BridgeSpec): Message {
  return named(spec)
    .attributeMac(k.IFLA_ADDRESS, spec.mac)
    .nested(k.IFLA_LINKINFO, info =>
      info
        .attributeText(k.IFLA_INFO_KIND, 'bridge')
        .nested(k.IFLA_INFO_DATA, data => data.attributeU8(k.IFLA_BR_MCAST_SNOOPING, 0))
    )
    .message(k.RTM_NEWLINK, CREATE)
}

/**
 * Creates a VXLAN device (RFC 7348), down, as a port of its bridge, without learning and without a default remote. Its packets
 * are of the family of its local address; over IPv6 they have UDP checksums, the kernel's default.
 */
export function createVxlan(spec: VxlanSpec): Message {
  return named(spec)
    .attributeU32(k.IFLA_MASTER, spec.master)
    .nested(k.IFLA_LINKINFO, info =>
      info
        .attributeText(k.IFLA_INFO_KIND, 'vxlan')
        .nested(k.IFLA_INFO_DATA, data =>
          data
            .attributeU32(k.IFLA_VXLAN_ID, spec.vni)
            .attributeU16Be(k.IFLA_VXLAN_PORT, spec.port)
            .attributeIp(localAttribute(spec.local), spec.local)
            .attributeU8(k.IFLA_VXLAN_TTL, spec.ttl)
            .attributeU8(k.IFLA_VXLAN_LEARNING, 0)
        )
    )
    .message(k.RTM_NEWLINK, CREATE)
}

/** Changes the settings that an existing VXLAN device allows to change. */
export function setVxlan(ref: LinkRef, spec: { local: Ip; ttl: number }): Message {
  return link(ref)
    .nested(k.IFLA_LINKINFO, info =>
      info
        .attributeText(k.IFLA_INFO_KIND, 'vxlan')
        .nested(k.IFLA_INFO_DATA, data =>
          data
            .attributeIp(localAttribute(spec.local), spec.local)
            .attributeU8(k.IFLA_VXLAN_TTL, spec.ttl)
            .attributeU8(k.IFLA_VXLAN_LEARNING, 0)
        )
    )
    .message(k.RTM_NEWLINK, 0)
}

function localAttribute(local: Ip): number {
  return isIpv4(local) ? k.IFLA_VXLAN_LOCAL : k.IFLA_VXLAN_LOCAL6
}

/** Creates a veth pair, both ends down; the peer is created in the descriptor's namespace under its final name. */
export function createVeth(spec: VethSpec): Message {
  const { peer } = spec
  return named(spec)
    .nested(k.IFLA_LINKINFO, info =>
      info.attributeText(k.IFLA_INFO_KIND, 'veth').nested(k.IFLA_INFO_DATA, data =>
        data.nested(k.VETH_INFO_PEER, inner => {
          header(inner, 0, 0, 0)
            .attributeText(k.IFLA_IFNAME, peer.name)
            .attributeMac(k.IFLA_ADDRESS, peer.mac)
            .attributeU32(k.IFLA_MTU, spec.mtu)
          if (peer.netnsFd !== undefined) inner.attributeU32(k.IFLA_NET_NS_FD, peer.netnsFd)
        })
      )
    )
    .message(k.RTM_NEWLINK, CREATE)
}

/** Creates an IFB device, down. Packets that it has sent continue as if received by the device they were redirected from. */
export function createIfb(spec: { readonly name: string; readonly mtu: number; readonly group: number }): Message {
  return named(spec)
    .nested(k.IFLA_LINKINFO, info => info.attributeText(k.IFLA_INFO_KIND, 'ifb'))
    .message(k.RTM_NEWLINK, CREATE)
}

/** Changes a link. The kernel brings it up after the message's other changes, but before addrGenNone: send that one first. */
export function setLink(ref: LinkRef, settings: LinkSettings): Message {
  const writer = link(ref, settings.up ?? null)
  if (settings.mac !== undefined) writer.attributeMac(k.IFLA_ADDRESS, settings.mac)
  if (settings.mtu !== undefined) writer.attributeU32(k.IFLA_MTU, settings.mtu)
  if (settings.master !== undefined) writer.attributeU32(k.IFLA_MASTER, settings.master)
  if (settings.alias !== undefined) writer.attributeText(k.IFLA_IFALIAS, settings.alias)
  if (settings.group !== undefined) writer.attributeU32(k.IFLA_GROUP, settings.group)
  if (settings.addrGenNone === true) {
    writer.nested(k.IFLA_AF_SPEC, spec =>
      spec.nested(k.AF_INET6, inet6 => inet6.attributeU8(k.IFLA_INET6_ADDR_GEN_MODE, k.ADDR_GEN_NONE))
    )
  }
  return writer.message(k.RTM_NEWLINK, 0)
}

export function setMulticastSnoopingOff(ref: LinkRef): Message {
  return link(ref)
    .nested(k.IFLA_LINKINFO, info =>
      info
        .attributeText(k.IFLA_INFO_KIND, 'bridge')
        .nested(k.IFLA_INFO_DATA, data => data.attributeU8(k.IFLA_BR_MCAST_SNOOPING, 0))
    )
    .message(k.RTM_NEWLINK, 0)
}

/** Sets bridge port flags. The link must already be a port of a bridge. */
export function setBridgePort(ref: LinkRef, settings: BridgePortSettings): Message {
  return link(ref)
    .nested(k.IFLA_LINKINFO, info =>
      info.attributeText(k.IFLA_INFO_SLAVE_KIND, 'bridge').nested(k.IFLA_INFO_SLAVE_DATA, data => {
        data
          .attributeU8(k.IFLA_BRPORT_LEARNING, Number(settings.learning))
          .attributeU8(k.IFLA_BRPORT_UNICAST_FLOOD, Number(settings.unicastFlood))
          .attributeU8(k.IFLA_BRPORT_NEIGH_SUPPRESS, Number(settings.neighSuppress))
        if (settings.isolated !== undefined) data.attributeU8(k.IFLA_BRPORT_ISOLATED, Number(settings.isolated))
      })
    )
    .message(k.RTM_NEWLINK, 0)
}

export function deleteLink(ref: LinkRef): Message {
  return link(ref).message(k.RTM_DELLINK, 0)
}

/** Deletes all links of a group in one request: one RCU grace period instead of one a link. */
export function deleteGroup(group: number): Message {
  return header(new Writer(), 0, 0, 0).attributeU32(k.IFLA_GROUP, group).message(k.RTM_DELLINK, 0)
}

export function getLink(ref: LinkRef): Message {
  return link(ref).attributeU32(k.IFLA_EXT_MASK, k.RTEXT_FILTER_SKIP_STATS).message(k.RTM_GETLINK, 0)
}

/** Dump request for all links, for the ports of one bridge or for one kind. Without counters by default. */
export function getLinks(filter: { master?: number; kind?: string; counters?: boolean } = {}): Message {
  const writer = header(new Writer(), 0, 0, 0)
  if (filter.counters !== true) writer.attributeU32(k.IFLA_EXT_MASK, k.RTEXT_FILTER_SKIP_STATS)
  const { master, kind } = filter
  if (master !== undefined) writer.attributeU32(k.IFLA_MASTER, master)
  if (kind !== undefined) writer.nested(k.IFLA_LINKINFO, info => info.attributeText(k.IFLA_INFO_KIND, kind))
  return writer.message(k.RTM_GETLINK, 0)
}

function named(spec: { name: string; mtu: number; group: number }): Writer {
  return header(new Writer(), 0, 0, 0)
    .attributeText(k.IFLA_IFNAME, spec.name)
    .attributeU32(k.IFLA_MTU, spec.mtu)
    .attributeU32(k.IFLA_GROUP, spec.group)
}

function link(ref: LinkRef, up: boolean | null = null): Writer {
  const flags = up === true ? k.IFF_UP : 0
  const writer = header(new Writer(), typeof ref === 'number' ? ref : 0, flags, up === null ? 0 : k.IFF_UP)
  return typeof ref === 'number' ? writer : writer.attributeText(k.IFLA_IFNAME, ref)
}

/** struct ifinfomsg: family, padding, hardware type, ifindex, flags, mask of the flags to change. */
function header(writer: Writer, index: number, flags: number, change: number): Writer {
  return writer.u8(k.AF_UNSPEC).u8(0).u16(0).u32(index).u32(flags).u32(change)
}
