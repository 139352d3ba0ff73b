// Replication as the agent composes it: finds or founds the cluster, runs Raft on a voter and follows the feed elsewhere,
// keeps committed entries on disk, and sends this host's proposals to the leader. It does not know what an entry means.

import type { ClusterId, PeerId } from '#model/ids.ts'
import type { Ip } from '#model/ip.ts'
import type { Member } from '#model/member.ts'
import type { Cancel, Clock } from '#platform/clock.ts'
import type { Logger } from '#platform/log.ts'
import type { Random } from '#platform/random.ts'
import { ClusterAdoption } from './cluster/cluster-adoption.ts'
import { ClusterRole } from './cluster/cluster-role.ts'
import { serveParticipation } from './cluster/participation-rpc.ts'
import type { Seed } from './cluster/seed.ts'
import { ServerChanges, serveServerChanges } from './cluster/server-changes.ts'
import { AppliedLog, type StateMachine } from './consensus/applied-log.ts'
import { servePropose } from './consensus/propose-rpc.ts'
import { Proposer } from './consensus/proposer.ts'
import type { RoleChange } from './consensus/raft-node-options.ts'
import { serveReadIndex } from './consensus/read-index.ts'
import { serveFetch } from './feed/fetch.ts'
import { serveSnapshots } from './feed/snapshot-transfer.ts'
import type { ClusterLife, PeerRpc, ReplicatedLog } from './ports.ts'
import { PEERS_METHOD, RaftCluster } from './raft-cluster.ts'
import { RaftLog } from './raft-log.ts'
import type { HostDisk } from './storage/host-disk.ts'
import type { Storage } from './storage/storage.ts'
import { LEADER_PROTOCOL, type MeshPort } from './transport/mesh-port.ts'
import { Rpc } from './transport/rpc.ts'

export type ReplicatorOptions = {
  readonly self: PeerId
  readonly mesh: MeshPort
  readonly disk: HostDisk
  /** Log and snapshots; closed by `stop`. */
  readonly storage: Storage
  /** Bytes of entries after which the state is saved as a snapshot and the log before it dropped. */
  readonly snapshotBytes: number
  /** A restored backup whose cluster is not founded yet. */
  readonly seed: Seed | null
  /** How many servers found a cluster together; 0 on a client. */
  readonly bootstrapExpect: number
  readonly machine: StateMachine
  readonly members: () => readonly Member[]
  /** The addresses that this host's administrator told it to join. */
  readonly joinAddresses: () => readonly Ip[]
  /** This host has become part of a cluster. */
  readonly joined: (clusterId: ClusterId) => void
  /** This host has fetched the restored backup of another founder. */
  readonly seedFetched: (id: string) => void
  /** This host's role in consensus, or the leader that it knows, has changed. */
  readonly roleChanged: (change: RoleChange) => void
  readonly fatal: (err: Error) => void
  readonly clock: Clock
  readonly random: Random
  readonly logger: Logger
}

/** How often the members are reviewed without an event: reconnects, and asks servers that were not asked yet. */
const REVIEW_MS = 500
const ASK_MS = 1_000
/** A client host may move the leadership this long after it moved last; the request waits for 10 s meanwhile. */
const TRANSFER_PAUSE_MS = 3_000

export class Replicator {
  readonly log: ReplicatedLog
  readonly peerRpc: PeerRpc
  readonly cluster: ClusterLife
  readonly #options: ReplicatorOptions
  readonly #rpc: Rpc
  /** Requests to the leader that a caller waits for. */
  readonly #leaderRpc: Rpc
  readonly #raftLog: RaftLog
  readonly #proposer: Proposer
  readonly #adoption: ClusterAdoption
  readonly #role: ClusterRole
  readonly #stopping = new AbortController()
  #cancelReview: Cancel | null = null
  #closeSnapshots: (() => Promise<void>) | null = null

