// The types of the consensus core: events (input), effects (output) and durable state. README.md explains how to embed it.
//
// `step(state, input)` advances the state in place and returns effects. It has no clock, randomness or I/O of its own:
// `nowMs` (monotonic) and `random` arrive with each input. The embedder carries the effects out in order, under one rule:
// a `send` waits until every `persist` before it, in this step or an earlier one, is durable, unless it says
// `beforePersist` (a leader may replicate entries while it writes them itself, Raft thesis 10.2.1). Once a persist is
// durable, the embedder reports it by a `persisted` event.

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
  /** Receive the log, but have no vote. */
  readonly learners: readonly PeerId[]
  /**
   * The incarnation of each peer's disk; 0, a founder's first disk, where none is given. A wiped disk gets a new
   * incarnation, because its votes are lost: it takes part again only after the peer was removed and re-added.
   */
  readonly incarnations?: Readonly<Record<string, number>>
}

/** A membership change; one server at a time (thesis 4.1). */
export type Change =
  | { readonly kind: 'add-learner'; readonly peer: PeerId; readonly incarnation: number }
  | { readonly kind: 'promote' | 'remove'; readonly peer: PeerId }

/** Must be durable before any message that depends on it is sent. */
export type HardState = { readonly term: Term; readonly votedFor: PeerId | null }

/** What a server reads from its disk when it starts. */
export type DurableState = {
  readonly hardState: HardState
  /** Consecutive, from the entry after the snapshot. */
  readonly entries: readonly Entry[]
  /** The last index known to be committed; may be stale. */
  readonly commitIndex: LogIndex
  readonly snapshot: SnapshotMeta | null
}

/** A snapshot replaces all entries up to and including lastIndex. */
export type SnapshotMeta = {
  readonly lastIndex: LogIndex
  readonly lastTerm: Term
  readonly configuration: Configuration
}

/** `data` is the state machine's encoding, opaque to the core, which keeps it in memory to send it. */
export type Snapshot = { readonly meta: SnapshotMeta; readonly data: Uint8Array }

export type RaftOptions = {
  /** Election timeouts are drawn from [electionTimeoutMs, 2 * electionTimeoutMs). */
  readonly electionTimeoutMs: number
  readonly heartbeatMs: number
  /** Bytes of entry data in one AppendEntries; a single larger entry is still sent. */
  readonly maxAppendBytes: number
  /** Unanswered AppendEntries with entries in flight to one follower. */
  readonly maxInflightAppends: number
  /** Bytes of uncommitted proposals; further ones are refused as `busy`. */
  readonly maxUncommittedBytes: number
  /** Entries kept in memory before a snapshot, for followers that are only slightly behind. */
  readonly keptEntries: number
  /** Bytes of snapshot data in one InstallSnapshot. */
  readonly maxChunkBytes: number
  /** A larger snapshot is not received: bounds the memory that a sender can make this server allocate. */
  readonly maxSnapshotBytes: number
}

type Header = {
  readonly clusterId: ClusterId
  readonly from: PeerId
  readonly to: PeerId
  readonly term: Term
  /** In a request, the receiver's incarnation as the sender knows it; in a reply, the sender's own. */
  readonly incarnation: number
}

export type Message = Header &
  (
    | { readonly kind: 'pre-vote-request'; readonly lastIndex: LogIndex; readonly lastTerm: Term }
    | { readonly kind: 'pre-vote-reply'; readonly granted: boolean; readonly requestTerm: Term }
    /** `transfer`: the leader requested this election, so followers vote although they are in contact with the leader. */
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
        /** Echoed in the reply, which proves that the reply was sent after this request (ReadIndex, check-quorum). */
        readonly round: number
      }
    | {
        readonly kind: 'append-reply'
        readonly success: boolean
        /** On success: the last index that this request matched. On failure: the highest index that may match. */
        readonly matchIndex: LogIndex
        /** On failure: the term of the follower's entry at matchIndex, to skip whole terms. */
        readonly conflictTerm: Term
        readonly round: number
      }
    | {
        readonly kind: 'install-request'
        readonly meta: SnapshotMeta
        /** Bytes of the whole snapshot. */
        readonly size: number
        readonly offset: number
        /** Empty in a heartbeat, which only asks for the receiver's offset. */
        readonly data: Uint8Array
        readonly round: number
      }
    | {
        readonly kind: 'install-reply'
        /** The last index of the snapshot in transfer. */
        readonly lastIndex: LogIndex
        /** Contiguous bytes received so far. */
        readonly offset: number
        /** Everything up to lastIndex is durable. */
        readonly done: boolean
        readonly round: number
      }
    | { readonly kind: 'timeout-now' }
  )

