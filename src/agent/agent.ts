// The composition root: starts the rooms in order, wires them together, and stops them without touching the kernel.

import { digestOf } from '#allocator/digest.ts'
import { decodeState } from '#allocator/snapshot.ts'
import { ClusterState } from '#allocator/state-machine.ts'
import { planReload } from '#config/reload.ts'
import type { Config } from '#config/schema.ts'
import { Metrics } from '#metrics/metrics.ts'
import type { Membership, MembershipUpdate } from '#membership/serf/membership.ts'
import type { Command, Outcome, Request, ResultOf } from '#model/command.ts'
import { isVacant, type Host } from '#model/host.ts'
import type { LogIndex, PeerId, Vni } from '#model/ids.ts'
import type { Member } from '#model/member.ts'
import type { ReloadView } from '#model/views.ts'
import type { OverlayDriver } from '#overlay/driver.ts'
import { desired } from '#overlay/plan/network/desired.ts'
import { monotonicMs, systemClock } from '#platform/clock.ts'
import { diskFiles } from '#platform/file-layer.ts'
import { setLogLevel, type Logger } from '#platform/log.ts'
import { decodeMsgpack } from '#platform/msgpack.ts'
import { systemRandom } from '#platform/random.ts'
import { Mesh } from '#replication/transport/mesh.ts'
import { Replicator } from '#replication/replicator.ts'
import { snapshotFileChunks } from '#replication/storage/snapshot-file.ts'
import { CounterWindow } from './observe/counters.ts'
import { DigestCheck } from './observe/digest-check.ts'
import { serveDoctor } from './doctor/gather-mesh.ts'
import { EventBus } from './observe/event-bus.ts'
import { changeEvent, memberEvent } from './observe/events.ts'
import { countTraffic, figuresOf, openMetricsDoor } from './observe/figures.ts'
import { closeParts, type Parts, type ReadConfig } from './parts.ts'
import { DesiredInputs } from './reconcile/desired-inputs.ts'
import { affectsOverlay } from './reconcile/member-changes.ts'
import { Doors } from './doors.ts'
import { IndexGate } from './index-gate.ts'
import { LocalEndpoints } from './endpoints/local-endpoints.ts'
import { NetworkTotals } from './observe/network-totals.ts'
import { Reconciler } from './reconcile/reconciler.ts'
import { Registrar } from './registrar.ts'
import { Serial } from '#platform/serial.ts'
import { stateBytes } from './state-bytes.ts'
import { networksOfCommand } from './reconcile/touched.ts'
import { VERSION } from '#platform/version.ts'

const TOPIC = 'vxmesh-feed-1'
/** How long a committed change may take to become visible on the host that asked for it. */
const VISIBLE_MS = 3_000

