// Forwarding by one Open vSwitch bridge a host: the veths are its ports, and flows say where packets go.

import type { IfName, Vni } from '#model/ids.ts'
import type { ExecuteResult, Forwarding, ForwardingLook } from '../driver.ts'
import { networkOpNote } from '../forwarding-part.ts'
import type { DeviceFilter } from '../linux/observe.ts'
import type { OpNote } from '../pass.ts'
import { routerDevice } from '../plan/gateway/desired-gateway.ts'
import type { DesiredHost } from '../plan/network/desired.ts'
import { ifbName, isContainerDevice, routerPortName } from '../plan/network/names.ts'
import type { Observed } from '../plan/network/observed.ts'
import type { DeviceOp, SwitchOp } from '../plan/network/op.ts'
import type { Plan } from '../plan/network/plan-network.ts'
import type { FlowOwner, Flows } from '../plan/network/switch.ts'
import { needsPort, planSwitch } from '../plan/switch/plan-switch.ts'
import { observedPort, type Bridge } from './bridge.ts'
import { executeSwitch } from './execute.ts'
import type { Ofctl } from './ofctl.ts'

/** The devices that become ports. */
export type SwitchDevices = {
  /** Null: all of the host. @throws ERR_KERNEL */
  observe(only: DeviceFilter | null): Observed
  execute(ops: readonly DeviceOp[]): Promise<ExecuteResult<DeviceOp>>
  /** 0: there is no such device. */
  ifindexOf(name: string): number
  /** By ifindex, the network of each of our devices: tells which network a notification concerns. */
  readonly networks: Map<number, Vni | null>
}

export type SwitchForwardingOptions = {
  readonly devices: SwitchDevices
  readonly bridge: Pick<Bridge, 'read' | 'isRight' | 'ensure' | 'setPorts' | 'deletePorts'>
  readonly ofctl: Pick<Ofctl, 'flows' | 'flowsOf' | 'matchesFragments' | 'enableFragmentMatching' | 'change'>
  /** UDP port of VXLAN. */
  readonly port: number
}

export class SwitchForwarding implements Forwarding<Observed, SwitchOp> {
  /** The tunnel's flows list them. */
  readonly holdsPeers = true
  readonly #options: SwitchForwardingOptions
  /** Numbers of ports by device, as last seen or set. */
  readonly #numbers = new Map<string, number>()

  constructor(options: SwitchForwardingOptions) {
    this.#options = options
  }

  async observe({ scope, desired }: ForwardingLook): Promise<Observed> {
    const { devices, bridge } = this.#options
    const { networks } = desired()
    const rows = await bridge.read()
    const ports = new Map([...rows.interfaces].map(([name, row]) => [name, observedPort(row)]))
    for (const [name, { number }] of ports) this.#numbers.set(name, number)
    if (scope === null) for (const name of this.#numbers.keys()) if (!ports.has(name)) this.#numbers.delete(name)
    const marks = new Map([...ports].flatMap(([name, { mark }]) => (mark === null ? [] : [[name, mark.vni] as const])))
    const only = {
      names: scope === null ? [] : devicesOf(scope, { marks, desired: networks.get(scope)?.endpoints.keys() ?? [] }),
      // Queues are read for new ports only; a pass over the whole host checks the others.
      shaped: ({ name, ifindex }: { name: string; ifindex: number }) => needsPort(ports.get(name), ifindex)
    }
    const { links, shaping } = devices.observe(scope === null ? null : only)
    for (const { name, ifindex } of links.values()) {
      const vni = marks.get(name)
      if (vni !== undefined) devices.networks.set(ifindex, vni)
    }
    const routed = scope === null ? [...networks.keys(), ...routerNetworks(ports.keys())] : [scope]
    const { flows, fragments } = await this.#readFlows(rows.bridge !== null, scope)
    const right = bridge.isRight(rows) && fragments
    return {
      links,
      scope,
      ...(shaping === undefined ? {} : { shaping }),
      switch: { right, ports, routers: this.#routers(routed), flows }
    }
  }

  plan(desired: DesiredHost, observed: Observed): Plan<SwitchOp> {
    return this.planPorts(desired, observed, new Map())
  }

  /** Gives ports the numbers that were requested, by device, where they are free. Pure. */
  planPorts(desired: DesiredHost, observed: Observed, requested: ReadonlyMap<string, number>): Plan<SwitchOp> {
    return planSwitch(desired, observed, { port: this.#options.port, requested })
  }

  async execute(ops: readonly SwitchOp[]): Promise<ExecuteResult<SwitchOp>> {
    const { devices, bridge, ofctl } = this.#options
    const hasVanished = (name: IfName): boolean => isContainerDevice(name) && devices.ifindexOf(name) === 0
    const targets = { bridge, ofctl, devices: (some: readonly DeviceOp[]) => devices.execute(some), hasVanished }
    const { vanished, ...result } = await executeSwitch(targets, ops)
    for (const { device } of vanished) this.#numbers.delete(device)
    const failed = new Set([...result.failures.map(({ op }) => op), ...vanished])
    for (const op of ops) {
      if (op.kind === 'switch-port-set' && !failed.has(op)) this.#numbers.set(op.device, op.number)
    }
    return result
  }

  note(op: SwitchOp): OpNote {
    return networkOpNote(op)
  }

  portNumber(device: string): number {
    return this.#numbers.get(device) ?? 0
  }

  /** The fragment mode is read only when the whole host is observed. */
  async #readFlows(
    present: boolean,
    scope: Vni | null
  ): Promise<{ flows: ReadonlyMap<FlowOwner, Flows>; fragments: boolean }> {
    const { ofctl } = this.#options
    if (!present) return { flows: new Map(), fragments: false }
    const [flows, fragments] = await Promise.all([
      scope === null ? ofctl.flows() : ofctl.flowsOf(scope),
      scope === null ? ofctl.matchesFragments() : true
    ])
    return { flows, fragments }
  }

  /** The devices of these networks' routers, as far as they exist, with their indexes. */
  #routers(vnis: readonly Vni[]): ReadonlyMap<string, number> {
    const found = new Map<string, number>()
    for (const name of new Set(vnis.map(routerPortName))) {
      const ifindex = this.#options.devices.ifindexOf(name)
      if (ifindex > 0) found.set(name, ifindex)
    }
    return found
  }
}

/** Devices that may belong to this network: those its ports are marked with, and the desired ones. */
function devicesOf(
  vni: Vni,
  { marks, desired }: { readonly marks: ReadonlyMap<string, Vni>; readonly desired: Iterable<IfName> }
): readonly string[] {
  const marked = [...marks].flatMap(([name, of]) => (of === vni ? [name as IfName] : []))
  const veths = new Set([...marked, ...desired])
  return [...veths].flatMap(name => (routerDevice(name) === null ? [name, ifbName(name)] : []))
}

function routerNetworks(devices: Iterable<string>): readonly Vni[] {
  return [...devices].flatMap(name => routerDevice(name)?.vni ?? [])
}
