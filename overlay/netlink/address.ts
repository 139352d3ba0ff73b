// Codec of addresses (ifaddrmsg), routes (rtmsg) and namespace ids (rtgenmsg). Pure.

import { familyOf, isIpv4, singleAddress, type Family, type Ip, type Subnet } from '#model/ip.ts'
import type { Ipv4 } from '#model/ipv4.ts'
import { afOf, align4, attributesOf, eachAttribute, readIp, readU32, viewOf, Writer, type Message } from './bytes.ts'
import * as k from './constants.ts'

export type AddressSpec = {
  readonly ifindex: number
  readonly address: Ip
  readonly prefixLength: number
  /** IPv4 only. */
  readonly broadcast?: Ipv4
}

/** An IPv6 address is usable at once: the cluster guarantees that nobody else has it. */
export function setAddress(spec: AddressSpec): Message {
  const writer = ifaddrmsg(spec, k.IFA_F_NODAD)
    .attributeIp(k.IFA_LOCAL, spec.address)
    .attributeIp(k.IFA_ADDRESS, spec.address)
  if (spec.broadcast !== undefined) writer.attributeIpv4(k.IFA_BROADCAST, spec.broadcast)
  return writer.message(k.RTM_NEWADDR, k.NLM_F_CREATE | k.NLM_F_REPLACE)
}

export function deleteAddress(info: AddressInfo): Message {
  return ifaddrmsg(info).attributeIp(k.IFA_LOCAL, info.address).message(k.RTM_DELADDR, 0)
}

/** Dump request for the addresses of a family, of all links or of one. */
export function getAddresses(family: Family, ifindex = 0): Message {
  return addressHeader({ af: afOf(family), prefixLength: 0, flags: 0, ifindex }).message(k.RTM_GETADDR, 0)
}

export type AddressInfo = {
  readonly ifindex: number
  readonly address: Ip
  readonly prefixLength: number
  /** IPv6: nothing can be bound to it, for it is being checked for duplicates, or is one (RFC 4862). Absent: it can be used. */
  readonly unusable?: 'tentative' | 'duplicate'
}

/** Decodes the payload of an RTM_NEWADDR; null when it is no IP address. */
export function decodeAddress(payload: Uint8Array): AddressInfo | null {
  if (payload.length < 8) return null
  const found = attributesOf(payload, 8)
  const value = found.get(k.IFA_LOCAL) ?? found.get(k.IFA_ADDRESS)
  const address = value === undefined ? null : readIp(value)
  if (address === null) return null
  const info = { ifindex: viewOf(payload).getInt32(4, true), address, prefixLength: payload[1] ?? 0 }
  const flags = payload[2] ?? 0
  if (isIpv4(address) || (flags & k.IFA_F_TENTATIVE) === 0 || (flags & k.IFA_F_OPTIMISTIC) !== 0) return info
  return { ...info, unusable: (flags & k.IFA_F_DADFAILED) !== 0 ? 'duplicate' : 'tentative' }
}

/** Adds the default route of the main table. Fails with EEXIST when there is one with the same metric. */
export function addDefaultRoute(spec: { ifindex: number; gateway: Ip }): Message {
  return defaultRoute(spec).message(k.RTM_NEWROUTE, k.NLM_F_CREATE | k.NLM_F_EXCL)
}

/** Adds the default route of the main table, or replaces it. */
export function replaceDefaultRoute(spec: { ifindex: number; gateway: Ip }): Message {
  return defaultRoute(spec).message(k.RTM_NEWROUTE, k.NLM_F_CREATE | k.NLM_F_REPLACE)
}

export type RouteSpec = {
  readonly ifindex: number
  readonly destination: Subnet
  /** Treated as on-link, whatever the device's addresses are. Without a gateway the destination itself is on-link. */
  readonly gateway?: Ip
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
    af: afOf(familyOf(base)),
    scope,
    table: k.RT_TABLE_MAIN,
    protocol,
    type: k.RTN_UNICAST,
    flags,
    prefixLength
  })
  if (prefixLength > 0) writer.attributeIp(k.RTA_DST, base)
  if (gateway !== undefined) writer.attributeIp(k.RTA_GATEWAY, gateway)
  return writer.attributeU32(k.RTA_OIF, ifindex)
}

/** Dump request for all routes of a family. */
export function getRoutes(family: Family): Message {
  return rtmsg({ af: afOf(family), scope: 0, table: 0, protocol: 0, type: 0 }).message(k.RTM_GETROUTE, 0)
}

/** The same for the main table. Default routes of IPv4 come early: they follow those to 0.0.0.0/32 to /1 alone. */
export function getMainRoutes(family: Family): Message {
  return rtmsg({ af: afOf(family), scope: 0, table: k.RT_TABLE_MAIN, protocol: 0, type: 0 }).message(k.RTM_GETROUTE, 0)
}

/** IPPROTO_UDP. */
const UDP = 17

