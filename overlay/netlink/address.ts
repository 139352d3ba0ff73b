// Codec of IPv4 addresses (ifaddrmsg), IPv4 routes (rtmsg) and namespace ids (rtgenmsg). Pure.

import type { Ipv4 } from '#model/ipv4.ts'
import { align4, attributesOf, eachAttribute, readIpv4, readU32, viewOf, Writer, type Message } from './bytes.ts'
import * as k from './constants.ts'

export type AddressSpec = {
  readonly ifindex: number
  readonly address: Ipv4
  readonly prefixLength: number
  readonly broadcast?: Ipv4
}

export function setAddress(spec: AddressSpec): Message {
  const writer = ifaddrmsg(spec.prefixLength, spec.ifindex)
    .attributeIpv4(k.IFA_LOCAL, spec.address)
    .attributeIpv4(k.IFA_ADDRESS, spec.address)
  if (spec.broadcast !== undefined) writer.attributeIpv4(k.IFA_BROADCAST, spec.broadcast)
  return writer.message(k.RTM_NEWADDR, k.NLM_F_CREATE | k.NLM_F_REPLACE)
}

export function deleteAddress({ ifindex, address, prefixLength }: AddressInfo): Message {
  return ifaddrmsg(prefixLength, ifindex).attributeIpv4(k.IFA_LOCAL, address).message(k.RTM_DELADDR, 0)
}

/** Dump request for the IPv4 addresses of all links or of one. */
export function getAddresses(ifindex = 0): Message {
  return ifaddrmsg(0, ifindex).message(k.RTM_GETADDR, 0)
}

export type AddressInfo = { readonly ifindex: number; readonly address: Ipv4; readonly prefixLength: number }

/** Decodes the payload of an RTM_NEWADDR; null when it is not an IPv4 address. */
export function decodeAddress(payload: Uint8Array): AddressInfo | null {
  if (payload.length < 8 || payload[0] !== k.AF_INET) return null
  const found = attributesOf(payload, 8)
  const value = found.get(k.IFA_LOCAL) ?? found.get(k.IFA_ADDRESS)
  const address = value === undefined ? null : readIpv4(value)
  if (address === null) return null
  return { ifindex: viewOf(payload).getInt32(4, true), address, prefixLength: payload[1] ?? 0 }
}

/** Adds the default route of the main table. Fails with EEXIST when there is one with the same metric. */
export function addDefaultRoute(spec: { ifindex: number; gateway: Ipv4 }): Message {
  return defaultRoute(spec).message(k.RTM_NEWROUTE, k.NLM_F_CREATE | k.NLM_F_EXCL)
}

/** Adds the default route of the main table, or replaces it. */
export function replaceDefaultRoute(spec: { ifindex: number; gateway: Ipv4 }): Message {
  return defaultRoute(spec).message(k.RTM_NEWROUTE, k.NLM_F_CREATE | k.NLM_F_REPLACE)
}

export type RouteSpec = {
  readonly ifindex: number
  readonly destination: { readonly base: Ipv4; readonly prefixLength: number }
  /** Treated as on-link, whatever the device's addresses are. Without a gateway the destination itself is on-link. */
  readonly gateway?: Ipv4
}

/** Adds a route to the main table, or replaces the one to the same destination. */
export function replaceRoute(spec: RouteSpec): Message {
  return staticRoute(spec).message(k.RTM_NEWROUTE, k.NLM_F_CREATE | k.NLM_F_REPLACE)
}

/** Adds a route to the main table. Fails with EEXIST when there is one to the same destination. */
export function addRoute(spec: RouteSpec): Message {
  return staticRoute(spec).message(k.RTM_NEWROUTE, k.NLM_F_CREATE | k.NLM_F_EXCL)
}

/** Deletes the route with exactly this next hop, whatever its protocol. Fails with ESRCH when there is none. */
export function deleteRoute(spec: RouteSpec): Message {
  return staticRoute(spec, 0).message(k.RTM_DELROUTE, 0)
}

function staticRoute({ ifindex, destination, gateway }: RouteSpec, protocol = k.RTPROT_STATIC): Writer {
  const { base, prefixLength } = destination
  const [scope, flags] = gateway === undefined ? [k.RT_SCOPE_LINK, 0] : [0, k.RTNH_F_ONLINK]
  const writer = rtmsg({
    scope,
    table: k.RT_TABLE_MAIN,
    protocol,
    type: k.RTN_UNICAST,
    flags,
    prefixLength
  })
  if (prefixLength > 0) writer.attributeIpv4(k.RTA_DST, base)
  if (gateway !== undefined) writer.attributeIpv4(k.RTA_GATEWAY, gateway)
  return writer.attributeU32(k.RTA_OIF, ifindex)
}

/** Dump request for all IPv4 routes. */
export function getRoutes(): Message {
  return rtmsg({ scope: 0, table: 0, protocol: 0, type: 0 }).message(k.RTM_GETROUTE, 0)
}

/** Dump request for the IPv4 routes of the main table. Default routes come early: they follow those to 0.0.0.0/32 to /1 alone. */
export function getMainRoutes(): Message {
  return rtmsg({ scope: 0, table: k.RT_TABLE_MAIN, protocol: 0, type: 0 }).message(k.RTM_GETROUTE, 0)
}

/** IPPROTO_UDP. */
const UDP = 17

