// Observes our devices in the kernel by three dumps: links, FDB entries, neighbour entries.

import type { IfName, Vni } from '#model/ids.ts'
import { FAMILIES, type Ip } from '#model/ip.ts'
import type { Mac } from '#model/mac.ts'
import type { NetlinkSocket } from '#platform/netlink-socket.ts'
import type { Message } from '../netlink/bytes.ts'
import { NTF_SELF, NUD_NOARP, NUD_PERMANENT, RTM_NEWNEIGH } from '../netlink/constants.ts'
import type { BridgePortInfo, LinkInfo } from '../netlink/link-info.ts'
import { getLinks } from '../netlink/link.ts'
import { decodeNeighbour, FLOOD_MAC, getFdb, getNeighbours, type NeighbourInfo } from '../netlink/neighbour.ts'
import { bridgeName, ifbName, isMarkedOurs, nameRole, vxlanName } from '../plan/network/names.ts'
import type { Observed, ObservedDevice, ObservedEntry, ObservedLink, PortFlags } from '../plan/network/observed.ts'
import { observePair, observeShaping, type ShapedPair } from '../shaping/observe.ts'
import type { ShapingSupport } from '../plan/shaping/queue.ts'
import { readLink, readLinks, type Kernel } from '../kernel/kernel.ts'
import type { Sampling } from '../kernel/sampling.ts'

export type ObserveOptions = { readonly support: ShapingSupport; readonly sampling: Pick<Sampling, 'has'> }

/** The whole host, or what belongs to one network. @throws ERR_KERNEL */
export function observe(kernel: Kernel, scope: Vni | null, p: ObserveOptions): Observed {
  const { socket } = kernel
  const found = scope === null ? readLinks(socket, getLinks()) : linksOf(socket, scope)
  const tables = new EntryTables(new Map(found.map(link => [link.ifindex, link.name])))
  const ours = found.filter(link => nameRole(link.name) !== null)
  if (ours.length > 0) {
    const bridge = scope === null ? undefined : found.find(link => link.name === bridgeName(scope))?.ifindex
    if (scope === null || bridge !== undefined) {
      readEntries(socket, getFdb(bridge === undefined ? {} : { bridge }), entry => tables.addFdb(entry))
      for (const family of FAMILIES)
        readEntries(socket, getNeighbours(family, bridge), entry => tables.addNeighbour(entry))
    }
    // A tunnel outside its bridge is not in the bridge's FDB dump.
    const vxlan = scope === null ? undefined : ours.find(link => link.name === vxlanName(scope))
    if (vxlan !== undefined && vxlan.master !== (bridge ?? -1)) {
      readEntries(socket, getFdb({ device: vxlan.ifindex }), entry => tables.addFdb(entry))
    }
  }
  const links = new Map(ours.map(link => [link.name, observedLink({ kernel, link, tables })]))
  if (scope !== null) return { links, scope }
  const byVeth = observeShaping(socket, shapedPairs(found), ifindex => p.sampling.has(ifindex))
  return { links, scope, shaping: { support: p.support, byVeth } }
}

export type DeviceFilter = {
  readonly names: readonly string[]
  /** Are the queues of this veth to be read? */
  readonly shaped: (veth: LinkInfo) => boolean
}

/** Devices without entries, for ports of a switch. Null: all of the host. @throws ERR_KERNEL */
export function observeDevices(kernel: Kernel, only: DeviceFilter | null, p: ObserveOptions): Observed {
  const { socket } = kernel
  const names = only?.names ?? null
  const found =
    names === null
      ? readLinks(socket, getLinks())
      : names.map(name => readLink(socket, name)).filter(link => link !== null)
  const tables = new EntryTables(new Map(found.map(link => [link.ifindex, link.name])))
  const ours = found.filter(link => nameRole(link.name) !== null)
  const links = new Map(ours.map(link => [link.name, observedLink({ kernel, link, tables })]))
  const pairs = shapedPairs(found)
  const byVeth =
    only === null
      ? observeShaping(socket, pairs, ifindex => p.sampling.has(ifindex))
      : new Map(pairs.filter(({ veth }) => only.shaped(veth)).map(pair => [pair.veth.name, observePair(socket, pair)]))
  return { links, scope: null, shaping: { support: p.support, byVeth } }
}

/** Our veths, each with its IFB device if it has one. */
function shapedPairs(found: readonly LinkInfo[]): readonly ShapedPair[] {
  const ours = new Map(found.filter(isMarkedOurs).map(link => [link.name, link]))
  return [...ours.values()]
    .filter(link => link.kind === 'veth')
    .map(veth => ({ veth, ifb: ours.get(ifbName(veth.name as IfName)) ?? null }))
}

function linksOf(socket: NetlinkSocket, vni: Vni): readonly LinkInfo[] {
  const bridge = readLink(socket, bridgeName(vni))
  const vxlan = readLink(socket, vxlanName(vni))
  const ports = bridge === null ? [] : readLinks(socket, getLinks({ master: bridge.ifindex }))
  const links = new Map<number, LinkInfo>()
  for (const link of [bridge, vxlan, ...ports]) if (link !== null) links.set(link.ifindex, link)
  return [...links.values()]
}

function readEntries(socket: NetlinkSocket, request: Message, add: (entry: NeighbourInfo) => void): void {
  const entries = socket.dump(
    request,
    (type, payload) => (type === RTM_NEWNEIGH ? (decodeNeighbour(payload) ?? undefined) : undefined),
    'read entries'
  )
  for (const entry of entries) add(entry)
}

/** Entries by the index of their device. */
class EntryTables {
  readonly names: ReadonlyMap<number, string>
  readonly fdb = new Map<number, NeighbourInfo[]>()
  readonly neighbours = new Map<number, Map<Ip, Mac | null>>()

