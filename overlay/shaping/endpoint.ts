// Observes, plans and executes the shaping of one endpoint in one go, for attach and for a change of its rates.

import type { Shaping } from '#model/endpoint.ts'
import type { IfName } from '#model/ids.ts'
import type { ShapeRequest } from '../driver.ts'
import { readLink, type Kernel } from '../kernel/kernel.ts'
import type { DeviceRef } from '../kernel/removal.ts'
import type { LinkInfo } from '../netlink/link-info.ts'
import { ifbName, isMarkedFor } from '../plan/network/names.ts'
import { executeShaping, settleIfb } from './execute.ts'
import { observePair, type ShapedPair } from './observe.ts'
import { installedShaping, planShaping } from '../plan/shaping/plan-shaping.ts'
import type { ShapingSupport } from '../plan/shaping/queue.ts'

/**
 * Returns the IFB device if it is no longer needed; the caller deletes it. @throws ERR_KERNEL, also when a foreign device
 * has its name
 */
export function shapeLink(p: {
  readonly kernel: Kernel
  readonly request: ShapeRequest
  readonly veth: LinkInfo
  readonly support: () => ShapingSupport
}): DeviceRef | null {
  const { kernel, request } = p
  const { alias, mtu, shaping: want } = request
  const pair = readPair(kernel, p.veth, alias)
  const asked = want.ingressRate > 0 || want.egressRate > 0 || want.delayUs > 0
  const support = asked ? p.support() : { rate: true, fqCodel: true, delay: true }
  const { changes, ifb } = planShaping({ want, mtu, support, observed: observePair(kernel.socket, pair) })
  const target = { veth: request.hostInterface, ifb: ifbName(request.hostInterface), alias, mtu }
  if (ifb && pair.ifb !== null && (!pair.ifb.up || pair.ifb.alias === '')) settleIfb(kernel, target)
  executeShaping(kernel, target, changes)
  return ifb ? null : pair.ifb
}

/** See Devices.installedShaping. */
export function readShaping(kernel: Kernel, request: ShapeRequest): Shaping | null {
  const { alias, mtu, shaping: asked } = request
  const veth = readVeth(kernel, request)
  if (veth === null) return null
  return installedShaping({ observed: observePair(kernel.socket, readPair(kernel, veth, alias)), mtu, asked })
}

/** The veth of an endpoint; null when it does not exist or is not ours. */
export function readVeth(kernel: Kernel, { hostInterface, alias }: ShapeRequest): LinkInfo | null {
  const veth = readLink(kernel.socket, hostInterface)
  return veth !== null && isMarkedFor(veth, alias) ? veth : null
}

function readPair(kernel: Kernel, veth: LinkInfo, alias: string): ShapedPair {
  const ifb = readLink(kernel.socket, ifbName(veth.name as IfName))
  return { veth, ifb: ifb !== null && isMarkedFor(ifb, alias) ? ifb : null }
}
