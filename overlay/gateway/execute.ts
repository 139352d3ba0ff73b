// Creates, repairs and deletes routers. Every step is idempotent, and what is right is not touched, so that established
// traffic goes on. A router gets its rules before its devices, and its name last.

import { singleAddress, type Family, type Subnet } from '#model/ip.ts'
import type { Ipv4 } from '#model/ipv4.ts'
import type { Ipv6 } from '#model/ipv6.ts'
import { disableChecksumOffload } from '#platform/ethtool.ts'
import { createNamedNetns, removeNamedNetns } from '#platform/named-netns.ts'
import { refusalError } from '#platform/netlink-error.ts'
import { NetlinkSocket } from '#platform/netlink-socket.ts'
import { readSysctls, withNetns, writeSysctls } from '#platform/netns.ts'
import {
  absentIsSuccess,
  arePaired,
  readLink,
  readNetnsId,
  requireLink,
  restrictIpv6,
  sendAll,
  switchIpv6Off,
  type Kernel
} from '../kernel/kernel.ts'
import { addRoute, deleteAddress, deleteRoute, replaceRoute, setAddress } from '../netlink/address.ts'
import type { Message } from '../netlink/bytes.ts'
import type { LinkInfo } from '../netlink/link-info.ts'
import { createVeth, deleteLink, setBridgePort, setLink, type LinkSettings } from '../netlink/link.ts'
import { setNeighbour, setPortEntry } from '../netlink/neighbour.ts'
import {
  OUTSIDE_GROUP,
  routerMark,
  routerNames,
  routerSubnet,
  type DesiredRouter
} from '../plan/gateway/desired-gateway.ts'
import { OVERLAY_GROUP } from '../plan/network/names.ts'
import { PORT_FLAGS } from '../plan/network/op.ts'
import type { Carrier } from '../plan/network/switch.ts'
import { executeQueueChange } from '../shaping/execute.ts'
import type { ShapingSupport } from '../plan/shaping/queue.ts'
import { ROUTER_PORT, routerAddresses, SYSCTLS, type PlacedAddress } from '../plan/gateway/facts.ts'
import { isFreeName } from './observe.ts'
import { rateChanges } from './router-facts.ts'
import type { RuleWriter } from './rule-writer.ts'
import { familiesWith, readAddresses } from '../kernel/tables.ts'
import type { HostRoutes } from '../plan/gateway/host-access.ts'
import type { Leftover } from '../plan/gateway/plan-gateway.ts'
import { INSIDE, OUTSIDE } from '../plan/gateway/rule-text.ts'
import { ROUTER_TABLE, routerRules } from '../plan/gateway/rules.ts'
import { noRouterRulesV6 } from '../plan/gateway/rules-v6.ts'

const EVERYWHERE: Readonly<Record<Family, Subnet>> = {
  ipv4: { base: 0 as Ipv4, prefixLength: 0 },
  ipv6: { base: '::' as Ipv6, prefixLength: 0 }
}

export type RouterWork = {
  readonly kernel: Kernel
  readonly router: DesiredRouter
  readonly support: ShapingSupport
  readonly carrier: Carrier
  readonly writer: Pick<RuleWriter, 'write'>
}

/** @returns the name it got @throws ERR_KERNEL, ERR_NETNS; then no name refers to it */
export async function createRouter(work: RouterWork, p: { hostNetns: number }): Promise<string> {
  const names = routerNames(work.router.vni, p.hostNetns)
  // A name may still be held by a file without a namespace, or by a router whose host is gone.
  for (const name of names) if (isFreeName(name, work.router.vni, p.hostNetns)) await removeNamedNetns(name)
  return createNamedNetns(names, async path => {
    markRouter(path, routerMark(work.router.vni, p.hostNetns))
    await repairRouter(work, { path, rules: true, devices: true })
  })
}

/**
 * With `rules` alone the devices are not touched: a restarted agent cannot tell whether installed rules are right, so
 * it writes them again.
 * @throws ERR_KERNEL, ERR_NETNS
 */
export async function repairRouter(
  work: RouterWork,
  p: { readonly path: string; readonly rules: boolean; readonly devices: boolean }
): Promise<void> {
  const { router, kernel } = work
  const hasIpv6 = routerSubnet(router, 'ipv6') !== undefined
  if (p.devices) {
    writeSysctls(p.path, [
      ...['all', 'default'].flatMap(device => settings(device, SYSCTLS.ipv4.router, 'ipv4')),
      ...ipv6Switches(p.path, hasIpv6)
    ])
  }
  if (p.rules) {
    const left = !hasIpv6 && kernel.ipv6.present ? noRouterRulesV6() : ''
    await work.writer.write(p.path, `${routerRules(router)}${left}`, `write ${ROUTER_TABLE}`)
  }
  if (!p.devices) return
  await deleteUnpaired(work, p.path)
  withRouter(work, p.path, settle)
  writeSysctls(
    p.path,
    [INSIDE, OUTSIDE].flatMap(device =>
      router.subnets.flatMap(({ family }) => settings(device, SYSCTLS[family].router, family))
    )
  )
}

