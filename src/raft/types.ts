// The vocabulary of the consensus core: what goes in (events), what comes out (effects), what lies on disk.
//
// `step(state, event)` advances the state in place and returns effects. It knows no clock, no randomness and no I/O:
// `nowMs` (monotonic) and `random` arrive with each input. The shell carries the effects out in order, under one rule:
// an effect waits until every `persist` before it, in this step or an earlier one, is durable; only a `send` with
// `beforePersist` need not wait (a leader may replicate entries while it writes them itself, Raft thesis 10.2.1).
// When a persist has become durable the shell says so by a `persisted` event.

import type { ClusterId, LogIndex, PeerId, Term } from '#model/ids.ts'

export type EntryKind = 'noop' | 'command' | 'config'

export type Entry = {
  readonly index: LogIndex
  readonly term: Term
  readonly kind: EntryKind
  /** A command is opaque to the core; a config entry is an encoded Configuration (configuration.ts). */
  readonly data: Uint8Array
}

export type Configuration = {
  readonly voters: readonly PeerId[]
  /** Receive the log and do not count. */
  readonly learners: readonly PeerId[]
  /**
   * Which incarnation of a peer's disk is meant; the founding one, 0, where nothing is said. A disk that was wiped has a
   * new incarnation and has forgotten its votes: it takes part only after it was removed and added again.
   */
  readonly incarnations?: Readonly<Record<string, number>>
}

/** One server at a time (thesis 4.1). */
export type Change =
  | { readonly kind: 'add-learner'; readonly peer: PeerId; readonly incarnation: number }
  | { readonly kind: 'promote' | 'remove'; readonly peer: PeerId }

/** Must be durable before any message that follows from it. */
export type HardState = { readonly term: Term; readonly votedFor: PeerId | null }

/** What a restarted server reads back. */
export type DurableState = {
  readonly hardState: HardState
  /** Consecutive, from the entry after the snapshot. */
  readonly entries: readonly Entry[]
  /** The last index known to be committed; may be behind the truth. */
  readonly commitIndex: LogIndex
  readonly snapshot: SnapshotMeta | null
}

/** A snapshot stands for all entries up to and including lastIndex. */
export type SnapshotMeta = {
  readonly lastIndex: LogIndex
  readonly lastTerm: Term
  readonly configuration: Configuration
}

/** What the state machine wrote, opaque to the core; held in memory to be sent. */
export type Snapshot = { readonly meta: SnapshotMeta; readonly data: Uint8Array }

export type RaftOptions = {
  /** Election timeouts are drawn from [electionTimeoutMs, 2 * electionTimeoutMs). */
  readonly electionTimeoutMs: number
  readonly heartbeatMs: number
  /** Bytes of entry data in one AppendEntries, at least one entry. */
  readonly maxAppendBytes: number
  /** AppendEntries under way to one follower without an answer. */
  readonly maxInflightAppends: number
  /** Bytes of proposals appended but not committed; more are refused as `busy`. */
  readonly maxUncommittedBytes: number
  /** Entries kept in memory below a snapshot, for followers that are only a little behind. */
  readonly keptEntries: number
  /** Bytes of a snapshot in one InstallSnapshot. */
  readonly maxChunkBytes: number
  /** A larger snapshot is not received: what a sender can make this server allocate. */
  readonly maxSnapshotBytes: number
}

type Header = {
  readonly clusterId: ClusterId
  readonly from: PeerId
  readonly to: PeerId
  readonly term: Term
  /** The receiver's, as the sender's configuration has it: a request to a disk's former life is not for this one. */
  readonly incarnation: number
}

export type Message = Header &
  (
    | { readonly kind: 'pre-vote-request'; readonly lastIndex: LogIndex; readonly lastTerm: Term }
    | { readonly kind: 'pre-vote-reply'; readonly granted: boolean; readonly requestTerm: Term }
    /** `transfer`: the leader asked for this election, so a follower answers although it hears the leader. */
    | {
        readonly kind: 'vote-request'
        readonly lastIndex: LogIndex
        readonly lastTerm: Term
        readonly transfer: boolean
      }
    | { readonly kind: 'vote-reply'; readonly granted: boolean }
    | {
        readonly kind: 'append-request'
        readonly prevIndex: LogIndex
        readonly prevTerm: Term
        readonly entries: readonly Entry[]
        readonly leaderCommit: LogIndex
        /** Echoed in the reply: proves that the leader was heard after it asked (ReadIndex, check-quorum). */
        readonly round: number
      }
    | {
        readonly kind: 'append-reply'
        readonly success: boolean
        /** On success: the last index that this request made match. On failure: where the follower's log may match. */
        readonly matchIndex: LogIndex
        /** On failure: the term of the follower's entry at matchIndex, to skip whole terms. */
        readonly conflictTerm: Term
        readonly round: number
      }
    | {
        readonly kind: 'install-request'
        readonly meta: SnapshotMeta
        /** Of the whole snapshot, in bytes. */
        readonly size: number
        readonly offset: number
        /** Empty: only asks how far the receiver is. */
        readonly data: Uint8Array
        readonly round: number
      }
    | {
        readonly kind: 'install-reply'
        /** Of the snapshot that is meant. */
        readonly lastIndex: LogIndex
        /** Bytes that have come, without a gap. */
        readonly offset: number
        /** Everything up to lastIndex is on the disk. */
        readonly done: boolean
        readonly round: number
      }
    | { readonly kind: 'timeout-now' }
  )