  constructor(names: ReadonlyMap<number, string>) {
    this.names = names
  }

  addFdb(entry: NeighbourInfo): void {
    const list = this.fdb.get(entry.ifindex)
    if (list === undefined) this.fdb.set(entry.ifindex, [entry])
    else list.push(entry)
  }

  addNeighbour(entry: NeighbourInfo): void {
    // Entries that the kernel learned itself come and go: they are no drift.
    if ((entry.state & NUD_PERMANENT) === 0 || entry.destination === null) return
    const table = this.neighbours.get(entry.ifindex) ?? new Map<Ip, Mac | null>()
    table.set(entry.destination, entry.mac)
    this.neighbours.set(entry.ifindex, table)
  }
}

function observedLink(p: { kernel: Kernel; link: LinkInfo; tables: EntryTables }): ObservedLink {
  const { link, tables } = p
  const role = nameRole(link.name)
  const name = link.name as IfName
  if (role?.role !== link.kind) {
    return { kind: 'foreign', name, ifindex: link.ifindex, reason: `is a ${link.kind || 'plain'} device` }
  }
  if (!isMarkedOurs(link)) {
    const reason = link.alias === '' ? 'has no alias of ours' : `has the alias "${link.alias}"`
    return { kind: 'foreign', name, ifindex: link.ifindex, reason }
  }
  const device = observedDevice(p.kernel, link, name)
  const master = link.master === 0 ? null : (tables.names.get(link.master) ?? `ifindex ${link.master}`)
  const fdb = tables.fdb.get(link.ifindex) ?? []
  switch (role.role) {
    case 'bridge':
      return {
        ...device,
        kind: 'bridge',
        mac: link.mac ?? FLOOD_MAC,
        multicastSnooping: link.multicastSnooping,
        neighbours: tables.neighbours.get(link.ifindex) ?? new Map<Ip, Mac>()
      }
    case 'vxlan':
      return {
        ...device,
        kind: 'vxlan',
        vni: link.vxlan?.vni ?? 0,
        local: link.vxlan?.local ?? null,
        port: link.vxlan?.port ?? 0,
        ttl: link.vxlan?.ttl ?? 0,
        learning: link.vxlan?.learning ?? false,
        odd: link.vxlan === null || link.vxlan.extra,
        master,
        flags: portFlags(link.bridgePort),
        ...tunnelEntries(link, fdb)
      }
    case 'veth':
      return { ...device, kind: 'veth', master, flags: portFlags(link.bridgePort), macs: portMacs(link, fdb) }
    case 'ifb':
      return { ...device, kind: 'ifb' }
  }
}

function observedDevice(kernel: Kernel, link: LinkInfo, name: IfName): ObservedDevice {
  // A device whose MTU is too small for IPv6 gets no IPv6 state when it is set up: the kernel then reports none.
  const isDisabled = !kernel.ipv6.sysctl || (link.ipv6Disabled ?? true)
  const isQuiet = (link.addrGenNone ?? true) && (isDisabled || link.ipv6AcceptsRouters === false)
  const ipv6 = !isQuiet ? 'on' : isDisabled ? 'off' : 'quiet'
  const { ifindex, alias, group, mtu, up } = link
  return { name, ifindex, alias, group, mtu, up, ipv6 }
}

function portFlags(info: BridgePortInfo | null): PortFlags | null {
  if (info === null) return null
  return {
    learning: info.learning ?? true,
    unicastFlood: info.unicastFlood ?? true,
    neighSuppress: info.neighSuppress
  }
}

function tunnelEntries(
  link: LinkInfo,
  fdb: readonly NeighbourInfo[]
): { flood: Set<Ip>; floodOdd: boolean; entries: Map<Mac, ObservedEntry> } {
  const flood = new Set<Ip>()
  const entries = new Map<Mac, { -readonly [K in keyof ObservedEntry]: ObservedEntry[K] }>()
  let floodOdd = false
  for (const entry of fdb) {
    const { mac } = entry
    if (mac === null) continue
    if (entry.master !== 0) {
      if (isOwnAddress(link, entry)) continue
      const bridged = isStatic(entry) ? 'static' : 'other'
      const own = entries.get(mac)
      if (own === undefined) entries.set(mac, { vtep: null, self: false, bridged })
      else own.bridged = bridged
    } else if ((entry.flags & NTF_SELF) !== 0) {
      const vtep = entry.extra || (entry.state & (NUD_NOARP | NUD_PERMANENT)) === 0 ? null : entry.destination
      if (mac !== FLOOD_MAC) {
        const inBridge = entries.get(mac)
        if (inBridge === undefined) entries.set(mac, { vtep, self: true, bridged: 'none' })
        else Object.assign(inBridge, { vtep, self: true })
      } else if (vtep === null) {
        floodOdd = true
      } else {
        flood.add(vtep)
      }
    }
  }
  return { flood, floodOdd, entries }
}

function portMacs(link: LinkInfo, fdb: readonly NeighbourInfo[]): Map<Mac, 'static' | 'other'> {
  const macs = new Map<Mac, 'static' | 'other'>()
  for (const entry of fdb) {
    if (entry.mac === null || entry.master === 0 || isOwnAddress(link, entry)) continue
    macs.set(entry.mac, isStatic(entry) ? 'static' : 'other')
  }
  return macs
}

/** The bridge adds a local entry for the address of each port. */
function isOwnAddress(link: LinkInfo, entry: NeighbourInfo): boolean {
  return entry.mac === link.mac && (entry.state & NUD_PERMANENT) !== 0
}

function isStatic(entry: NeighbourInfo): boolean {
  return (entry.state & NUD_NOARP) !== 0 && (entry.state & NUD_PERMANENT) === 0
}
