// The planner for a host with a switch: desired state, devices and shaping are the same as with Linux bridges, but ports
// and flows replace bridges and their entries. Pure.

import { endpointKey } from '#model/endpoint.ts'
import type { IfName } from '#model/ids.ts'
import type { DesiredEndpoint, DesiredHost, DesiredNetwork } from '../network/desired.ts'
import { ifbName, parseEndpointAlias, SWITCH } from '../network/names.ts'
import type { Observed, ObservedVeth } from '../network/observed.ts'
import type { SwitchOp } from '../network/op.ts'
import { linkChanges, linkSet } from '../network/plan-devices.ts'
import { planEndpointShaping } from '../network/plan-endpoint.ts'
import { conflict, type Conflict, type Missing, type Plan } from '../network/plan-network.ts'
import type { FlowChange, FlowOwner, Flows, ObservedPort, ObservedSwitch, PortMark } from '../network/switch.ts'
import { vtepsOf } from '../underlay/peers.ts'
import { diffFlows, narrows } from './flow.ts'
import { hostFlows, networkFlows, TUNNEL_PORT } from './pipeline.ts'

/** The highest usable port number: OpenFlow reserves those above (OFPP_MAX). */
const PORT_MAX = 0xfeff

export type PlanOptions = {
  /** UDP port of VXLAN. */
  readonly port: number
  /** Requested port numbers by device. */
  readonly requested: ReadonlyMap<string, number>
}

const NO_SWITCH: ObservedSwitch = { right: false, ports: new Map(), routers: new Map(), flows: new Map() }

type Parts = {
  readonly observed: Observed
  readonly ovs: ObservedSwitch
  readonly numbers: PortNumbers
  readonly conflicts: Conflict[]
  readonly missing: Missing[]
  readonly devices: SwitchOp[]
  readonly ports: SwitchOp[]
  /** After the ports: Open vSwitch removes the queues of a device when it adds the port. */
  readonly shaping: SwitchOp[]
  readonly flows: SwitchOp[]
  /** A device is brought up after its flows are installed, so that its first packet is forwarded. */
  readonly ups: SwitchOp[]
  readonly wanted: Set<string>
}

/** O(devices + flows). Flows are added after the ports they output to, and deleted before them. */
export function planSwitch(desired: DesiredHost, observed: Observed, options: PlanOptions): Plan<SwitchOp> {
  const { scope } = observed
  const ovs = observed.switch ?? NO_SWITCH
  const p: Parts = {
    observed,
    ovs,
    numbers: new PortNumbers(ovs, options.requested),
    conflicts: [],
    missing: [],
    devices: [],
    ports: ovs.right ? [] : [{ kind: 'switch-set', vni: null, device: SWITCH }],
    shaping: [],
    flows: [],
    ups: [],
    wanted: new Set()
  }
  if (scope === null) planFlows(p, 0, hostFlows({ vteps: vtepsOf(desired.peers), port: options.port }))
  for (const network of desired.networks.values()) {
    if (scope === null || scope === network.vni) planNetwork(p, network)
  }
  for (const owner of ovs.flows.keys()) {
    const known = owner === 0 || desired.networks.has(owner)
    if (!known && (scope === null || scope === owner)) planFlows(p, owner, new Map())
  }
  const gone: SwitchOp[] = []
  for (const [name, { mark }] of ovs.ports) {
    const device = name as IfName
    if (mark === null || p.wanted.has(device) || (scope !== null && mark.vni !== scope)) continue
    gone.push({ kind: 'switch-port-delete', vni: mark.vni, device })
  }
  for (const link of observed.links.values()) {
    if (link.kind === 'foreign' || p.wanted.has(link.name)) continue
    const vni = ovs.ports.get(link.name)?.mark?.vni ?? null
    gone.push({ kind: 'device-delete', vni, device: link.name, ifindex: link.ifindex })
  }
  const { conflicts, missing } = p
  return { ops: [...p.devices, ...p.ports, ...p.shaping, ...p.flows, ...p.ups, ...gone], conflicts, missing }
}

function planNetwork(p: Parts, network: DesiredNetwork): void {
  const { vni, router } = network
  const numbers = new Map<IfName, number>()
  for (const endpoint of network.endpoints.values()) {
    const { device } = endpoint
    p.wanted.add(device).add(ifbName(device))
    const link = p.observed.links.get(device)
    if (link === undefined) planMissing(p, network, endpoint)
    else if (link.kind !== 'veth') p.conflicts.push(conflict(vni, link))
    else if (link.alias !== '' && link.alias !== endpoint.alias) {
      p.conflicts.push({ vni, device, reason: `belongs to "${link.alias}"` })
    } else {
      planDevice(p, { network, endpoint, link })
      const mark = { vni, alias: endpoint.alias, mac: endpoint.mac }
      const number = planPort(p, { device, mark, ifindex: link.ifindex })
      if (number !== null) numbers.set(device, number)
    }
  }
  const ifindex = router === null ? undefined : p.ovs.routers.get(router.port)
  if (router !== null && ifindex !== undefined) {
    p.wanted.add(router.port)
    const mark = { vni, alias: network.alias, mac: router.mac }
    const number = planPort(p, { device: router.port, mark, ifindex })
    if (number !== null) numbers.set(router.port, number)
  }
  planFlows(p, vni, networkFlows(network, numbers))
}