/** Asks which route a UDP datagram takes. Source and destination are of one family. */
export function getRouteTo({ to, from, port }: { readonly to: Ip; readonly from: Ip; readonly port: number }): Message {
  const bits = singleAddress(to).prefixLength
  return rtmsg({
    af: afOf(familyOf(to)),
    scope: 0,
    table: 0,
    protocol: 0,
    type: 0,
    prefixLength: bits,
    sourceLength: bits
  })
    .attributeIp(k.RTA_DST, to)
    .attributeIp(k.RTA_SRC, from)
    .attributeU8(k.RTA_IP_PROTO, UDP)
    .attributeU16Be(k.RTA_DPORT, port)
    .message(k.RTM_GETROUTE, 0)
}

export type RouteInfo = {
  readonly family: Family
  readonly table: number
  readonly destination: Ip | null
  readonly prefixLength: number
  readonly gateway: Ip | null
  readonly ifindex: number
  readonly priority: number
  /** Does it drop what it matches (blackhole, unreachable, prohibit)? */
  readonly rejects: boolean
  /** All next hops; more than one in a multipath route, which has no device or gateway of its own. */
  readonly hops: readonly NextHop[]
}

export type NextHop = { readonly ifindex: number; readonly gateway: Gateway | null }

/** A route may lead to a gateway of the other family (RFC 5549). */
export type Gateway = Ip | 'other'

/** The ifindex of the device in an answer to `getRouteTo`; null when it names none. */
export function decodeRouteTo(payload: Uint8Array): number | null {
  const device = attributesOf(payload, 12).get(k.RTA_OIF)
  return device === undefined ? null : readU32(device)
}

/** Decodes the payload of an RTM_NEWROUTE; null when it is not a route of IP, or only what the kernel has learned about one. */
export function decodeRoute(payload: Uint8Array): RouteInfo | null {
  if (payload.length < 12 || (payload[0] !== k.AF_INET && payload[0] !== k.AF_INET6)) return null
  if ((viewOf(payload).getUint32(8, true) & k.RTM_F_CLONED) !== 0) return null
  const family = payload[0] === k.AF_INET ? 'ipv4' : 'ipv6'
  const rejects = k.RTN_REJECTING.includes(payload[7] ?? 0)
  let destination: Ip | null = null
  const to: { gateway: Ip | null; via: Gateway | null } = { gateway: null, via: null }
  let [ifindex, priority, table] = [0, 0, payload[4] ?? 0]
  let hops: readonly NextHop[] = []
  eachAttribute(payload, 12, (type, value) => {
    if (type === k.RTA_DST) destination = readIp(value)
    else if (type === k.RTA_GATEWAY) to.gateway = readIp(value)
    else if (type === k.RTA_VIA) to.via = 'other'
    else if (type === k.RTA_OIF) ifindex = readU32(value) ?? 0
    else if (type === k.RTA_PRIORITY) priority = readU32(value) ?? 0
    else if (type === k.RTA_TABLE) table = readU32(value) ?? table
    else if (type === k.RTA_MULTIPATH) hops = decodeHops(value)
  })
  if (ifindex !== 0) hops = [{ ifindex, gateway: to.gateway ?? to.via }]
  const prefixLength = payload[1] ?? 0
  return { family, table, destination, prefixLength, gateway: to.gateway, ifindex, priority, rejects, hops }
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
    const gateway = address === undefined ? (found.has(k.RTA_VIA) ? 'other' : null) : readIp(address)
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

function defaultRoute(spec: { ifindex: number; gateway: Ip }): Writer {
  const af = afOf(familyOf(spec.gateway))
  return rtmsg({ af, scope: 0, table: k.RT_TABLE_MAIN, protocol: k.RTPROT_STATIC, type: k.RTN_UNICAST })
    .attributeIp(k.RTA_GATEWAY, spec.gateway)
    .attributeU32(k.RTA_OIF, spec.ifindex)
}

function ifaddrmsg({ ifindex, address, prefixLength }: AddressInfo, flagsOfIpv6 = 0): Writer {
  const family = familyOf(address)
  return addressHeader({ af: afOf(family), prefixLength, flags: family === 'ipv6' ? flagsOfIpv6 : 0, ifindex })
}

/** struct ifaddrmsg: family, prefix length, flags, scope, ifindex. */
function addressHeader(p: { af: number; prefixLength: number; flags: number; ifindex: number }): Writer {
  return new Writer().u8(p.af).u8(p.prefixLength).u8(p.flags).u8(0).u32(p.ifindex)
}

/** struct rtmsg: family, destination and source prefix lengths, TOS, table, protocol, scope, type, flags. */
function rtmsg(p: {
  af: number
  scope: number
  table: number
  protocol: number
  type: number
  flags?: number
  prefixLength?: number
  sourceLength?: number
}): Writer {
  const { prefixLength = 0, sourceLength = 0, flags = 0 } = p
  const head = new Writer().u8(p.af).u8(prefixLength).u8(sourceLength).u8(0)
  return head.u8(p.table).u8(p.protocol).u8(p.scope).u8(p.type).u32(flags)
}
