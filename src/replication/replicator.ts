// Replication as one thing: finds or founds the cluster, runs Raft on a voter and follows the feed elsewhere, keeps
// what is committed on disk, and carries this host's proposals to the leader. What an entry means it does not know.

import { VxmeshError } from '#model/errors.ts'
import type { Command, Outcome, Request, Result } from '#model/command.ts'
import type { ClusterId, LogIndex, PeerId, Term } from '#model/ids.ts'
import type { Member } from '#model/member.ts'
import { parseRequest } from '#model/parse-request.ts'
import type { Logger } from '#platform/log.ts'
import { decodeMsgpack, encodeMsgpack } from '#platform/msgpack.ts'
import type { Entry, RaftRole } from '#raft/types.ts'
import { allAgree, askOrigin, decideBootstrap, originOf, serveBootstrap, type BootstrapDecision } from './bootstrap.ts'
import { FeedFollower, FeedPublisher } from './feed.ts'
import { serveFetch, type PageSource } from './fetch.ts'
import type { Mesh } from './mesh.ts'
import { Proposer, servePropose, type Applied } from './proposer.ts'
import { RaftNode, type RoleChange } from './raft-node.ts'
import { RaftTransport } from './raft-transport.ts'
import { Rpc } from './rpc.ts'
import type { SnapshotStore } from './snapshot-store.ts'
import type { Origin } from './wal-record.ts'
import type { Recovered, Wal } from './wal.ts'

/** The state machine behind the log. */
export type StateMachine = {
  /** Applies a committed command. */
  readonly apply: (index: LogIndex, request: Request) => Outcome
  /** Passes over an entry that holds no command. */
  readonly skip: (index: LogIndex) => void
  /** Called after each applied range. */
  readonly applied: (index: LogIndex) => void
}

export type ReplicatorOptions = {
  readonly self: PeerId
  /** How many servers found a cluster together; 0 on a client. */
  readonly bootstrapExpect: number
  readonly mesh: Mesh
  readonly wal: Wal
  readonly snapshots: SnapshotStore
  readonly recovered: Recovered
  readonly machine: StateMachine
  readonly members: () => readonly Member[]
  /** This host has become part of a cluster. */
  readonly belongs: (clusterId: ClusterId) => void
  /** This host's part in consensus, or the leader as it knows it, has changed. */
  readonly roleChanged: (change: RoleChange) => void
  readonly fatal: (err: Error) => void
  readonly logger: Logger
}

export type ReplicationStatus = {
  readonly role: RaftRole | 'client' | 'waiting'
  readonly term: Term
  readonly leader: PeerId | null
  readonly commitIndex: LogIndex
}

export type PeerProgress = { readonly peerId: PeerId; readonly voter: boolean; readonly matchIndex: number | null }

/** How often members are looked at even if nothing was heard: connections lost, servers not yet asked. */
const REVIEW_MS = 500
const ASK_MS = 1_000

export class Replicator {
  readonly #options: ReplicatorOptions
  readonly #rpc: Rpc
  readonly #proposer: Proposer
  #origin: Origin | null
  #raft: RaftNode | null = null
  #transport: RaftTransport | null = null
  #publisher: FeedPublisher | null = null
  #follower: FeedFollower | null = null
  #applied = 0 as LogIndex
  #heard: { readonly leader: PeerId | null; readonly term: Term } = { leader: null, term: 0 as Term }
  #led: Term | null = null
  #leaderChanges = 0
  #review: NodeJS.Timeout | null = null
  #deciding = false
  #stopped = false