/** Not wanted, so its port is deleted too: a device recreated under the name needs a new port. */
function planMissing({ missing, wanted }: Parts, { vni }: DesiredNetwork, { device, alias }: DesiredEndpoint): void {
  wanted.delete(device)
  const owner = parseEndpointAlias(alias)
  if (owner !== null) missing.push({ vni, endpoint: endpointKey(owner.containerId, owner.ifname) })
}

function planDevice(
  p: Parts,
  { network, endpoint, link }: { network: DesiredNetwork; endpoint: DesiredEndpoint; link: ObservedVeth }
): void {
  const { vni, mtu } = network
  const { device, alias } = endpoint
  const { up, ...changes } = linkChanges(link, { alias, mtu })
  p.devices.push(...linkSet({ vni, device, changes }))
  if (up === true) p.ups.push(...linkSet({ vni, device, changes: { up } }))
  const queuesCleared = needsPort(p.ovs.ports.get(device), link.ifindex)
  const { observed, shaping } = p
  const shapingConflict = planEndpointShaping({ network, endpoint, observed, devices: shaping, queuesCleared })
  if (shapingConflict !== undefined) p.conflicts.push(conflict(vni, shapingConflict))
}

/** Returns the port's number; null when there is a conflict. */
function planPort(p: Parts, want: { device: IfName; mark: PortMark; ifindex: number }): number | null {
  const { device, mark, ifindex } = want
  const { vni } = mark
  const port = p.ovs.ports.get(device)
  if (port?.mark === null) {
    p.conflicts.push({ vni, device, reason: 'is a port of the switch that is not ours' })
    return null
  }
  const number = p.numbers.of(device, port)
  if (number === null) {
    p.conflicts.push({ vni, device, reason: 'there is no number left for its port' })
    return null
  }
  const renew = port !== undefined && needsPort(port, ifindex)
  const right = port?.number === number && port.requested === number && isMark(port.mark, mark) && !renew
  if (!right) p.ports.push({ kind: 'switch-port-set', vni, device, number, mark, renew })
  return number
}

/** Must the device be added to the switch, because its port does not exist or holds a deleted device of the same name? */
export function needsPort(port: ObservedPort | undefined, ifindex: number): boolean {
  return port === undefined || (port.ifindex > 0 && port.ifindex !== ifindex)
}

function isMark(have: PortMark | null, want: PortMark): boolean {
  return have !== null && have.vni === want.vni && have.alias === want.alias && have.mac === want.mac
}

/** Changes that take connectivity away form an op of their own, which may have to wait. */
function planFlows(p: Parts, owner: FlowOwner, want: Flows): void {
  const have = p.ovs.flows.get(owner) ?? new Map<string, string>()
  const { set, remove } = diffFlows(owner, want, have)
  const [wider, narrower] = [new Map<string, string>(), new Map<string, string>()]
  for (const [key, actions] of set) (narrows(have.get(key), actions) ? narrower : wider).set(key, actions)
  const at = { vni: owner === 0 ? null : owner, device: SWITCH }
  const change = (some: Flows, gone: readonly string[]): FlowChange => ({ owner, set: some, remove: gone })
  if (narrower.size + remove.length > 0) p.flows.push({ kind: 'flows-delete', ...at, change: change(narrower, remove) })
  if (wider.size > 0) p.flows.push({ kind: 'flows-set', ...at, change: change(wider, []) })
}

/** Assigns port numbers. A port keeps its number; a new port gets the requested one if it is free, else the lowest free one. */
class PortNumbers {
  readonly #taken = new Set<number>([TUNNEL_PORT])
  readonly #requested: ReadonlyMap<string, number>
  #next = TUNNEL_PORT + 1

  constructor({ ports }: ObservedSwitch, requested: ReadonlyMap<string, number>) {
    for (const { number, requested: asked } of ports.values()) this.#taken.add(number).add(asked)
    this.#requested = requested
  }

  of(device: string, port: ObservedPort | undefined): number | null {
    const asked = this.#requested.get(device) ?? 0
    if (asked > 0 && asked <= PORT_MAX && (!this.#taken.has(asked) || port?.number === asked)) return this.#take(asked)
    const now = port === undefined ? 0 : port.number || port.requested
    if (now > 0) return now
    while (this.#taken.has(this.#next)) this.#next++
    return this.#next > PORT_MAX ? null : this.#take(this.#next)
  }

  #take(number: number): number {
    this.#taken.add(number)
    return number
  }
}
