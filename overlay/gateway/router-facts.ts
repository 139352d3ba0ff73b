// Reads the facts of one router: its two ends on the host, and its namespace, which is entered once.

import { FAMILIES, formatIp, formatSubnet, isIpv4, networkOf, singleAddress, type Family, type Ip } from '#model/ip.ts'
import type { Mac } from '#model/mac.ts'
import { hasChecksumOffload } from '#platform/ethtool.ts'
import { errnoOf } from '#platform/netlink-error.ts'
import { NetlinkSocket } from '#platform/netlink-socket.ts'
import { inNetns, readSysctls, withNetns } from '#platform/netns.ts'
import { arePaired, readNetnsId, type Kernel } from '../kernel/kernel.ts'
import { DEFAULT_METRICS, NUD_NOARP, NUD_PERMANENT } from '../netlink/constants.ts'
import type { LinkInfo } from '../netlink/link-info.ts'
import { decodeNeighbour, getPortEntry, type NeighbourInfo } from '../netlink/neighbour.ts'
import { ROUTER_LINK_LOCAL, type DesiredRouter } from '../plan/gateway/desired-gateway.ts'
import { observeShaping } from '../shaping/observe.ts'
import { planQueue, type QueueChange } from '../plan/shaping/plan-shaping.ts'
import { queueFor, type ShapingSupport } from '../plan/shaping/queue.ts'
import {
  addDevice,
  addSysctls,
  FAMILY_FACT,
  familiesText,
  flagsText,
  MARKS,
  neighbourText,
  placedText,
  RULES,
  SYSCTLS,
  type Facts
} from '../plan/gateway/facts.ts'
import { readGeneration } from '../kernel/generation.ts'
import { INSIDE, OUTSIDE } from '../plan/gateway/rule-text.ts'
import { familiesWith, readTables, type KernelTables } from '../kernel/tables.ts'

const LINK_LOCAL_BASE = networkOf(ROUTER_LINK_LOCAL.address, ROUTER_LINK_LOCAL.prefixLength)

export type RouterLook = {
  readonly kernel: Kernel
  readonly hostNetns: number
  readonly tables: KernelTables
  readonly support: ShapingSupport
  /** Are the rules of the namespace at this path, of this generation, still those that this agent wrote? */
  readonly rulesRight: (router: DesiredRouter, at: { path: string; generation: number | null }) => boolean
}

/** @throws ERR_NETNS, ERR_KERNEL */
export function readFacts(look: RouterLook, router: DesiredRouter, path: string): Facts {
  const facts = new Map<string, string>()
  const devices = [INSIDE, OUTSIDE].flatMap(device => router.subnets.map(({ family }) => ({ device, family })))
  withNetns(path, fd => {
    const { inside, generation, settings, disabled } = inNetns(`/proc/thread-self/fd/${fd}`, () => ({
      inside: NetlinkSocket.open(null),
      generation: readGeneration(null),
      disabled: readSysctls(null, ['net/ipv6/conf/all/disable_ipv6']),
      settings: devices.map(({ device, family }) => readSysctls(null, sysctlKeys(device, { family, of: 'router' })))
    }))
    try {
      const hasIpv6 = disabled[0] === '0'
      const within = readTables(inside, familiesWith(hasIpv6))
      const netnsId = readNetnsId(look.kernel.socket, fd)
      for (const [host, inner, end] of [
        [router.port, INSIDE, 'port'],
        [router.outside, OUTSIDE, 'outside']
      ] as const) {
        const [near, far] = [look.tables.links.get(host), within.links.get(inner)]
        const paired = arePaired(near, far, netnsId)
        if (near !== undefined) readDevice(facts, end, { link: near, tables: look.tables, paired })
        if (far !== undefined) readDevice(facts, `router ${inner}`, { link: far, tables: within, paired })
      }
      readRouterFacts(facts, within, router)
      const index = within.links.get(INSIDE)?.ifindex
      const hasIpv4 = within.addresses.some(({ address, ifindex }) => ifindex === index && isIpv4(address))
      const has: Readonly<Record<Family, boolean>> = { ipv4: hasIpv4, ipv6: hasIpv6 }
      facts.set(FAMILY_FACT, familiesText(FAMILIES.filter(family => has[family])))
      facts.set(RULES, look.rulesRight(router, { path, generation }) ? 'right' : 'changed')
      if (within.links.has(INSIDE)) {
        facts.set('router inside checksums', hasChecksumOffload(inside, INSIDE) ? 'left' : 'finished')
      }
      const link = within.links.get(OUTSIDE)
      if (link !== undefined) {
        const shaped = rateChanges({ socket: inside, link, router, support: look.support }).length === 0
        facts.set('router egress rate', shaped ? 'right' : 'differs')
      }
    } finally {
      inside.close()
    }
    for (const [i, { device, family }] of devices.entries()) {
      addSettings(facts, { device: `router ${device}`, family, of: 'router', values: settings[i] ?? [] })
    }
  })
  readHostFacts(facts, look, router)
  for (const { family } of router.subnets) {
    const values = readSysctls(look.kernel.netns, sysctlKeys(router.outside, { family, of: 'host' }))
    addSettings(facts, { device: 'outside', family, of: 'host', values })
  }
  return facts
}

