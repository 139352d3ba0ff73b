// Wakes the reconcile loop when somebody else changed links or entries of ours, and tells in which networks. Only a
// hint: the periodic pass finds what a lost notification hid.

import type { Vni } from '#model/ids.ts'
import { NetlinkSocket, type NetlinkFrame } from '#platform/netlink-socket.ts'
import type { ChangeListener } from '../driver.ts'
import { RTM_DELLINK, RTM_NEWLINK, RTNLGRP_LINK, RTNLGRP_NEIGH } from '../netlink/constants.ts'
import { decodeLink, type LinkInfo } from '../netlink/link-info.ts'
import { decodeNeighbour } from '../netlink/neighbour.ts'
import { decodeTableName, NFNETLINK, NFNLGRP_NFTABLES } from '../netlink/nftables.ts'
import { routerDevice } from '../plan/gateway/desired-gateway.ts'
import { nameRole } from '../plan/network/names.ts'

/** Notifications are gathered for so long before they are read. */
const GATHER_MS = 250

export type WatchOptions = {
  readonly netns: string | null
  /** Port ids of our own sockets: what they cause is no drift. */
  readonly own: readonly number[]
  /** The network of a device of ours by its index, as far as the last look knows; null is a device of no network. */
  readonly networkOf: (ifindex: number) => Vni | null | undefined
  /** Does this link's change matter to all networks (the underlay's MTU)? */
  readonly mattersToAll: (link: LinkInfo) => boolean
  readonly listener: ChangeListener
}

/** Returns how to stop. @throws ERR_NETNS, ERR_KERNEL */
export function watchChanges(options: WatchOptions): () => void {
  const socket = NetlinkSocket.open(options.netns, [RTNLGRP_LINK, RTNLGRP_NEIGH])
  return watchSocket(socket, frame => networkOf(options, frame), options.listener)
}

/** The same for the tables of ours in nftables, whoever's process changed them. @throws ERR_NETNS, ERR_KERNEL */
export function watchTables(options: {
  readonly netns: string | null
  readonly own: number
  readonly listener: ChangeListener
}): () => void {
  const socket = NetlinkSocket.open(options.netns, [NFNLGRP_NFTABLES], NFNETLINK)
  const scopeOf = (frame: NetlinkFrame): null | undefined =>
    frame.portId !== options.own && decodeTableName(frame.payload).startsWith('vxmesh') ? null : undefined
  return watchSocket(socket, scopeOf, options.listener)
}

/** `scopeOf` tells which network a notification is about: null when it may be any, undefined when it is none of ours. */
function watchSocket(
  socket: NetlinkSocket,
  scopeOf: (frame: NetlinkFrame) => Vni | null | undefined,
  listener: ChangeListener
): () => void {
  let timer: NodeJS.Timeout | null = null
  let unwatch: (() => void) | null = null
  const arm = (): void => {
    unwatch = socket.watch(() => {
      // Not polled again before it is read: the socket stays readable until then.
      unwatch?.()
      unwatch = null
      timer = setTimeout(() => {
        timer = null
        const networks = new Set<Vni | null>()
        const complete = socket.drain(frame => {
          const network = scopeOf(frame)
          if (network !== undefined) networks.add(network)
        })
        arm()
        if (!complete || networks.has(null)) listener(null)
        else if (networks.size > 0) listener(networks as Set<Vni>)
      }, GATHER_MS)
      timer.unref()
    })
  }
  arm()
  return () => {
    if (timer !== null) clearTimeout(timer)
    unwatch?.()
    socket.close()
  }
}

/** See watchSocket. */
function networkOf(options: WatchOptions, frame: NetlinkFrame): Vni | null | undefined {
  if (frame.portId !== 0 && options.own.includes(frame.portId)) return undefined
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
  return known ?? (role === null ? undefined : null)
}
