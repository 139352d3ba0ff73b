// The state of one Raft server, and how it begins: from what the disk holds. `step` (step.ts) advances it.
// Sources: Ongaro's thesis (section numbers in the handlers), with pre-vote and check-quorum always on.

import type { ClusterId, LogIndex, PeerId, Term } from '#model/ids.ts'
import { RaftLog } from './log.ts'
import type { Configuration, DurableState, Effect, RaftOptions, RaftRole, Snapshot, SnapshotMeta } from './types.ts'

/** What a leader knows of one receiver of its log. */
export type Progress = {
  /** The next entry to send. */
  nextIndex: LogIndex
  /** Known to be on the receiver's disk and equal to ours. */
  matchIndex: LogIndex
  /**
   * `probe`: one request at a time until the logs are known to meet; `replicate`: pipelined; `snapshot`: what it needs
   * is compacted, and no entries go out meanwhile; `lost`: it lacks what it had acknowledged.
   */
  mode: 'probe' | 'replicate' | 'snapshot' | 'lost'
  /** The snapshot that is being sent, how much of it has arrived, and when the last chunk went out. */
  transfer: { readonly snapshot: Snapshot; offset: number; sentMs: number } | null
  /** Last indexes of the requests with entries that are under way, ascending. */
  inflight: LogIndex[]
  /** A probe is under way; the next heartbeat repeats it. */
  probing: boolean
  /** When it last answered in this term; -Infinity before it has. */
  heardMs: number
  /** The latest round that it has answered. */
  round: number
  /** The leader's round when matchIndex was acknowledged: whoever answers a later one must still have it. */
  matchRound: number
}

export type PendingRead = {
  readonly id: number
  /** Null until an entry of the own term is committed: before that the commit index may be behind (thesis 6.4). */
  request: { readonly index: LogIndex; readonly round: number } | null
}

/** What only a leader has. */
export type Leading = {
  readonly progress: Map<PeerId, Progress>
  heartbeatAtMs: number
  quorumCheckAtMs: number
  /** Counts up with each heartbeat: an answer to it was given after the question. */
  round: number
  /** The commit index at the last heartbeat: a learner that has it keeps up. */
  heartbeatCommit: LogIndex
  reads: PendingRead[]
  /** Bytes of own-term entries that are not committed; bounds what clients can pile up. */
  uncommittedBytes: number
  transfer: { readonly to: PeerId; readonly untilMs: number; asked: boolean } | null
}

/** A snapshot that is coming in, in the order of its bytes, from the leader of a term. */
export type Incoming = {
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
  /** In force: the last one in the log, committed or not (thesis 4.1). */
  configuration: Configuration
  term: Term
  votedFor: PeerId | null
  /** The latest, ours or a leader's. */
  snapshot: Snapshot | null
  incoming: Incoming | null
  commitIndex: LogIndex
  /** The last entry handed out by a `commit` effect. */
  handedOut: LogIndex
  role: RaftRole
  leader: PeerId | null
  /** When the leader of this term was last heard; -Infinity when it was not, or when the way to it broke since. */
  leaderHeardMs: number
  electionAtMs: number
  /** Answers to the election that is under way. */
  readonly votes: Map<PeerId, boolean>
  leading: Leading | null
  /** Persists asked for, and for each of them that is not durable yet the log's last index once it is. */
  persistsAsked: number
  readonly unsynced: { readonly count: number; lastIndex: LogIndex; readonly atMs: number }[]
  /** Since when the disk has owed an answer that nobody here asked for; Infinity when it owes none. */
  diskBusySinceMs: number
  durableIndex: LogIndex
  /** Of the input that is being handled. */
  nowMs: number
  random: number
  /** Of the step that is under way, in order. */
  effects: Effect[]
}

export type RaftInit = {
  readonly self: PeerId
  readonly clusterId: ClusterId
  readonly options: RaftOptions
  readonly durable: DurableState
  /** The bytes of durable.snapshot, and null without one. */
  readonly snapshotData?: Uint8Array | null
  /** Of this server's disk: 0 on a founder's, else drawn when the disk joined the cluster. */
  readonly incarnation?: number
  /** In force before any config entry. */
  readonly configuration: Configuration
  readonly nowMs: number
  readonly random: number
}

/** A server as it comes up. The first step hands out what is known to be committed. */
export function createRaft(init: RaftInit): RaftState {
  const { durable, options } = init
  const base = durable.snapshot ?? { lastIndex: 0 as LogIndex, lastTerm: 0 as Term, configuration: init.configuration }
  const log = new RaftLog(base, durable.entries)
  const configuration = log.configurationAt(log.lastIndex)
  // Nobody else could be leader, or be asked: it need not wait for one.
  const waits = configuration.voters.length !== 1 || configuration.voters[0] !== init.self
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
    handedOut: base.lastIndex,
    role: 'follower',
    leader: null,
    leaderHeardMs: -Infinity,
    electionAtMs: init.nowMs + (waits ? options.electionTimeoutMs * (1 + init.random) : 0),
    votes: new Map(),
    leading: null,
    persistsAsked: 0,
    unsynced: [],
    diskBusySinceMs: Infinity,
    durableIndex: log.lastIndex,
    nowMs: init.nowMs,
    random: init.random,
    effects: []
  }
}
