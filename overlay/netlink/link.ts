// Requests for links (ifinfomsg): bridge, VXLAN and veth devices, their settings, ports and deletion.

import type { Ipv4 } from '#model/ipv4.ts'
import type { Mac } from '#model/mac.ts'
import { Writer, type Message } from './bytes.ts'
import * as k from './constants.ts'

/** A link by its index, or by its name while the index is not known. */
export type LinkRef = number | string

export type BridgeSpec = { readonly name: string; readonly mac: Mac; readonly mtu: number; readonly group: number }

export type VxlanSpec = {
  readonly name: string
  readonly vni: number
  readonly local: Ipv4
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
  /** Without a namespace the peer stays beside it. */
  readonly peer: { readonly name: string; readonly mac: Mac; readonly netnsFd?: number }
}

/** Only what is given is changed. */
export type LinkSettings = {
  readonly alias?: string
  readonly group?: number
  readonly mtu?: number
  readonly mac?: Mac
  /** Index of the bridge; 0 leaves it. */
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

/** A new bridge, down. Multicast is flooded, never snooped: there is no querier in a tenant network. */
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

/** A new VXLAN device (RFC 7348), down, a port of its bridge, without learning and without a default remote. */
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
            .attributeIpv4(k.IFLA_VXLAN_LOCAL, spec.local)
            .attributeU8(k.IFLA_VXLAN_TTL, spec.ttl)
            .attributeU8(k.IFLA_VXLAN_LEARNING, 0)
        )
    )
    .message(k.RTM_NEWLINK, CREATE)
}

/** Changes what a VXLAN device allows to be changed. */
export function setVxlan(ref: LinkRef, spec: { local: Ipv4; ttl: number }): Message {
  return link(ref)
    .nested(k.IFLA_LINKINFO, info =>
      info
        .attributeText(k.IFLA_INFO_KIND, 'vxlan')
        .nested(k.IFLA_INFO_DATA, data =>
          data
            .attributeIpv4(k.IFLA_VXLAN_LOCAL, spec.local)
            .attributeU8(k.IFLA_VXLAN_TTL, spec.ttl)
            .attributeU8(k.IFLA_VXLAN_LEARNING, 0)
        )
    )
    .message(k.RTM_NEWLINK, 0)
}

/** A veth pair, both ends down; the peer is born inside the namespace of the descriptor under its final name. */
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

/** A new IFB device, down: it sends, and what it has sent goes on as if received where it was redirected from. */
export function createIfb(spec: { readonly name: string; readonly mtu: number; readonly group: number }): Message {
  return named(spec)
    .nested(k.IFLA_LINKINFO, info => info.attributeText(k.IFLA_INFO_KIND, 'ifb'))
    .message(k.RTM_NEWLINK, CREATE)
}

/** Changes a link. Setting it up happens after every other change of the same message but addrGenNone: send that first. */
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

/** The link must already be a port of a bridge. */
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

/** All links of a group in one request: one grace period of the kernel instead of one each. */
export function deleteGroup(group: number): Message {
  return header(new Writer(), 0, 0, 0).attributeU32(k.IFLA_GROUP, group).message(k.RTM_DELLINK, 0)
}

export function getLink(ref: LinkRef): Message {
  return link(ref).attributeU32(k.IFLA_EXT_MASK, k.RTEXT_FILTER_SKIP_STATS).message(k.RTM_GETLINK, 0)
}

/** For a dump: all links, or the ports of one bridge, or those of a kind. Counters only when asked for. */
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

/** struct ifinfomsg: family, padding, hardware type, index, flags, mask of the flags to change. */
function header(writer: Writer, index: number, flags: number, change: number): Writer {
  return writer.u8(k.AF_UNSPEC).u8(0).u16(0).u32(index).u32(flags).u32(change)
}
