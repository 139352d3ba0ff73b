// Replication as one thing: finds or founds the cluster, runs Raft on a voter and follows the feed elsewhere, keeps
// what is committed on disk, and carries this host's proposals to the leader. What an entry means it does not know.

import type { Command, ResultOf } from '#model/command.ts'
import { VxmeshError } from '#model/errors.ts'
import type { ClusterId, LogIndex, PeerId, Term } from '#model/ids.ts'
import { parseRequest } from '#model/parse-request.ts'
import { AppliedLog, type StateMachine } from './consensus/applied-log.ts'
import { ClusterAdoption } from './cluster/cluster-adoption.ts'
import { serveFetch } from './feed/fetch.ts'
import { ClusterRole, type ReplicationOptions, type ReplicationStatus } from './cluster/cluster-role.ts'
import { isForeign, type PeerProgress } from './consensus/peers.ts'
import { Proposer, servePropose } from './consensus/proposer.ts'
import { askReadIndex, serveReadIndex } from './consensus/read-index.ts'
import { Rpc } from './transport/rpc.ts'
import type { Seed } from './cluster/seed.ts'
import { ServerChanges, serveServerChanges } from './cluster/server-changes.ts'
import type { ClusterSnapshot } from './storage/snapshot-file.ts'

export type ReplicatorOptions = ReplicationOptions & {
  /** How many servers found a cluster together; 0 on a client. */
  readonly bootstrapExpect: number
  /** A restored backup that waits for its cluster. */
  readonly seed: Seed | null
  readonly machine: StateMachine
  /** This host has become part of a cluster. */
  readonly belongs: (clusterId: ClusterId) => void
  /** This host has got the restored backup of others. */
  readonly holdsSeed: (id: string) => void
}

/** How often members are looked at even if nothing was heard: connections lost, servers not yet asked. */
const REVIEW_MS = 500
const ASK_MS = 1_000

export class Replicator {
  readonly #options: ReplicatorOptions
  readonly #rpc: Rpc
  readonly #proposer: Proposer
  readonly #changes: ServerChanges
  readonly #belonging: ClusterAdoption
  readonly #place: ClusterRole
  readonly #applied: AppliedLog
  readonly #stopping = new AbortController()
  #led: Term | null = null
  #leaderChanges = 0
  #review: NodeJS.Timeout | null = null

