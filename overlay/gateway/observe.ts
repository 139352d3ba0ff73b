// Reads what there is of routers: the host's devices, routes and entries by one dump each, then each router's namespace.

import { statSync } from 'node:fs'
import type { Vni } from '#model/ids.ts'
import { formatIpv4, formatSubnet, networkAddress, type Ipv4, type Subnet } from '#model/ipv4.ts'
import { listNetnsNames, namedNetns } from '#platform/named-netns.ts'
import { NetlinkSocket } from '#platform/netlink-socket.ts'
import { OWN_NETNS, readSysctls, withNetns } from '#platform/netns.ts'
import {
  decodeAddress,
  decodeNetnsId,
  decodeRoute,
  getAddresses,
  getNetnsId,
  getRoutes,
  type AddressInfo,
  type RouteInfo
} from '../netlink/address.ts'
import {
  NUD_NOARP,
  NUD_PERMANENT,
  RT_TABLE_MAIN,
  RTM_NEWADDR,
  RTM_NEWNEIGH,
  RTM_NEWROUTE
} from '../netlink/constants.ts'
import type { LinkInfo } from '../netlink/link-info.ts'
import { getLinks } from '../netlink/link.ts'
import { decodeNeighbour, getFdb, getNeighbours, type NeighbourInfo } from '../netlink/neighbour.ts'
import { readLinks, type Kernel } from '../linux/kernel.ts'
import {
  isRouterDevice,
  isRouterMark,
  OUTSIDE_GROUP,
  parseRouterName,
  routerDevice,
  routerMark,
  routerNames,
  type DesiredRouter
} from '../plan/gateway.ts'
import { nameRole, OVERLAY_GROUP } from '../plan/names.ts'
import type { Message } from '../netlink/bytes.ts'
import { observeShaping } from '../shaping/observe.ts'
import { planShaping } from '../shaping/plan.ts'
import type { ShapingSupport } from '../shaping/queue.ts'
import { addDevice, addSysctls, flagsText, neighbourText, SYSCTLS } from './facts.ts'
import type { Leftover, ObservedRouter, Uplink } from './plan.ts'
import { INSIDE, OUTSIDE } from './rules.ts'

/** So long a file may be without the namespace that it is to name. */
const BEING_MADE_MS = 5_000

/** One namespace's tables. */
export type Tables = {
  readonly links: ReadonlyMap<string, LinkInfo>
  readonly addresses: readonly AddressInfo[]
  readonly routes: readonly RouteInfo[]
  readonly neighbours: readonly NeighbourInfo[]
}

/** @throws ERR_KERNEL */
export function readTables(socket: NetlinkSocket): Tables {
  return {
    links: new Map(readLinks(socket, getLinks()).map(link => [link.name, link])),
    addresses: readAddresses(socket),
    routes: read(socket, { request: getRoutes(), answer: RTM_NEWROUTE, decode: decodeRoute }).filter(isMain),
    neighbours: readEntries(socket, getNeighbours())
  }
}

/** @throws ERR_KERNEL */
export function readAddresses(socket: NetlinkSocket): readonly AddressInfo[] {
  return read(socket, { request: getAddresses(), answer: RTM_NEWADDR, decode: decodeAddress })
}

function readEntries(socket: NetlinkSocket, request: Message): readonly NeighbourInfo[] {
  return read(socket, { request, answer: RTM_NEWNEIGH, decode: decodeNeighbour })
}

function isMain({ table }: RouteInfo): boolean {
  return table === RT_TABLE_MAIN
}

type Dump<T> = { request: Message; answer: number; decode: (payload: Uint8Array) => T | null }

function read<T>(socket: NetlinkSocket, { request, answer, decode }: Dump<T>): T[] {
  const one = (type: number, payload: Uint8Array): T | undefined =>
    type === answer ? (decode(payload) ?? undefined) : undefined
  return socket.dump(request, one, 'read what there is of routers')
}

/** The number of the host's own namespace: by it a router is known as this host's. */
export function hostNetnsNumber(kernel: Kernel): number {
  return statSync(kernel.netns ?? OWN_NETNS).ino
}

/** Devices with an address of their own that may lead outside: neither loopback nor ours. */
export function readUplinks(kernel: Kernel, tables: Tables): readonly Uplink[] {
  const holders = new Set(tables.addresses.map(({ ifindex }) => ifindex))
  const names = [...tables.links.values()]
    .filter(link => link.up && holders.has(link.ifindex) && link.name !== 'lo')
    .filter(link => nameRole(link.name) === null && routerDevice(link.name) === null)
    .map(link => link.name)
    .sort()
  const values = readSysctls(
    kernel.netns,
    names.map(name => `net/ipv4/conf/${name}/forwarding`)
  )
  return names.map((name, i) => ({ name, forwarding: values[i] === '1' }))
}

export function underlayPrefixes(tables: Tables, addresses: readonly Ipv4[]): readonly Subnet[] {
  return tables.addresses
    .filter(({ address }) => addresses.includes(address))
    .map(({ address, prefixLength }) => ({ base: networkAddress(address, prefixLength), prefixLength }))
}