export class Agent {
  #config: Config
  readonly logger: Logger
  readonly self: PeerId
  readonly state = new ClusterState()
  readonly membership: Membership
  readonly replicator: Replicator
  readonly reconciler: Reconciler
  readonly registrar: Registrar
  readonly counters: CounterWindow
  readonly totals = new NetworkTotals()
  readonly metrics = new Metrics(() => figuresOf(this))
  readonly driver: OverlayDriver
  readonly events = new EventBus()
  readonly digests: DigestCheck
  readonly localEndpoints: LocalEndpoints
  readonly #gate = new IndexGate()
  readonly #reloads = new Serial()
  readonly #readConfig: ReadConfig
  readonly #mesh: Mesh
  readonly #parts: Parts
  /** What the log has touched since the reconciler was last woken. */
  readonly #touched = new Set<Vni>()
  readonly #desiredInputs: DesiredInputs
  readonly #doors = new Doors()
  #end: (outcome: Error | null) => void = () => undefined
  /** Resolves when the agent is to end: null for an orderly end, or what it cannot go on with. */
  readonly ended = new Promise<Error | null>(resolve => (this.#end = resolve))

  private constructor(p: Parts, mesh: Mesh) {
    const { config, logger } = p
    this.#config = config
    this.#readConfig = p.readConfig
    this.logger = logger
    this.self = p.identity.peerId
    this.driver = p.driver
    this.#mesh = mesh
    this.#parts = p
    p.known.isKnown = peer => this.#isKnown(peer)
    const fatal = (err: Error): void => this.#end(err)
    const host: Host = {
      name: config.name,
      peerId: this.self,
      vtep: config.overlay.vtep,
      role: config.role,
      bootId: p.bootId,
      version: VERSION
    }
    this.membership = p.membership
    this.replicator = new Replicator({
      self: this.self,
      bootstrapExpect: config.role === 'server' ? config.bootstrapExpect : 0,
      mesh,
      clock: systemClock,
      random: systemRandom,
      disk: { dataDir: config.dataDir, files: diskFiles },
      snapshotBytes: config.raft.snapshotBytes,
      storage: p.storage,
      seed: p.seed,
      machine: {
        apply: (index, request) => this.#apply(index, request),
        skip: index => this.#skip(index),
        snapshot: () => stateBytes(this.state),
        restore: data => {
          this.state.become(decodeState(decodeMsgpack(data, 'ERR_STORAGE')))
          this.reconciler.wake()
        },
        applied: index => this.#applied(index)
      },
      members: () => this.#members(),
      joined: clusterId => {
        this.membership.setTags({ clusterId }).catch((err: unknown) => logger.warn({ err }, 'tags not set'))
        this.registrar.check()
      },
      seedFetched: seed => {
        this.membership.setTags({ seed }).catch((err: unknown) => logger.warn({ err }, 'tags not set'))
      },
      roleChanged: ({ role, term, leader }) => {
        this.events.tell(() => ({ kind: 'raft', role, term, leader: leader === null ? null : this.nameOf(leader) }))
      },
      fatal,
      logger: logger.child({ room: 'replication' })
    })
    this.digests = new DigestCheck({
      digest: () => digestOf(this.state),
      leader: () => this.replicator.status().leader,
      self: this.self,
      ask: (peer, method) => this.replicator.ask(peer, method),
      serve: (method, answer) => this.replicator.serve(method, answer),
      logger: logger.child({ room: 'agent' })
    })
    this.#desiredInputs = new DesiredInputs({
      self: this.self,
      state: this.state,
      config: () => this.#config,
      view: () => this.membership.view(),
      devices: p.driver.devices,
      underlay: p.underlay,
      logger
    })
    this.localEndpoints = new LocalEndpoints({
      dataDir: config.dataDir,
      bootId: p.bootId,
      self: this.self,
      state: this.state,
      devices: p.driver.devices,
      desired: vni => desired(this.#desiredInputs.input(vni)),
      overlayMtu: () => this.overlayMtu,
      logger: logger.child({ room: 'overlay' })
    })
    this.reconciler = new Reconciler({
      driver: p.driver,
      clock: systemClock,
      input: scope => this.#desiredInputs.input(scope),
      network: vni => this.state.networkByVni(vni),
      gateways: () => this.#desiredInputs.gateways(),
      mayRemove: () => this.replicator.current,
      before: () => this.#desiredInputs.readMtu(),
      after: async () => {
        await this.localEndpoints.followMtu()
        if (this.replicator.current) this.localEndpoints.prune()
      },
      inFlight: key => this.localEndpoints.isInHand(key),
      restore: key => this.localEndpoints.restore(key),
      passed: (scope, ms) => this.metrics.reconciled(scope, ms),
      logger: logger.child({ room: 'overlay' })
    })
    this.counters = new CounterWindow({
      read: () => p.driver.devices.counters(),
      nowMs: monotonicMs,
      restarted: (hostInterface, last) =>
        logger.info({ hostInterface, ...last }, 'counters began anew; these were the last'),
      failed: (err: unknown) => logger.warn({ err }, 'counters not read'),
      sampled: counters => countTraffic(this, counters)
    })
    this.registrar = new Registrar({
      host,
      recorded: () => this.state.host(this.self),
      propose: command => this.propose(command),
      logger: logger.child({ room: 'agent' })
    })
  }

  /** Makes an agent of its parts and starts it. @throws VxmeshError naming what is wrong with the configuration or the machine */
  static async start(parts: Parts): Promise<Agent> {
    let agent: Agent | null = null
    try {
      agent = new Agent(parts, await startMesh(parts))
      await agent.#run()
      return agent
    } catch (err) {
      // Half an agent must not go on: what was started holds ports, timers and the process.
      await (agent === null ? closeParts(parts) : agent.stop())
      throw err
    }
  }

  /** Changes the cluster's state and waits until the change is visible here. @throws see Replicator.propose, ERR_TIMEOUT */
  async propose<C extends Command>(command: C): Promise<ResultOf<C['kind']>> {
    const since = monotonicMs()
    const { result, index } = await this.replicator.propose(command)
    this.metrics.committed(monotonicMs() - since)
    await this.#gate.wait(index, VISIBLE_MS)
    return result
  }

  /**
   * The applied state as the bytes of a snapshot file: with everything that was acknowledged before the call, or, `stale`,
   * with what this host has. @throws ERR_NO_QUORUM, ERR_TIMEOUT, ERR_BUSY
   */
  async image(stale: boolean): Promise<Iterable<Uint8Array>> {
    if (!stale) await this.#gate.wait(await this.replicator.readIndex(), VISIBLE_MS)
    return snapshotFileChunks(await this.replicator.image())
  }

  get config(): Config {
    return this.#config
  }

  /**
   * Reads the configuration again and takes over what may change; the rest waits for a restart.
   * @throws ERR_CONFIG naming the key, http.listen also when its address cannot be had; then nothing has changed
   */
  reload(): Promise<ReloadView> {
    return this.#reloads.run(async () => {
      const { config, changed, restart } = planReload(this.#config, await this.#readConfig())
      // First what can be refused.
      const door = changed.includes('http.listen') ? await openMetricsDoor(this, config.http.listen) : null
      try {
        if (changed.includes('join')) await this.membership.setJoin(config.join)
      } catch (err) {
        await door?.close()
        throw err
      }
      const closed = door === null ? null : this.#doors.replaceMetrics(door)
      this.#config = config
      setLogLevel(this.logger, config.log.level)
      this.#doors.collectAfter(config.collectAfter * 1_000)
      if (changed.includes('overlay.mtu')) this.reconciler.wake()
      await closed?.close()
      this.logger.info({ changed, restart }, 'configuration read again')
      return { changed, restart }
    })
  }

