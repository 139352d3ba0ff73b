// Observes which router namespaces and devices of this host are ours, and the host's uplinks, underlay prefixes and routes.

import { existsSync, statSync } from 'node:fs'
import type { Vni } from '#model/ids.ts'
import { familyOf, isIpv4, networkOf, subnetContains, type Ip, type Subnet } from '#model/ip.ts'
import { isAbandonedName, listNetnsNames, namedNetns } from '#platform/named-netns.ts'
import { NetlinkSocket } from '#platform/netlink-socket.ts'
import { isNamespace, OWN_NETNS, readSysctls, withNetns } from '#platform/netns.ts'
import { getLinks } from '../netlink/link.ts'
import type { NextHop } from '../netlink/address.ts'
import { readLinks, type Kernel } from '../kernel/kernel.ts'
import {
  isRouterDevice,
  isRouterMark,
  OUTSIDE_GROUP,
  parseRouterName,
  routerDevice,
  routerMark,
  routerNames,
  TRANSIT_V6,
  type DesiredRouter
} from '../plan/gateway/desired-gateway.ts'
import { nameRole, OVERLAY_GROUP } from '../plan/network/names.ts'
import type { ObservedHostRoutes } from '../plan/gateway/host-access.ts'
import type { Leftover, ObservedRouter, Uplink } from '../plan/gateway/plan-gateway.ts'
import { readFacts, type RouterLook } from './router-facts.ts'
import type { KernelTables, RouteTables } from '../kernel/tables.ts'

/** How long ip(8), which does not lock it, may take between creating a name's file and mounting the namespace on it. */
const BEING_NAMED_MS = 5_000

/** Inode of the host's network namespace. It is part of a router's mark, which tells whose router it is. */
export function hostNetnsNumber(kernel: Kernel): number {
  return statSync(kernel.netns ?? OWN_NETNS).ino
}

/** The same where the host is this process's own. */
export function ownNetnsNumber(): number {
  return statSync(OWN_NETNS).ino
}

/** Devices that have an IPv4 address and may lead outside: neither loopback nor ours. */
export function readUplinks(kernel: Kernel, tables: KernelTables): readonly Uplink[] {
  const holders = new Set(tables.addresses.filter(({ address }) => isIpv4(address)).map(({ ifindex }) => ifindex))
  const names = [...tables.links.values()]
    .filter(link => link.up && holders.has(link.ifindex) && link.name !== 'lo')
    .filter(link => isForeignName(link.name))
    .map(link => link.name)
    .sort()
  const values = readSysctls(
    kernel.netns,
    names.map(name => `net/ipv4/conf/${name}/forwarding`)
  )
  return names.map((name, i) => ({ name, forwarding: values[i] === '1' }))
}

/**
 * The prefixes of the underlay addresses, and those of IPv6 that are on the same devices, by an address or by a route without a
 * gateway: the cluster knows other hosts by their underlay addresses alone.
 */
export function underlayPrefixes(tables: RouteTables, addresses: readonly Ip[]): readonly Subnet[] {
  const holders = new Set(
    tables.addresses.filter(({ address }) => addresses.includes(address)).map(({ ifindex }) => ifindex)
  )
  const routed = tables.routes.flatMap(({ destination, prefixLength, gateway, ifindex }) =>
    destination === null || isIpv4(destination) || gateway !== null || !holders.has(ifindex) || prefixLength === 0
      ? []
      : [{ base: destination, prefixLength }]
  )
  const own = tables.addresses
    .filter(({ address, ifindex }) => addresses.includes(address) || (!isIpv4(address) && holders.has(ifindex)))
    .map(({ address, prefixLength }) => ({ base: networkOf(address, prefixLength), prefixLength }))
  return [...own, ...routed]
}

/** Bridges of other software. */
export function readBridges(tables: RouteTables): readonly string[] {
  return [...tables.links.values()]
    .filter(({ kind, name }) => kind === 'bridge' && isForeignName(name))
    .map(({ name }) => name)
    .sort()
}

/**
 * The devices by which containers may leave the host: a default route of the family, or a route with a gateway, leads through
 * them. Nothing that a pass of ours changes counts: neither our devices nor routes to routers.
 */
export function readExits(tables: RouteTables, transit: Subnet): readonly string[] {
  const family = familyOf(transit.base)
  const leadsOut = ({ gateway }: NextHop, prefixLength: number): boolean =>
    gateway === null ? prefixLength === 0 : gateway === 'other' || !subnetContains(transit, gateway)
  const leading = new Set(
    [...tables.routes, ...tables.otherRoutes].flatMap(({ family: its, hops, prefixLength }) =>
      its !== family ? [] : hops.filter(hop => leadsOut(hop, prefixLength)).map(({ ifindex }) => ifindex)
    )
  )
  return [...tables.links.values()]
    .filter(({ name, ifindex }) => leading.has(ifindex) && name !== 'lo' && isForeignName(name))
    .filter(({ group }) => group !== OUTSIDE_GROUP && group !== OVERLAY_GROUP)
    .map(({ name }) => name)
    .sort()
}

function isForeignName(name: string): boolean {
  return nameRole(name) === null && routerDevice(name) === null
}