/** Asks which route a UDP datagram takes. Source and destination have whole prefixes. */
export function getRouteTo({
  to,
  from,
  port
}: {
  readonly to: Ipv4
  readonly from: Ipv4
  readonly port: number
}): Message {
  return rtmsg({ scope: 0, table: 0, protocol: 0, type: 0, prefixLength: 32, sourceLength: 32 })
    .attributeIpv4(k.RTA_DST, to)
    .attributeIpv4(k.RTA_SRC, from)
    .attributeU8(k.RTA_IP_PROTO, UDP)
    .attributeU16Be(k.RTA_DPORT, port)
    .message(k.RTM_GETROUTE, 0)
}

export type RouteInfo = {
  readonly table: number
  readonly destination: Ipv4 | null
  readonly prefixLength: number
  readonly gateway: Ipv4 | null
  readonly ifindex: number
  readonly priority: number
  /** All next hops; more than one in a multipath route, which has no device or gateway of its own. */
  readonly hops: readonly NextHop[]
}

export type NextHop = { readonly ifindex: number; readonly gateway: Gateway | null }

/** An IPv4 route may lead to an IPv6 gateway (RFC 5549). */
export type Gateway = Ipv4 | 'ipv6'

/** Decodes the payload of an RTM_NEWROUTE; null when it is not an IPv4 route. */
export function decodeRoute(payload: Uint8Array): RouteInfo | null {
  if (payload.length < 12 || payload[0] !== k.AF_INET) return null
  let destination: Ipv4 | null = null
  const to: { gateway: Ipv4 | null; via: Gateway | null } = { gateway: null, via: null }
  let [ifindex, priority, table] = [0, 0, payload[4] ?? 0]
  let hops: readonly NextHop[] = []
  eachAttribute(payload, 12, (type, value) => {
    if (type === k.RTA_DST) destination = readIpv4(value)
    else if (type === k.RTA_GATEWAY) to.gateway = readIpv4(value)
    else if (type === k.RTA_VIA) to.via = 'ipv6'
    else if (type === k.RTA_OIF) ifindex = readU32(value) ?? 0
    else if (type === k.RTA_PRIORITY) priority = readU32(value) ?? 0
    else if (type === k.RTA_TABLE) table = readU32(value) ?? table
    else if (type === k.RTA_MULTIPATH) hops = decodeHops(value)
  })
  if (ifindex !== 0) hops = [{ ifindex, gateway: to.gateway ?? to.via }]
  return { table, destination, prefixLength: payload[1] ?? 0, gateway: to.gateway, ifindex, priority, hops }
}

/** A list of struct rtnexthop (length, flags, hops, ifindex), each with attributes of its own. */
function decodeHops(bytes: Uint8Array): readonly NextHop[] {
  const hops: NextHop[] = []
  const view = viewOf(bytes)
  for (let offset = 0; offset + 8 <= bytes.length;) {
    const length = view.getUint16(offset, true)
    if (length < 8 || offset + length > bytes.length) break
    const hop = bytes.subarray(offset, offset + length)
    const found = attributesOf(hop, 8)
    const address = found.get(k.RTA_GATEWAY)
    const gateway = address === undefined ? (found.has(k.RTA_VIA) ? 'ipv6' : null) : readIpv4(address)
    hops.push({ ifindex: view.getInt32(offset + 4, true), gateway })
    offset += align4(length)
  }
  return hops
}

/** Requests the id that the socket's namespace has for the namespace of the descriptor. */
export function getNetnsId(netnsFd: number): Message {
  // struct rtgenmsg: family and padding.
  return new Writer().u32(0).attributeU32(k.NETNSA_FD, netnsFd).message(k.RTM_GETNSID, 0)
}

/** The id in the payload of an RTM_NEWNSID; null when the namespace has none. */
export function decodeNetnsId(payload: Uint8Array): number | null {
  const value = attributesOf(payload, 4).get(k.NETNSA_NSID)
  const id = value === undefined || value.length < 4 ? -1 : viewOf(value).getInt32(0, true)
  return id === -1 ? null : id
}

function defaultRoute(spec: { ifindex: number; gateway: Ipv4 }): Writer {
  return rtmsg({ scope: 0, table: k.RT_TABLE_MAIN, protocol: k.RTPROT_STATIC, type: k.RTN_UNICAST })
    .attributeIpv4(k.RTA_GATEWAY, spec.gateway)
    .attributeU32(k.RTA_OIF, spec.ifindex)
}

/** struct ifaddrmsg: family, prefix length, flags, scope, ifindex. */
function ifaddrmsg(prefixLength: number, ifindex: number): Writer {
  return new Writer().u8(k.AF_INET).u8(prefixLength).u8(0).u8(0).u32(ifindex)
}

/** struct rtmsg: family, destination and source prefix lengths, TOS, table, protocol, scope, type, flags. */
function rtmsg(p: {
  scope: number
  table: number
  protocol: number
  type: number
  flags?: number
  prefixLength?: number
  sourceLength?: number
}): Writer {
  const { prefixLength = 0, sourceLength = 0, flags = 0 } = p
  const head = new Writer().u8(k.AF_INET).u8(prefixLength).u8(sourceLength).u8(0)
  return head.u8(p.table).u8(p.protocol).u8(p.scope).u8(p.type).u32(flags)
}