/** The changes that enforce the network's egress rate on this link. */
export function rateChanges(p: {
  readonly socket: NetlinkSocket
  readonly link: LinkInfo
  readonly router: DesiredRouter
  readonly support: ShapingSupport
}): readonly QueueChange[] {
  const { socket, link, router, support } = p
  // The queue at the device's root shapes what the router sends out.
  const want = queueFor({ rate: router.egressRate, delayUs: 0, mtu: router.mtu, support })
  const into = observeShaping(socket, [{ veth: link, ifb: null }]).get(link.name)?.into ?? []
  return planQueue('veth', want, into)
}

function readDevice(
  facts: Map<string, string>,
  name: string,
  { link, tables, paired }: { link: LinkInfo; tables: KernelTables; paired: boolean }
): void {
  const { alias, group, mtu, mac, up, ifindex } = link
  const addresses = tables.addresses.filter(address => address.ifindex === ifindex).map(placedText)
  addDevice(facts, name, { alias, group, mtu, mac, up, addresses, paired })
}

function readHostFacts(facts: Map<string, string>, { kernel, tables }: RouterLook, router: DesiredRouter): void {
  const port = tables.links.get(router.port)
  const bridge = tables.links.get(router.bridge)
  const flags = port?.bridgePort ?? null
  if (port !== undefined && flags !== null && port.master === bridge?.ifindex) {
    facts.set('port bridge', router.bridge)
    facts.set('port flags', flagsText(flags))
    const entry = readPortEntry(kernel.socket, { ifindex: port.ifindex, mac: router.gatewayMac })
    const isStatic = entry !== null && (entry.state & (NUD_NOARP | NUD_PERMANENT)) === NUD_NOARP
    if (isStatic && entry.ifindex === port.ifindex) facts.set('port entry', router.gatewayMac)
  }
  facts.set('tunnel isolated', String(tables.links.get(router.vxlan)?.bridgePort?.isolated ?? false))
  const outside = tables.links.get(router.outside)?.ifindex
  for (const { family, transit } of router.subnets) {
    const { prefixLength } = singleAddress(transit)
    const to = tables.routes.find(
      r => r.family === family && r.ifindex === outside && r.prefixLength === prefixLength && r.gateway === null
    )?.destination
    if (to !== undefined && to !== null) facts.set(`outside ${MARKS[family]}route`, formatIp(to))
    readNeighbour(facts, `outside ${MARKS[family]}neighbour`, { tables, ifindex: outside, address: transit })
  }
}

function readRouterFacts(facts: Map<string, string>, within: KernelTables, router: DesiredRouter): void {
  const [inside, outside] = [within.links.get(INSIDE)?.ifindex, within.links.get(OUTSIDE)?.ifindex]
  for (const { family, subnet, nextHop } of router.subnets) {
    const mark = MARKS[family]
    const routes = within.routes.filter(route => route.family === family)
    // The link-local prefix may have the same length.
    const own = routes.find(
      r => r.ifindex === inside && r.prefixLength === subnet.prefixLength && r.destination !== LINK_LOCAL_BASE
    )
    if (own !== undefined && own.destination !== null) {
      const { destination: base, prefixLength } = own
      facts.set(`router ${mark}subnet route`, formatSubnet({ base, prefixLength }))
    }
    const metric = DEFAULT_METRICS[family]
    const way = routes.find(r => r.ifindex === outside && r.prefixLength === 0 && r.priority === metric)?.gateway
    if (way !== undefined && way !== null) facts.set(`router ${mark}default route`, formatIp(way))
    readNeighbour(facts, `router ${mark}neighbour`, { tables: within, ifindex: outside, address: nextHop })
  }
}

function readNeighbour(
  facts: Map<string, string>,
  fact: string,
  p: { readonly tables: KernelTables; readonly ifindex: number | undefined; readonly address: Ip }
): void {
  const entry = p.tables.neighbours.find(
    ({ ifindex, destination, state }) =>
      ifindex === p.ifindex && destination === p.address && (state & NUD_PERMANENT) !== 0
  )
  if (entry !== undefined && entry.mac !== null) facts.set(fact, neighbourText(p.address, entry.mac))
}

/** Reads one entry: the FDB of a bridge may be long. */
function readPortEntry(socket: NetlinkSocket, entry: { ifindex: number; mac: Mac }): NeighbourInfo | null {
  try {
    const [answer] = socket.request(getPortEntry(entry), 'read the entry of a router')
    return answer === undefined ? null : decodeNeighbour(answer)
  } catch (err) {
    if (errnoOf(err) === 'ENOENT') return null
    throw err
  }
}

type Settings = { readonly family: Family; readonly of: 'host' | 'router' }

function sysctlKeys(device: string, { family, of }: Settings): readonly string[] {
  return Object.keys(SYSCTLS[family][of]).map(key => `net/${family}/conf/${device}/${key}`)
}

function addSettings(
  facts: Map<string, string>,
  p: Settings & { readonly device: string; readonly values: readonly (string | null)[] }
): void {
  const pairs = Object.keys(SYSCTLS[p.family][p.of]).map((key, i) => [key, p.values[i] ?? 'absent'] as const)
  addSysctls(facts, { device: p.device, family: p.family, values: Object.fromEntries(pairs) })
}