  constructor(options: ReplicatorOptions) {
    this.#options = options
    const { bootstrapExpect, clock, dataDir, fatal, holdsSeed, logger, members, seed, self, storage } = options
    const { signal: stopping } = this.#stopping
    const rpc = new Rpc({ mesh: options.mesh, clock: options.clock })
    this.#rpc = rpc
    this.#applied = new AppliedLog(options.machine)
    this.#place = new ClusterRole({
      ...options,
      rpc,
      applied: this.#applied,
      leads: (leader, term) => this.#leads(leader, term)
    })
    this.#belonging = new ClusterAdoption({
      ...{ self, bootstrapExpect, clock, dataDir, storage, seed, holdsSeed, rpc, members, stopping, fatal, logger },
      belongs: async (origin, opened) => {
        await this.#place.take(origin, this.#belonging.incarnation ?? 0, opened)
        options.belongs(origin.clusterId)
        this.membersChanged()
      }
    })
    this.#changes = new ServerChanges({ rpc, leader: () => this.status().leader, stopping })
    this.#proposer = new Proposer({
      rpc,
      self,
      proposeHere: request => this.#place.propose(request),
      servers: () => this.#place.servers(),
      onNotice: (leader, word) => this.#place.onNotice(leader, word)
    })
  }

  get clusterId(): ClusterId | null {
    return this.#belonging.origin?.clusterId ?? null
  }

  async start(): Promise<void> {
    const place = this.#place
    serveFetch(this.#rpc, () => place.pageSource())
    this.#belonging.serve()
    serveReadIndex(this.#rpc, () => place.raft)
    servePropose(this.#rpc, {
      proposeHere: () => (place.raft === null ? null : request => place.propose(request)),
      check: parseRequest,
      wordFor: peer => place.noticeFor(peer)
    })
    serveServerChanges(this.#rpc, {
      part: () => place.raft,
      place: (peer, incarnation) => place.placeOf(peer, incarnation),
      incarnation: () => (this.#belonging.origin === null ? null : this.#belonging.incarnation)
    })
    this.#rpc.register('raft-peers', () => Promise.resolve(place.progress()))
    await this.#rpc.start()
    await this.#belonging.start()
    this.#review = setInterval(() => this.membersChanged(), REVIEW_MS)
  }

  /** Ends what waits for other hosts: a change whose fate is not known here yet, a change of the servers. */
  endWaiting(): void {
    this.#stopping.abort()
    this.#proposer.stop()
  }

  async stop(): Promise<void> {
    this.endWaiting()
    if (this.#review !== null) clearInterval(this.#review)
    await this.#place.stop()
  }

  /** Makes a host a voter. @throws see ServerChanges.add */
  addServer(peer: PeerId): Promise<void> {
    return this.#changes.add(peer)
  }

  /** Makes a server a client. @throws see ServerChanges.remove */
  removeServer(peer: PeerId): Promise<void> {
    return this.#changes.remove(peer)
  }

  /** @throws see ServerChanges.transfer */
  transferLeadership(to: PeerId): Promise<void> {
    return this.#changes.transfer(to)
  }

  /**
   * Changes the cluster's state; resolves after commit with the result and the index at which it is visible.
   * @throws what the state machine refused it with; ERR_NO_QUORUM, ERR_BUSY
   */
  async propose<C extends Command>(
    command: C
  ): Promise<{ readonly result: ResultOf<C['kind']>; readonly index: LogIndex }> {
    return this.#proposer.propose(command)
  }

  /**
   * The applied state as a snapshot; of what was committed before the call when its index is at least `readIndex`.
   * @throws ERR_BUSY when this host belongs to no cluster
   */
  async image(): Promise<ClusterSnapshot> {
    const { clusterId } = this
    if (clusterId === null) throw new VxmeshError('ERR_BUSY', 'this host belongs to no cluster yet')
    const { meta } = this.#applied
    return { clusterId, meta, data: await this.#applied.snapshot() }
  }

  /** An index up to which everything that was committed before the call reaches. @throws ERR_NO_QUORUM */
  readIndex(): Promise<LogIndex> {
    return askReadIndex(this.#rpc, this.status().leader)
  }

  /** What keeps this host from having its place in a cluster, in words; null for nothing that it knows of. */
  get trouble(): string | null {
    const { clusterId } = this
    if (clusterId === null) return this.#belonging.waitsFor
    const foreign = this.#options
      .members()
      .find(m => m.status === 'alive' && m.role === 'server' && isForeign(m, clusterId))
    if (foreign === undefined || this.status().leader !== null) return null
    const theirs = `${foreign.name} is a server of cluster ${foreign.clusterId ?? ''}`
    return (
      `${theirs}, and this host belongs to cluster ${clusterId}, of which no leader is in sight: ` +
      'the two refuse each other; to join it, move the data directory away'
    )
  }

  /** Answers a question of other hosts; to be called before `start`. */
  serve(method: string, answer: () => unknown): void {
    this.#rpc.register(method, () => Promise.resolve(answer()))
  }

  /** @throws ERR_PEER, ERR_TIMEOUT */
  ask(peer: PeerId, method: string): Promise<unknown> {
    return this.#rpc.call({ peer, method, body: null, timeoutMs: ASK_MS })
  }

  /** See Proposer.retries. */
  get retries(): number {
    return this.#proposer.retries
  }

  /** Leaderships that this host has seen since it started. */
  get leaderChanges(): number {
    return this.#leaderChanges
  }

  /** See HeldPlace.lag. */
  get lag(): number {
    return this.#place.lag
  }

  /** See HeldPlace.current. */
  get current(): boolean {
    return this.#place.current
  }

  status(): ReplicationStatus {
    return this.#place.status()
  }

  /** The voters and how far each is, as the leader knows it; from here where no leader answers. */
  async peers(): Promise<readonly PeerProgress[]> {
    const { leader } = this.status()
    if (leader !== null) {
      try {
        return (await this.ask(leader, 'raft-peers')) as readonly PeerProgress[]
      } catch (err) {
        if (!(err instanceof VxmeshError)) throw err
      }
    }
    return this.#place.progress()
  }

  /** Looks at the members: new addresses, servers to connect to, a cluster to found or to adopt. */
  membersChanged(): void {
    if (this.#stopping.signal.aborted) return
    const { mesh, self } = this.#options
    const members = this.#options.members()
    for (const m of members) mesh.setAddress(m.peerId, { address: m.address, port: m.p2pPort })
    for (const m of members) {
      if (m.role !== 'server' || m.status !== 'alive' || m.peerId === self || mesh.isConnected(m.peerId)) continue
      mesh.connect(m.peerId).then(
        () => this.#place.catchUp(),
        (err: unknown) => this.#options.logger.debug({ peer: m.peerId, err }, 'server cannot be reached')
      )
    }
    this.#belonging.check()
    void this.#place.askAboutPlace()
  }

  /** A term has one leader at most. */
  #leads(leader: PeerId, term: Term): void {
    this.#proposer.hint(leader)
    if (term === this.#led) return
    this.#led = term
    this.#leaderChanges += 1
  }
}
