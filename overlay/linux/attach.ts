// Attaches and detaches one container. The veth pair is created with its inner end inside the container's namespace, with
// its name, MAC and MTU; the host's end becomes a port of the network's bridge before it is set up.

import { closeSync } from 'node:fs'
import { familyOf, isIpv4 } from '#model/ip.ts'
import { VxmeshError } from '#model/errors.ts'
import { isLinkLocalIpv6 } from '#model/ipv6.ts'
import type { Clock } from '#platform/clock.ts'
import { disableChecksumOffload, hasChecksumOffload } from '#platform/ethtool.ts'
import { errnoOf } from '#platform/netlink-error.ts'
import { NetlinkSocket } from '#platform/netlink-socket.ts'
import { checkContainerNetns, netnsError, openNetns, withNetns, writeSysctls } from '#platform/netns.ts'
import type { AttachRequest, AttachResult, DetachRequest } from '../driver.ts'
import type { LinkInfo } from '../netlink/link-info.ts'
import type { Message } from '../netlink/bytes.ts'
import { createVeth, deleteLink, getLinks, setBridgePort, setLink, type LinkSettings } from '../netlink/link.ts'
import { setPortEntry } from '../netlink/neighbour.ts'
import { isAnyRouterMark } from '../plan/gateway/desired-gateway.ts'
import { bridgeName, ifbName, isMarkedFor, isMarkedOurs, OVERLAY_GROUP } from '../plan/network/names.ts'
import { PORT_FLAGS } from '../plan/network/op.ts'
import type { Carrier } from '../plan/network/switch.ts'
import { shapeLink } from '../shaping/endpoint.ts'
import type { ShapingSupport } from '../plan/shaping/queue.ts'
import {
  arePaired,
  nameTaken,
  readLink,
  readLinks,
  readNetnsId,
  sendAll,
  switchIpv6Off,
  tolerate,
  type Kernel
} from '../kernel/kernel.ts'
import {
  defaultRoutes,
  missingAddresses,
  openInside,
  readAddressesOf,
  setAddresses,
  setDefaultRoutes
} from './container-addresses.ts'
import type { Removal } from '../kernel/removal.ts'

/** A moment, on a busy kernel; an interface whose container sets it down meanwhile never runs. */
const RUNNING_MS = 1_000

/** See Devices.attach. On failure it deletes what it created. */
export async function attachContainer(
  host: AttachHost & { readonly removal: Removal; readonly clock: Clock },
  request: AttachRequest
): Promise<AttachResult> {
  const { kernel, support, carrier, admit } = host
  // Opened once, so that the checks and the changes act on the same namespace even if the path is replaced meanwhile.
  const netnsFd = openNetns(request.netns, { field: 'netns', follow: true })
  try {
    const inside = openInside(netnsFd)
    try {
      const target = { kernel, support, carrier, admit, request, inside, netnsFd }
      refuseForeignNetns(target)
      const stale = staleLink(target)
      if (stale !== null) await host.removal.depart([{ ifindex: stale, name: request.hostInterface }])
      const found = readLink(kernel.socket, request.hostInterface)
      const isComplete = found !== null && staleLink(target) === null
      if (isComplete) completePair(target, found)
      const result = isComplete
        ? { created: false, hostInterface: request.hostInterface, ifindex: found.ifindex }
        : createPair(target)
      if (target.carrier === 'bridge') await untilRunning(host.clock, target, result.ifindex)
      return result
    } finally {
      inside.close()
    }
  } finally {
    closeSync(netnsFd)
  }
}

/**
 * The kernel begins to send on an interface, and lets its bridge forward, a moment after it is up (link watch); before that it
 * drops packets. Asking for a link makes kernels from 6.8 on do it at once.
 */
async function untilRunning(
  clock: Clock,
  { kernel, inside, request }: Pick<AttachTarget, 'kernel' | 'inside' | 'request'>,
  ifindex: number
): Promise<void> {
  const runs = (): boolean => [readLink(kernel.socket, ifindex), readLink(inside, request.ifname)].every(isRunning)
  for (const until = clock.nowMs() + RUNNING_MS; !runs() && clock.nowMs() < until;) await clock.sleep(1)
}

/** One that is gone is waited for no longer. */
const isRunning = (link: LinkInfo | null): boolean => link?.running !== false

/** @throws ERR_NETNS if the namespace is that of a vxmesh host (this one or another on the machine) or of a router */
function refuseForeignNetns({ kernel, inside, netnsFd, request }: AttachTarget): void {
  const { netns: path } = request
  checkContainerNetns(netnsFd, { path, hosts: kernel.netns === null ? [] : [kernel.netns] })
  const links = readLinks(inside, getLinks())
  if (links.some(({ name, alias }) => name === 'lo' && isAnyRouterMark(alias)))
    throw netnsError(path, 'is a router of a network', { field: 'netns' })
  if (links.some(link => link.alias !== '' && isMarkedOurs(link)))
    throw netnsError(path, 'is the network namespace of a host', { field: 'netns' })
}

