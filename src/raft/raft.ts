// The state of one Raft server and its construction from durable state. `step` (step.ts) advances it.
// Source: Ongaro's thesis (section numbers in the handlers), with pre-vote and check-quorum always on.

import type { ClusterId, LogIndex, PeerId, Term } from '#model/ids.ts'
import { RaftLog } from './log.ts'
import type { Configuration, DurableState, Effect, RaftOptions, RaftRole, Snapshot, SnapshotMeta } from './types.ts'

/** What a leader knows about one receiver of its log. */
export type Progress = {
  /** The next entry to send. */
  nextIndex: LogIndex
  /** The highest entry that is known to be on the receiver's disk and to equal ours. */
  matchIndex: LogIndex
  /**
   * `probe`: one request at a time until a matching entry is found. `replicate`: pipelined. `snapshot`: the next entry is
   * compacted, so a snapshot is sent and no entries. `lost`: the receiver lacks entries that it had acknowledged.
   */
  mode: 'probe' | 'replicate' | 'snapshot' | 'lost'
  /** The snapshot in transfer, the bytes that have arrived, and when the last chunk was sent. */
  transfer: { readonly snapshot: Snapshot; offset: number; sentMs: number } | null
  /** The last index of each request with entries that is in flight, ascending. */
  inflight: LogIndex[]
  /** A probe is in flight; the next heartbeat repeats it. */
  probing: boolean
  /** When it last replied in this term; -Infinity before the first reply. */
  contactMs: number
  /** The latest round that it has replied to. */
  round: number
  /** The leader's round when matchIndex was acknowledged: a reply to a later round must still cover matchIndex. */
  matchRound: number
}

export type PendingRead = {
  readonly id: number
  /** Null until an entry of the current term is committed: before that the commit index may be stale (thesis 6.4). */
  request: { readonly index: LogIndex; readonly round: number } | null
}

/** Volatile state that only a leader has. */
export type LeaderState = {
  readonly progress: Map<PeerId, Progress>
  heartbeatAtMs: number
  quorumCheckAtMs: number
  /** Incremented by each heartbeat: a reply that carries a round was sent after that heartbeat. */
  round: number
  /** The commit index at the last heartbeat: a learner that has reached it counts as caught up. */
  heartbeatCommit: LogIndex
  reads: PendingRead[]
  /** Bytes of uncommitted entries of the current term; bounds what clients can queue. */
  uncommittedBytes: number
  transfer: { readonly to: PeerId; readonly untilMs: number; asked: boolean } | null
}

/** A snapshot that is being received, in byte order, from the leader of a term. */
export type IncomingSnapshot = {
  readonly term: Term
  readonly meta: SnapshotMeta
  readonly data: Uint8Array
  received: number
}

export type RaftState = {
  readonly self: PeerId
  readonly clusterId: ClusterId
  readonly options: RaftOptions
  readonly incarnation: number
  readonly log: RaftLog
  /** The configuration in force: the last one in the log, committed or not (thesis 4.1). */
  configuration: Configuration
  term: Term
  votedFor: PeerId | null
  /** The latest snapshot, taken here or received from a leader. */
  snapshot: Snapshot | null
  incoming: IncomingSnapshot | null
  commitIndex: LogIndex
  /** The last entry emitted by a `commit` effect. */
  emittedIndex: LogIndex
  role: RaftRole
  leader: PeerId | null
  /** When the leader of this term was last in contact; -Infinity if never, or if its connection has broken since. */
  leaderContactMs: number
  electionAtMs: number
  /** Replies to the pre-vote or election in progress. */
  readonly votes: Map<PeerId, boolean>
  leading: LeaderState | null
  /** Persists emitted so far; and for each one that is not durable yet, the last index of the log that it covers. */
  persistsRequested: number
  readonly unsynced: { readonly count: number; lastIndex: LogIndex; readonly atMs: number }[]
  /** Start of the embedder's oldest unfinished disk request, the core's or any other; Infinity when there is none. */
  diskBusySinceMs: number
  durableIndex: LogIndex
  /** Time and randomness of the input that is being handled. */
  nowMs: number
  random: number
  /** The effects of the step in progress, in order. */
  effects: Effect[]
}

export type RaftInit = {
  readonly self: PeerId
  readonly clusterId: ClusterId
  readonly options: RaftOptions
  readonly durable: DurableState
  /** The bytes of durable.snapshot; null without one. */
  readonly snapshotData?: Uint8Array | null
  /** The incarnation of this server's disk: 0 on a founder's, else drawn when the disk joined the cluster. */
  readonly incarnation?: number
  /** The configuration before any config entry. */
  readonly configuration: Configuration
  readonly nowMs: number
  readonly random: number
}

/** A server after a start or restart. The first step emits the entries that are known to be committed. */
export function createRaft(init: RaftInit): RaftState {
  const { durable, options } = init
  const base = durable.snapshot ?? { lastIndex: 0 as LogIndex, lastTerm: 0 as Term, configuration: init.configuration }
  const log = new RaftLog(base, durable.entries)
  const configuration = log.configurationAt(log.lastIndex)
  // A sole voter has no other leader to wait for.
  const isSoleVoter = configuration.voters.length === 1 && configuration.voters[0] === init.self
  return {
    self: init.self,
    clusterId: init.clusterId,
    options,
    incarnation: init.incarnation ?? 0,
    log,
    configuration,
    term: durable.hardState.term,
    votedFor: durable.hardState.votedFor,
    snapshot:
      durable.snapshot === null ? null : { meta: durable.snapshot, data: init.snapshotData ?? new Uint8Array() },
    incoming: null,
    commitIndex: Math.max(durable.commitIndex, base.lastIndex) as LogIndex,
    emittedIndex: base.lastIndex,
    role: 'follower',
    leader: null,
    leaderContactMs: -Infinity,
    electionAtMs: init.nowMs + (isSoleVoter ? 0 : options.electionTimeoutMs * (1 + init.random)),
    votes: new Map(),
    leading: null,
    persistsRequested: 0,
    unsynced: [],
    diskBusySinceMs: Infinity,
    durableIndex: log.lastIndex,
    nowMs: init.nowMs,
    random: init.random,
    effects: []
  }
}
