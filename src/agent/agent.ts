// The composition root: builds the agent's rooms from its parts, starts them in order, and stops them without touching the
// kernel.

import { ServiceResolver } from '#allocator/service-resolver.ts'
import { ClusterState } from '#allocator/state-machine.ts'
import { planReload } from '#config/reload.ts'
import type { Config } from '#config/schema.ts'
import { Metrics } from '#metrics/metrics.ts'
import { startMetricsServer } from '#metrics/server.ts'
import type { MembershipUpdate } from '#membership/serf/membership.ts'
import type { ReloadView } from '#model/views.ts'
import { setLogLevel } from '#platform/log.ts'
import { Serial } from '#platform/serial.ts'
import { VERSION } from '#platform/version.ts'
import { AgentApi } from './agent-api.ts'
import { ControlPlane } from './control-plane.ts'
import { DataPlane } from './data-plane.ts'
import { dnsOf } from './names.ts'
import { examine, type DoctorSources } from './doctor/doctor.ts'
import { serveDoctor } from './doctor/gather-peer.ts'
import { openDoors, type Door } from './doors.ts'
import { EventBus } from './observe/event-bus.ts'
import { memberEvent } from './observe/events.ts'
import { figuresOf, type FigureSources } from './observe/figures.ts'
import { checksOf, statusLine, statusView } from './observe/health.ts'
import { PeerDirectory } from './observe/peer-directory.ts'
import { StateViews } from './observe/state-views.ts'
import type { RunningMesh } from './machine.ts'
import { closeParts, type Parts } from './parts.ts'
import { carryOutReload, readOnUse, type ReloadActions } from './reload.ts'

const TOPIC = 'vxmesh-feed-1'

/** What exists before the agent: its parts, its still empty state, and the mesh, which admits the peers of the directory. */
type Foundation = {
  readonly parts: Parts
  readonly state: ClusterState
  /** The backends of services, for the data plane and the views. */
  readonly resolver: ServiceResolver
  readonly directory: PeerDirectory
  readonly mesh: RunningMesh
}

