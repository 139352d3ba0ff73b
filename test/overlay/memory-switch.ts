// A switch of plain maps that obeys ops as Open vSwitch does, and its views as the driver's parts see them.

import type { ExecuteResult } from '#overlay/driver.ts'
import type { Rows } from '#overlay/ovs/bridge.ts'
import { toMap, type Row } from '#overlay/ovs/ovsdb.ts'
import type { SwitchDevices, SwitchForwardingOptions } from '#overlay/ovs/forwarding.ts'
import type { IfName, Vni } from '#model/ids.ts'
import type { DesiredHost } from '#overlay/plan/network/desired.ts'
import { OVERLAY_GROUP, SWITCH, SWITCH_TUNNEL } from '#overlay/plan/network/names.ts'
import type { Observed, ObservedVeth } from '#overlay/plan/network/observed.ts'
import type { DeviceOp, SwitchOp } from '#overlay/plan/network/op.ts'
import type { FlowOwner, Flows, ObservedPort } from '#overlay/plan/network/switch.ts'

export class MemorySwitch {
  right = false
  readonly ports = new Map<string, ObservedPort>()
  readonly flows = new Map<FlowOwner, Map<string, string>>()
  readonly links = new Map<string, ObservedVeth>()
  readonly routers = new Map<string, number>()
  #ifindex = 10

  /** As attach leaves the pairs: there, marked and down. */
  attach(host: DesiredHost): void {
    for (const network of host.networks.values()) {
      if (network.router !== null) this.routers.set(network.router.port, this.#ifindex++)
      for (const { device: name, alias } of network.endpoints.values()) {
        const common = { name, alias, group: OVERLAY_GROUP, mtu: network.mtu, ipv6: 'off' as const, macs: new Map() }
        this.links.set(name, {
          ...common,
          kind: 'veth',
          ifindex: this.#ifindex++,
          up: false,
          master: null,
          flags: null
        })
      }
    }
  }

  observe(): Observed {
    const { right, ports, routers, flows } = this
    return { links: this.links, scope: null, switch: { right, ports, routers, flows } }
  }

  execute(ops: readonly SwitchOp[]): void {
    for (const op of ops) this.#one(op)
  }

  #one(op: SwitchOp): void {
    const { device } = op
    switch (op.kind) {
      case 'switch-set':
        this.right = true
        this.ports.set(SWITCH_TUNNEL, { number: 1, requested: 1, mark: null, ifindex: 0 })
        break
      case 'switch-port-set': {
        const { number, mark } = op
        const ifindex = this.links.get(device)?.ifindex ?? this.routers.get(device) ?? 0
        this.ports.set(device, { number, requested: number, mark, ifindex })
        break
      }
      case 'switch-port-delete':
        this.ports.delete(device)
        break
      case 'flows-set':
      case 'flows-delete': {
        const { owner, set, remove } = op.change
        const flows = this.flows.get(owner) ?? new Map<string, string>()
        for (const key of remove) flows.delete(key)
        for (const [key, actions] of set) flows.set(key, actions)
        if (flows.size === 0) this.flows.delete(owner)
        else this.flows.set(owner, flows)
        break
      }
      case 'link-set': {
        const link = this.links.get(device)
        if (link !== undefined) this.links.set(device, { ...link, up: op.changes.up ?? link.up })
        break
      }
      case 'device-delete':
        this.links.delete(device)
        break
      case 'shape':
        throw new Error('this switch has no queues')
    }
  }
}

/** The same switch behind the interfaces of the driver's parts; `refused` devices cannot become ports. */
export function switchParts(
  memory: MemorySwitch,
  refused: ReadonlySet<string> = new Set()
): Omit<SwitchForwardingOptions, 'port'> & { readonly trace: string[] } {
  const trace: string[] = []
  const run = (op: SwitchOp): void => {
    trace.push(`${op.kind} ${op.device}`)
    memory.execute([op])
  }
  const devices: SwitchDevices = {
    observe: only => ({ links: linksOf(memory, only?.names ?? null), scope: null }),
    execute: async (ops): Promise<ExecuteResult<DeviceOp>> => {
      for (const op of ops) run(op)
      return { done: ops.length, skipped: 0, failures: [] }
    },
    ifindexOf: name => memory.links.get(name)?.ifindex ?? memory.routers.get(name) ?? 0,
    networks: new Map<number, Vni | null>()
  }
  const set = { vni: null, device: SWITCH, kind: 'switch-set' } as const
  return {
    trace,
    devices,
    bridge: {
      read: async () => rowsOf(memory),
      isRight: () => memory.right,
      ensure: async () => run(set),
      setPorts: async ops => {
        const failed = ops.filter(({ device }) => refused.has(device))
        for (const op of ops) if (!refused.has(op.device)) run(op)
        return new Map(failed.map(op => [op, 'could not open network device']))
      },
      deletePorts: async names => {
        for (const device of names) run({ kind: 'switch-port-delete', vni: null, device: device as IfName })
      }
    },
    ofctl: {
      flows: async () => copyOf(memory.flows),
      flowsOf: async owner => new Map([...copyOf(memory.flows)].filter(([other]) => other === owner)),
      matchesFragments: async () => memory.right,
      enableFragmentMatching: () => Promise.resolve(),
      change: async changes => {
        for (const change of changes) run({ kind: 'flows-set', vni: null, device: SWITCH, change })
      }
    }
  }
}

function linksOf({ links }: MemorySwitch, names: readonly string[] | null): Observed['links'] {
  return new Map([...links].filter(([name]) => names === null || names.includes(name)))
}

function copyOf(flows: ReadonlyMap<FlowOwner, Flows>): ReadonlyMap<FlowOwner, Flows> {
  return new Map([...flows].map(([owner, own]) => [owner, new Map(own)]))
}

function rowsOf({ right, ports }: MemorySwitch): Rows {
  const interfaces = new Map([...ports].map(([name, port]) => [name, rowOf(name, port)]))
  return { bridge: right ? { name: SWITCH } : null, interfaces, ports: new Map() }
}

function rowOf(name: string, { number, requested, mark, ifindex }: ObservedPort): Row {
  const ids = mark === null ? {} : { 'iface-id': mark.alias, 'attached-mac': mark.mac, 'vxmesh-vni': String(mark.vni) }
  return { name, ofport: number, ofport_request: requested, ifindex, external_ids: toMap({ owner: 'vxmesh', ...ids }) }
}
