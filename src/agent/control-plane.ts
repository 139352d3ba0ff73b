// Wires the parts that keep this host in agreement with the others: replication, the state that it feeds, the check of
// that state, and this host's registration in it.

import { whyNotYet } from '#allocator/admission.ts'
import { digestOf } from '#allocator/digest.ts'
import type { ClusterState } from '#allocator/state-machine.ts'
import type { Config } from '#config/schema.ts'
import { UNGATED_RULES, type Command, type ResultOf } from '#model/command.ts'
import { VxmeshError } from '#model/errors.ts'
import type { LogIndex, Vni } from '#model/ids.ts'
import { joinIp } from '#model/join-address.ts'
import { parsePrefix } from '#model/ip.ts'
import { diskFiles } from '#platform/file-layer.ts'
import { VERSION } from '#platform/version.ts'
import type { ClusterLife, PeerRpc, ReplicatedLog } from '#replication/ports.ts'
import { Replicator } from '#replication/replicator.ts'
import { IndexGate } from './index-gate.ts'
import type { RunningMesh } from './machine.ts'
import { DigestCheck } from './observe/digest-check.ts'
import type { EventBus } from './observe/event-bus.ts'
import type { PeerDirectory } from './observe/peer-directory.ts'
import type { Parts } from './parts.ts'
import { Registrar } from './registrar.ts'
import { StateApplier } from './state-applier.ts'

/** How long a committed change may take to become visible on the host that proposed it. */
const VISIBLE_MS = 3_000

export type ControlPlaneOptions = {
  readonly parts: Parts
  /** As it was read last. */
  readonly config: () => Config
  readonly mesh: RunningMesh
  readonly state: ClusterState
  readonly directory: PeerDirectory
  readonly events: EventBus
  /** See StateApplierOptions. */
  readonly changed: (networks?: Iterable<Vni>) => void
  readonly peersChanged: () => void
  /** Called with the latency of each committed proposal of this host. */
  readonly committed: (ms: number) => void
  /** Called with the error that must end the agent. */
  readonly fatal: (err: Error) => void
}

export class ControlPlane {
  readonly log: ReplicatedLog
  readonly cluster: ClusterLife
  readonly peerRpc: PeerRpc
  readonly digests: DigestCheck
  readonly registrar: Registrar
  readonly #options: ControlPlaneOptions
  readonly #gate: IndexGate
  readonly #replicator: Replicator
  /** Those of the cluster when they were looked at last. */
  #rules: number = UNGATED_RULES

  constructor(options: ControlPlaneOptions) {
    this.#options = options
    this.#gate = new IndexGate({ clock: options.parts.clock })
    this.digests = this.#makeDigests()
    this.#replicator = this.#makeReplicator()
    this.log = this.#replicator.log
    this.cluster = this.#replicator.cluster
    this.peerRpc = this.#replicator.peerRpc
    this.registrar = this.#makeRegistrar()
  }

  /** All RPC methods must be registered before. */
  async start(): Promise<void> {
    this.digests.start()
    await this.#replicator.start()
  }

  /**
   * Changes the cluster's state and waits until the change is visible here.
   * @throws see ReplicatedLog.propose; ERR_TIMEOUT when it is committed and not visible in time
   */
  async propose<C extends Command>(command: C): Promise<ResultOf<C['kind']>> {
    const { parts, state, committed } = this.#options
    const early = whyNotYet(state, command)
    if (early !== null) throw VxmeshError.fromBody(early.error)
    const sinceMs = parts.clock.nowMs()
    const { result, index } = await this.log.propose(command)
    committed(parts.clock.nowMs() - sinceMs)
    await this.#gate.wait(index, VISIBLE_MS)
    return result
  }

  /** Resolves when this host has applied everything that was acknowledged before the call. @throws ERR_NO_QUORUM, ERR_TIMEOUT */
  async refresh(): Promise<void> {
    await this.#gate.wait(await this.log.readIndex(), VISIBLE_MS)
  }