export type RouterLook = {
  readonly kernel: Kernel
  readonly hostNetns: number
  readonly tables: Tables
  readonly support: ShapingSupport
  /** Are the rules in the namespace at this path still those that we made? */
  readonly rulesRight: (router: DesiredRouter, path: string) => boolean
}

export function observeRouter(look: RouterLook, router: DesiredRouter): ObservedRouter {
  const { tables, hostNetns } = look
  const [plain, own] = routerNames(router.vni, hostNetns)
  const states = [plain, own].map(name => [name, nameState(name, router.vni, hostNetns)] as const)
  const found = states.find(([, state]) => state === 'ours')?.[0] ?? null
  const free = states.find(([, state]) => state !== 'others')?.[0] ?? own
  for (const [name, group] of [
    [router.port, OVERLAY_GROUP],
    [router.outside, OUTSIDE_GROUP]
  ] as const) {
    const link = tables.links.get(name)
    if (link !== undefined && (link.kind !== 'veth' || !isRouterDevice(link, group))) {
      const conflict = `device ${name} is "${link.alias || link.kind || 'plain'}", not ours`
      return { found, free, conflict, facts: new Map() }
    }
  }
  return { found, free, conflict: null, facts: found === null ? new Map() : readFacts(look, router, found) }
}

/** What is ours and belongs to no desired router: by network. */
export function findLeftovers(look: Pick<RouterLook, 'hostNetns' | 'tables'>, wanted: ReadonlySet<Vni>): Leftover[] {
  const found = new Map<Vni, { namespace: string | null; devices: { name: string; ifindex: number }[] }>()
  const at = (vni: Vni): { namespace: string | null; devices: { name: string; ifindex: number }[] } => {
    const known = found.get(vni) ?? { namespace: null, devices: [] }
    found.set(vni, known)
    return known
  }
  for (const name of listNetnsNames()) {
    const vni = parseRouterName(name)
    if (vni === null || wanted.has(vni) || nameState(name, vni, look.hostNetns) !== 'ours') continue
    at(vni).namespace = name
  }
  for (const link of look.tables.links.values()) {
    const role = routerDevice(link.name)
    if (role === null || wanted.has(role.vni)) continue
    const group = role.role === 'port' ? OVERLAY_GROUP : OUTSIDE_GROUP
    if (link.kind === 'veth' && isRouterDevice(link, group)) at(role.vni).devices.push(link)
  }
  return [...found].map(([vni, { namespace, devices }]) => ({
    vni,
    namespace,
    devices: devices.map(({ name, ifindex }) => ({ name, ifindex }))
  }))
}

/**
 * `free`: there is no such name, or what has it is nothing: a file without a namespace, a router whose host is gone and
 * took its devices along.
 */
type NameState = 'ours' | 'free' | 'others'