  constructor(options: ReplicatorOptions) {
    this.#options = options
    this.#origin = options.recovered.origin
    this.#rpc = new Rpc(options.mesh)
    this.#proposer = new Proposer({
      rpc: this.#rpc,
      self: options.self,
      proposeHere: request => this.#proposeHere(request),
      servers: () => this.#servers()
    })
  }

  get clusterId(): ClusterId | null {
    return this.#origin?.clusterId ?? null
  }

  async start(): Promise<void> {
    serveFetch(this.#rpc, () => this.#pageSource())
    serveBootstrap(this.#rpc, { decision: () => this.#decision(), origin: () => this.#origin })
    servePropose(this.#rpc, {
      proposeHere: () => (this.#raft === null ? null : request => this.#proposeHere(request)),
      check: parseRequest
    })
    this.#rpc.register('raft-peers', () => Promise.resolve(this.#progress()))
    await this.#rpc.start()
    if (this.#origin !== null) await this.#belong(this.#origin, false)
    this.#review = setInterval(() => this.membersChanged(), REVIEW_MS)
  }

  async stop(): Promise<void> {
    this.#stopped = true
    if (this.#review !== null) clearInterval(this.#review)
    this.#publisher?.stop()
    this.#raft?.stop()
    this.#transport?.stop()
    await this.#follower?.stop()
  }

  /**
   * Changes the cluster's state; resolves after commit with the result and the index at which it is visible.
   * @throws what the state machine refused it with; ERR_NO_QUORUM, ERR_BUSY
   */
  async propose(command: Command): Promise<{ readonly result: Result; readonly index: LogIndex }> {
    return this.#proposer.propose(command)
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

  /** Entries that are known to be committed and are not applied here yet. */
  get lag(): number {
    const known = this.#raft?.status().commitIndex ?? this.#follower?.highest ?? this.#applied
    return Math.max(0, known - this.#applied)
  }

  /** May this host remove what the state does not name? Not while the state may be older than what was acted upon. */
  get current(): boolean {
    return this.#raft?.current ?? this.#follower?.current ?? false
  }

  status(): ReplicationStatus {
    if (this.#raft !== null) {
      const { role, term, leader, commitIndex } = this.#raft.status()
      return { role, term, leader, commitIndex }
    }
    const role = this.#origin === null ? 'waiting' : 'client'
    return { role, term: this.#heard.term, leader: this.#heard.leader, commitIndex: this.#applied }
  }

  /** The voters and how far each is, as the leader knows it; from here where no leader answers. */
  async peers(): Promise<readonly PeerProgress[]> {
    const { leader } = this.status()
    if (leader !== null && leader !== this.#options.self) {
      try {
        return (await this.ask(leader, 'raft-peers')) as readonly PeerProgress[]
      } catch (err) {
        if (!(err instanceof VxmeshError)) throw err
      }
    }
    return this.#progress()
  }

  /** Looks at the members: new addresses, servers to connect to, a cluster to found or to adopt. */
  membersChanged(): void {
    if (this.#stopped) return
    const { mesh, self } = this.#options
    const members = this.#options.members()
    for (const m of members) mesh.setAddress(m.peerId, { address: m.address, port: m.p2pPort })
    for (const m of members) {
      if (m.role !== 'server' || m.status !== 'alive' || m.peerId === self || mesh.isConnected(m.peerId)) continue
      mesh.connect(m.peerId).then(
        () => this.#follower?.catchUp(),
        (err: unknown) => this.#options.logger.debug({ peer: m.peerId, err }, 'server cannot be reached')
      )
    }
    if (this.#origin === null && !this.#deciding) void this.#decide()
  }

  #decision(): BootstrapDecision {
    const { self, bootstrapExpect: expect } = this.#options
    return decideBootstrap({ self, expect, members: this.#options.members() })
  }

  async #decide(): Promise<void> {
    this.#deciding = true
    try {
      const decision = this.#decision()
      if (decision.kind === 'adopt') {
        await this.#belong(await askOrigin(this.#rpc, decision.from), true)
      } else if (decision.kind === 'agree' && (await allAgree(this.#rpc, this.#options.self, decision.voters))) {
        await this.#belong(originOf(decision.voters), true)
      }
    } catch (err) {
      if (!(err instanceof VxmeshError)) throw err
      if (err.code === 'ERR_STORAGE') this.#options.fatal(err)
      else this.#options.logger.debug({ err }, 'no cluster yet')
    } finally {
      this.#deciding = false
    }
  }

  /** Takes up the place in a cluster: voter or not follows from its configuration. */
  async #belong(origin: Origin, isNew: boolean): Promise<void> {
    const { wal, snapshots, logger, self } = this.#options
    snapshots.belong(origin.clusterId)
    if (isNew) await wal.append([{ kind: 'origin', origin }])
    if (this.#stopped) return
    this.#origin = origin
    const voter = origin.configuration.voters.includes(self)
    logger.info({ cluster: origin.clusterId, voter }, 'belongs to a cluster')
    if (voter) await this.#startRaft(origin)
    else await this.#startFollower()
    this.#options.belongs(origin.clusterId)
    this.membersChanged()
  }

  async #startRaft(origin: Origin): Promise<void> {
    const { self, mesh, wal, recovered, fatal, logger } = this.#options
    const isServer = (peer: PeerId): boolean => origin.configuration.voters.includes(peer)
    const transport = new RaftTransport({
      mesh,
      self,
      isServer,
      receive: message => this.#raft?.receive(message),
      logger
    })
    this.#transport = transport
    this.#publisher = new FeedPublisher(mesh, origin.clusterId, logger)
    this.#raft = new RaftNode({
      self,
      clusterId: origin.clusterId,
      configuration: origin.configuration,
      durable: recovered.durable,
      wal,
      send: message => transport.send(message),
      apply: entries => this.#apply(entries),
      // No server takes snapshots yet, so none can come.
      installSnapshot: () => Promise.reject(new VxmeshError('ERR_INTERNAL', 'a snapshot came, and none is ever taken')),
      restore: () => undefined,
      roleChanged: change => this.#roleChanged(change),
      fatal,
      logger
    })
    await transport.start()
  }

  async #startFollower(): Promise<void> {
    const { wal, recovered, fatal, logger } = this.#options
    const { entries, commitIndex } = recovered.durable
    // A host that was a voter may hold entries that were never committed; a follower of the feed keeps none.
    const committed = entries.filter(({ index }) => index <= commitIndex)
    if (entries.length > committed.length) {
      await wal.append([{ kind: 'truncate', from: (commitIndex + 1) as LogIndex }])
    }
    this.#apply(committed)
    this.#follower = new FeedFollower({
      rpc: this.#rpc,
      clusterId: () => this.clusterId,
      isServer: peer => this.#isServer(peer),
      servers: () => this.#servers(),
      applied: this.#applied,
      deliver: async entries => {
        const last = entries.at(-1)
        if (last === undefined) return
        const records = entries.map(entry => ({ kind: 'entry' as const, entry }))
        await wal.append([...records, { kind: 'commit', index: last.index }])
        this.#apply(entries)
      },
      heard: (leader, term) => {
        if (term < this.#heard.term) return
        this.#heard = { leader, term }
        this.#leads(leader, term)
      },
      fatal,
      logger
    })
    // Voters have the log itself: they speak on the topic and do not listen.
    this.#options.mesh.subscribe((author, data) => this.#follower?.judge(author, data) ?? 'ignore')
    this.#follower.start()
  }

  #apply(entries: readonly Entry[]): Applied[] {
    const { machine } = this.#options
    const results = entries.map(entry => {
      this.#applied = entry.index
      if (entry.kind === 'command') {
        return { index: entry.index, outcome: machine.apply(entry.index, parseRequest(decodeMsgpack(entry.data))) }
      }
      machine.skip(entry.index)
      return { index: entry.index, outcome: PASSED }
    })
    if (entries.length > 0) machine.applied(this.#applied)
    this.#publisher?.committed(entries)
    return results
  }

  #roleChanged(change: RoleChange): void {
    this.#options.logger.info({ role: change.role, term: change.term, leader: change.leader }, 'raft role')
    if (change.role === 'leader') this.#publisher?.lead(change.term)
    else this.#publisher?.stop()
    if (change.leader !== null) this.#leads(change.leader, change.term)
    this.#options.roleChanged(change)
  }

  /** A term has one leader at most. */
  #leads(leader: PeerId, term: Term): void {
    this.#proposer.hint(leader)
    if (term === this.#led) return
    this.#led = term
    this.#leaderChanges += 1
  }

  async #proposeHere(request: Request): Promise<Applied> {
    if (this.#raft === null) throw new VxmeshError('ERR_NOT_LEADER', 'this host is no voter')
    return (await this.#raft.propose(encodeMsgpack(request))) as Applied
  }

  #servers(): PeerId[] {
    const alive = this.#options.members().filter(m => m.role === 'server' && m.status === 'alive')
    return alive.map(m => m.peerId)
  }

  #isServer(peer: PeerId): boolean {
    return (
      this.#origin?.configuration.voters.includes(peer) === true ||
      this.#options.members().some(m => m.peerId === peer && m.role === 'server')
    )
  }

  #pageSource(): PageSource | null {
    const raft = this.#raft
    if (raft === null || this.#origin === null) return null
    return {
      clusterId: this.#origin.clusterId,
      committedEntries: (from, maxBytes) => raft.committedEntries(from, maxBytes),
      commitIndex: () => raft.status().commitIndex
    }
  }

  #progress(): PeerProgress[] {
    const status = this.#raft?.status()
    const { voters, learners } = status?.configuration ?? this.#origin?.configuration ?? { voters: [], learners: [] }
    const match = (peer: PeerId): number | null => status?.progress.get(peer)?.matchIndex ?? null
    return [
      ...voters.map(peerId => ({ peerId, voter: true, matchIndex: match(peerId) })),
      ...learners.map(peerId => ({ peerId, voter: false, matchIndex: match(peerId) }))
    ]
  }
}

const PASSED: Outcome = { ok: true, result: { kind: 'session' } }
