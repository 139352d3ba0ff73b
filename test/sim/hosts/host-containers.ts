// The containers of a simulated host: the real attach and detach over a kernel and records in memory, which outlive the
// agent. A power cut ends the containers.

import { Endpoints } from '#agent/endpoints/endpoints.ts'
import { LocalEndpoints } from '#agent/endpoints/local-endpoints.ts'
import type { SavedRecord } from '#agent/endpoints/netns-records.ts'
import { mayHaveBeenMade, type Propose } from '#agent/endpoints/propose.ts'
import { Unfinished } from '#agent/endpoints/unfinished.ts'
import { IndexGate } from '#agent/index-gate.ts'
import type { ClusterState } from '#allocator/state-machine.ts'
import { endpointKey, type Endpoint, type EndpointKey } from '#model/endpoint.ts'
import { parseIfName, parseNetworkName, type ContainerId, type LogIndex, type PeerId } from '#model/ids.ts'
import { vethName } from '#overlay/plan/network/names.ts'
import type { Clock } from '#platform/clock.ts'
import { createLogger } from '#platform/log.ts'
import type { ReplicatedLog } from '#replication/ports.ts'
import { heldNetns } from '#test/agent/held-netns.ts'
import { MemoryDevices } from '#test/agent/memory-devices.ts'
import type { Counters } from '../counters.ts'

/** As ControlPlane waits for what it has committed. */
const VISIBLE_MS = 3_000
const NETWORK = parseNetworkName('net')
const IFNAME = parseIfName('eth0')
const logger = createLogger('silent')

/** What the agent's process has beside its replicator. */
type Running = { readonly gate: IndexGate; readonly endpoints: Endpoints }

export class HostContainers {
  readonly #self: PeerId
  readonly #probes: Counters
  readonly #devices = new MemoryDevices()
  readonly #records = new Map<EndpointKey, SavedRecord>()
  /** Containers that have their interface, with their endpoints. */
  readonly #attached = new Map<ContainerId, Endpoint>()
  readonly #inFlight = new Set<ContainerId>()
  /** Containers whose agent, or host, ended during their attach or detach: only the collector releases those. */
  readonly #orphans = new Set<ContainerId>()
  #running: Running | null = null

  constructor(p: { readonly self: PeerId; readonly probes: Counters }) {
    this.#self = p.self
    this.#probes = p.probes
  }

  get attached(): readonly ContainerId[] {
    return [...this.#attached.keys()].filter(id => !this.#inFlight.has(id))
  }

  /** Has an attach or a detach ended without an answer? */
  get hasUnfinished(): boolean {
    return [...this.#records.values()].includes('unfinished')
  }

  /** The agent starts, before it has applied anything. */
  async start(p: { readonly log: ReplicatedLog; readonly state: ClusterState; readonly clock: Clock }): Promise<void> {
    const { log, state, clock } = p
    const gate = new IndexGate({ clock })
    const propose: Propose = async command => {
      const { result, index } = await log.propose(command)
      await gate.wait(index, VISIBLE_MS)
      return result
    }
    const local = new LocalEndpoints({
      ...{ bootId: 'boot', self: this.#self, state, devices: this.#devices, clock },
      records: {
        load: () => Promise.resolve(this.#records),
        save: ({ containerId, ifname }, record) => void this.#records.set(endpointKey(containerId, ifname), record),
        remove: ({ containerId, ifname }) => void this.#records.delete(endpointKey(containerId, ifname))
      },
      netns: { hold: path => heldNetns(path), isNetns: () => true },
      desired: () => {
        throw new Error('these devices need no desired state')
      },
      overlayMtu: () => 1_450,
      ended: () => false
    })
    const endpoints = new Endpoints({
      ...{ self: this.#self, state, devices: this.#devices, local, propose, logger },
      reconciler: {
        withNetwork: (_vni, work) => work(),
        exclusively: work => work(),
        together: work => work(),
        wake: () => undefined
      },
      abandoned: () => unfinished.wake(),
      waitUntilGone: () => Promise.resolve(false),
      holdNetns: path => heldNetns(path),
      overlayMtu: () => 1_450
    })
    const unfinished = new Unfinished({
      ...{ self: this.#self, local, state, clock, logger },
      current: () => log.current,
      refresh: async () => gate.wait(await log.readIndex(), VISIBLE_MS),
      interfaces: () => this.#devices.counters(),
      release: async (endpoint, still) => {
        const released = await endpoints.releaseIf(endpoint, still)
        if (released) this.#probes.add('unfinished-attach-released')
        return released
      }
    })
    await local.load()
    unfinished.wake()
    this.#running = { gate, endpoints }
  }

  reached(index: LogIndex): void {
    this.#running?.gate.reached(index)
  }

  /** The agent's process ends; the kernel does not. */
  crash(kind: 'kill' | 'power-cut'): void {
    this.#running = null
    for (const id of this.#inFlight) this.#orphans.add(id)
    this.#inFlight.clear()
    if (kind === 'kill') return
    for (const id of this.#attached.keys()) this.#orphans.add(id)
    // The records are not synced.
    for (const key of this.#records.keys()) this.#orphans.add(key.split('/')[0] as ContainerId)
    this.#attached.clear()
    this.#records.clear()
    this.#devices.interfaces.clear()
  }

  /** Attaches a container whose runtime gives up at the first failure. */
  attach(containerId: ContainerId): void {
    const shaping = { ingressRate: 0, egressRate: 0, delayUs: 0 }
    const request = {
      network: NETWORK,
      containerId,
      ifname: IFNAME,
      name: '',
      netns: `/netns/${containerId}`,
      ...shaping
    }
    this.#during(containerId, async endpoints => {
      this.#attached.set(containerId, await endpoints.attach(request))
    })
  }

  /** As `attach`. */
  detach(containerId: ContainerId): void {
    this.#during(containerId, async endpoints => {
      this.#attached.delete(containerId)
      await endpoints.detach(containerId, IFNAME, () => undefined)
    })
  }

  /** What is wrong with this host's containers, compared with the cluster's state. */
  problem(state: ClusterState): string | null {
    for (const { containerId, host } of state.endpoints()) {
      if (host !== this.#self || !containerId.startsWith('k') || this.#orphans.has(containerId)) continue
      if (!this.#hasInterface(containerId)) return `${containerId} has an address and no interface`
    }
    for (const [containerId, { address }] of this.#attached) {
      const found = state.endpoint(endpointKey(containerId, IFNAME))
      if (found?.host !== this.#self || found.address !== address) return `${containerId} has lost its address`
      if (!this.#hasInterface(containerId)) return `${containerId} has lost its interface`
    }
    return null
  }

  #hasInterface(containerId: ContainerId): boolean {
    return this.#devices.interfaces.has(vethName(containerId, IFNAME))
  }

  #during(containerId: ContainerId, work: (endpoints: Endpoints) => Promise<void>): void {
    const running = this.#running
    if (running === null) return
    this.#inFlight.add(containerId)
    const over = (): void => {
      if (this.#running === running) this.#inFlight.delete(containerId)
    }
    work(running.endpoints).then(over, (err: unknown) => {
      if (mayHaveBeenMade(err)) this.#probes.add('attach-without-an-answer')
      over()
    })
  }
}