function nameState(name: string, vni: Vni, hostNetns: number): NameState {
  if (!listNetnsNames().includes(name)) return 'free'
  try {
    return withNetns(namedNetns(name), fd => {
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
  } catch {
    // No namespace: a leftover file, unless somebody is making one this moment.
    const file = statSync(namedNetns(name), { throwIfNoEntry: false })
    return file === undefined || (file.isFile() && Date.now() - file.mtimeMs > BEING_MADE_MS) ? 'free' : 'others'
  }
}

function readFacts(look: RouterLook, router: DesiredRouter, name: string): Map<string, string> {
  const facts = new Map<string, string>()
  const path = namedNetns(name)
  withNetns(path, fd => {
    const inside = NetlinkSocket.open(`/proc/thread-self/fd/${fd}`)
    try {
      const within = readTables(inside)
      const [answer] = look.kernel.socket.request(getNetnsId(fd), 'read the id of the router namespace')
      const netnsId = answer === undefined ? null : decodeNetnsId(answer)
      for (const [host, router_, end] of [
        [router.port, INSIDE, 'port'],
        [router.outside, OUTSIDE, 'outside']
      ] as const) {
        const [outer, inner] = [look.tables.links.get(host), within.links.get(router_)]
        const paired = arePaired(outer, inner, netnsId)
        if (outer !== undefined) readDevice(facts, end, { link: outer, tables: look.tables, paired })
        if (inner !== undefined) readDevice(facts, `router ${router_}`, { link: inner, tables: within, paired })
      }
      readHostFacts(facts, look, router)
      readRouterFacts(facts, within, router)
      facts.set('router rules', look.rulesRight(router, path) ? 'right' : 'changed')
      const link = within.links.get(OUTSIDE)
      if (link !== undefined) {
        const shaped = rateChanges({ socket: inside, link, router, support: look.support }).length === 0
        facts.set('router egress rate', shaped ? 'right' : 'differs')
      }
    } finally {
      inside.close()
    }
  })
  readSettings(facts, { netns: look.kernel.netns, device: router.outside, fact: 'outside', keys: SYSCTLS.host })
  for (const device of [INSIDE, OUTSIDE]) {
    readSettings(facts, { netns: path, device, fact: `router ${device}`, keys: SYSCTLS.router })
  }
  return facts
}

/** What makes the way out as fast as it may be. */
export function rateChanges(p: {
  readonly socket: NetlinkSocket
  readonly link: LinkInfo
  readonly router: DesiredRouter
  readonly support: ShapingSupport
}): ReturnType<typeof planShaping>['changes'] {
  const { socket, link, router, support } = p
  // The queue into the device is the one at its root: what the router sends out.
  const want = { ingressRate: router.egressRate, egressRate: 0, delayUs: 0 }
  const into = observeShaping(socket, [{ veth: link, ifb: null }]).get(link.name)?.into ?? []
  return planShaping({ want, mtu: router.mtu, support, observed: { into, redirect: 'none', ifb: null } }).changes
}

/** Two ends of one pair, the inner one in the namespace of this id. */
export function arePaired(outer: LinkInfo | undefined, inner: LinkInfo | undefined, netnsId: number | null): boolean {
  if (outer === undefined || inner === undefined) return false
  const ends = outer.link === inner.ifindex && inner.link === outer.ifindex && inner.kind === 'veth'
  return ends && netnsId !== null && outer.linkNetnsId === netnsId
}

function readDevice(
  facts: Map<string, string>,
  name: string,
  { link, tables, paired }: { link: LinkInfo; tables: Tables; paired: boolean }
): void {
  const { alias, group, mtu, mac, up, ifindex } = link
  const addresses = tables.addresses
    .filter(address => address.ifindex === ifindex)
    .map(({ address, prefixLength }) => `${formatIpv4(address)}/${prefixLength}`)
  addDevice(facts, name, { alias, group, mtu, mac, up, addresses, paired })
}

function readHostFacts(facts: Map<string, string>, { kernel, tables }: RouterLook, router: DesiredRouter): void {
  const port = tables.links.get(router.port)
  const bridge = tables.links.get(router.bridge)
  const flags = port?.bridgePort ?? null
  if (port !== undefined && flags !== null && port.master === bridge?.ifindex) {
    facts.set('port bridge', router.bridge)
    facts.set('port flags', flagsText(flags))
    const ours = readEntries(kernel.socket, getFdb({ bridge: bridge.ifindex })).find(
      ({ ifindex, mac, state }) =>
        ifindex === port.ifindex && mac === router.gatewayMac && (state & (NUD_NOARP | NUD_PERMANENT)) === NUD_NOARP
    )
    if (ours !== undefined) facts.set('port entry', router.gatewayMac)
  }
  facts.set('tunnel isolated', String(tables.links.get(router.vxlan)?.bridgePort?.isolated ?? false))
  const outside = tables.links.get(router.outside)?.ifindex
  const to = tables.routes.find(r => r.ifindex === outside && r.prefixLength === 32 && r.gateway === null)?.destination
  if (to !== undefined && to !== null) facts.set('outside route', formatIpv4(to))
  readNeighbour(facts, 'outside neighbour', { tables, ifindex: outside, address: router.transit })
}

function readRouterFacts(facts: Map<string, string>, within: Tables, router: DesiredRouter): void {
  const [inside, outside] = [within.links.get(INSIDE)?.ifindex, within.links.get(OUTSIDE)?.ifindex]
  const subnet = within.routes.find(r => r.ifindex === inside && r.prefixLength === router.subnet.prefixLength)
  if (subnet !== undefined && subnet.destination !== null) {
    const { destination: base, prefixLength } = subnet
    facts.set('router subnet route', formatSubnet({ base, prefixLength }))
  }
  const way = within.routes.find(r => r.ifindex === outside && r.prefixLength === 0 && r.priority === 0)?.gateway
  if (way !== undefined && way !== null) facts.set('router default route', formatIpv4(way))
  const next = within.neighbours.find(entry => entry.ifindex === outside)?.destination
  if (next !== undefined && next !== null)
    readNeighbour(facts, 'router neighbour', { tables: within, ifindex: outside, address: next })
}

function readNeighbour(
  facts: Map<string, string>,
  fact: string,
  p: { readonly tables: Tables; readonly ifindex: number | undefined; readonly address: Ipv4 }
): void {
  const entry = p.tables.neighbours.find(
    ({ ifindex, destination, state }) =>
      ifindex === p.ifindex && destination === p.address && (state & NUD_PERMANENT) !== 0
  )
  if (entry !== undefined && entry.mac !== null) facts.set(fact, neighbourText(p.address, entry.mac))
}

function readSettings(
  facts: Map<string, string>,
  p: { netns: string | null; device: string; fact: string; keys: Readonly<Record<string, string>> }
): void {
  const keys = Object.keys(p.keys)
  const values = readSysctls(
    p.netns,
    keys.map(key => `net/ipv4/conf/${p.device}/${key}`)
  )
  addSysctls(facts, p.fact, Object.fromEntries(keys.map((key, i) => [key, values[i] ?? 'absent'])))
}
