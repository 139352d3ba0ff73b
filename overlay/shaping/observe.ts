// Reads the queues of endpoints: those of the whole host by one dump, plus one dump of filters for each veth with clsact,
// or those of a single endpoint.

import { errnoOf } from '#platform/netlink-error.ts'
import type { NetlinkSocket } from '#platform/netlink-socket.ts'
import type { LinkInfo } from '../netlink/link-info.ts'
import {
  CLSACT_HANDLE,
  RTM_NEWQDISC,
  RTM_NEWTFILTER,
  TC_H_CLSACT,
  TC_H_INGRESS_FILTERS,
  TC_H_ROOT
} from '../netlink/tc-constants.ts'
import { decodeFilter, decodeQdisc, type FilterInfo, type QdiscInfo } from '../netlink/tc-info.ts'
import { getFilters, getQdisc, getQdiscs } from '../netlink/tc.ts'
import {
  childParent,
  OUR_PRIORITY,
  ourQueue,
  type ObservedEndpointShaping,
  type ObservedQueue,
  type ObservedRedirect
} from '../plan/shaping/plan-shaping.ts'

/** The devices of one endpoint. */
export type ShapedPair = { readonly veth: LinkInfo; readonly ifb: LinkInfo | null }

/**
 * Reads every pair; the result is by veth name.
 * @param sampled of a veth without an IFB device: is it to be looked at for a redirect that should not be there?
 * @throws ERR_KERNEL
 */
export function observeShaping(
  socket: NetlinkSocket,
  pairs: readonly ShapedPair[],
  sampled: (ifindex: number) => boolean = () => true
): ReadonlyMap<string, ObservedEndpointShaping> {
  const byDevice = new Map<number, QdiscInfo[]>()
  const read = (type: number, payload: Uint8Array): QdiscInfo | undefined =>
    type === RTM_NEWQDISC ? (decodeQdisc(payload) ?? undefined) : undefined
  for (const qdisc of socket.dump(getQdiscs(), read, 'read qdiscs')) {
    const list = byDevice.get(qdisc.ifindex)
    if (list === undefined) byDevice.set(qdisc.ifindex, [qdisc])
    else list.push(qdisc)
  }
  const queue = (link: LinkInfo): ObservedQueue => ourQueue(byDevice.get(link.ifindex) ?? [])
  return new Map(
    pairs.map(({ veth, ifb }) => {
      const anchored = byDevice.get(veth.ifindex)?.some(qdisc => qdisc.handle === CLSACT_HANDLE) === true
      const filtered = anchored && (ifb !== null || sampled(veth.ifindex))
      const observed = {
        into: queue(veth),
        redirect: filtered ? readRedirect(socket, veth.ifindex) : ('none' as const),
        ifb: ifb === null ? null : { ifindex: ifb.ifindex, out: queue(ifb) }
      }
      return [veth.name, observed] as const
    })
  )
}

/** Reads one pair without a dump of all devices. @throws ERR_KERNEL */
export function observePair(socket: NetlinkSocket, { veth, ifb }: ShapedPair): ObservedEndpointShaping {
  const filtered = readQdisc(socket, veth.ifindex, TC_H_CLSACT) !== null
  return {
    into: readQueue(socket, veth.ifindex),
    redirect: filtered ? readRedirect(socket, veth.ifindex) : 'none',
    ifb: ifb === null ? null : { ifindex: ifb.ifindex, out: readQueue(socket, ifb.ifindex) }
  }
}

/** All filters of a device under one parent. @throws ERR_KERNEL */
export function readFilters(socket: NetlinkSocket, ifindex: number, parent: number): readonly FilterInfo[] {
  return socket.dump(
    getFilters({ ifindex, parent }),
    (type, payload) => (type === RTM_NEWTFILTER ? (decodeFilter(payload) ?? undefined) : undefined),
    'read filters'
  )
}

function readRedirect(socket: NetlinkSocket, ifindex: number): ObservedRedirect {
  const ours = readFilters(socket, ifindex, TC_H_INGRESS_FILTERS).filter(f => f.priority === OUR_PRIORITY)
  const [only] = ours
  if (only === undefined) return 'none'
  return ours.length === 1 && only.redirectAll !== null && only.redirectAll !== 0 ? only.redirectAll : 'odd'
}

function readQueue(socket: NetlinkSocket, ifindex: number): ObservedQueue {
  const found: QdiscInfo[] = []
  let parent = TC_H_ROOT
  for (;;) {
    const qdisc = readQdisc(socket, ifindex, parent)
    if (qdisc === null) return found
    const chain = ourQueue([...found, { ...qdisc, parent }])
    if (chain.length === found.length) return found
    found.push({ ...qdisc, parent })
    parent = childParent(qdisc.handle)
  }
}

function readQdisc(socket: NetlinkSocket, ifindex: number, parent: number): QdiscInfo | null {
  try {
    const [answer] = socket.request(getQdisc({ ifindex, parent, handle: 0 }), 'read qdisc')
    return answer === undefined ? null : decodeQdisc(answer)
  } catch (err) {
    // There is no qdisc, or the parent is classless and cannot have children.
    if (['ENOENT', 'EINVAL', 'ENOTSUP'].includes(errnoOf(err) ?? '')) return null
    throw err
  }
}
