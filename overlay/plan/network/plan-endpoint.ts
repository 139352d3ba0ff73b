// Plans the host side of one local endpoint whose veth exists: its bridge, its port flags, its one MAC and its shaping.
// Pure.

import type { DesiredEndpoint, DesiredNetwork } from './desired.ts'
import { planShaping, type ObservedEndpointShaping } from '../shaping/plan-shaping.ts'
import { ifbName } from './names.ts'
import type { ForeignDevice, Observed, ObservedVeth } from './observed.ts'
import type { BridgeOp, DeviceOp } from './op.ts'
import { hasFlags, linkChanges, linkSet } from './plan-devices.ts'

export function planEndpoint(p: {
  readonly network: DesiredNetwork
  readonly endpoint: DesiredEndpoint
  readonly link: ObservedVeth
  readonly devices: BridgeOp[]
  readonly adds: BridgeOp[]
  readonly deletes: BridgeOp[]
}): void {
  const { network, endpoint, link } = p
  const { vni, bridge: master, mtu } = network
  const { device, alias, mac } = endpoint
  const enslave = link.master !== master
  const changes = { ...linkChanges(link, { alias, mtu }), ...(enslave ? { master } : {}) }
  p.devices.push(...linkSet({ vni, device, changes }))
  if (enslave || !hasFlags(link.flags, 'container'))
    p.devices.push({ kind: 'port-set', vni, device, role: 'container' })
  if (enslave || link.macs.get(mac) !== 'static') p.adds.push({ kind: 'port-mac-set', vni, device, mac })
  for (const other of link.macs.keys()) {
    if (other !== mac) p.deletes.push({ kind: 'port-mac-delete', vni, device, mac: other })
  }
}

/** Returns the foreign device, if any, whose name the IFB device needs. */
export function planEndpointShaping(p: {
  readonly network: DesiredNetwork
  readonly endpoint: DesiredEndpoint
  readonly observed: Observed
  /** Takes the planned ops. */
  readonly devices: { push(...ops: DeviceOp[]): unknown }
  /** An earlier op of the plan removes the veth's queues: Open vSwitch clears them when it adds the port. */
  readonly queuesCleared?: boolean
}): ForeignDevice | undefined {
  const { vni, mtu } = p.network
  const { device, alias, shaping } = p.endpoint
  const found = p.observed.shaping
  const seen = found?.byVeth.get(device)
  const observed = seen !== undefined && p.queuesCleared === true ? withoutQueues(seen) : seen
  if (found === undefined || observed === undefined) return undefined
  const ifb = ifbName(device)
  const link = p.observed.links.get(ifb)
  const plan = planShaping({ want: shaping, mtu, support: found.support, observed })
  if (link?.kind === 'foreign') return plan.ifb ? link : undefined
  const keep = link?.kind === 'ifb' && plan.ifb
  if (keep) p.devices.push(...linkSet({ vni, device: ifb, changes: linkChanges(link, { alias, mtu }) }))
  if (plan.changes.length > 0) p.devices.push({ kind: 'shape', vni, device, ifb, alias, mtu, changes: plan.changes })
  if (link !== undefined && !keep) p.devices.push({ kind: 'device-delete', vni, device: ifb, ifindex: link.ifindex })
  return undefined
}

/** The redirect filter may or may not survive, so it is planned to be replaced. */
function withoutQueues(seen: ObservedEndpointShaping): ObservedEndpointShaping {
  return { ...seen, into: [], redirect: seen.redirect === 'none' ? 'none' : 'odd' }
}