/** Absent is success. @throws ERR_KERNEL */
export async function removeRouter(kernel: Kernel, { namespaces, devices }: Leftover): Promise<void> {
  for (const { name, ifindex } of devices) await deleteDevice(kernel.socket, { name, ifindex })
  for (const name of namespaces) await removeNamedNetns(name)
}

/** Absent is success for a deletion. @throws ERR_KERNEL */
export function changeHostRoutes({ socket }: Kernel, p: HostRoutes & { readonly kind: string }): void {
  const adds = p.kind === 'host-routes-add'
  const link = readLink(socket, p.outside)
  if (link === null && !adds) return
  const { ifindex } = link ?? requireLink(socket, p.outside)
  const doing = `${adds ? 'add' : 'delete'} routes by ${p.outside}`
  const change = adds ? addRoute : deleteRoute
  const routes = p.addresses.map(address => ({
    ifindex,
    destination: singleAddress(address),
    gateway: p.transit
  }))
  for (const refusal of socket.batch(routes.map(change), doing)) {
    if (refusal !== null && (adds || refusal.errno !== 'ESRCH')) throw refusalError(doing, refusal)
  }
}

type Messages = readonly Message[]

/** One router with its namespace open; synchronous from end to end. */
type RouterTarget = RouterWork & {
  readonly inside: NetlinkSocket
  readonly netnsFd: number
  readonly netnsId: number | null
}

function withRouter<T>(work: RouterWork, path: string, use: (target: RouterTarget) => T): T {
  return withNetns(path, netnsFd => {
    const inside = NetlinkSocket.open(`/proc/thread-self/fd/${netnsFd}`)
    try {
      return use({ ...work, inside, netnsFd, netnsId: readNetnsId(work.kernel.socket, netnsFd) })
    } finally {
      inside.close()
    }
  })
}

function markRouter(path: string, alias: string): void {
  const socket = NetlinkSocket.open(path)
  try {
    sendAll(socket, 'mark the router', [setLink('lo', { alias, up: true })])
  } finally {
    socket.close()
  }
}

/** The two veth pairs: the host's end, the router's end, and what they are created with. */
function pairs(router: DesiredRouter): readonly { name: string; inner: string; group: number; mac: LinkInfo['mac'] }[] {
  return [
    { name: router.port, inner: INSIDE, group: OVERLAY_GROUP, mac: router.gatewayMac },
    { name: router.outside, inner: OUTSIDE, group: OUTSIDE_GROUP, mac: router.transitMac }
  ]
}

/** Deletes veths whose peer is not in this router: they belonged to an earlier one. */
async function deleteUnpaired(work: RouterWork, path: string): Promise<void> {
  const stale = withRouter(work, path, ({ kernel, inside, netnsId }) =>
    pairs(work.router).flatMap(({ name, inner }) => {
      const [outer, end] = [readLink(kernel.socket, name), readLink(inside, inner)]
      return arePaired(outer ?? undefined, end ?? undefined, netnsId) ? [] : [{ outer, end }]
    })
  )
  for (const { outer, end } of stale) {
    if (outer !== null) await deleteDevice(work.kernel.socket, outer)
    if (end === null) continue
    const inside = NetlinkSocket.open(path)
    try {
      await deleteDevice(inside, end)
    } finally {
      inside.close()
    }
  }
}

function settle(target: RouterTarget): void {
  const { kernel, router, inside, netnsFd } = target
  for (const { name, inner, group, mac } of pairs(router)) {
    if (readLink(kernel.socket, name) !== null || mac === null) continue
    const spec = { name, mtu: router.mtu, group, peer: { name: inner, mac, netnsFd } }
    kernel.socket.request(createVeth(spec), `create ${name}`)
  }
  settleRouter(target, requireLink(inside, INSIDE), requireLink(inside, OUTSIDE))
  settleHost(target)
}

function settleRouter(
  { inside: socket, router, support, carrier }: RouterTarget,
  inside: LinkInfo,
  outside: LinkInfo
): void {
  const { mtu } = router
  const generated = routerSubnet(router, 'ipv6') === undefined ? {} : { addrGenNone: true }
  const { routerInside, routerOutside } = routerAddresses(router)
  sendAll(socket, 'configure the router', [
    ...amend(inside, { mac: router.gatewayMac, mtu, alias: '', group: 0, ...generated }),
    ...amend(outside, { mac: router.transitMac, mtu, alias: '', group: 0, ...generated })
  ])
  keepAddresses(socket, { router, ifindex: inside.ifindex, kept: routerInside })
  keepAddresses(socket, { router, ifindex: outside.ifindex, kept: routerOutside })
  if (carrier === 'userspace-switch') disableChecksumOffload(socket, INSIDE)
  // Before the device is up: no packet leaves it at another rate.
  const link = requireLink(socket, OUTSIDE)
  for (const change of rateChanges({ socket, link, router, support })) executeQueueChange(socket, OUTSIDE, change)
  sendAll(socket, 'set the router up', [
    ...amend(inside, { up: true }),
    ...amend(outside, { up: true }),
    ...router.subnets.flatMap(({ family, subnet, nextHop }) => [
      replaceRoute({ ifindex: inside.ifindex, destination: subnet }),
      replaceRoute({ ifindex: outside.ifindex, destination: EVERYWHERE[family], gateway: nextHop }),
      setNeighbour(outside.ifindex, { address: nextHop, mac: router.outsideMac })
    ])
  ])
}

