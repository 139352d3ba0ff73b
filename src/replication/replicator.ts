// Replication as one thing: finds or founds the cluster, runs Raft on a voter and follows the feed elsewhere, keeps
// what is committed on disk, and carries this host's proposals to the leader. What an entry means it does not know.

import { asVxmeshError, VxmeshError } from '#model/errors.ts'
import type { Command, Outcome, Request, Result } from '#model/command.ts'
import type { ClusterId, LogIndex, PeerId, Term } from '#model/ids.ts'
import type { Member } from '#model/member.ts'
import { parseRequest } from '#model/parse-request.ts'
import type { Logger } from '#platform/log.ts'
import { decodeMsgpack, encodeMsgpack } from '#platform/msgpack.ts'
import { isMember } from '#raft/configuration.ts'
import type { Configuration, Entry, Message, RaftRole, Snapshot } from '#raft/types.ts'
import { allAgree, askOrigin, decideBootstrap, originOf, serveBootstrap, type BootstrapDecision } from './bootstrap.ts'
import { FeedFollower, FeedPublisher } from './feed.ts'
import { serveFetch, type PageSource } from './fetch.ts'
import { drawIncarnation, readIncarnation } from './incarnation.ts'
import type { Mesh } from './mesh.ts'
import { configurationAfter, mustTakePart, takesPart } from './place.ts'
import { Proposer, servePropose, type Applied } from './proposer.ts'
import { RaftNode, type RoleChange } from './raft-node.ts'
import { RaftTransport } from './raft-transport.ts'
import { Rpc } from './rpc.ts'
import { askPlace, ServerChanges, serveServerChanges } from './server-changes.ts'
import { Snapshotter } from './snapshotter.ts'
import { openStorage, type Storage } from './storage.ts'
import { UnsettledTail } from './unsettled-tail.ts'
import type { Origin } from './wal-record.ts'

/** The state machine behind the log. */
export type StateMachine = {
  /** Applies a committed command. */
  readonly apply: (index: LogIndex, request: Request) => Outcome
  /** Passes over an entry that holds no command. */
  readonly skip: (index: LogIndex) => void
  /** The whole applied state as bytes. O(state). */
  readonly snapshot: () => Uint8Array
  /** Takes the place of the whole state. @throws ERR_STORAGE when the bytes are no state */
  readonly restore: (data: Uint8Array) => void
  /** Called after each applied range. */
  readonly applied: (index: LogIndex) => void
}