export type MessageKind = Message['kind']

export type RaftEvent =
  /**
   * Time has passed; due at `tickDueMs` (status.ts), and at least every electionTimeoutMs / 2, so that a stall of the process
   * is noticed. `diskBusySinceMs`: when the oldest unfinished disk request started, the core's or any other; null or absent
   * when there is none.
   */
  | { readonly kind: 'tick'; readonly diskBusySinceMs?: number | null }
  /**
   * The connection to a server broke or was refused. Only a hint, which may be false, late or repeated: it makes an
   * election start sooner and never decides one.
   */
  | { readonly kind: 'peer-lost'; readonly peer: PeerId }
  | { readonly kind: 'receive'; readonly message: Message }
  /**
   * Commands to append, as consecutive entries, or to refuse together. `id` identifies them in the `proposed` and `refused`
   * effects.
   */
  | { readonly kind: 'propose'; readonly id: number; readonly batch: readonly Uint8Array[] }
  /** All `persist` effects up to this count (1-based, since the start of the process) are durable. */
  | { readonly kind: 'persisted'; readonly count: number }
  /** Requests a read index: a read is linearizable once the state machine has applied that index. Leader only. */
  | { readonly kind: 'read'; readonly id: number }
  | { readonly kind: 'transfer'; readonly to: PeerId }
  /** `id` as in propose. Leader only. */
  | { readonly kind: 'change'; readonly id: number; readonly change: Change }
  /** A snapshot of the state applied up to meta.lastIndex is durable; meta as returned by snapshotMeta (snapshot.ts). */
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
  /** No entry of this leader's term is committed yet, so a change would be unsafe (Ongaro 2015). Retry. */
  | 'no-own-commit'
  /** The previous change is not committed yet. Retry. */
  | 'change-under-way'
  /** The learner lacks entries that were committed at the last heartbeat. Retry. */
  | 'not-caught-up'
  /** The active servers are no majority of the new configuration. Retry when more are up. */
  | 'too-few-alive'
  | 'already-there'
  | 'no-such-learner'
  | 'no-such-peer'
  | 'last-voter'

export type Effect =
  /** Write in this order, with one fsync: drop all entries from truncateFrom on, append entries, replace the hard state. */
  | {
      readonly kind: 'persist'
      readonly hardState: HardState | null
      readonly truncateFrom: LogIndex | null
      readonly entries: readonly Entry[]
    }
  /**
   * Counts as a persist: save the snapshot and restart the log after it, keeping the hard state. Replace the state
   * machine at once; commits continue after meta.lastIndex.
   */
  | { readonly kind: 'install'; readonly snapshot: Snapshot }
  | { readonly kind: 'send'; readonly message: Message; readonly beforePersist: boolean }
  /** Newly committed entries, in index order, each exactly once per process lifetime. */
  | { readonly kind: 'commit'; readonly entries: readonly Entry[]; readonly commitIndex: LogIndex }
  /** `count` entries from `index` on. */
  | {
      readonly kind: 'proposed'
      readonly id: number
      readonly index: LogIndex
      readonly count: number
      readonly term: Term
    }
  | { readonly kind: 'refused'; readonly id: number; readonly reason: RefusalReason; readonly leader: PeerId | null }
  | { readonly kind: 'read-ready'; readonly id: number; readonly index: LogIndex }
  | { readonly kind: 'read-failed'; readonly id: number }
  /** A message that no correct server sends. It changed nothing; its connection is to be closed. */
  | { readonly kind: 'impossible'; readonly from: PeerId; readonly why: string }
  /** A follower lacks entries that it had acknowledged. This leader stops replicating to it and no longer counts it. */
  | { readonly kind: 'lost-log'; readonly peer: PeerId }
  /** Role, term or leader changed. When a leader steps down, the outcome of its pending proposals is unknown. */
  | { readonly kind: 'role'; readonly role: RaftRole; readonly term: Term; readonly leader: PeerId | null }

export type RaftRole = 'follower' | 'pre-candidate' | 'candidate' | 'leader'
