// Executes the planned changes of one endpoint's shaping, in order.

import type { IfName } from '#model/ids.ts'
import { errnoOf } from '#platform/netlink-error.ts'
import type { NetlinkSocket } from '#platform/netlink-socket.ts'
import { VxmeshError } from '#model/errors.ts'
import { readLink, requireLink, switchIpv6Off, tolerate, type Kernel } from '../kernel/kernel.ts'
import { createIfb, setLink } from '../netlink/link.ts'
import { TC_H_EGRESS_FILTERS, TC_H_INGRESS_FILTERS } from '../netlink/tc-constants.ts'
import {
  addRedirect,
  changeQdisc,
  createClsact,
  deleteClsact,
  deleteFilters,
  deleteQdisc,
  replaceQdisc,
  type RedirectSpec
} from '../netlink/tc.ts'
import { OVERLAY_GROUP } from '../plan/network/names.ts'
import { readFilters } from './observe.ts'
import { OUR_PRIORITY, type QueueChange, type ShapingChange } from '../plan/shaping/plan-shaping.ts'

/** The devices of the endpoint. */
export type ShapingTarget = {
  readonly veth: IfName
  readonly ifb: IfName
  readonly alias: string
  readonly mtu: number
}

/** @throws ERR_KERNEL for the first change that the kernel refuses; later changes are not tried */
export function executeShaping(kernel: Kernel, target: ShapingTarget, changes: readonly ShapingChange[]): void {
  for (const change of changes) executeChange(kernel, target, change)
}

function executeChange(kernel: Kernel, target: ShapingTarget, change: ShapingChange): void {
  const { socket } = kernel
  switch (change.kind) {
    case 'ifb-create':
      createIfbDevice(kernel, target)
      break
    case 'queue-replace':
    case 'queue-change':
    case 'queue-delete':
      executeQueueChange(socket, target[change.side], change)
      break
    case 'redirect-set': {
      const ifindex = requireLink(socket, target.veth).ifindex
      if (change.replace) deleteRedirect(socket, ifindex)
      const doing = `create clsact on ${target.veth}`
      tolerate(['EEXIST'], () => void socket.request(createClsact(ifindex), doing))
      const spec = { ifindex, priority: OUR_PRIORITY, target: requireLink(socket, target.ifb).ifindex }
      setRedirect(socket, spec, `redirect ${target.veth} to ${target.ifb}`)
      break
    }
    case 'redirect-delete': {
      const ifindex = requireLink(socket, target.veth).ifindex
      deleteRedirect(socket, ifindex)
      // Other software, such as a chained CNI plugin, may have filters there too.
      const inUse = [TC_H_INGRESS_FILTERS, TC_H_EGRESS_FILTERS].some(p => readFilters(socket, ifindex, p).length > 0)
      const doing = `delete clsact of ${target.veth}`
      if (!inUse) tolerate(ABSENT, () => void socket.request(deleteClsact(ifindex), doing))
      break
    }
  }
}

/** One that was not observed is replaced. */
function setRedirect(socket: NetlinkSocket, spec: RedirectSpec, doing: string): void {
  try {
    socket.request(addRedirect(spec), doing)
  } catch (err) {
    if (errnoOf(err) !== 'EEXIST') throw err
    deleteRedirect(socket, spec.ifindex)
    socket.request(addRedirect(spec), doing)
  }
}

/** @throws ERR_KERNEL */
export function executeQueueChange(socket: NetlinkSocket, device: string, change: QueueChange): void {
  const { parent, handle } = change
  if (change.kind === 'queue-delete') {
    const ifindex = readLink(socket, device)?.ifindex
    if (ifindex === undefined) return
    tolerate(GONE, () => void socket.request(deleteQdisc({ ifindex, parent, handle }), `delete qdisc of ${device}`))
    return
  }
  const place = { ifindex: requireLink(socket, device).ifindex, parent, handle }
  const message = change.kind === 'queue-change' ? changeQdisc : replaceQdisc
  socket.request(message(place, change.spec), `set ${change.spec.kind} on ${device}`)
}

/** ENODEV: the device went away meanwhile, with its namespace. */
const GONE: readonly string[] = ['ENOENT', 'ENODEV']

/** EINVAL: clsact is absent, or another qdisc is in its place. */
const ABSENT: readonly string[] = ['ENOENT', 'EINVAL']

function deleteRedirect(socket: NetlinkSocket, ifindex: number): void {
  const filters = { ifindex, parent: TC_H_INGRESS_FILTERS, priority: OUR_PRIORITY }
  tolerate(ABSENT, () => void socket.request(deleteFilters(filters), 'delete redirect filter'))
}

/** Created in our group, so that it is recognised even if the agent crashes before the alias is set. */
function createIfbDevice(kernel: Kernel, target: ShapingTarget): void {
  const { ifb: name, mtu } = target
  try {
    kernel.socket.request(createIfb({ name, mtu, group: OVERLAY_GROUP }), `create ${name}`)
  } catch (err) {
    if (errnoOf(err) !== 'ENOTSUP') throw err
    throw new VxmeshError(
      'ERR_UNSUPPORTED',
      'this kernel has no IFB devices: it cannot shape traffic from containers',
      {
        cause: err
      }
    )
  }
  settleIfb(kernel, target)
}

/** Marks an IFB device and brings it up; idempotent. */
export function settleIfb(kernel: Kernel, { ifb: name, alias, mtu }: ShapingTarget): void {
  const { socket } = kernel
  socket.request(setLink(name, { alias, mtu, group: OVERLAY_GROUP }), `mark ${name}`)
  switchIpv6Off(kernel, [{ ref: name, name }])
  socket.request(setLink(name, { up: true }), `set ${name} up`)
}
