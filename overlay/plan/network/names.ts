// Names and marks of the kernel objects (contract 6.7). A device is ours only by its name's form and its mark
// together: nothing else on the host is ever touched.

import type { ContainerId, IfName, NetworkName, Vni } from '#model/ids.ts'
import { parseContainerId, parseIfName, parseNetworkName, parseVni } from '#model/ids.ts'
import type { Mac } from '#model/mac.ts'

/** IFLA_GROUP of every device of ours ("vxm"): set at creation in the same message, so it marks a device before its alias does. */
export const OVERLAY_GROUP = 0x76786d
/** Devices on their way out are gathered in this group and removed by one request. */
export const REMOVAL_GROUP = 0x76786e

export function bridgeName(vni: Vni): IfName {
  return `vb${hex6(vni)}` as IfName
}

export function vxlanName(vni: Vni): IfName {
  return `vx${hex6(vni)}` as IfName
}

/** The one switch of a host and its tunnel, where there is one: the names of a network 0, which no network is. */
export const SWITCH = 'vb000000' as IfName
export const SWITCH_TUNNEL = 'vx000000' as IfName

/**
 * The host side of a container's veth: 52 bits of FNV-1a over `containerId/ifname`, 15 characters in all, which is
 * what the kernel allows. Among 5,000 endpoints of one host two share a name with odds of 3 in 10^9; attach compares
 * the alias, so a collision is a typed error and never a mix-up.
 */
export function vethName(containerId: ContainerId, ifname: IfName): IfName {
  return `ve${fnv1a52(`${containerId}/${ifname}`)}` as IfName
}

/** The port of a network's router, on its bridge or on the host's one switch. */
export function routerPortName(vni: Vni): IfName {
  return `vg${hex6(vni)}` as IfName
}

/** The IFB device that shapes what the container behind a veth sends: the same hash. */
export function ifbName(veth: IfName): IfName {
  return `vi${veth.slice(2)}` as IfName
}

/**
 * The bridge's own MAC, the same on every host. It must be set explicitly: a bridge otherwise takes its lowest port's
 * address, and the kernel flushes all neighbour entries of a device whose address changes. The first octet 06 keeps it
 * apart from every endpoint's (model/mac.ts uses 02).
 */
export function bridgeMac(vni: Vni): Mac {
  const digits = hex6(vni)
  return `06:76:78:${digits.slice(0, 2)}:${digits.slice(2, 4)}:${digits.slice(4, 6)}` as Mac
}

export function networkAlias(name: NetworkName, vni: Vni): string {
  return `vxmesh network ${name} vni ${vni}`
}

export function endpointAlias(containerId: ContainerId, ifname: IfName): string {
  return `vxmesh endpoint ${containerId}/${ifname}`
}

/** What a device name of one of our forms would be for. */
export type NameRole =
  | { readonly role: 'bridge'; readonly vni: Vni }
  | { readonly role: 'vxlan'; readonly vni: Vni }
  | { readonly role: 'veth' }
  | { readonly role: 'ifb' }

/** The role that a name's form claims, or null for a name that is none of ours. */
export function nameRole(name: string): NameRole | null {
  const network = /^v([bx])([0-9a-f]{6})$/.exec(name)
  if (network !== null) {
    const vni = Number.parseInt(network[2] ?? '', 16)
    return vni === 0 ? null : { role: network[1] === 'b' ? 'bridge' : 'vxlan', vni: vni as Vni }
  }
  const endpoint = /^v([ei])[0-9a-f]{13}$/.exec(name)
  return endpoint === null ? null : { role: endpoint[1] === 'e' ? 'veth' : 'ifb' }
}

/** Does the mark (alias, or the group while there is no alias yet) say that a device of this name is ours? */
export function isMarkedOurs(device: {
  readonly name: string
  readonly alias: string
  readonly group: number
}): boolean {
  const role = nameRole(device.name)
  if (role === null) return false
  if (device.alias === '') return device.group === OVERLAY_GROUP || device.group === REMOVAL_GROUP
  if (role.role === 'veth' || role.role === 'ifb') return parseEndpointAlias(device.alias) !== null
  return parseNetworkAlias(device.alias)?.vni === role.vni
}

export function parseNetworkAlias(alias: string): { readonly name: NetworkName; readonly vni: Vni } | null {
  const match = /^vxmesh network (\S+) vni ([0-9]+)$/.exec(alias)
  if (match === null) return null
  return attempt(() => ({ name: parseNetworkName(match[1] ?? ''), vni: parseVni(match[2] ?? '') }))
}

export function parseEndpointAlias(
  alias: string
): { readonly containerId: ContainerId; readonly ifname: IfName } | null {
  const match = /^vxmesh endpoint ([^/\s]+)\/(\S+)$/.exec(alias)
  if (match === null) return null
  return attempt(() => ({ containerId: parseContainerId(match[1] ?? ''), ifname: parseIfName(match[2] ?? '') }))
}

function attempt<T>(parse: () => T): T | null {
  try {
    return parse()
  } catch {
    return null
  }
}

export function hex6(vni: Vni): string {
  return vni.toString(16).padStart(6, '0')
}

/**
 * The upper 52 bits of 64-bit FNV-1a as 13 hex digits (Fowler, Noll, Vo; prime 2^40 + 0x1b3), in four 16-bit lanes so
 * that every product fits a double exactly. The input is ASCII by its type.
 */
function fnv1a52(text: string): string {
  let [a, b, c, d] = [0xcbf2, 0x9ce4, 0x8422, 0x2325]
  for (let i = 0; i < text.length; i++) {
    d ^= text.charCodeAt(i)
    const p0 = d * 0x1b3
    const p1 = c * 0x1b3 + (p0 >>> 16)
    const p2 = b * 0x1b3 + d * 0x100 + (p1 >>> 16)
    const p3 = a * 0x1b3 + c * 0x100 + (p2 >>> 16)
    a = p3 & 0xffff
    b = p2 & 0xffff
    c = p1 & 0xffff
    d = p0 & 0xffff
  }
  return [a, b, c, d]
    .map(lane => lane.toString(16).padStart(4, '0'))
    .join('')
    .slice(0, 13)
}
