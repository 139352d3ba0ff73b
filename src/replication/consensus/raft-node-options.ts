// What a RaftNode needs from the host that runs it, and the timing and bounds of the consensus.

import type { ClusterId, PeerId, Term } from '#model/ids.ts'
import type { Clock } from '#platform/clock.ts'
import type { Logger } from '#platform/log.ts'
import type { Random } from '#platform/random.ts'
import type { Configuration, DurableState, Entry, Message, RaftOptions, RaftRole, Snapshot } from '#raft/types.ts'
import { MAX_TICKET_BYTES } from '../codec/limits.ts'
import type { Wal } from '../storage/wal.ts'

export type RoleChange = { readonly role: RaftRole; readonly term: Term; readonly leader: PeerId | null }

export type RaftNodeOptions = {
  readonly self: PeerId
  readonly clusterId: ClusterId
  readonly configuration: Configuration
  readonly durable: DurableState
  /** The bytes of durable.snapshot; null without one. */
  readonly snapshotData?: Uint8Array | null
  /** Of this host's disk: 0 on a founder's, else drawn when it joined (Configuration.incarnations). */
  readonly incarnation?: number
  readonly wal: Pick<Wal, 'append' | 'noteCommit' | 'busySinceMs'>
  readonly send: (message: Message) => void
  /** A server sent a message that no correct one sends: its connection is to be closed. */
  readonly refused: (from: PeerId, why: string) => void
  /** Applies committed entries in order; returns one result each, to which `propose` resolves. */
  readonly apply: (entries: readonly Entry[]) => readonly unknown[]
  /** Makes a leader's snapshot durable and starts the log anew after it. */
  readonly installSnapshot: (snapshot: Snapshot) => Promise<void>
  /** Replaces the applied state by a snapshot's. */
  readonly restore: (snapshot: Snapshot) => void
  readonly roleChanged: (change: RoleChange) => void
  /** The disk or an invariant failed: the agent must end. */
  readonly fatal: (err: Error) => void
  readonly clock: Clock
  readonly random: Random
  readonly logger: Logger
}

export const RAFT_OPTIONS: RaftOptions = {
  electionTimeoutMs: 500,
  heartbeatMs: 100,
  maxAppendBytes: 256 * 1024,
  maxInflightAppends: 16,
  maxUncommittedBytes: 64 * 1024 * 1024,
  keptEntries: 4_096,
  maxChunkBytes: 256 * 1024,
  maxSnapshotBytes: MAX_TICKET_BYTES
}