/** The host's routes through our routers, and its other addresses and routes, whoever added them. */
export function readHostRoutes(tables: RouteTables, transit: Subnet): ObservedHostRoutes {
  const transits = [transit, TRANSIT_V6]
  const routers = new Map<number, Vni>()
  const unrelated = new Set<number>()
  for (const { name, ifindex, group } of tables.links.values()) {
    const device = routerDevice(name)
    if (device?.role === 'outside' && group === OUTSIDE_GROUP) routers.set(ifindex, device.vni)
    else unrelated.add(ifindex)
  }
  const ours = new Map<Vni, Ip[]>()
  const others = tables.addresses
    .filter(({ ifindex }) => unrelated.has(ifindex))
    .map(({ address, prefixLength }) => ({ base: networkOf(address, prefixLength), prefixLength }))
  for (const { destination, prefixLength, gateway, ifindex, rejects } of tables.routes) {
    if (destination === null || prefixLength === 0) continue
    // Of a delegated prefix, what no container has is to be unreachable, not to be sent back.
    if (rejects && !isIpv4(destination)) continue
    const vni = routers.get(ifindex)
    if (vni === undefined) others.push({ base: destination, prefixLength })
    else if (gateway !== null && transits.some(range => subnetContains(range, gateway)))
      ours.set(vni, [...(ours.get(vni) ?? []), destination])
  }
  return { ours, others }
}

export function observeRouter(look: RouterLook, router: DesiredRouter): ObservedRouter {
  const { tables, hostNetns } = look
  const names = routerNames(router.vni, hostNetns)
  const states = names.map(name => [name, nameState(name, router.vni, hostNetns)] as const)
  const found = states.find(([, state]) => state === 'ours')?.[0] ?? null
  const unreadable = states.find(([, state]) => state === 'unreadable')?.[0]
  if (found === null && unreadable !== undefined) {
    // It may be ours and carry traffic: it is left alone.
    return { found, conflict: `namespace ${unreadable} cannot be read`, facts: new Map() }
  }
  for (const [name, group] of [
    [router.port, OVERLAY_GROUP],
    [router.outside, OUTSIDE_GROUP]
  ] as const) {
    const link = tables.links.get(name)
    if (link !== undefined && (link.kind !== 'veth' || !isRouterDevice(link, group))) {
      const conflict = `device ${name} is "${link.alias || link.kind || 'plain'}", not ours`
      return { found, conflict, facts: new Map() }
    }
  }
  return { found, conflict: null, facts: found === null ? new Map() : readFacts(look, router, namedNetns(found)) }
}

/** The path of a router's namespace; null if there is none that is ours and can be entered. */
export function findRouter(vni: Vni, hostNetns: number): string | null {
  const name = routerNames(vni, hostNetns).find(each => nameState(each, vni, hostNetns) === 'ours')
  return name === undefined ? null : namedNetns(name)
}

/** What is ours and belongs to no desired router, by network. */
export function findLeftovers(look: Pick<RouterLook, 'hostNetns' | 'tables'>, wanted: ReadonlySet<Vni>): Leftover[] {
  type Found = { readonly namespaces: string[]; readonly devices: { name: string; ifindex: number }[] }
  const found = new Map<Vni, Found>()
  const at = (vni: Vni): Found => {
    const known = found.get(vni) ?? { namespaces: [], devices: [] }
    found.set(vni, known)
    return known
  }
  for (const name of listNetnsNames()) {
    const vni = parseRouterName(name)
    if (vni === null || wanted.has(vni)) continue
    const state = nameState(name, vni, look.hostNetns)
    const isForUs = routerNames(vni, look.hostNetns).includes(name)
    if (state === 'ours' || (state === 'empty' && isForUs)) at(vni).namespaces.push(name)
  }
  for (const link of look.tables.links.values()) {
    const role = routerDevice(link.name)
    if (role === null || wanted.has(role.vni)) continue
    const group = role.role === 'port' ? OVERLAY_GROUP : OUTSIDE_GROUP
    if (link.kind === 'veth' && isRouterDevice(link, group)) at(role.vni).devices.push(link)
  }
  return [...found].map(([vni, { namespaces, devices }]) => ({
    vni,
    namespaces,
    devices: devices.map(({ name, ifindex }) => ({ name, ifindex }))
  }))
}

/** May a new router have the name? Whatever still holds it is left over. */
export function isFreeName(name: string, vni: Vni, hostNetns: number): boolean {
  const state = nameState(name, vni, hostNetns)
  return state === 'free' || state === 'empty'
}

/**
 * `free`: the name is unused, or belongs to a router whose host and devices are gone. `empty`: a file without a
 * namespace, left by an agent that was killed. `unreadable`: there is a namespace that cannot be entered.
 */
type NameState = 'ours' | 'free' | 'empty' | 'unreadable' | 'others'

function nameState(name: string, vni: Vni, hostNetns: number): NameState {
  const path = namedNetns(name)
  try {
    const file = statSync(path, { throwIfNoEntry: false })
    if (file === undefined) return 'free'
    if (isNamespace(path)) return namespaceState(path, vni, hostNetns)
    // A leftover file, unless another process is about to mount a namespace on it, or has just unmounted one.
    const isOld = file.isFile() && file.size === 0 && Date.now() - file.mtimeMs > BEING_NAMED_MS
    return isOld && isAbandonedName(name) ? 'empty' : 'others'
  } catch {
    // Another process may remove a name between any two of these steps.
    return existsSync(path) ? 'unreadable' : 'free'
  }
}

function namespaceState(path: string, vni: Vni, hostNetns: number): NameState {
  return withNetns(path, fd => {
    const socket = NetlinkSocket.open(`/proc/thread-self/fd/${fd}`)
    try {
      const links = readLinks(socket, getLinks())
      const mark = links.find(link => link.name === 'lo')?.alias ?? ''
      if (mark === routerMark(vni, hostNetns)) return 'ours'
      return isRouterMark(mark, vni) && links.length === 1 ? 'free' : 'others'
    } finally {
      socket.close()
    }
  })
}
