// Wakes the reconcile loop when somebody else changed links or entries of ours. Only a hint: the periodic pass finds
// what a lost notification hid.

import { NetlinkSocket, type NetlinkFrame } from '#platform/netlink-socket.ts'
import { RTM_DELLINK, RTM_NEWLINK, RTNLGRP_LINK, RTNLGRP_NEIGH } from '../netlink/constants.ts'
import { decodeLink } from '../netlink/link-info.ts'
import { decodeNeighbour } from '../netlink/neighbour.ts'
import { decodeTableName, NFNETLINK, NFNLGRP_NFTABLES } from '../netlink/nftables.ts'
import { routerDevice } from '../plan/gateway.ts'
import { nameRole } from '../plan/names.ts'

/** Notifications are gathered for so long before they are read. */
const GATHER_MS = 250

export type WatchOptions = {
  readonly netns: string | null
  /** Port ids of our own sockets: what they cause is no drift. */
  readonly own: readonly number[]
  /** Is this the index of a device of ours, as far as the last look knows? */
  readonly isOurs: (ifindex: number) => boolean
  readonly listener: () => void
}

/** Returns how to stop. @throws ERR_NETNS, ERR_KERNEL */
export function watchChanges(options: WatchOptions): () => void {
  const socket = NetlinkSocket.open(options.netns, [RTNLGRP_LINK, RTNLGRP_NEIGH])
  const matters = (frame: NetlinkFrame): boolean => {
    if (frame.portId !== 0 && options.own.includes(frame.portId)) return false
    if (frame.type === RTM_NEWLINK || frame.type === RTM_DELLINK) {
      const link = decodeLink(frame.payload)
      return (
        link !== null &&
        (nameRole(link.name) !== null || routerDevice(link.name) !== null || options.isOurs(link.ifindex))
      )
    }
    const entry = decodeNeighbour(frame.payload)
    return entry !== null && options.isOurs(entry.ifindex)
  }
  return watchSocket(socket, matters, options.listener)
}

/** The same for the tables of ours in nftables, whoever's process changed them. @throws ERR_NETNS, ERR_KERNEL */
export function watchTables(options: {
  readonly netns: string | null
  readonly own: number
  readonly listener: () => void
}): () => void {
  const socket = NetlinkSocket.open(options.netns, [NFNLGRP_NFTABLES], NFNETLINK)
  const matters = (frame: NetlinkFrame): boolean =>
    frame.portId !== options.own && decodeTableName(frame.payload).startsWith('vxmesh')
  return watchSocket(socket, matters, options.listener)
}

function watchSocket(
  socket: NetlinkSocket,
  matters: (frame: NetlinkFrame) => boolean,
  listener: () => void
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
        const changed = socket.drain(matters)
        arm()
        if (changed) listener()
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
