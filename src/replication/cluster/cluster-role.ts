// The role of this host in its cluster. When the committed configuration adds the host as a server or removes it, its log is
// closed and opened again in the other role.

import { asVxmeshError, VxmeshError } from '#model/errors.ts'
import type { LogIndex, PeerId, Term } from '#model/ids.ts'
import type { Ip } from '#model/ip.ts'
import type { Entry } from '#raft/types.ts'
import { LeaderHint } from '../consensus/leader-hint.ts'
import { hasWrongRole, takesPart, type Participation } from '../consensus/participation.ts'
import { Authority } from '../consensus/authority.ts'
import { peersOf, type PeerProgress } from '../consensus/peers.ts'
import type { AppliedEntry, CommitNotice } from '../consensus/propose-rpc.ts'
import type { ReplicationStatus } from '../consensus/status.ts'
import type { PageSource } from '../feed/fetch.ts'
import type { SnapshotSource } from '../feed/snapshot-transfer.ts'
import { ticketOf } from '../feed/ticket.ts'
import type { HostDisk } from '../storage/host-disk.ts'
import type { SavedSnapshot } from '../storage/snapshot-reading.ts'
import { openStorage, type Storage } from '../storage/storage.ts'
import type { Origin } from '../storage/wal-record.ts'
import { findRemoval } from './participation-rpc.ts'
import { Replica } from './replica.ts'
import { RoleFactory, type None, type Role, type RoleOptions } from './role.ts'
import type { Voter } from './voter.ts'

const NONE: None = { kind: 'none' }

type ClusterRoleOptions = RoleOptions & {
  readonly disk: HostDisk
  /** Bytes of entries after which the state is saved as a snapshot and the log before it dropped. */
  readonly snapshotBytes: number
  /** Log and snapshots; closed by `stop`. */
  readonly storage: Storage
  /** See ReplicatorOptions. */
  readonly joinAddresses: () => readonly Ip[]
}

export class ClusterRole {
  readonly #options: ClusterRoleOptions
  readonly #replica: Replica
  readonly #roles: RoleFactory
  readonly #authority: Authority
  #role: Role = NONE
  #origin: Origin | null
  #incarnation = 0
  #changing: Promise<void> | null = null
  readonly #leaderHint = new LeaderHint()
  #reviewing = false
  /**
   * The committed index at which other servers knew that this host was removed. Below it this host's own log is stale.
   */
  #removedAt = 0 as LogIndex
  #stopped = false

