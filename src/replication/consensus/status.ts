// A host's own view of its role and progress in the cluster's log.

import type { LogIndex, PeerId, Term } from '#model/ids.ts'
import type { RaftRole } from '#raft/types.ts'

export type ReplicationStatus = {
  /** A client follows the log without a vote; `waiting` means that this host has joined no cluster yet. */
  readonly role: RaftRole | 'client' | 'waiting'
  readonly term: Term
  readonly leader: PeerId | null
  readonly commitIndex: LogIndex
}