  /**
   * The applied state as the bytes of a snapshot file, with everything that was acknowledged before the call; or, `stale`,
   * as this host has it. @throws ERR_NO_QUORUM, ERR_TIMEOUT, ERR_BUSY
   */
  async image(stale: boolean): Promise<AsyncIterable<Uint8Array>> {
    if (!stale) await this.refresh()
    return this.log.image()
  }

  /** Fails requests that wait for other hosts, so that the agent can end without a majority. */
  failPending(): void {
    this.#replicator.failPending()
    this.#gate.close()
  }

  async stop(): Promise<void> {
    this.registrar.stop()
    this.digests.stop()
    await this.#replicator.stop()
  }

  #makeDigests(): DigestCheck {
    const { parts, state } = this.#options
    return new DigestCheck({
      digest: () => digestOf(state),
      index: () => state.appliedIndex,
      repair: () => this.log.repair(),
      leader: () => this.log.status().leader,
      followsFeed: () => this.log.status().role === 'client',
      self: parts.identity.peerId,
      ask: (peer, method) => this.peerRpc.ask(peer, method),
      serve: (method, answer) => this.peerRpc.serve(method, answer),
      clock: parts.clock,
      logger: parts.logger.child({ room: 'agent' })
    })
  }

  #makeReplicator(): Replicator {
    const { parts, mesh, directory, events, fatal } = this.#options
    const { config, membership, logger } = parts
    const setTags = (tags: Parameters<typeof membership.setTags>[0]): void => {
      membership.setTags(tags).catch((err: unknown) => logger.warn({ err }, 'tags not set'))
    }
    return new Replicator({
      self: parts.identity.peerId,
      bootstrapExpect: config.role === 'server' ? config.bootstrapExpect : 0,
      mesh,
      clock: parts.clock,
      random: parts.random,
      disk: { dataDir: config.dataDir, files: diskFiles },
      snapshotBytes: config.raft.snapshotBytes,
      storage: parts.storage,
      seed: parts.seed,
      machine: this.#makeApplier(),
      members: () => directory.members,
      joinAddresses: () => this.#options.config().join.map(joinIp),
      joined: clusterId => {
        setTags({ clusterId })
        this.registrar.check()
      },
      seedFetched: seed => setTags({ seed }),
      roleChanged: ({ role, term, leader }) => {
        const name = leader === null ? null : directory.nameOf(leader)
        events.publish(() => ({ kind: 'raft', role, term, leader: name }))
      },
      fatal,
      logger: logger.child({ room: 'replication' })
    })
  }

  #makeApplier(): StateApplier {
    const { parts, state, directory, events, changed, peersChanged } = this.#options
    return new StateApplier({
      self: parts.identity.peerId,
      state,
      directory,
      vteps: () => this.#options.config().overlay.vteps.map(text => parsePrefix(text)),
      events,
      digests: this.digests,
      current: () => this.log.current,
      changed,
      peersChanged,
      reached: index => this.#reached(index)
    })
  }

  #makeRegistrar(): Registrar {
    const { parts, state } = this.#options
    const { config, identity, bootId, clock, logger } = parts
    return new Registrar({
      host: {
        name: config.name,
        peerId: identity.peerId,
        vtep: config.overlay.vtep,
        role: config.role,
        bootId,
        version: VERSION
      },
      recorded: () => state.host(identity.peerId),
      propose: command => this.propose(command),
      clock,
      logger: logger.child({ room: 'agent' })
    })
  }

  #noteRules(): void {
    const { parts, state } = this.#options
    if (state.rules === this.#rules) return
    this.#rules = state.rules
    parts.logger.info({ room: 'agent', rules: state.rules }, 'every host knows new rules: the cluster uses them')
  }

  #reached(index: LogIndex): void {
    this.#gate.reached(index)
    this.#noteRules()
    if (this.cluster.clusterId === null) return
    this.registrar.check()
  }
}