export type MessageKind = Message['kind']

export type RaftEvent =
  /**
   * Time passes; at least every heartbeatMs / 2. `diskBusySinceMs`: since when the disk has owed an answer, whoever asked
   * it; null or absent when it owes none.
   */
  | { readonly kind: 'tick'; readonly diskBusySinceMs?: number | null }
  /**
   * The connection to a server broke or was refused. A hint, for it may be false, late or repeated: it makes elections
   * come sooner and never decides one.
   */
  | { readonly kind: 'peer-lost'; readonly peer: PeerId }
  | { readonly kind: 'receive'; readonly message: Message }
  /** `id` names the proposal in the `proposed`, `refused` effects. */
  | { readonly kind: 'propose'; readonly id: number; readonly data: Uint8Array }
  /** All `persist` effects up to this count (1-based, since the start of the process) are durable. */
  | { readonly kind: 'persisted'; readonly count: number }
  /** Ask for a read index: linearizable once the state is applied up to it. Leader only. */
  | { readonly kind: 'read'; readonly id: number }
  | { readonly kind: 'transfer'; readonly to: PeerId }
  /** `id` as in propose. Leader only. */
  | { readonly kind: 'change'; readonly id: number; readonly change: Change }
  /** A snapshot of what was applied up to meta.lastIndex is durable; meta as snapshotMeta (snapshot.ts) gave it. */
  | { readonly kind: 'snapshot-taken'; readonly snapshot: Snapshot }

export type Input = {
  readonly event: RaftEvent
  /** Monotonic milliseconds. */
  readonly nowMs: number
  /** In [0, 1): the step's only source of randomness. */
  readonly random: number
}

export type RefusalReason =
  | 'not-leader'
  | 'busy'
  | 'transferring'
  /** No entry of this leader's term is committed yet: before that a change is unsafe (Ongaro 2015). Retry. */
  | 'no-own-commit'
  /** The last change is not committed yet. Retry. */
  | 'change-under-way'
  /** The learner lacks what was committed a heartbeat ago. Retry. */
  | 'not-caught-up'
  /** Those who are left and answer are no majority. Retry when more are up. */
  | 'too-few-alive'
  | 'already-there'
  | 'no-such-learner'
  | 'no-such-peer'
  | 'last-voter'

export type Effect =
  /** In this order: drop all entries from truncateFrom on, append entries, replace the hard state. One fsync. */
  | {
      readonly kind: 'persist'
      readonly hardState: HardState | null
      readonly truncateFrom: LogIndex | null
      readonly entries: readonly Entry[]
    }
  /**
   * Counts as a persist: saves the snapshot and begins the log anew after it, keeping the hard state. The state machine
   * is replaced at once; commits go on after meta.lastIndex.
   */
  | { readonly kind: 'install'; readonly snapshot: Snapshot }
  | { readonly kind: 'send'; readonly message: Message; readonly beforePersist: boolean }
  /** Newly committed entries, in index order, each exactly once in the life of this process. */
  | { readonly kind: 'commit'; readonly entries: readonly Entry[]; readonly commitIndex: LogIndex }
  | { readonly kind: 'proposed'; readonly id: number; readonly index: LogIndex; readonly term: Term }
  | { readonly kind: 'refused'; readonly id: number; readonly reason: RefusalReason; readonly leader: PeerId | null }
  | { readonly kind: 'read-ready'; readonly id: number; readonly index: LogIndex }
  | { readonly kind: 'read-failed'; readonly id: number }
  /** A follower lacks what it once said was on its disk. It gets nothing more and counts no more under this leader. */
  | { readonly kind: 'lost-log'; readonly peer: PeerId }
  /** Role, term or leader changed. Proposals under way when a leader steps down have an unknown fate. */
  | { readonly kind: 'role'; readonly role: RaftRole; readonly term: Term; readonly leader: PeerId | null }

export type RaftRole = 'follower' | 'pre-candidate' | 'candidate' | 'leader'
