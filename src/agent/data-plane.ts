// Wires the parts that maintain this host's kernel: the reconciler and its inputs, the local endpoints, their release
// and their counters.

import type { ServiceResolver } from '#allocator/service-resolver.ts'
import type { ClusterState } from '#allocator/state-machine.ts'
import type { Config } from '#config/schema.ts'
import type { MemberChange } from '#membership/view/view.ts'
import type { PeerId } from '#model/ids.ts'
import { desired } from '#overlay/plan/network/desired.ts'
import { Collector } from './endpoints/collector.ts'
import { Endpoints } from './endpoints/endpoints.ts'
import { LocalEndpoints } from './endpoints/local-endpoints.ts'
import { NetnsRecordFiles } from './endpoints/netns-records.ts'
import type { Propose } from './endpoints/propose.ts'
import { Unfinished } from './endpoints/unfinished.ts'
import { CounterWindow } from './observe/counters.ts'
import { NetworkTotals } from './observe/network-totals.ts'
import { GuardDropCounters } from './observe/guard-drops.ts'
import { SerfDrops } from './observe/serf-drops.ts'
import { countTraffic } from './observe/traffic.ts'
import { Names } from './names.ts'
import type { Parts } from './parts.ts'
import { DesiredInputs } from './reconcile/desired-inputs.ts'
import { Reconciler, type ReconcilerOptions } from './reconcile/reconciler.ts'
import { sharedNetworks, touchedByMember } from './reconcile/touched.ts'

export type DataPlaneOptions = {
  readonly parts: Parts
  readonly state: ClusterState
  readonly resolver: ServiceResolver
  /** The configuration as of the last reload. */
  readonly config: () => Config
  /** Has the local state caught up with the cluster's? Nothing is removed before it has. */
  readonly current: () => boolean
  readonly propose: Propose
  /** See UnfinishedOptions. */
  readonly refresh: () => Promise<void>
  /** See ReconcilerOptions. */
  readonly passed: NonNullable<ReconcilerOptions['passed']>
}

export class DataPlane {
  readonly inputs: DesiredInputs
  readonly names: Names
  readonly local: LocalEndpoints
  readonly reconciler: Reconciler
  readonly endpoints: Endpoints
  readonly collector: Collector
  readonly unfinished: Unfinished
  readonly counters: CounterWindow
  readonly totals = new NetworkTotals()
  readonly serfDrops: SerfDrops
  readonly guardDrops: GuardDropCounters
  readonly #options: DataPlaneOptions
  readonly #self: PeerId

  constructor(options: DataPlaneOptions) {
    this.#options = options
    this.#self = options.parts.identity.peerId
    this.inputs = this.#makeInputs()
    const { clock, random } = options.parts
    this.names = new Names({ state: options.state, services: options.resolver, config: options.config, clock, random })
    this.local = this.#makeLocal()
    this.reconciler = this.#makeReconciler()
    this.endpoints = this.#makeEndpoints()
    this.collector = this.#makeCollector()
    this.unfinished = this.#makeUnfinished()
    this.guardDrops = new GuardDropCounters(() => options.parts.driver.guardDrops())
    this.serfDrops = new SerfDrops({ read: () => options.parts.driver.serfDrops(), clock: options.parts.clock })
    this.counters = this.#makeCounters()
  }

  /** Reconciles from the state on disk; no other host is needed. */
  start(): void {
    this.#options.parts.driver.onChange(networks => this.reconciler.changed(networks))
    this.reconciler.wake()
    this.unfinished.wake()
    this.counters.start()
  }