/** See Devices.detach. Traffic stops at once; the deletion may be coalesced with others. */
export async function detachContainer(
  host: { readonly kernel: Kernel; readonly removal: Removal },
  request: DetachRequest
): Promise<{ readonly removed: boolean }> {
  const { socket } = host.kernel
  const { hostInterface, alias } = request
  const devices = [hostInterface, ifbName(hostInterface)]
    .map(name => readLink(socket, name))
    .filter(link => link !== null)
    .filter(link => isMarkedFor(link, alias))
  for (const { ifindex, name } of devices) {
    tolerate(['ENODEV'], () => void socket.request(setLink(ifindex, { up: false }), `set ${name} down`))
  }
  await host.removal.depart(devices)
  return { removed: devices.some(({ name }) => name === hostInterface) }
}

/** See Devices.updateContainer. */
export function updateContainer(host: AttachHost, request: AttachRequest): void {
  const { hostInterface, ifname, mtu } = request
  withContainer(host, request, target => {
    const outer = readLink(host.kernel.socket, hostInterface)
    const inner = readLink(target.inside, ifname)
    if (outer === null || inner === null || !isPair(target, outer, inner)) return
    if (inner.mtu !== mtu) {
      sendAll(target.inside, `set the MTU of ${ifname} in the container`, [setLink(inner.ifindex, { mtu })])
    }
    // Only now: below 1,280 bytes there is no IPv6.
    const missing = missingAddresses(target, inner.ifindex)
    if (missing.length === 0) return
    setAddresses(target, inner.ifindex, missing)
    if (inner.up) setDefaultRoutes(target, inner.ifindex, missing)
  })
}

/** See Devices.check. */
export function checkContainer(host: AttachHost, request: AttachRequest): void {
  const { hostInterface, ifname, mac, addresses } = request
  const { kernel } = host
  withContainer(host, request, target => {
    const outer = readLink(kernel.socket, hostInterface)
    const inner = readLink(target.inside, ifname)
    if (inner === null) throw checkFailed(`there is no ${ifname} in the container`)
    if (outer === null || !isMarkedFor(outer, request.alias) || !isPair(target, outer, inner)) {
      throw checkFailed(`${ifname} in the container is not the one that was attached`)
    }
    const bridge = readLink(kernel.socket, bridgeName(request.vni))
    if (host.carrier === 'bridge' && outer.master !== bridge?.ifindex)
      throw checkFailed(`${hostInterface} is not on its bridge`)
    if (!outer.up || !inner.up) throw checkFailed(`${ifname} is down`)
    if (host.carrier === 'userspace-switch' && hasChecksumOffload(target.inside, ifname)) {
      throw checkFailed(`${ifname} leaves checksums to a network card`)
    }
    if (inner.mac !== mac) throw checkFailed(`${ifname} has the MAC ${inner.mac ?? 'none'}, not ${mac}`)
    if (missingAddresses(target, inner.ifindex).length > 0) throw checkFailed(`${ifname} does not have its address`)
    for (const { address, gateway } of addresses) {
      if (gateway !== null && defaultRoutes(target, familyOf(address)).length === 0)
        throw checkFailed('the container has no default route')
    }
  })
}

function checkFailed(what: string): VxmeshError {
  return new VxmeshError('ERR_CHECK_FAILED', what)
}

/** One attach, with the container's namespace open. */
type AttachTarget<Request = AttachRequest> = {
  readonly kernel: Kernel
  readonly support: () => ShapingSupport
  /** Not the bridge: a connector makes the host's end a port of a switch, then shapes it and sets it up. */
  readonly carrier: Carrier
  /** Called before the host's end is set up: what secures its port. Null: the filters do. */
  readonly admit: ((ifindex: number, request: AttachRequest) => void) | null
  readonly request: Request
  readonly inside: NetlinkSocket
  readonly netnsFd: number
}

export type AttachHost = Pick<AttachTarget, 'kernel' | 'support' | 'carrier' | 'admit'>

function withContainer<T, Request extends Pick<AttachRequest, 'netns'>>(
  { kernel, support, carrier, admit }: AttachHost,
  request: Request,
  use: (target: AttachTarget<Request>) => T
): T {
  return withNetns(request.netns, netnsFd => {
    // By the descriptor: the path may name another namespace by now.
    const inside = openInside(netnsFd)
    try {
      return use({ kernel, support, carrier, admit, request, inside, netnsFd })
    } finally {
      inside.close()
    }
  })
}

/**
 * Ifindex of our device with the host-side name when it cannot be adopted (incomplete, paired with an older namespace,
 * or with another MAC or address); null when it can, or there is none. An IPv6 address that is merely missing is set: the
 * kernel takes it from an interface that goes down, and the network may have got it later.
 * @throws ERR_IFNAME_IN_USE for a foreign device
 */
