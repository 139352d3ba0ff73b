// The place that a host has in its cluster, and what runs there: on a voter Raft and its transport, elsewhere the feed's
// follower. When the committed configuration takes the host in or lets it go, the log is opened anew in the other place.

import { asVxmeshError, VxmeshError } from '#model/errors.ts'
import type { Request } from '#model/command.ts'
import type { LogIndex, PeerId, Term } from '#model/ids.ts'
import type { Member } from '#model/member.ts'
import { monotonicMs } from '#platform/clock.ts'
import type { Clock } from '#platform/clock.ts'
import type { Logger } from '#platform/log.ts'
import { encodeMsgpack } from '#platform/msgpack.ts'
import { isMember } from '#raft/configuration.ts'
import type { Configuration, Entry, Message, RaftRole } from '#raft/types.ts'
import type { AppliedLog } from '../consensus/applied-log.ts'
import { FeedFollower, FeedPublisher } from '../feed/feed.ts'
import type { PageSource } from '../feed/fetch.ts'
import { LeaderHint } from '../consensus/leader-hint.ts'
import type { Mesh } from '../transport/mesh.ts'
import { peersOf, serversToAsk, type PeerProgress } from '../consensus/peers.ts'
import { mustTakePart, takesPart } from '../consensus/participation.ts'
import type { Applied, CommitNotice } from '../consensus/proposer.ts'
import { RaftNode, type RoleChange } from '../consensus/raft-node.ts'
import { RaftTransport } from '../transport/raft-transport.ts'
import type { Rpc } from '../transport/rpc.ts'
import { askParticipation, type Participation } from './server-changes.ts'
import { Snapshotter, type TakenSnapshot } from '../storage/snapshotter.ts'
import { openStorage, type Storage } from '../storage/storage.ts'
import { UnsettledTail } from '../storage/unsettled-tail.ts'
import type { Origin } from '../storage/wal-record.ts'

