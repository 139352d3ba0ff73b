// Creates, repairs and deletes routers. Every step is idempotent, and what is right is not touched, so that established
// traffic goes on. A router gets its rules before its devices, and its name last.

import { ipv4Of, ipv4SubnetOf } from '#model/ip.ts'
import type { Ipv4, Ipv4Subnet } from '#model/ipv4.ts'
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
  sendAll,
  switchIpv6Off,
  type Kernel
} from '../kernel/kernel.ts'
import { addRoute, deleteAddress, deleteRoute, replaceRoute, setAddress, type AddressInfo } from '../netlink/address.ts'
import type { Message } from '../netlink/bytes.ts'
import type { LinkInfo } from '../netlink/link-info.ts'
import { createVeth, deleteLink, setBridgePort, setLink, type LinkSettings } from '../netlink/link.ts'
import { setNeighbour, setPortEntry } from '../netlink/neighbour.ts'
import {
  NEXT_HOP,
  OUTSIDE_GROUP,
  routerMark,
  routerNames,
  type DesiredRouter
} from '../plan/gateway/desired-gateway.ts'
import { OVERLAY_GROUP } from '../plan/network/names.ts'
import { PORT_FLAGS } from '../plan/network/op.ts'
import type { Carrier } from '../plan/network/switch.ts'
import { executeQueueChange } from '../shaping/execute.ts'
import type { ShapingSupport } from '../plan/shaping/queue.ts'
import { ROUTER_PORT, SYSCTLS } from '../plan/gateway/facts.ts'
import { isFreeName } from './observe.ts'
import { rateChanges } from './router-facts.ts'
import type { RuleWriter } from './rule-writer.ts'
import { readAddresses } from '../kernel/tables.ts'
import type { HostRoutes } from '../plan/gateway/host-access.ts'
import type { Leftover } from '../plan/gateway/plan-gateway.ts'
import { INSIDE, OUTSIDE, ROUTER_TABLE, routerRules } from '../plan/gateway/rules.ts'

const EVERYWHERE: Ipv4Subnet = { base: 0 as Ipv4, prefixLength: 0 }

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
  if (p.devices) {
    writeSysctls(p.path, [
      ...['all', 'default'].flatMap(device => settings(device, SYSCTLS.router)),
      ...ipv6Switches(p.path)
    ])
  }
  if (p.rules) await work.writer.write(p.path, routerRules(work.router), `write ${ROUTER_TABLE}`)
  if (!p.devices) return
  await deleteUnpaired(work, p.path)
  withRouter(work, p.path, settle)
  writeSysctls(
    p.path,
    [INSIDE, OUTSIDE].flatMap(device => settings(device, SYSCTLS.router))
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
    destination: { base: ipv4Of(address), prefixLength: 32 },
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
  const { gateway, subnet, transit, mtu } = router
  keepAddresses(socket, inside.ifindex, { address: ipv4Of(gateway), prefixLength: subnet.prefixLength })
  keepAddresses(socket, outside.ifindex, { address: transit, prefixLength: 32 })
  sendAll(socket, 'configure the router', [
    ...amend(inside, { mac: router.gatewayMac, mtu, alias: '', group: 0 }),
    ...amend(outside, { mac: router.transitMac, mtu, alias: '', group: 0 }),
    setAddress({ ifindex: inside.ifindex, address: ipv4Of(gateway), prefixLength: subnet.prefixLength }),
    setAddress({ ifindex: outside.ifindex, address: transit, prefixLength: 32 })
  ])
  if (carrier === 'userspace-switch') disableChecksumOffload(socket, INSIDE)
  // Before the device is up: no packet leaves it at another rate.
  const link = requireLink(socket, OUTSIDE)
  for (const change of rateChanges({ socket, link, router, support })) executeQueueChange(socket, OUTSIDE, change)
  sendAll(socket, 'set the router up', [
    ...amend(inside, { up: true }),
    ...amend(outside, { up: true }),
    replaceRoute({ ifindex: inside.ifindex, destination: ipv4SubnetOf(subnet) }),
    replaceRoute({ ifindex: outside.ifindex, destination: EVERYWHERE, gateway: NEXT_HOP }),
    setNeighbour(outside.ifindex, { address: NEXT_HOP, mac: router.outsideMac })
  ])
}

function settleHost({ kernel, router, carrier }: RouterTarget): void {
  const { socket } = kernel
  const { alias, mtu, port, outside, transit } = router
  const [portLink, outsideLink] = [requireLink(socket, port), requireLink(socket, outside)]
  const devices = [portLink, outsideLink].map(({ ifindex, name }) => ({ ref: ifindex, name }))
  for (const { ifindex } of [portLink, outsideLink]) keepAddresses(socket, ifindex, null)
  sendAll(socket, `configure ${port} and ${outside}`, [
    ...amend(portLink, { alias, mtu, group: OVERLAY_GROUP }),
    ...(carrier === 'bridge' ? joinBridge(socket, router, portLink) : []),
    ...amend(outsideLink, { alias, mtu, group: OUTSIDE_GROUP, mac: router.outsideMac })
  ])
  switchIpv6Off(kernel, devices)
  writeSysctls(kernel.netns, settings(outside, SYSCTLS.host))
  sendAll(socket, `set ${port} and ${outside} up`, [
    ...amend(outsideLink, { up: true }),
    replaceRoute({ ifindex: outsideLink.ifindex, destination: { base: transit, prefixLength: 32 } }),
    setNeighbour(outsideLink.ifindex, { address: transit, mac: router.transitMac }),
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

function settings(device: string, values: Readonly<Record<string, string>>): { key: string; value: string }[] {
  return Object.entries(values).map(([key, value]) => ({ key: `net/ipv4/conf/${device}/${key}`, value }))
}

/** Disables IPv6 in the router's namespace, if the kernel supports it. */
function ipv6Switches(path: string): { key: string; value: string }[] {
  const keys = ['all', 'default'].map(device => `net/ipv6/conf/${device}/disable_ipv6`)
  return readSysctls(path, keys).flatMap((value, i) => (value === null ? [] : [{ key: keys[i] ?? '', value: '1' }]))
}

/** Deletes every other address of a device of ours. */
function keepAddresses(socket: NetlinkSocket, ifindex: number, kept: Omit<AddressInfo, 'ifindex'> | null): void {
  const surplus = readAddresses(socket).filter(
    a => a.ifindex === ifindex && (a.address !== kept?.address || a.prefixLength !== kept.prefixLength)
  )
  if (surplus.length > 0) sendAll(socket, 'delete addresses that are not ours', surplus.map(deleteAddress))
}

async function deleteDevice(
  socket: NetlinkSocket,
  { name, ifindex }: { name: string; ifindex: number }
): Promise<void> {
  await absentIsSuccess(socket.requestAsync(deleteLink(ifindex), `delete ${name}`))
}