  /** Ends the agent in good order; `ended` resolves. */
  requestStop(): void {
    this.#end(null)
  }

  /** Stops the control plane. The kernel stays as it is: containers go on talking. */
  async stop(): Promise<void> {
    await this.#doors.closeRequests()
    // Whoever asked is gone; without this, a change that no majority takes would hold the process for its whole time.
    this.replicator.failPending()
    this.#gate.close()
    await this.#doors.close()
    this.registrar.stop()
    this.digests.stop()
    this.counters.stop()
    await this.reconciler.stop()
    await this.replicator.stop()
    await this.#mesh.stop()
    await closeParts(this.#parts)
  }

  /** What the underlay leaves to containers, bytes; follows the underlay. */
  get overlayMtu(): number {
    return this.#desiredInputs.overlayMtu
  }

  get underlayMtu(): number {
    return this.#desiredInputs.underlayMtu
  }

  get members(): readonly Member[] {
    return this.#members()
  }

  async #run(): Promise<void> {
    // First: whoever probes hears that this host is there and not ready yet.
    await this.#doors.openMetrics(this)
    this.digests.start()
    serveDoctor(this)
    await this.localEndpoints.load()
    await this.replicator.start()
    // The data plane comes first: from the copy on disk, before anybody was heard.
    this.driver.onChange(networks => this.reconciler.changed(networks))
    this.reconciler.wake()
    this.counters.start()
    this.membership.onChange(update => this.#membersChanged(update))
    // Both to their end, also when one fails: what is still starting could not be stopped.
    const started = await Promise.allSettled([this.membership.start(), this.#doors.open(this)])
    for (const outcome of started) if (outcome.status === 'rejected') throw outcome.reason
    this.logger.info({ name: this.config.name, peerId: this.self, version: VERSION }, 'agent started')
  }

  /** The name that people know a peer by; its id where there is none. */
  nameOf(peer: PeerId): string {
    return this.state.host(peer)?.name ?? this.#members().find(m => m.peerId === peer)?.name ?? peer
  }

  #apply(index: LogIndex, request: Request): Outcome {
    const { command } = request
    const touched = networksOfCommand(this.state, command)
    if (touched === 'all') this.reconciler.wake()
    const before = touched === 'all' ? [] : touched.filter(vni => this.#isHere(vni))
    const outcome = this.state.apply(index, request)
    // Of a network that is not here, before or after, this host has nothing that could change.
    const after = touched === 'all' ? [] : touched.filter(vni => this.#isHere(vni))
    for (const vni of [...before, ...after]) this.#touched.add(vni)
    this.digests.applied(index)
    this.events.tell(
      () =>
        changeEvent({
          index,
          command,
          outcome,
          network: name => this.state.network(name),
          hostName: peer => this.nameOf(peer)
        }),
      this.replicator.current ? 'new' : 'past'
    )
    return outcome
  }

  #isHere(vni: Vni): boolean {
    return this.state.isOnHost(vni, this.self)
  }

  #skip(index: LogIndex): void {
    this.state.skip(index)
    this.digests.applied(index)
  }

  #membersChanged({ changes, first }: MembershipUpdate): void {
    for (const change of changes) this.events.tell(() => memberEvent(change))
    this.replicator.membersChanged()
    if (first || changes.some(affectsOverlay)) this.reconciler.wake()
  }

  #applied(index: LogIndex): void {
    this.#gate.reached(index)
    this.reconciler.wake(this.#touched)
    this.#touched.clear()
    if (this.replicator.clusterId !== null) this.registrar.check()
  }

  #members(): readonly Member[] {
    return this.membership.view()?.members ?? []
  }

  /** Peers that may connect: members that Serf lists, and hosts of the committed state. */
  #isKnown(peer: PeerId): boolean {
    const host = this.state.host(peer)
    if (host !== undefined && !isVacant(host)) return true
    return this.#members().some(m => m.peerId === peer && m.status !== 'left')
  }
}

function startMesh({ config, keys, identity, known, logger }: Parts): Promise<Mesh> {
  return Mesh.start({
    privateKey: identity.privateKey,
    bind: config.bind,
    port: config.p2p.port,
    preSharedKey: keys === null ? null : keys.p2p,
    topic: TOPIC,
    isKnown: peer => known.isKnown(peer),
    clock: systemClock,
    logger: logger.child({ room: 'replication' })
  })
}