function settleHost({ kernel, router, carrier }: RouterTarget): void {
  const { socket } = kernel
  const { alias, mtu, port, outside, subnets } = router
  const [portLink, outsideLink] = [requireLink(socket, port), requireLink(socket, outside)]
  sendAll(socket, `configure ${port} and ${outside}`, [
    ...amend(portLink, { alias, mtu, group: OVERLAY_GROUP }),
    ...(carrier === 'bridge' ? joinBridge(socket, router, portLink) : []),
    ...amend(outsideLink, { alias, mtu, group: OUTSIDE_GROUP, mac: router.outsideMac })
  ])
  switchIpv6Off(kernel, [{ ref: portLink.ifindex, name: port }])
  const to = routerSubnet(router, 'ipv6') === undefined ? 'off' : 'quiet'
  restrictIpv6(kernel, [{ ref: outsideLink.ifindex, name: outside }], to)
  writeSysctls(
    kernel.netns,
    subnets.flatMap(({ family }) => settings(outside, SYSCTLS[family].host, family))
  )
  keepAddresses(socket, { router, ifindex: portLink.ifindex, kept: [] })
  keepAddresses(socket, { router, ifindex: outsideLink.ifindex, kept: routerAddresses(router).outside })
  sendAll(socket, `set ${port} and ${outside} up`, [
    ...amend(outsideLink, { up: true }),
    ...subnets.flatMap(({ transit }) => [
      replaceRoute({ ifindex: outsideLink.ifindex, destination: singleAddress(transit) }),
      setNeighbour(outsideLink.ifindex, { address: transit, mac: router.transitMac })
    ]),
    ...amend(portLink, { up: true })
  ])
}

function joinBridge(socket: NetlinkSocket, router: DesiredRouter, port: LinkInfo): Messages {
  return [
    ...amend(port, { master: requireLink(socket, router.bridge).ifindex }),
    setBridgePort(port.ifindex, ROUTER_PORT),
    setPortEntry(port.ifindex, router.gatewayMac),
    setBridgePort(router.vxlan, { ...PORT_FLAGS.vxlan, isolated: true })
  ]
}

/** Only what differs: setting a MAC, even the same one, flushes the device's neighbours for a moment. */
function amend(link: LinkInfo, wanted: LinkSettings): Messages {
  const differing = Object.entries(wanted).filter(([key, value]) => link[key as keyof LinkInfo] !== value)
  return differing.length === 0 ? [] : [setLink(link.ifindex, Object.fromEntries(differing))]
}

function settings(
  device: string,
  values: Readonly<Record<string, string>>,
  family: Family
): { key: string; value: string }[] {
  return Object.entries(values).map(([key, value]) => ({ key: `net/${family}/conf/${device}/${key}`, value }))
}

/** Disables or enables IPv6 in the router's namespace, if the kernel supports it, as new devices are to have it. */
function ipv6Switches(path: string, isOn: boolean): { key: string; value: string }[] {
  const values = isOn ? { ...SYSCTLS.ipv6.router, autoconf: '0' } : { disable_ipv6: '1' }
  const wanted = ['all', 'default'].flatMap(device => settings(device, values, 'ipv6'))
  const keys = wanted.map(({ key }) => key)
  const found = readSysctls(path, keys)
  return wanted.filter((_, i) => found[i] !== null)
}

/** Sets these addresses, and deletes every other one of a device of ours. */
function keepAddresses(
  socket: NetlinkSocket,
  p: { readonly router: DesiredRouter; readonly ifindex: number; readonly kept: readonly PlacedAddress[] }
): void {
  const { router, ifindex, kept } = p
  const families = familiesWith(routerSubnet(router, 'ipv6') !== undefined)
  const found = families.flatMap(family => readAddresses(socket, family))
  const surplus = found.filter(
    a => a.ifindex === ifindex && !kept.some(k => a.address === k.address && a.prefixLength === k.prefixLength)
  )
  if (surplus.length > 0) sendAll(socket, 'delete addresses that are not ours', surplus.map(deleteAddress))
  const messages = kept.map(each => setAddress({ ifindex, ...each }))
  if (messages.length > 0) sendAll(socket, 'set the addresses of the router', messages)
}

async function deleteDevice(
  socket: NetlinkSocket,
  { name, ifindex }: { name: string; ifindex: number }
): Promise<void> {
  await absentIsSuccess(socket.requestAsync(deleteLink(ifindex), `delete ${name}`))
}