  /** Reconciles what the changes affect; null: everything. */
  membersChanged(changes: readonly MemberChange[] | null): void {
    if (changes === null) {
      this.reconciler.wake()
      return
    }
    const { state } = this.#options
    const touched = changes.map(change => touchedByMember({ state, self: this.#self, change }))
    if (touched.some(({ hostWide }) => hostWide)) this.reconciler.wakePeers()
    this.reconciler.wake(touched.flatMap(({ networks }) => networks))
  }

  /** The kernel stays as it is. */
  async stop(): Promise<void> {
    await this.collector.stop()
    await this.unfinished.stop()
    this.counters.stop()
    await this.reconciler.stop()
    this.names.part.stop()
    this.inputs.stop()
  }

  #makeInputs(): DesiredInputs {
    const { parts, state, resolver, config } = this.#options
    const { membership, driver, underlay, logger } = parts
    const { devices } = driver
    return new DesiredInputs({
      self: this.#self,
      state,
      resolver,
      config,
      view: () => membership.view(),
      devices,
      underlay,
      graceEnded: peers => {
        this.reconciler.wakePeers()
        this.reconciler.wake(peers.flatMap(peer => sharedNetworks(state, this.#self, peer)))
      },
      clock: parts.clock,
      logger
    })
  }

  #makeLocal(): LocalEndpoints {
    const { parts, state } = this.#options
    const { config, driver, bootId, logger } = parts
    return new LocalEndpoints({
      bootId,
      self: this.#self,
      state,
      devices: driver.devices,
      desired: vni => desired(this.inputs.input(vni)),
      records: new NetnsRecordFiles({ dataDir: config.dataDir, logger: logger.child({ room: 'overlay' }) }),
      netns: parts.netns(config.netns.paths),
      overlayMtu: () => this.inputs.overlayMtu,
      ended: endpoint => this.collector.containerEnded(endpoint),
      clock: parts.clock
    })
  }

  #makeReconciler(): Reconciler {
    const { parts, state, current, passed } = this.#options
    const { names } = this
    return new Reconciler({
      driver: {
        // After the routers, in whose namespaces the resolvers are.
        get parts() {
          return [...parts.driver.parts, names.part]
        }
      },
      clock: parts.clock,
      input: scope => this.inputs.input(scope),
      network: vni => state.networkByVni(vni),
      gateways: () => this.inputs.gateways(),
      mayRemove: current,
      before: () => this.inputs.readMtu(),
      after: async vni => {
        await this.local.follow(vni)
        if (vni === null && current()) this.local.prune()
      },
      inFlight: key => this.local.isBusy(key),
      restore: key => this.local.restore(key),
      passed,
      logger: parts.logger.child({ room: 'overlay' })
    })
  }

  #makeEndpoints(): Endpoints {
    const { parts, state, propose } = this.#options
    return new Endpoints({
      self: this.#self,
      state,
      devices: parts.driver.devices,
      reconciler: this.reconciler,
      local: this.local,
      abandoned: () => this.unfinished.wake(),
      waitUntilGone: endpoint => this.collector.waitUntilGone(endpoint),
      holdNetns: parts.netns(parts.config.netns.paths).hold,
      overlayMtu: () => this.inputs.overlayMtu,
      propose,
      logger: parts.logger
    })
  }

  #makeCollector(): Collector {
    const { parts, state, config, current } = this.#options
    return new Collector({
      local: this.local,
      endpoints: () => state.endpointsOnHost(this.#self),
      current,
      interfaces: () => parts.driver.devices.counters(),
      release: (endpoint, still) => this.endpoints.releaseIf(endpoint, still),
      afterMs: config().collectAfter * 1_000,
      clock: parts.clock,
      logger: parts.logger.child({ room: 'agent' })
    })
  }

  #makeUnfinished(): Unfinished {
    const { parts, state, current, refresh } = this.#options
    return new Unfinished({
      self: this.#self,
      local: this.local,
      state,
      current,
      refresh,
      interfaces: () => parts.driver.devices.counters(),
      release: (endpoint, still) => this.endpoints.releaseIf(endpoint, still),
      clock: parts.clock,
      logger: parts.logger.child({ room: 'agent' })
    })
  }

  #makeCounters(): CounterWindow {
    const { parts, state } = this.#options
    const { driver, clock, logger } = parts
    return new CounterWindow({
      read: () => driver.devices.counters(),
      clock,
      restarted: (hostInterface, last) =>
        logger.info({ hostInterface, ...last }, 'counters restarted; these were the last'),
      failed: err => logger.warn({ err }, 'counters not read'),
      sampled: counters => {
        countTraffic({ self: this.#self, state, totals: this.totals }, counters)
        this.serfDrops.sample()
        this.guardDrops.sample()
      }
    })
  }
}