export type ReplicationOptions = {
  readonly self: PeerId
  readonly mesh: Mesh
  readonly clock: Clock
  readonly dataDir: string
  /** Bytes of entries after which the state is saved and the log before it let go. */
  readonly snapshotBytes: number
  /** Log and snapshots; closed by `stop`. */
  readonly storage: Storage
  readonly members: () => readonly Member[]
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

/** What an entry weighs in the log besides its data. */
const ENTRY_BYTES = 32

type ClusterRoleOptions = ReplicationOptions & {
  readonly rpc: Rpc
  readonly applied: AppliedLog
  /** A leader was heard of. */
  readonly leads: (leader: PeerId, term: Term) => void
}

export class ClusterRole {
  readonly #options: ClusterRoleOptions
  #storage: Storage
  #snapshotter: Snapshotter
  #origin: Origin | null
  #incarnation = 0
  #changing: Promise<void> | null = null
  #raft: RaftNode | null = null
  #transport: RaftTransport | null = null
  #publisher: FeedPublisher | null = null
  #follower: FeedFollower | null = null
  readonly #heard = new LeaderHint()
  #asking = false
  /** The committed index at which others knew this host to be removed; until it is there, the log says otherwise. */
  #removedAt = 0 as LogIndex
  #stopped = false

  constructor(options: ClusterRoleOptions) {
    this.#options = options
    this.#storage = options.storage
    this.#origin = options.storage.recovered.origin
    this.#snapshotter = this.#newSnapshotter()
  }

  /** Begins, as the log on the disk says. `storage` is what is open now. */
  async take(origin: Origin, incarnation: number, storage: Storage): Promise<void> {
    if (storage !== this.#storage) {
      this.#storage = storage
      this.#snapshotter = this.#newSnapshotter()
    }
    this.#origin = origin
    this.#incarnation = incarnation
    await this.#take(origin)
  }

  async stop(): Promise<void> {
    this.#stopped = true
    await this.#changing
    await this.#leave()
    this.#transport?.stop()
    await this.#storage.wal.close()
  }

  /** On a voter. */
  get raft(): RaftNode | null {
    return this.#raft
  }

  /** Proposes on this host's own Raft. @throws ERR_NOT_LEADER, ERR_NO_QUORUM, ERR_BUSY */
  async propose(request: Request): Promise<Applied> {
    if (this.#raft === null) throw new VxmeshError('ERR_NOT_LEADER', 'this host is no voter')
    return (await this.#raft.propose(encodeMsgpack(request))) as Applied
  }

  /** A server is newly in reach. */
  catchUp(): void {
    this.#follower?.catchUp()
  }

  /** Entries that are known to be committed and are not applied here yet. */
  get lag(): number {
    const { index } = this.#options.applied
    const known = this.#raft?.status().commitIndex ?? this.#follower?.highest ?? index
    return Math.max(0, known - index)
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
    const leader = this.#heard.leader(monotonicMs())
    return { role, term: this.#heard.term, leader, commitIndex: this.#options.applied.index }
  }

  /** Which place a peer with that disk has, as far as this host has applied. */
  placeOf(peer: PeerId, incarnation: number): Participation {
    const { index, configuration } = this.#options.applied
    return { index, member: takesPart(configuration, peer, incarnation) }
  }

  /**
   * A removed server may never hear of it, for nobody sends it anything any more, and then not even its own log says so:
   * while nobody leads it, it asks the others which place they know it to have.
   */
  async askAboutPlace(): Promise<void> {
    const { logger, rpc, self } = this.#options
    const raft = this.#raft
    if (raft === null || this.#asking || this.#changing !== null || raft.status().leader !== null) return
    this.#asking = true
    for (const server of this.servers().filter(peer => peer !== self)) {
      try {
        const { index, member } = await askParticipation(rpc, server, this.#incarnation)
        // One that is behind this host's own log may not know yet that it was taken in.
        if (this.#raft !== raft || member || index < raft.status().configurationIndex) continue
        this.#removedAt = index
        this.#startChange()
        break
      } catch (err) {
        if (!(err instanceof VxmeshError)) throw err
        logger.debug({ server, err }, 'no word of the place here')
      }
    }
    this.#asking = false
  }

  /** Servers that are alive, to be asked. */
  servers(): PeerId[] {
    return serversToAsk(this.#options.members(), this.#origin?.clusterId ?? null)
  }

  /** The voters and learners, and how far each is as far as this host knows. */
  progress(): PeerProgress[] {
    const status = this.#raft?.status()
    return peersOf(status?.configuration ?? this.#options.applied.configuration, status?.progress)
  }

  /** What others may fetch here. */
  pageSource(): PageSource | null {
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

  /** Takes part in consensus or follows the feed, as the log on the disk says. */
  async #take(origin: Origin): Promise<void> {
    const { applied, self } = this.#options
    const { recovered, snapshot } = this.#storage
    const { durable } = recovered
    applied.begin(durable.snapshot?.configuration ?? origin.configuration)
    if (snapshot !== null && snapshot.meta.lastIndex > applied.index) applied.restore(snapshot)
    const facts = { self, incarnation: this.#incarnation }
    const isRemoved = applied.index < this.#removedAt
    if (!isRemoved && mustTakePart({ durable, origin: origin.configuration, ...facts })) await this.#startRaft(origin)
    else this.#startFollower(origin)
  }

  async #leave(): Promise<void> {
    this.#publisher?.stop()
    this.#raft?.stop()
    await this.#follower?.stop()
    await this.#snapshotter.settled()
    this.#publisher = null
    this.#raft = null
    this.#follower = null
  }

  /** The committed configuration has taken this host in, or has let it go: the log is opened anew in the other place. */
  #check(): void {
    const { applied, self } = this.#options
    if (this.#stopped || this.#changing !== null || applied.index < this.#removedAt) return
    const means = (configuration: Configuration): boolean => takesPart(configuration, self, this.#incarnation)
    const belongs = means(applied.configuration)
    const { configuration, configurationCommitted } = this.#raft?.status() ?? {}
    // Who is in the configuration of its log has promises to keep until its removal is committed.
    const isServer = configuration !== undefined
    if (isServer ? belongs || means(configuration) || configurationCommitted !== true : !belongs) return
    this.#startChange()
  }

  #startChange(): void {
    const origin = this.#origin
    if (origin === null) return
    this.#changing = this.#change(origin)
      .catch((err: unknown) => this.#options.fatal(asVxmeshError(err)))
      .finally(() => {
        this.#changing = null
        this.#check()
      })
  }

  async #change(origin: Origin): Promise<void> {
    const { clock, dataDir, self, logger, mesh } = this.#options
    // Out of the apply that has brought it.
    await new Promise(resolve => setImmediate(resolve))
    if (this.#raft !== null) await this.#storage.wal.noteCommit(this.#raft.status().durableCommitIndex)
    mesh.unsubscribe()
    await this.#leave()
    if (this.#stopped) return
    await this.#storage.wal.close()
    this.#storage = await openStorage(dataDir, self, { clock })
    this.#snapshotter = this.#newSnapshotter()
    await this.#take(origin)
    logger.info({ server: this.#raft !== null }, 'has another place in the cluster')
  }

  async #startRaft(origin: Origin): Promise<void> {
    const { applied, self, mesh, fatal, logger } = this.#options
    const { wal, snapshots, recovered, snapshot } = this.#storage
    await this.#startTransport()
    this.#publisher = new FeedPublisher(mesh, origin.clusterId, logger)
    this.#raft = new RaftNode({
      self,
      clusterId: origin.clusterId,
      configuration: origin.configuration,
      durable: recovered.durable,
      snapshotData: snapshot?.data ?? null,
      incarnation: this.#incarnation,
      wal,
      send: message => this.#transport?.send(message),
      apply: entries => this.#apply(entries),
      installSnapshot: async ({ meta, data }) => {
        await snapshots.save(meta, data)
        await wal.reset(meta)
      },
      restore: received => {
        applied.restore(received)
        this.#check()
      },
      roleChanged: change => this.#roleChanged(change),
      fatal,
      logger
    })
  }

  /** For the answer to a peer's proposal: that it is committed, as Raft or the feed would say a moment later. */
  noticeFor(peer: PeerId): CommitNotice {
    const hasLog = this.#raft !== null && isMember(this.#raft.status().configuration, peer)
    return hasLog
      ? { raft: this.#transport?.takeDelayed(peer) ?? [], feed: [] }
      : { raft: [], feed: this.#publisher?.word() ?? [] }
  }

  /** The word that came with an answer. @throws ERR_PEER on anything malformed of Raft's */
  onNotice(peer: PeerId, { raft, feed }: CommitNotice): void {
    if (this.#raft !== null) this.#transport?.receive(peer, raft)
    for (const message of feed) this.#follower?.judge(peer, message)
  }

  /** One for the life of the process: whoever has no part passes over what comes. */
  async #startTransport(): Promise<void> {
    if (this.#transport !== null) return
    const { clock, self, mesh, logger } = this.#options
    const isServer = (peer: PeerId): boolean => this.#isServer(peer)
    const receive = (message: Message): void => this.#raft?.receive(message)
    const lost = (peer: PeerId): void => this.#raft?.peerLost(peer)
    this.#transport = new RaftTransport({ clock, mesh, self, isServer, receive, lost, logger })
    await this.#transport.start()
  }

  #startFollower(origin: Origin): void {
    const { applied, fatal, leads, logger, mesh, rpc } = this.#options
    const { wal, snapshots, recovered } = this.#storage
    const { entries, commitIndex } = recovered.durable
    const committed = entries.filter(({ index }) => index <= commitIndex)
    const tail = new UnsettledTail(entries.slice(committed.length))
    this.#follower = new FeedFollower({
      rpc,
      clusterId: () => origin.clusterId,
      isServer: peer => this.#isServer(peer),
      servers: () => this.servers(),
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
        applied.restore(snapshot)
        this.#check()
      },
      heard: (leader, term) => {
        if (this.#heard.update(leader, term, monotonicMs())) leads(leader, term)
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

  #takeSnapshot(): TakenSnapshot | null {
    const { applied } = this.#options
    const meta = this.#raft === null ? applied.meta : this.#raft.snapshotMeta(applied.index)
    return meta === undefined ? null : { meta, data: applied.snapshot() }
  }

  #apply(entries: readonly Entry[]): Applied[] {
    const results = this.#options.applied.apply(entries)
    this.#publisher?.committed(entries)
    this.#snapshotter.applied(entries.reduce((bytes, { data }) => bytes + data.byteLength + ENTRY_BYTES, 0))
    this.#check()
    return results
  }

  #roleChanged(change: RoleChange): void {
    const { leads, logger, roleChanged } = this.#options
    logger.info({ role: change.role, term: change.term, leader: change.leader }, 'raft role')
    if (change.role === 'leader') this.#publisher?.lead(change.term)
    else this.#publisher?.stop()
    if (change.leader !== null) leads(change.leader, change.term)
    roleChanged(change)
  }

  #isServer(peer: PeerId): boolean {
    return (
      isMember(this.#options.applied.configuration, peer) ||
      this.#options.members().some(m => m.peerId === peer && m.role === 'server')
    )
  }
}