  constructor(options: ReplicatorOptions) {
    this.#options = options
    const { clock, mesh } = options
    const { signal: stopping } = this.#stopping
    const rpc = new Rpc({ mesh, clock })
    const leaderRpc = new Rpc({ mesh, clock, protocol: LEADER_PROTOCOL })
    const applied = new AppliedLog(options.machine, (request, outcome) => proposer.applied(request, outcome))
    const role = new ClusterRole({
      ...options,
      rpc,
      applied,
      leaderSeen: (leader, term) => log.leaderSeen(leader, term)
    })
    const adoption = new ClusterAdoption({
      ...options,
      rpc,
      stopping,
      joined: async (origin, storage) => {
        await role.start({ origin, incarnation: adoption.incarnation ?? 0, storage })
        options.joined(origin.clusterId)
        cluster.membersChanged()
      }
    })
    const proposer = new Proposer({
      ...options,
      rpc: leaderRpc,
      proposeHere: batch => role.propose(batch),
      isSelfServer: () => role.isConfigured(options.self),
      rules: () => options.machine.rules(),
      servers: () => role.servers(),
      isServer: peer => role.isServer(peer),
      onNotice: (leader, notice) => role.onNotice(leader, notice),
      keepsUp: () => role.keepsUp,
      onCommitted: (leader, term, entries) => role.onCommitted(leader, term, entries)
    })
    const log = new RaftLog({
      rpc: leaderRpc,
      clock,
      proposer,
      role,
      files: options.disk.files,
      clusterId: () => cluster.clusterId
    })
    const peerRpc: PeerRpc = {
      ask: (peer, method) => rpc.call({ peer, method, body: null, timeoutMs: ASK_MS }),
      serve: (method, answer) => rpc.register(method, () => Promise.resolve(answer()))
    }
    const changes = new ServerChanges({ rpc, leader: () => role.status().leader, clock, stopping })
    const cluster = new RaftCluster({ ...options, peerRpc, adoption, role, changes, stopping })
    this.log = log
    this.#raftLog = log
    this.peerRpc = peerRpc
    this.cluster = cluster
    this.#rpc = rpc
    this.#leaderRpc = leaderRpc
    this.#proposer = proposer
    this.#adoption = adoption
    this.#role = role
  }

  /** Answers other hosts, and takes the role that is on the disk. @throws ERR_STORAGE, ERR_PEER */
  async start(): Promise<void> {
    this.#serve()
    await this.#rpc.start()
    await this.#leaderRpc.start()
    await this.#adoption.start()
    this.#cancelReview = this.#options.clock.every(REVIEW_MS, () => this.cluster.membersChanged())
  }

  /** Fails the requests that wait for other hosts: proposals in flight, changes of the servers. */
  failPending(): void {
    this.#stopping.abort()
    this.#proposer.stop()
  }

  async stop(): Promise<void> {
    this.failPending()
    this.#cancelReview?.()
    await this.#role.stop()
    await this.#closeSnapshots?.()
  }

  #serve(): void {
    const rpc = this.#rpc
    const leaderRpc = this.#leaderRpc
    const { machine, mesh } = this.#options
    const role = this.#role
    const adoption = this.#adoption
    const raft = (): NonNullable<typeof role.voter>['raft'] | null => role.voter?.raft ?? null
    serveFetch(rpc, () => role.pageSource())
    this.#closeSnapshots = serveSnapshots(rpc, {
      clock: this.#options.clock,
      files: this.#options.disk.files,
      source: () => role.snapshotSource(),
      seed: () => adoption.seed?.snapshot ?? null
    })
    adoption.serve()
    serveReadIndex(leaderRpc, { reader: raft, clock: this.#options.clock })
    servePropose(leaderRpc, {
      proposeHere: () => (role.voter === null ? null : batch => role.propose(batch)),
      isServer: peer => role.isConfigured(peer),
      admit: (command, peer) => machine.admit(command, { peer, addresses: () => mesh.addressesOf(peer) }),
      rules: () => machine.rules(),
      noticeFor: peer => role.noticeFor(peer)
    })
    serveServerChanges(rpc, {
      changer: raft,
      incarnation: () => (adoption.origin === null ? null : adoption.incarnation),
      mayChange: from => role.isConfigured(from),
      mayTransfer: from => role.isConfigured(from) || this.#raftLog.ledForMs() >= TRANSFER_PAUSE_MS
    })
    serveParticipation(rpc, {
      clusterId: () => adoption.origin?.clusterId ?? null,
      participation: (peer, incarnation) => role.participation(peer, incarnation)
    })
    rpc.register(PEERS_METHOD, () => Promise.resolve(role.progress()))
  }
}
