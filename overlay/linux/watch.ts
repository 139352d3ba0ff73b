// Wakes the reconcile loop when another program changed our links, entries, queues, filters or tables, and names the networks. Only a
// hint: the periodic pass finds what a lost notification hid.

import type { Vni } from '#model/ids.ts'
import type { Cancel, Clock } from '#platform/clock.ts'
import { NetlinkSocket, type NetlinkFrame } from '#platform/netlink-socket.ts'
import type { ChangeListener } from '../driver.ts'
import { RTM_DELLINK, RTM_NEWLINK, RTNLGRP_LINK, RTNLGRP_NEIGH, RTNLGRP_TC } from '../netlink/constants.ts'
import { decodeLink, type LinkInfo } from '../netlink/link-info.ts'
import { RTM_DELQDISC, RTM_DELTFILTER, RTM_NEWQDISC, RTM_NEWTFILTER } from '../netlink/tc-constants.ts'
import { decodeTrafficControl } from '../netlink/tc-info.ts'
import { decodeNeighbour } from '../netlink/neighbour.ts'
import { decodeTableName, NFNETLINK, NFNLGRP_NFTABLES } from '../netlink/nftables.ts'
import { NETLINK_XFRM, XFRMNLGRP_POLICY } from '../netlink/xfrm.ts'
import { routerDevice } from '../plan/gateway/desired-gateway.ts'
import { nameRole } from '../plan/network/names.ts'

/** What tells of queues and filters. */
const TRAFFIC_CONTROL: readonly number[] = [RTM_NEWQDISC, RTM_DELQDISC, RTM_NEWTFILTER, RTM_DELTFILTER]

/** How long notifications are collected before they are read. */
const DEBOUNCE_MS = 250

type WatchTarget = {
  readonly netns: string | null
  readonly clock: Clock
  readonly listener: ChangeListener
}

export type WatchOptions = WatchTarget & {
  /** Port ids of this agent's own sockets: changes through them are not drift. */
  readonly own: readonly number[]
  /** The network of a device of ours by its index, as last observed; null is a device of no network. */
  readonly networkOf: (ifindex: number) => Vni | null | undefined
  /** The device that has the tunnel address, as last read; null before. */
  readonly underlay: () => number | null
  /** Does this link's change matter to all networks (the underlay's MTU)? */
  readonly mattersToAll: (link: LinkInfo) => boolean
}

/** Which network a notification is about: null when it may be any, undefined when it is none of ours. */
type Classify = (frame: NetlinkFrame) => Vni | null | undefined

/** Returns how to stop. @throws ERR_NETNS, ERR_KERNEL */
export function watchChanges(options: WatchOptions): () => void {
  const socket = NetlinkSocket.open(options.netns, [RTNLGRP_LINK, RTNLGRP_NEIGH, RTNLGRP_TC])
  const bridges = new Set<string>()
  return watchSocket(socket, options, frame => networkOf(options, frame, bridges))
}

/** The same for our tables in nftables. @throws ERR_NETNS, ERR_KERNEL */
export function watchTables(options: WatchTarget & { readonly own: number }): () => void {
  const socket = NetlinkSocket.open(options.netns, [NFNLGRP_NFTABLES], NFNETLINK)
  return watchSocket(socket, options, frame =>
    frame.portId !== options.own && decodeTableName(frame.payload).startsWith('vxmesh') ? null : undefined
  )
}

/** The same for IPsec's policies. @param options.changed does it matter what they are now? @throws ERR_NETNS, ERR_KERNEL */
export function watchPolicies(options: WatchTarget & { readonly changed: () => boolean }): () => void {
  const socket = NetlinkSocket.open(options.netns, [XFRMNLGRP_POLICY], NETLINK_XFRM)
  return watchSocket(socket, options, () => (options.changed() ? null : undefined))
}

function watchSocket(socket: NetlinkSocket, { clock, listener }: WatchTarget, classify: Classify): () => void {
  let cancelRead: Cancel = () => undefined
  let unwatch: Cancel = () => undefined
  const read = (): void => {
    const classes = new Set<Vni | null>()
    const complete = socket.drain(frame => {
      const network = classify(frame)
      if (network !== undefined) classes.add(network)
    })
    arm()
    const networks = new Set([...classes].filter(network => network !== null))
    if (!complete || networks.size < classes.size) listener(null)
    else if (networks.size > 0) listener(networks)
  }
  const arm = (): void => {
    unwatch = socket.watch(() => {
      // Polling pauses until the socket is read: it stays readable, so the poll would return at once.
      unwatch()
      unwatch = () => undefined
      cancelRead = clock.after(DEBOUNCE_MS, read)
    })
  }
  arm()
  return () => {
    cancelRead()
    unwatch()
    socket.close()
  }
}

/** See Classify. @param bridges those of other programs that were told of */
function networkOf(options: WatchOptions, frame: NetlinkFrame, bridges: Set<string>): Vni | null | undefined {
  if (frame.portId !== 0 && options.own.includes(frame.portId)) return undefined
  if (TRAFFIC_CONTROL.includes(frame.type)) {
    const ifindex = decodeTrafficControl(frame.payload)
    return ifindex !== null && ifindex === options.underlay() ? null : options.networkOf(ifindex ?? 0)
  }
  if (frame.type !== RTM_NEWLINK && frame.type !== RTM_DELLINK) {
    const entry = decodeNeighbour(frame.payload)
    return entry === null ? undefined : options.networkOf(entry.ifindex)
  }
  const link = decodeLink(frame.payload)
  if (link === null) return undefined
  if (options.mattersToAll(link)) return null
  const role = nameRole(link.name)
  const named = role !== null && 'vni' in role ? role.vni : routerDevice(link.name)?.vni
  if (named !== undefined) return named
  const known = options.networkOf(link.ifindex) ?? options.networkOf(link.master)
  if (known !== undefined && known !== null) return known
  return role !== null || isNewBridge(frame, link, bridges) ? null : undefined
}

/** Is it a bridge of another program that was not told of before? The host's rules of IPv6 have to let pass what it forwards. */
function isNewBridge({ type }: NetlinkFrame, { kind, name }: LinkInfo, known: Set<string>): boolean {
  if (kind !== 'bridge') return false
  if (type === RTM_DELLINK) known.delete(name)
  const before = known.size
  return type === RTM_NEWLINK && known.add(name).size > before
}
