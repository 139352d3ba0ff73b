// Carries the changes of one endpoint's shaping out, in their order.

import type { IfName } from '#model/ids.ts'
import { errnoOf, type NetlinkSocket } from '#platform/netlink-socket.ts'
import { VxmeshError } from '#model/errors.ts'
import { readLink, switchIpv6Off, tolerate, type Kernel } from '../kernel/kernel.ts'
import { createIfb, setLink } from '../netlink/link.ts'
import { TC_H_EGRESS_FILTERS, TC_H_INGRESS_FILTERS } from '../netlink/tc-constants.ts'
import {
  addRedirect,
  changeQdisc,
  createClsact,
  deleteClsact,
  deleteFilters,
  deleteQdisc,
  replaceQdisc
} from '../netlink/tc.ts'
import { OVERLAY_GROUP } from '../plan/network/names.ts'
import { readFilters } from './observe.ts'
import { OUR_PRIORITY, type ShapingChange } from '../plan/shaping/plan-shaping.ts'

/** The devices that the changes are about. */
export type ShapingTarget = {
  readonly veth: IfName
  readonly ifb: IfName
  readonly alias: string
  readonly mtu: number
}

/** @throws ERR_KERNEL with the kernel's words: the changes before it are done, the ones after it are not */
export function executeShaping(kernel: Kernel, target: ShapingTarget, changes: readonly ShapingChange[]): void {
  for (const change of changes) executeChange(kernel, target, change)
}

function executeChange(kernel: Kernel, target: ShapingTarget, change: ShapingChange): void {
  const { socket } = kernel
  switch (change.kind) {
    case 'ifb-create':
      createDevice(kernel, target)
      break
    case 'queue-replace':
    case 'queue-change': {
      const place = { ifindex: indexOf(socket, target[change.side]), parent: change.parent, handle: change.handle }
      const message = change.kind === 'queue-change' ? changeQdisc : replaceQdisc
      socket.request(message(place, change.spec), `set ${change.spec.kind} on ${target[change.side]}`)
      break
    }
    case 'queue-delete': {
      const { side, parent, handle } = change
      const doing = `delete qdisc of ${target[side]}`
      const place = { ifindex: indexOf(socket, target[side]), parent, handle }
      tolerate(['ENOENT'], () => void socket.request(deleteQdisc(place), doing))
      break
    }
    case 'redirect-set': {
      const ifindex = indexOf(socket, target.veth)
      if (change.replace) deleteRedirect(socket, ifindex)
      const room = (): unknown => socket.request(createClsact(ifindex), `make room for a filter on ${target.veth}`)
      tolerate(['EEXIST'], () => void room())
      const spec = { ifindex, priority: OUR_PRIORITY, target: indexOf(socket, target.ifb) }
      socket.request(addRedirect(spec), `redirect ${target.veth} to ${target.ifb}`)
      break
    }
    case 'redirect-delete': {
      const ifindex = indexOf(socket, target.veth)
      deleteRedirect(socket, ifindex)
      // Somebody else may have filters there too, a chained CNI plugin say.
      const others = [TC_H_INGRESS_FILTERS, TC_H_EGRESS_FILTERS].some(p => readFilters(socket, ifindex, p).length > 0)
      if (!others) tolerate(ABSENT, () => void socket.request(deleteClsact(ifindex), `clear ${target.veth}`))
      break
    }
  }
}

/** EINVAL: the room for filters is not there, or of another kind. */
const ABSENT: readonly string[] = ['ENOENT', 'EINVAL']

function deleteRedirect(socket: NetlinkSocket, ifindex: number): void {
  const filters = { ifindex, parent: TC_H_INGRESS_FILTERS, priority: OUR_PRIORITY }
  tolerate(ABSENT, () => void socket.request(deleteFilters(filters), 'delete redirection'))
}

/** In our group from birth, so that a crash leaves nothing that we would not know again; marked, then set up. */
function createDevice(kernel: Kernel, target: ShapingTarget): void {
  const { ifb: name, mtu } = target
  try {
    kernel.socket.request(createIfb({ name, mtu, group: OVERLAY_GROUP }), `create ${name}`)
  } catch (err) {
    if (errnoOf(err) !== 'ENOTSUP') throw err
    throw new VxmeshError('ERR_UNSUPPORTED', 'this kernel has no IFB devices: it cannot shape what containers send', {
      cause: err
    })
  }
  settleIfb(kernel, target)
}

/** Marks an IFB device and sets it up; idempotent. */
export function settleIfb(kernel: Kernel, { ifb: name, alias, mtu }: ShapingTarget): void {
  const { socket } = kernel
  socket.request(setLink(name, { alias, mtu, group: OVERLAY_GROUP }), `mark ${name}`)
  switchIpv6Off(kernel, [{ ref: name, name }])
  socket.request(setLink(name, { up: true }), `set ${name} up`)
}

function indexOf(socket: NetlinkSocket, name: IfName): number {
  const link = readLink(socket, name)
  if (link === null) throw new VxmeshError('ERR_KERNEL', `there is no device ${name}`, { context: { errno: 'ENODEV' } })
  return link.ifindex
}