function staleLink(target: AttachTarget): number | null {
  const { kernel, request } = target
  const outer = readLink(kernel.socket, request.hostInterface)
  const inner = readLink(target.inside, request.ifname)
  if (outer !== null && !isMarkedFor(outer, request.alias)) {
    throw nameTaken(request.hostInterface, `is taken on the host by "${outer.alias || outer.kind || 'a device'}"`)
  }
  const paired = outer !== null && inner !== null && isPair(target, outer, inner)
  if (inner !== null && !paired) throw nameTaken(request.ifname, 'exists already in the container')
  if (outer === null) return null
  return paired && inner.mac === request.mac && fits(target, inner) ? null : outer.ifindex
}

function fits(target: AttachTarget, inner: LinkInfo): boolean {
  const found = readAddressesOf(target, inner.ifindex)
  return missingAddresses(target, inner.ifindex, found).every(
    ({ address }) => !isIpv4(address) && found.every(one => isIpv4(one.address) || isLinkLocalIpv6(one.address))
  )
}

function isPair(target: AttachTarget<unknown>, outer: LinkInfo, inner: LinkInfo): boolean {
  return arePaired(outer, inner, readNetnsId(target.kernel.socket, target.netnsFd))
}

function createPair(target: AttachTarget): AttachResult {
  const { kernel, request, netnsFd } = target
  const { hostInterface: name, ifname, mac, mtu } = request
  const doing = `create ${name} with ${ifname} in the container`
  try {
    kernel.socket.request(createVeth({ name, mtu, group: OVERLAY_GROUP, peer: { name: ifname, mac, netnsFd } }), doing)
  } catch (err) {
    if (errnoOf(err) === 'EEXIST') throw nameTaken(ifname, 'exists already in the container')
    throw err
  }
  const outer = readLink(kernel.socket, name)
  if (outer === null) throw new VxmeshError('ERR_KERNEL', `${doing}: it was deleted meanwhile`)
  try {
    completePair(target, outer)
    return { created: true, hostInterface: name, ifindex: outer.ifindex }
  } catch (err) {
    for (const device of [name, ifbName(name)]) {
      tolerate(['ENODEV'], () => void kernel.socket.request(deleteLink(device), `delete ${device}`))
    }
    throw err
  }
}

/** Configures both ends. Every step is idempotent and loses no packet of a pair that is right. */
function completePair(target: AttachTarget, outer: LinkInfo): void {
  const { kernel, request, carrier } = target
  const bridged = carrier === 'bridge'
  const { socket } = kernel
  const { alias, mtu } = request
  const settings = { alias, mtu, group: OVERLAY_GROUP }
  target.admit?.(outer.ifindex, request)
  sendAll(
    socket,
    `set up ${outer.name}`,
    bridged ? bridgePort(target, outer, settings) : [setLink(outer.ifindex, settings)]
  )
  // A switch deletes the queues of a new port: its connector shapes it after that.
  if (bridged) shapeLink({ kernel, request, veth: outer, support: target.support })
  switchIpv6Off(kernel, [{ ref: outer.ifindex, name: outer.name }])
  // A switch in user space gets copies of the packets of its ports: the kernel must not answer ARP for the host's addresses.
  if (!bridged) writeSysctls(kernel.netns, [{ key: `net/ipv4/conf/${outer.name}/arp_ignore`, value: '8' }])
  if (bridged) sendAll(socket, `set ${outer.name} up`, [setLink(outer.ifindex, { up: true })])
  configureInside(target)
}

function bridgePort(
  { kernel, request }: AttachTarget,
  { ifindex, name }: LinkInfo,
  settings: LinkSettings
): readonly Message[] {
  const bridge = readLink(kernel.socket, bridgeName(request.vni))
  if (bridge === null) {
    throw new VxmeshError('ERR_KERNEL', `attach ${name}: there is no bridge ${bridgeName(request.vni)}`, {
      context: { errno: 'ENODEV' }
    })
  }
  return [
    setLink(ifindex, { ...settings, master: bridge.ifindex }),
    setBridgePort(ifindex, PORT_FLAGS.container),
    setPortEntry(ifindex, request.mac)
  ]
}

function configureInside(target: AttachTarget): void {
  const { inside, request, carrier } = target
  const { ifname, mtu, addresses } = request
  const inner = readLink(inside, ifname)
  if (inner === null) throw new VxmeshError('ERR_KERNEL', `attach: ${ifname} was deleted from the container`)
  const { ifindex } = inner
  if (carrier === 'userspace-switch') disableChecksumOffload(inside, ifname)
  sendAll(inside, `configure ${ifname} in the container`, [setLink('lo', { up: true }), setLink(ifindex, { mtu })])
  setAddresses(target, ifindex, addresses)
  sendAll(inside, `set ${ifname} up in the container`, [setLink(ifindex, { up: true })])
  setDefaultRoutes(target, ifindex, addresses)
}