  constructor(options: ClusterRoleOptions) {
    this.#options = options
    this.#origin = options.storage.recovered.origin
    this.#replica = new Replica({
      ...options,
      snapshotMeta: () => {
        const { applied } = options
        return this.#role.kind === 'voter' ? this.#role.raft.snapshotMeta(applied.index) : applied.meta
      },
      snapshotTaken: snapshot => {
        const { meta } = snapshot
        if (this.#role.kind === 'voter') this.#role.raft.snapshotTaken({ meta, data: ticketOf(snapshot) })
      }
    })
    const { applied, clock, leaderSeen, members, self } = options
    this.#authority = new Authority({
      self,
      applied,
      members,
      log: () => this.voter?.raft.view ?? null,
      clusterId: () => this.#origin?.clusterId ?? null,
      isInvited: peer => {
        const invited = options.joinAddresses()
        return options.mesh.addressesOf(peer).some(address => invited.includes(address))
      }
    })
    this.#roles = new RoleFactory({
      ...options,
      replica: this.#replica,
      servers: () => this.servers(),
      voter: () => this.voter,
      isServer: peer => this.#authority.isServer(peer),
      advanced: () => this.#checkRole(),
      feedLeaderSeen: (leader, term) => {
        if (this.#leaderHint.update(leader, term, clock.nowMs())) leaderSeen(leader, term)
      }
    })
  }

  /** Takes the role that the log on the disk implies. */
  async start(p: { readonly origin: Origin; readonly incarnation: number; readonly storage: Storage }): Promise<void> {
    this.#replica.use(p.storage)
    this.#origin = p.origin
    this.#incarnation = p.incarnation
    await this.#enter(p.origin)
  }

  async stop(): Promise<void> {
    this.#stopped = true
    await this.#changing
    await this.#leave()
    this.#roles.stop()
    await this.#replica.close()
  }

  /** Null while this host is not a voter. */
  get voter(): Voter | null {
    return this.#role.kind === 'voter' ? this.#role : null
  }

  /** Proposes encoded requests on this host's own Raft. @throws ERR_NOT_LEADER, ERR_NO_QUORUM, ERR_BUSY */
  async propose(batch: readonly Uint8Array[]): Promise<readonly AppliedEntry[]> {
    if (this.#role.kind !== 'voter') throw new VxmeshError('ERR_NOT_LEADER', 'this host is not a voter')
    return this.#role.propose(batch)
  }

  /** A follower fetches from the servers now; called when one became reachable. */
  catchUp(): void {
    if (this.#role.kind === 'follower') this.#role.feed.catchUp()
  }

  /**
   * Replaces the state of a client, which differs from the servers', by that of a server. Who is right among servers
   * nobody knows. @throws ERR_PEER, ERR_UNSUPPORTED on a voter
   */
  async repair(): Promise<void> {
    if (this.#role.kind !== 'follower') throw new VxmeshError('ERR_UNSUPPORTED', 'only a client is repaired by itself')
    await this.#role.feed.repair()
  }

  /** Messages of other hosts that were refused: no server, malformed, impossible. */
  get refusedMessages(): number {
    return this.#roles.refused + (this.#role.kind === 'follower' ? this.#role.refused : 0)
  }

  /** Entries known to be committed that are not applied here yet. */
  get lag(): number {
    const { index } = this.#options.applied
    return Math.max(0, this.#knownCommit(index) - index)
  }

  /** May this host remove what the state does not name? False while the state may be older than one it has acted on. */
  get current(): boolean {
    if (this.#role.kind === 'voter') return this.#role.raft.current
    return this.#role.kind === 'follower' && this.#role.feed.current
  }

  status(): ReplicationStatus {
    if (this.#role.kind === 'voter') {
      const { role, term, leader, commitIndex } = this.#role.raft.status()
      return { role, term, leader, commitIndex }
    }
    return {
      role: this.#origin === null ? 'waiting' : 'client',
      term: this.#leaderHint.term,
      leader: this.#leaderHint.leader(this.#options.clock.nowMs()),
      commitIndex: this.#options.applied.index
    }
  }

  /** Does the configuration applied here name a peer's disk? */
  participation(peer: PeerId, incarnation: number): Participation {
    const { index, configuration } = this.#options.applied
    const member = takesPart(configuration, { self: peer, incarnation })
    return { index, member, servers: [...configuration.voters, ...configuration.learners] }
  }

  /**
   * While no leader is known: asks the servers whether this host was removed, and who the servers are by now; see
   * participation-rpc.ts.
   */
  async review(): Promise<void> {
    const { applied, clock, logger, rpc, self } = this.#options
    this.#authority.review(clock.nowMs())
    const role = this.#role
    const origin = this.#origin
    if (role.kind === 'none' || origin === null || this.#reviewing) return
    if (!this.#isAtWork(role) || this.status().leader !== null) return
    this.#reviewing = true
    const removedAt = await findRemoval(rpc, {
      servers: this.servers().filter(peer => peer !== self),
      clusterId: origin.clusterId,
      incarnation: this.#incarnation,
      appliedIndex: () => applied.index,
      configurationIndex: () => (role.kind === 'voter' ? role.raft.status().configurationIndex : applied.index),
      answered: (server, named) => this.#authority.learn(server, named),
      logger
    })
    this.#reviewing = false
    if (removedAt === null || role.kind !== 'voter' || !this.#isAtWork(role)) return
    this.#removedAt = removedAt
    this.#startChange()
  }

  /** May this peer speak for the servers? */
  isServer(peer: PeerId): boolean {
    return this.#authority.isServer(peer)
  }

  /** Does a configuration of this host's log name the peer? */
  isConfigured(peer: PeerId): boolean {
    return this.#authority.isConfigured(peer)
  }

  /** Servers of this cluster that are alive. */
  servers(): PeerId[] {
    return this.#authority.servers()
  }

  /** The voters and learners, each with its progress as far as this host knows it. */
  progress(): PeerProgress[] {
    const status = this.voter?.raft.status()
    return peersOf(status?.configuration ?? this.#options.applied.configuration, status?.progress)
  }

  /** Where others fetch entries; null while this host is not a voter. */
  pageSource(): PageSource | null {
    return this.voter?.pageSource() ?? null
  }

  /** Where others fetch snapshots; null while this host is not a voter. */
  snapshotSource(): SnapshotSource | null {
    if (this.#origin === null || this.#role.kind !== 'voter') return null
    return {
      clusterId: this.#origin.clusterId,
      latest: () => this.#replica.storage.snapshots.latest,
      covering: index => this.#replica.snapshotCovering(index)
    }
  }

  /** A snapshot of everything that is applied here by now; null when none can be taken at the moment. */
  snapshotNow(): Promise<SavedSnapshot | null> {
    return this.#replica.snapshotCovering(this.#options.applied.index)
  }

  /** A commit that a peer's proposal led to, to be sent with the reply. */
  noticeFor(peer: PeerId): CommitNotice {
    return this.voter?.noticeFor(peer) ?? { raft: [], feed: [] }
  }

  /** Takes the commit notice that came with a leader's reply. @throws ERR_PEER on a malformed frame of Raft */
  onNotice(peer: PeerId, { raft, feed }: CommitNotice): void {
    if (this.#role.kind === 'voter') this.#roles.receive(peer, raft)
    else if (this.#role.kind === 'follower') for (const message of feed) this.#role.feed.judge(peer, message)
  }

  /** Does this host apply what is committed without delay, as far as it knows? */
  get keepsUp(): boolean {
    return this.#role.kind === 'voter' || (this.#role.kind === 'follower' && !this.#role.feed.isBehind)
  }

  /**
   * Takes entries of this host that a leader reports as committed; a voter gets them by Raft.
   * @returns false when others before them are missing here
   */
  onCommitted(leader: PeerId, term: Term, entries: readonly Entry[]): boolean {
    return this.#role.kind !== 'follower' || this.#role.feed.committed(leader, term, entries)
  }

  #isAtWork(role: Role): boolean {
    return this.#role === role && this.#changing === null
  }

  #knownCommit(applied: LogIndex): LogIndex {
    if (this.#role.kind === 'voter') return this.#role.raft.status().commitIndex
    return this.#role.kind === 'follower' ? this.#role.feed.highest : applied
  }

  async #enter(origin: Origin): Promise<void> {
    await this.#replica.rewind(origin.configuration)
    const role = await this.#roles.make({ origin, incarnation: this.#incarnation, removedAt: this.#unloggedRemoval() })
    this.#role = role
    if (role.kind === 'follower') role.start()
  }

  /**
   * The index at which this host is known to be removed, if its own log does not reach it: other servers said so, or it has
   * applied its removal, which a majority had on disk, and its own disk had not.
   */
  #unloggedRemoval(): LogIndex | null {
    const { applied, self } = this.#options
    const { durable } = this.#replica.storage.recovered
    const isRemoved = !takesPart(applied.configuration, { self, incarnation: this.#incarnation })
    const removedAt = isRemoved && applied.index > this.#removedAt ? applied.index : this.#removedAt
    return durable.commitIndex < removedAt ? removedAt : null
  }

  async #leave(): Promise<void> {
    if (this.#role.kind !== 'none') await this.#role.stop()
    await this.#replica.settled()
    this.#role = NONE
  }

  /** Changes the role once the committed configuration has added this host or removed it. */
  #checkRole(): void {
    const { applied, self } = this.#options
    if (this.#stopped || this.#changing !== null || applied.index < this.#removedAt) return
    const disk = { self, incarnation: this.#incarnation }
    const log = this.voter?.raft.status() ?? null
    if (hasWrongRole({ ...disk, applied: applied.configuration, log })) this.#startChange()
  }

  #startChange(): void {
    const origin = this.#origin
    if (origin === null) return
    this.#changing = this.#change(origin)
      .catch((err: unknown) => this.#options.fatal(asVxmeshError(err)))
      .finally(() => {
        this.#changing = null
        this.#checkRole()
      })
  }

  async #change(origin: Origin): Promise<void> {
    const { clock, disk, self, logger, mesh } = this.#options
    // Deferred to the next turn: the change is found in the middle of applying an entry.
    await new Promise(resolve => setImmediate(resolve))
    const { wal } = this.#replica.storage
    if (this.#role.kind === 'voter') await wal.noteCommit(this.#role.raft.status().durableCommitIndex)
    mesh.unsubscribe()
    await this.#leave()
    if (this.#stopped) return
    await this.#replica.close()
    this.#replica.use(await openStorage(disk.dataDir, self, { clock, files: disk.files }))
    await this.#enter(origin)
    logger.info({ server: this.voter !== null }, 'changed its role in the cluster')
  }
}
