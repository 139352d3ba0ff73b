// The planner: diffs desired against observed and returns the ops that make them equal; none when they are. Level-
// triggered: any suffix of a plan may be lost, the next plan catches up. New entries are added before stale ones are
// deleted. Pure.

import { endpointKey, type EndpointKey } from '#model/endpoint.ts'
import type { IfName, Vni } from '#model/ids.ts'
import type { DesiredHost, DesiredNetwork } from './desired.ts'
import { ifbName, nameRole, parseEndpointAlias } from './names.ts'
import type { Observed, ObservedLink } from './observed.ts'
import type { BridgeOp, Op } from './op.ts'
import { planBridge, planVxlan } from './plan-devices.ts'
import { planEndpoint, planEndpointShaping } from './plan-endpoint.ts'
import { planEntries } from './plan-entries.ts'

/** A device that has one of our names but is not ours. Its network or endpoint is left alone. */
export type Conflict = { readonly vni: Vni; readonly device: IfName; readonly reason: string }

/** A local endpoint without a veth. */
export type Missing = { readonly vni: Vni; readonly endpoint: EndpointKey }

export type Plan<PlanOp = Op> = {
  readonly ops: readonly PlanOp[]
  readonly conflicts: readonly Conflict[]
  /** The planner cannot create veths: the caller attaches these endpoints again or releases them. */
  readonly missing: readonly Missing[]
}

/** O(devices + entries). Devices are deleted last. */
export function plan(desired: DesiredHost, observed: Observed): Plan<BridgeOp> {
  const ops: BridgeOp[] = []
  const conflicts: Conflict[] = []
  const missing: Missing[] = []
  const wanted = new Set<string>()
  for (const network of desired.networks.values()) {
    if (observed.scope !== null && observed.scope !== network.vni) continue
    for (const name of [network.bridge, network.vxlan, ...network.endpoints.keys()]) wanted.add(name)
    for (const veth of network.endpoints.keys()) wanted.add(ifbName(veth))
    planNetwork({ network, observed, ops, conflicts, missing })
  }
  for (const link of observed.links.values()) {
    if (link.kind !== 'foreign' && !wanted.has(link.name)) {
      ops.push({ kind: 'device-delete', vni: linkNetwork(link), device: link.name, ifindex: link.ifindex })
    }
  }
  return { ops, conflicts, missing }
}

function planNetwork(p: {
  network: DesiredNetwork
  observed: Observed
  ops: BridgeOp[]
  conflicts: Conflict[]
  missing: Missing[]
}): void {
  const { network, conflicts } = p
  const { links } = p.observed
  const bridge = links.get(network.bridge)
  const vxlan = links.get(network.vxlan)
  const foreign = [bridge, vxlan].filter(link => link?.kind === 'foreign')
  if (foreign.length > 0) {
    for (const link of foreign) conflicts.push(conflict(network.vni, link))
    return
  }
  const bridgePlan = planBridge(network, bridge?.kind === 'bridge' ? bridge : undefined)
  const vxlanPlan = planVxlan(network, vxlan?.kind === 'vxlan' ? vxlan : undefined)
  const adds: BridgeOp[] = []
  const deletes: BridgeOp[] = []
  planEntries({ network, bridge: bridgePlan.kept, vxlan: vxlanPlan.kept, adds, deletes })
  const devices = [...bridgePlan.ops, ...vxlanPlan.ops]
  for (const endpoint of network.endpoints.values()) {
    const link = links.get(endpoint.device)
    if (link === undefined) {
      const owner = parseEndpointAlias(endpoint.alias)
      if (owner !== null) {
        p.missing.push({ vni: network.vni, endpoint: endpointKey(owner.containerId, owner.ifname) })
      }
    } else if (link.kind !== 'veth') {
      conflicts.push(conflict(network.vni, link))
    } else if (link.alias !== '' && link.alias !== endpoint.alias) {
      conflicts.push({ vni: network.vni, device: link.name, reason: `belongs to "${link.alias}"` })
    } else {
      planEndpoint({ network, endpoint, link, devices, adds, deletes })
      const shapingConflict = planEndpointShaping({ network, endpoint, observed: p.observed, devices })
      if (shapingConflict !== undefined) conflicts.push(conflict(network.vni, shapingConflict))
    }
  }
  // Not a spread: a network may have more entries than a call takes arguments.
  for (const some of [devices, adds, deletes]) for (const op of some) p.ops.push(op)
}

export function conflict(vni: Vni, link: ObservedLink | undefined): Conflict {
  const device = link?.name ?? ('' as IfName)
  return { vni, device, reason: link?.kind === 'foreign' ? link.reason : 'is of another kind' }
}

/** The network of a device, derived from its own name or its bridge's; null when neither tells. */
export function linkNetwork(link: ObservedLink): Vni | null {
  const name = link.kind === 'veth' ? (link.master ?? '') : link.name
  const role = nameRole(name)
  return role !== null && 'vni' in role ? role.vni : null
}