export class Agent {
  readonly #foundation: Foundation
  #config: Config
  readonly #events = new EventBus({ wallMs: Date.now })
  readonly #metrics: Metrics
  readonly control: ControlPlane
  readonly #data: DataPlane
  readonly #sources: FigureSources & DoctorSources
  readonly #reloads = new Serial()
  readonly #reloadActions: ReloadActions = this.#makeReloadActions()
  #metricsDoor: Door | null = null
  #requestDoors: Door | null = null
  #stopped: Promise<void> | null = null
  #end: (outcome: Error | null) => void = () => undefined
  /** Resolves when the agent is to end: with null for an orderly end, or with the error that ends it. */
  readonly ended = new Promise<Error | null>(resolve => (this.#end = resolve))

  private constructor(foundation: Foundation) {
    this.#foundation = foundation
    this.#config = foundation.parts.config
    this.#metrics = new Metrics(() => figuresOf(this.#sources), foundation.parts.clock)
    this.control = this.#makeControlPlane()
    this.#data = this.#makeDataPlane()
    this.#sources = this.#gatherSources()
  }

  /** Builds an agent from its parts and starts it. @throws VxmeshError naming what is wrong with the configuration or the machine */
  static async start(parts: Parts): Promise<Agent> {
    const { membership } = parts
    const state = new ClusterState()
    const directory = new PeerDirectory({ state, view: () => membership.view() })
    let agent: Agent | null = null
    try {
      const resolver = new ServiceResolver(state)
      agent = new Agent({ parts, state, resolver, directory, mesh: await startMesh(parts, directory) })
      await agent.#run()
      return agent
    } catch (err) {
      // An agent that started halfway holds ports and timers, which would keep the process alive.
      await (agent === null ? closeParts(parts) : agent.stop())
      throw err
    }
  }

  /** Time since the end of a reconcile pass; see Reconciler.silentMs. */
  get silentMs(): number {
    return this.#data.reconciler.silentMs
  }

  /** One line for `systemctl status`. */
  statusLine(): string {
    return statusLine(this.#sources)
  }

  /**
   * Reads the configuration again and applies the changes of reloadable keys; the others wait for a restart.
   * @throws ERR_CONFIG naming the key, also if http.listen cannot be bound; then nothing has changed
   */
  reload(): Promise<ReloadView> {
    return this.#reloads.run(async () => {
      const { readConfig, logger } = this.#foundation.parts
      const { config, changed, restart } = planReload(this.#config, await readConfig())
      const adopt = (adopted: Config): void => void (this.#config = adopted)
      await carryOutReload({ actions: this.#reloadActions, changed, config, adopt })
      logger.info({ changed, restart }, 'configuration read again')
      return { changed, restart }
    })
  }

  /** Ends the agent in good order; `ended` resolves. */
  requestStop(): void {
    this.#end(null)
  }

  /** Stops the control plane, once. The kernel stays as it is: containers keep their network. */
  stop(): Promise<void> {
    return (this.#stopped ??= this.#stop())
  }

  async #stop(): Promise<void> {
    await this.#requestDoors?.close()
    // Nobody waits for the pending changes any more, and without a majority they would delay the end until they time
    // out.
    this.control.failPending()
    await this.#metricsDoor?.close()
    this.#metrics.stop()
    await this.#data.stop()
    await this.control.stop()
    await this.#foundation.mesh.stop()
    await closeParts(this.#foundation.parts)
  }

  async #run(): Promise<void> {
    const { config, membership, driver, identity, noOwners, startZmq, clock, logger } = this.#foundation.parts
    // First, so that a probe finds this host present but not ready.
    this.#metricsDoor = await this.#openMetricsDoor(config.http.listen)
    serveDoctor({ ...this.#sources, peerRpc: this.control.peerRpc })
    await this.#data.local.load()
    await this.control.start()
    // The data plane starts from the state on disk, before any other host answers.
    this.#data.start()
    membership.onChange(update => this.#membersChanged(update))
    const opened = openDoors({
      config,
      agent: this.#makeApi(),
      devices: driver.devices,
      noOwners,
      startZmq,
      clock,
      logger
    })
    // Both are awaited even if one fails: what is still starting could not be stopped.
    const started = await Promise.allSettled([membership.start(), opened.then(doors => (this.#requestDoors = doors))])
    for (const outcome of started) if (outcome.status === 'rejected') throw outcome.reason
    this.#data.collector.start()
    logger.info({ name: config.name, peerId: identity.peerId, version: VERSION }, 'agent started')
  }

  #membersChanged({ changes, first }: MembershipUpdate): void {
    for (const change of changes) this.#events.publish(() => memberEvent(change))
    this.control.cluster.membersChanged()
    this.#data.membersChanged(first ? null : changes)
  }

  #makeControlPlane(): ControlPlane {
    return new ControlPlane({
      ...this.#foundation,
      config: () => this.#config,
      events: this.#events,
      changed: networks => this.#data.reconciler.wake(networks),
      peersChanged: () => this.#data.reconciler.wakePeers(),
      committed: ms => this.#metrics.committed(ms),
      fatal: err => this.#end(err)
    })
  }

  #makeDataPlane(): DataPlane {
    const { parts, state, resolver } = this.#foundation
    return new DataPlane({
      parts,
      state,
      resolver,
      config: () => this.#config,
      current: () => this.control.log.current,
      propose: command => this.control.propose(command),
      refresh: () => this.control.refresh(),
      passed: (scope, ms) => this.#metrics.reconciled(scope, ms)
    })
  }

  #gatherSources(): FigureSources & DoctorSources {
    const { parts, state, directory } = this.#foundation
    const { log, cluster, peerRpc, registrar, digests } = this.control
    const { reconciler, counters, totals, inputs, names, serfDrops, guardDrops } = this.#data
    const { membership, driver, clock } = parts
    return {
      self: parts.identity.peerId,
      version: VERSION,
      config: () => this.#config,
      ...{ state, directory, membership, driver, clock },
      ...{ log, cluster, peerRpc, registrar, digests, reconciler, counters, totals, serfDrops, guardDrops },
      underlayMtu: () => inputs.underlayMtu,
      names: () => names.figures(),
      refusedConnections: () => this.#foundation.mesh.refused,
      wallMs: Date.now
    }
  }

  #makeApi(): AgentApi {
    const { parts, state, resolver, directory } = this.#foundation
    const { membership, identity, clock } = parts
    const { devices } = parts.driver
    const { endpoints, collector, counters, inputs } = this.#data
    const self = identity.peerId
    const overlayMtu = (): number => inputs.overlayMtu
    return new AgentApi({
      self,
      config: () => this.#config,
      ...{ state, directory, membership, devices, endpoints, collector, overlayMtu, clock },
      holdNetns: parts.netns(this.#config.netns.paths).hold,
      log: this.control.log,
      cluster: this.control.cluster,
      registrar: this.control.registrar,
      logger: parts.logger.child({ room: 'agent' }),
      views: new StateViews({
        self,
        state,
        resolver,
        directory,
        devices,
        counters,
        overlayMtu,
        dns: network => dnsOf(network, this.#config.dns)
      }),
      events: this.#events,
      propose: command => this.control.propose(command),
      image: stale => this.control.image(stale),
      status: () => {
        const { name: host } = this.#config
        return statusView(this.#sources, { host, driver: parts.driver, version: VERSION })
      },
      examine: () => examine(this.#sources),
      reload: () => this.reload(),
      requestStop: () => this.requestStop()
    })
  }

  #makeReloadActions(): ReloadActions {
    return {
      'http.listen': async ({ http }) => {
        const door = await this.#openMetricsDoor(http.listen)
        return { commit: () => this.#replaceMetricsDoor(door), undo: () => door.close() }
      },
      collectAfter: config => ({ commit: () => this.#data.collector.setAfter(config.collectAfter * 1_000) }),
      'overlay.mtu': () => ({ commit: () => this.#data.reconciler.wake() }),
      'egress.local': () => ({ commit: () => this.#data.reconciler.wake() }),
      'overlay.vteps': readOnUse,
      'dns.search': readOnUse,
      'dns.upstreams': readOnUse,
      'dns.forward': readOnUse,
      'namespaces.unmapped': readOnUse,
      'namespaces.range': readOnUse,
      'namespaces.prefixLength': readOnUse,
      'log.level': config => ({ commit: () => setLogLevel(this.#foundation.parts.logger, config.log.level) }),
      // Last, because it cannot be undone.
      join: async config => {
        await this.#foundation.parts.membership.setJoin(config.join)
        return {}
      }
    }
  }

  async #replaceMetricsDoor(door: Door): Promise<void> {
    const before = this.#metricsDoor
    this.#metricsDoor = door
    await before?.close()
  }

  /** @throws ERR_CONFIG naming http.listen */
  #openMetricsDoor(listen: string): Promise<Door> {
    const logger = this.#foundation.parts.logger.child({ room: 'metrics' })
    return startMetricsServer({ listen, checks: () => checksOf(this.#sources), metrics: this.#metrics, logger })
  }
}

/** The libp2p node of this host: it admits the peers that the directory knows. @throws ERR_PEER when it cannot listen */
export function startMesh(parts: Parts, directory: PeerDirectory): Promise<RunningMesh> {
  const { config, keys, identity, clock, logger } = parts
  return parts.startMesh({
    privateKey: identity.privateKey,
    bind: config.bind,
    port: config.p2p.port,
    preSharedKey: keys === null ? null : keys.p2p,
    topic: TOPIC,
    isKnown: peer => directory.isKnown(peer),
    clock,
    logger: logger.child({ room: 'replication' })
  })
}
