// Reads the facts of one router: its two ends on the host, and its namespace, which is entered once.

import { formatIp, formatSubnet, type Ip } from '#model/ip.ts'
import type { Mac } from '#model/mac.ts'
import { hasChecksumOffload } from '#platform/ethtool.ts'
import { errnoOf } from '#platform/netlink-error.ts'
import { NetlinkSocket } from '#platform/netlink-socket.ts'
import { inNetns, readSysctls, withNetns } from '#platform/netns.ts'
import { arePaired, readNetnsId, type Kernel } from '../kernel/kernel.ts'
import { NUD_NOARP, NUD_PERMANENT } from '../netlink/constants.ts'
import type { LinkInfo } from '../netlink/link-info.ts'
import { decodeNeighbour, getPortEntry, type NeighbourInfo } from '../netlink/neighbour.ts'
import type { DesiredRouter } from '../plan/gateway/desired-gateway.ts'
import { observeShaping } from '../shaping/observe.ts'
import { planQueue, type QueueChange } from '../plan/shaping/plan-shaping.ts'
import { queueFor, type ShapingSupport } from '../plan/shaping/queue.ts'
import { addDevice, addSysctls, flagsText, neighbourText, RULES, SYSCTLS, type Facts } from '../plan/gateway/facts.ts'
import { readGeneration } from '../kernel/generation.ts'
import { INSIDE, OUTSIDE } from '../plan/gateway/rules.ts'
import { readTables, type KernelTables } from '../kernel/tables.ts'

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
  const devices = [INSIDE, OUTSIDE]
  withNetns(path, fd => {
    const { inside, generation, settings } = inNetns(`/proc/thread-self/fd/${fd}`, () => ({
      inside: NetlinkSocket.open(null),
      generation: readGeneration(null),
      settings: devices.map(device => readSysctls(null, sysctlKeys(device, SYSCTLS.router)))
    }))
    try {
      const within = readTables(inside)
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
    for (const [i, device] of devices.entries()) {
      addSettings(facts, { fact: `router ${device}`, settings: SYSCTLS.router, values: settings[i] ?? [] })
    }
  })
  readHostFacts(facts, look, router)
  const values = readSysctls(look.kernel.netns, sysctlKeys(router.outside, SYSCTLS.host))
  addSettings(facts, { fact: 'outside', settings: SYSCTLS.host, values })
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
  const addresses = tables.addresses
    .filter(address => address.ifindex === ifindex)
    .map(({ address, prefixLength }) => `${formatIp(address)}/${prefixLength}`)
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
  const to = tables.routes.find(r => r.ifindex === outside && r.prefixLength === 32 && r.gateway === null)?.destination
  if (to !== undefined && to !== null) facts.set('outside route', formatIp(to))
  readNeighbour(facts, 'outside neighbour', { tables, ifindex: outside, address: router.transit })
}

function readRouterFacts(facts: Map<string, string>, within: KernelTables, router: DesiredRouter): void {
  const [inside, outside] = [within.links.get(INSIDE)?.ifindex, within.links.get(OUTSIDE)?.ifindex]
  const subnet = within.routes.find(r => r.ifindex === inside && r.prefixLength === router.subnet.prefixLength)
  if (subnet !== undefined && subnet.destination !== null) {
    const { destination: base, prefixLength } = subnet
    facts.set('router subnet route', formatSubnet({ base, prefixLength }))
  }
  const way = within.routes.find(r => r.ifindex === outside && r.prefixLength === 0 && r.priority === 0)?.gateway
  if (way !== undefined && way !== null) facts.set('router default route', formatIp(way))
  const next = within.neighbours.find(entry => entry.ifindex === outside)?.destination
  if (next !== undefined && next !== null)
    readNeighbour(facts, 'router neighbour', { tables: within, ifindex: outside, address: next })
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

function sysctlKeys(device: string, settings: Readonly<Record<string, string>>): readonly string[] {
  return Object.keys(settings).map(key => `net/ipv4/conf/${device}/${key}`)
}

function addSettings(
  facts: Map<string, string>,
  p: { readonly fact: string; readonly settings: object; readonly values: readonly (string | null)[] }
): void {
  const pairs = Object.keys(p.settings).map((key, i) => [key, p.values[i] ?? 'absent'] as const)
  addSysctls(facts, p.fact, Object.fromEntries(pairs))
}
