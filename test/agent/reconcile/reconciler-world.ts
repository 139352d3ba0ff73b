// A reconciler over a simulated kernel and a manual clock. Host 1 is this one.

import { pino } from 'pino'
import { Reconciler, type Restored } from '#agent/reconcile/reconciler.ts'
import { endpointKey, type Endpoint, type EndpointKey } from '#model/endpoint.ts'
import type { Vni } from '#model/ids.ts'
import { ipv4Of } from '#model/ip.ts'
import type { Network } from '#model/network.ts'
import { forwardingPart } from '#overlay/forwarding-part.ts'
import type { Part } from '#overlay/pass.ts'
import type { DesiredInput } from '#overlay/plan/network/desired.ts'
import { bridgeName, endpointAlias, vethName } from '#overlay/plan/network/names.ts'
import { ManualClock } from '../../lab/manual-clock.ts'
import { FakePart } from '../../overlay/fake-part.ts'
import { byNetwork, makeEndpoint, makeHost, makeNetwork, peer } from '../../overlay/fixtures.ts'
import { SimulatedForwarding } from '../../overlay/simulated-forwarding.ts'

export const red = makeNetwork('red', 1)
export const blue = makeNetwork('blue', 2)

export class ReconcilerWorld {
  readonly clock = new ManualClock()
  readonly forwarding = new SimulatedForwarding()
  readonly filters = new FakePart('filters', 'filter')
  readonly routers = new FakePart('gateways', 'egress')
  networks: Network[] = [red, blue]
  endpoints: Endpoint[] = []
  mayRemove = true
  readonly inFlight = new Set<EndpointKey>()
  readonly restored: EndpointKey[] = []
  restoreFails: Restored | null = null
  before: () => Promise<void> = () => Promise.resolve()
  after: (vni: Vni | null) => Promise<void> = () => Promise.resolve()
  /** Passes of the loop, in order. */
  readonly passes: ('full' | 'network')[] = []
  readonly driver: { parts: readonly Part[] }
  readonly reconciler: Reconciler

  constructor() {
    this.driver = { parts: [this.filters, forwardingPart(this.forwarding), this.routers] }
    this.reconciler = new Reconciler({
      driver: this.driver,
      clock: this.clock.clock,
      input: scope => this.#input(scope),
      network: vni => this.networks.find(network => network.vni === vni),
      gateways: () => ({
        routers: new Map(),
        transit: { base: ipv4Of(red.subnet.base), prefixLength: 8 },
        guarded: [],
        opened: [],
        underlay: []
      }),
      mayRemove: () => this.mayRemove,
      before: () => this.before(),
      after: vni => this.after(vni),
      inFlight: key => this.inFlight.has(key),
      restore: async key => this.#restore(key),
      passed: scope => this.passes.push(scope),
      logger: pino({ level: 'silent' })
    })
  }

  /** From now on it is a driver such as Open vSwitch's. */
  holdsPeers(): void {
    this.driver.parts = this.driver.parts.map(part =>
      part.concern === 'forwarding' ? Object.assign(part, { holdsPeers: true }) : part
    )
  }

  /** An endpoint of the state; its veth is there when it is on this host, as after an attach. */
  add(network: Network, p: { readonly container: string; readonly host: number; readonly address: string }): Endpoint {
    const endpoint = makeEndpoint(network, p)
    this.endpoints = [...this.endpoints, endpoint]
    if (p.host === 1) this.addVeth(endpoint)
    return endpoint
  }

  addVeth({ containerId, ifname, vni }: Endpoint): void {
    const { kernel } = this.forwarding
    const bridge = bridgeName(vni)
    const master = kernel.links.has(bridge) ? bridge : null
    kernel.addVeth({ name: vethName(containerId, ifname), alias: endpointAlias(containerId, ifname), master })
  }

  removeVeth({ containerId, ifname }: Endpoint): void {
    this.forwarding.kernel.links.delete(vethName(containerId, ifname))
  }

  /** A world with network red, a container here and one on host 2, after the full pass that set them up. */
  static async settled(): Promise<ReconcilerWorld> {
    const world = new ReconcilerWorld()
    world.add(red, { container: 'here', host: 1, address: '10.1.0.2' })
    world.add(red, { container: 'there', host: 2, address: '10.1.0.3' })
    world.reconciler.wake()
    await world.clock.advance(0)
    world.passes.splice(0)
    world.forwarding.looks.splice(0)
    return world
  }

  has(device: string): boolean {
    return this.forwarding.kernel.links.has(device)
  }

  #input(scope?: Vni): DesiredInput {
    return {
      self: peer(1),
      selfVtep: makeHost(1).vtep,
      networks: this.networks.filter(({ vni }) => scope === undefined || vni === scope),
      endpoints: byNetwork(this.endpoints),
      hosts: [makeHost(1), makeHost(2)],
      memberStatus: null,
      overlayMtu: 1450,
      vxlanPort: 4789
    }
  }

  #restore(key: EndpointKey): Restored {
    const endpoint = this.endpoints.find(({ containerId, ifname }) => endpointKey(containerId, ifname) === key)
    if (endpoint === undefined || this.inFlight.has(key)) return 'pending'
    if (this.restoreFails !== null) return this.restoreFails
    this.addVeth(endpoint)
    this.restored.push(key)
    return 'restored'
  }
}
