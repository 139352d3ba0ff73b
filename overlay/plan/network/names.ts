// Names and marks of our kernel objects (contract 6.7). A device counts as ours only when both its name and its mark say
// so; nothing else on the host is ever touched. Pure.

import type { ContainerId, IfName, NetworkName, Vni } from '#model/ids.ts'
import { parseContainerId, parseIfName, parseNetworkName, parseVni } from '#model/ids.ts'
import type { Mac } from '#model/mac.ts'

/** IFLA_GROUP of all our devices ("vxm"). Set in the creating message, so it marks a device before the alias is set. */
export const OVERLAY_GROUP = 0x76786d
/** Devices to delete are moved to this group and deleted by one request. */
export const REMOVAL_GROUP = 0x76786e

export function bridgeName(vni: Vni): IfName {
  return `vb${hex6(vni)}` as IfName
}

export function vxlanName(vni: Vni): IfName {
  return `vx${hex6(vni)}` as IfName
}

/** The integration bridge of a host that runs Open vSwitch, and its tunnel port: the names of VNI 0, which no network has. */
export const SWITCH = 'vb000000' as IfName
export const SWITCH_TUNNEL = 'vx000000' as IfName

/**
 * The host side of a container's veth: 52 bits of FNV-1a over `containerId/ifname`, 15 characters in all, the kernel's
 * maximum. Among 5,000 endpoints on a host the probability of a collision is 3 in 10^9. Attach compares the alias, so a
 * collision is a typed error and never a mix-up.
 */
export function vethName(containerId: ContainerId, ifname: IfName): IfName {
  return `ve${fnv1a52(`${containerId}/${ifname}`)}` as IfName
}

/** The port of a network's router, on the network's bridge or on the integration bridge. */
export function routerPortName(vni: Vni): IfName {
  return `vg${hex6(vni)}` as IfName
}

/** The IFB device that shapes traffic from the container behind a veth. Same hash as the veth's name. */
export function ifbName(veth: IfName): IfName {
  return `vi${veth.slice(2)}` as IfName
}

/**
 * The bridge's own MAC, the same on every host. It must be set explicitly: otherwise a bridge adopts the lowest MAC of its
 * ports, and the kernel flushes all neighbour entries of a device whose address changes. The first octet 06 distinguishes
 * it from endpoints (model/mac.ts uses 02).
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

/** The purpose of a device, as its name claims. */
export type NameRole =
  | { readonly role: 'bridge'; readonly vni: Vni }
  | { readonly role: 'vxlan'; readonly vni: Vni }
  | { readonly role: 'veth' }
  | { readonly role: 'ifb' }

/** The role that a name claims; null for a name that does not have one of our forms. */
export function nameRole(name: string): NameRole | null {
  const network = /^v([bx])([0-9a-f]{6})$/.exec(name)
  if (network !== null) {
    const vni = Number.parseInt(network[2] ?? '', 16)
    return vni === 0 ? null : { role: network[1] === 'b' ? 'bridge' : 'vxlan', vni: vni as Vni }
  }
  const endpoint = /^v([ei])[0-9a-f]{13}$/.exec(name)
  return endpoint === null ? null : { role: endpoint[1] === 'e' ? 'veth' : 'ifb' }
}

/** Is it named as a container's interface on the host? Such a device vanishes with its container. */
export function isContainerDevice(name: string): boolean {
  return nameRole(name)?.role === 'veth'
}

/** Does the mark match the name? The mark is the alias, or the group while there is no alias yet. */
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

/**
 * Is it this endpoint's? An empty alias is accepted: the agent may have crashed before it set the alias. Another
 * endpoint's alias under the same name is a collision of the name's hash.
 */
export function isMarkedFor(device: Parameters<typeof isMarkedOurs>[0], alias: string): boolean {
  return isMarkedOurs(device) && (device.alias === alias || device.alias === '')
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
 * The upper 52 bits of 64-bit FNV-1a as 13 hex digits (Fowler, Noll, Vo; prime 2^40 + 0x1b3). Computed in four 16-bit
 * lanes, so that every product is exact in a double. The parsed types guarantee ASCII input.
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