export type ReplicatorOptions = {
  readonly self: PeerId
  /** How many servers found a cluster together; 0 on a client. */
  readonly bootstrapExpect: number
  readonly mesh: Mesh
  readonly dataDir: string
  /** Bytes of entries after which the state is saved and the log before it let go. */
  readonly snapshotBytes: number
  /** Log and snapshots; closed by `stop`. */
  readonly storage: Storage
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
/** What an entry weighs in the log besides its data. */
const ENTRY_BYTES = 32

export class Replicator {
  readonly #options: ReplicatorOptions
  readonly #rpc: Rpc
  readonly #proposer: Proposer
  readonly #changes: ServerChanges
  readonly #stopping = new AbortController()
  #storage: Storage
  #snapshotter: Snapshotter
  #incarnation: number | null = null
  /** The last one that is committed and applied here. */
  #configuration: Configuration = { voters: [], learners: [] }
  #appliedTerm = 0 as Term
  #changingPlace: Promise<void> | null = null
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
  /** The voters with whom this process would have founded a cluster; what others were told when they asked. */
  #wouldFound: string | null = null
  #asking = false
  /** The committed index at which others knew this host to be removed; until it is there, the log says otherwise. */
  #removedAt = 0 as LogIndex
  #stopped = false

  constructor(options: ReplicatorOptions) {
    this.#options = options
    this.#storage = options.storage
    this.#snapshotter = this.#newSnapshotter()
    this.#origin = options.storage.recovered.origin
    this.#rpc = new Rpc(options.mesh)
    this.#changes = new ServerChanges({
      rpc: this.#rpc,
      leader: () => this.status().leader,
      stopping: this.#stopping.signal
    })
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
    serveServerChanges(this.#rpc, {
      part: () => this.#raft,
      incarnation: () => (this.#origin === null ? null : this.#incarnation),
      place: (peer, incarnation) => ({
        index: this.#applied,
        member: takesPart(this.#configuration, peer, incarnation)
      })
    })
    this.#rpc.register('raft-peers', () => Promise.resolve(this.#progress()))
    await this.#rpc.start()
    if (this.#origin !== null) await this.#belong(this.#origin, 'recovered')
    this.#review = setInterval(() => this.membersChanged(), REVIEW_MS)
  }

  /** Ends what waits for other hosts: a change whose fate is not known here yet, a change of the servers. */
  endWaiting(): void {
    this.#stopping.abort()
    this.#proposer.stop()
  }

  async stop(): Promise<void> {
    this.#stopped = true
    this.endWaiting()
    if (this.#review !== null) clearInterval(this.#review)
    await this.#changingPlace
    await this.#leavePlace()
    this.#transport?.stop()
    await this.#storage.wal.close()
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
    void this.#askAboutPlace()
  }

  #decision(): BootstrapDecision {
    const { self, bootstrapExpect: expect } = this.#options
    const decision = decideBootstrap({ self, expect, members: this.#options.members() })
    if (decision.kind === 'agree') this.#wouldFound = decision.voters.join()
    return decision
  }

  /** One of the founders may have been faster: this disk is a founder's all the same, if it said that it would be. */
  #joins({ configuration }: Origin): 'founded' | 'adopted' {
    return this.#wouldFound === configuration.voters.join() ? 'founded' : 'adopted'
  }

  async #decide(): Promise<void> {
    this.#deciding = true
    try {
      const decision = this.#decision()
      if (decision.kind === 'adopt') {
        const origin = await askOrigin(this.#rpc, decision.from)
        await this.#belong(origin, this.#joins(origin))
      } else if (decision.kind === 'agree' && (await allAgree(this.#rpc, this.#options.self, decision.voters))) {
        await this.#belong(originOf(decision.voters), 'founded')
      }
    } catch (err) {
      if (!(err instanceof VxmeshError)) throw err
      if (err.code === 'ERR_STORAGE') this.#options.fatal(err)
      else this.#options.logger.debug({ err }, 'no cluster yet')
    } finally {
      this.#deciding = false
    }
  }

  async #belong(origin: Origin, how: 'recovered' | 'founded' | 'adopted'): Promise<void> {
    const { logger } = this.#options
    const { wal, snapshots } = this.#storage
    snapshots.belong(origin.clusterId)
    // Before the origin: a disk that joined without a number would pass for a founder's.
    this.#incarnation = await this.#incarnationFor(origin, how)
    if (how !== 'recovered') await wal.append([{ kind: 'origin', origin }])
    if (this.#stopped) return
    this.#origin = origin
    logger.info({ cluster: origin.clusterId, how }, 'belongs to a cluster')
    await this.#takePlace(origin)
    this.#options.belongs(origin.clusterId)
    this.membersChanged()
  }

  async #incarnationFor(origin: Origin, how: 'recovered' | 'founded' | 'adopted'): Promise<number> {
    const { dataDir, self } = this.#options
    if (how === 'founded') return 0
    if (how === 'adopted') return drawIncarnation(dataDir)
    const known = await readIncarnation(dataDir)
    return known ?? (origin.configuration.voters.includes(self) ? 0 : await drawIncarnation(dataDir))
  }

  /** Takes part in consensus or follows the feed, as the log on the disk says. */
  async #takePlace(origin: Origin): Promise<void> {
    const { recovered, snapshot } = this.#storage
    const { durable } = recovered
    this.#configuration = durable.snapshot?.configuration ?? origin.configuration
    if (snapshot !== null && snapshot.meta.lastIndex > this.#applied) this.#restore(snapshot)
    const facts = { self: this.#options.self, incarnation: this.#incarnation ?? 0 }
    const isRemoved = this.#applied < this.#removedAt
    if (!isRemoved && mustTakePart({ durable, origin: origin.configuration, ...facts })) await this.#startRaft(origin)
    else this.#startFollower()
  }

  async #leavePlace(): Promise<void> {
    this.#publisher?.stop()
    this.#raft?.stop()
    await this.#follower?.stop()
    await this.#snapshotter.settled()
    this.#publisher = null
    this.#raft = null
    this.#follower = null
  }

  /** The committed configuration has taken this host in, or has let it go: the log is opened anew in the other place. */
  #checkPlace(): void {
    if (this.#stopped || this.#changingPlace !== null || this.#applied < this.#removedAt) return
    const means = (configuration: Configuration): boolean =>
      takesPart(configuration, this.#options.self, this.#incarnation ?? 0)
    const belongs = means(this.#configuration)
    const { configuration, configurationCommitted } = this.#raft?.status() ?? {}
    // Who is in the configuration of its log has promises to keep until its removal is committed.
    const isServer = configuration !== undefined
    if (isServer ? belongs || means(configuration) || configurationCommitted !== true : !belongs) return
    this.#startChange()
  }

  /**
   * A removed server may never hear of it, for nobody sends it anything any more, and then not even its own log says so:
   * while nobody leads it, it asks the others which place they know it to have.
   */
  async #askAboutPlace(): Promise<void> {
    const raft = this.#raft
    if (raft === null || this.#asking || this.#changingPlace !== null || raft.status().leader !== null) return
    this.#asking = true
    for (const server of this.#servers().filter(peer => peer !== this.#options.self)) {
      try {
        const { index, member } = await askPlace(this.#rpc, server, this.#incarnation ?? 0)
        // One that is behind this host's own log may not know yet that it was taken in.
        if (this.#raft !== raft || member || index < raft.status().configurationIndex) continue
        this.#removedAt = index
        this.#startChange()
        break
      } catch (err) {
        if (!(err instanceof VxmeshError)) throw err
        this.#options.logger.debug({ server, err }, 'no word of the place here')
      }
    }
    this.#asking = false
  }

  #startChange(): void {
    const origin = this.#origin
    if (origin === null) return
    this.#changingPlace = this.#changePlace(origin)
      .catch((err: unknown) => this.#options.fatal(asVxmeshError(err)))
      .finally(() => {
        this.#changingPlace = null
        this.#checkPlace()
      })
  }

  async #changePlace(origin: Origin): Promise<void> {
    const { dataDir, self, logger, mesh } = this.#options
    // Out of the apply that has brought it.
    await new Promise(resolve => setImmediate(resolve))
    if (this.#raft !== null) await this.#storage.wal.noteCommit(this.#raft.status().durableCommitIndex)
    mesh.unsubscribe()
    await this.#leavePlace()
    if (this.#stopped) return
    await this.#storage.wal.close()
    this.#storage = await openStorage(dataDir, self)
    this.#snapshotter = this.#newSnapshotter()
    await this.#takePlace(origin)
    logger.info({ server: this.#raft !== null }, 'has another place in the cluster')
  }

  async #startRaft(origin: Origin): Promise<void> {
    const { self, mesh, fatal, logger } = this.#options
    const { wal, snapshots, recovered, snapshot } = this.#storage
    await this.#startTransport()
    this.#publisher = new FeedPublisher(mesh, origin.clusterId, logger)
    this.#raft = new RaftNode({
      self,
      clusterId: origin.clusterId,
      configuration: origin.configuration,
      durable: recovered.durable,
      snapshotData: snapshot?.data ?? null,
      incarnation: this.#incarnation ?? 0,
      wal,
      send: message => this.#transport?.send(message),
      apply: entries => this.#apply(entries),
      installSnapshot: async ({ meta, data }) => {
        await snapshots.save(meta, data)
        await wal.reset(meta)
      },
      restore: received => {
        this.#restore(received)
        this.#checkPlace()
      },
      roleChanged: change => this.#roleChanged(change),
      fatal,
      logger
    })
  }

  /** One for the life of the process: whoever has no part passes over what comes. */
  async #startTransport(): Promise<void> {
    if (this.#transport !== null) return
    const { self, mesh, logger } = this.#options
    const isServer = (peer: PeerId): boolean => this.#isServer(peer)
    const receive = (message: Message): void => this.#raft?.receive(message)
    this.#transport = new RaftTransport({ mesh, self, isServer, receive, logger })
    await this.#transport.start()
  }

  #startFollower(): void {
    const { fatal, logger, mesh } = this.#options
    const { wal, snapshots, recovered } = this.#storage
    const { entries, commitIndex } = recovered.durable
    const committed = entries.filter(({ index }) => index <= commitIndex)
    const tail = new UnsettledTail(entries.slice(committed.length))
    this.#follower = new FeedFollower({
      rpc: this.#rpc,
      clusterId: () => this.clusterId,
      isServer: peer => this.#isServer(peer),
      servers: () => this.#servers(),
      applied: (committed.at(-1)?.index ?? recovered.durable.snapshot?.lastIndex ?? 0) as LogIndex,
      deliver: async entries => {
        const last = entries.at(-1)
        if (last === undefined) return
        await wal.append([...tail.settle(entries), { kind: 'commit', index: last.index }])
        this.#apply(entries)
      },
      install: async snapshot => {
        await snapshots.save(snapshot.meta, snapshot.data)
        if (tail.yieldsTo(snapshot.meta)) await wal.reset(snapshot.meta)
        this.#restore(snapshot)
        this.#checkPlace()
      },
      heard: (leader, term) => {
        if (term < this.#heard.term) return
        this.#heard = { leader, term }
        this.#leads(leader, term)
      },
      fatal,
      logger
    })
    this.#apply(committed)
    // Voters have the log itself: they speak on the topic and do not listen.
    mesh.subscribe((author, data) => this.#follower?.judge(author, data) ?? 'ignore')
    this.#follower.start()
  }

  #newSnapshotter(): Snapshotter {
    const { wal, snapshots, snapshot } = this.#storage
    return new Snapshotter(
      {
        wal,
        snapshots,
        take: () => this.#takeSnapshot(),
        taken: taken => {
          this.#options.logger.info({ lastIndex: taken.meta.lastIndex, bytes: taken.data.byteLength }, 'snapshot saved')
          this.#raft?.snapshotTaken(taken)
        },
        failed: err => this.#options.logger.error({ err }, 'snapshot not saved; the log is kept'),
        minBytes: this.#options.snapshotBytes
      },
      snapshot?.data.byteLength ?? 0
    )
  }

  #takeSnapshot(): Snapshot | null {
    const { machine } = this.#options
    const own = { lastIndex: this.#applied, lastTerm: this.#appliedTerm, configuration: this.#configuration }
    const meta = this.#raft === null ? own : this.#raft.snapshotMeta(this.#applied)
    return meta === undefined ? null : { meta, data: machine.snapshot() }
  }

  #restore({ meta, data }: Snapshot): void {
    this.#options.machine.restore(data)
    this.#applied = meta.lastIndex
    this.#appliedTerm = meta.lastTerm
    this.#configuration = meta.configuration
    this.#options.machine.applied(this.#applied)
  }

  #apply(entries: readonly Entry[]): Applied[] {
    const { machine } = this.#options
    const results = entries.map(entry => {
      // After a change of place the log is gone through again from its beginning.
      if (entry.index <= this.#applied) return { index: entry.index, outcome: PASSED }
      this.#applied = entry.index
      this.#appliedTerm = entry.term
      if (entry.kind === 'command') {
        return { index: entry.index, outcome: machine.apply(entry.index, parseRequest(decodeMsgpack(entry.data))) }
      }
      machine.skip(entry.index)
      return { index: entry.index, outcome: PASSED }
    })
    this.#configuration = configurationAfter(this.#configuration, entries)
    if (entries.length > 0) machine.applied(this.#applied)
    this.#publisher?.committed(entries)
    this.#snapshotter.applied(entries.reduce((bytes, { data }) => bytes + data.byteLength + ENTRY_BYTES, 0))
    this.#checkPlace()
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
      isMember(this.#configuration, peer) || this.#options.members().some(m => m.peerId === peer && m.role === 'server')
    )
  }

  #pageSource(): PageSource | null {
    const raft = this.#raft
    if (raft === null || this.#origin === null) return null
    return {
      clusterId: this.#origin.clusterId,
      committedEntries: (from, maxBytes) => raft.committedEntries(from, maxBytes),
      commitIndex: () => raft.status().commitIndex,
      firstIndex: () => raft.firstIndex,
      snapshot: () => raft.snapshot
    }
  }

  #progress(): PeerProgress[] {
    const status = this.#raft?.status()
    const { voters, learners } = status?.configuration ?? this.#configuration
    const match = (peer: PeerId): number | null => status?.progress.get(peer)?.matchIndex ?? null
    return [
      ...voters.map(peerId => ({ peerId, voter: true, matchIndex: match(peerId) })),
      ...learners.map(peerId => ({ peerId, voter: false, matchIndex: match(peerId) }))
    ]
  }
}

const PASSED: Outcome = { ok: true, result: { kind: 'session' } }
