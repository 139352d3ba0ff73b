// What the outside may know of a server's consensus.

import type { LogIndex, PeerId, Term } from '#model/ids.ts'
import type { RaftState } from './raft.ts'
import type { Configuration, RaftRole } from './types.ts'

export type RaftStatus = {
  readonly role: RaftRole
  readonly term: Term
  readonly leader: PeerId | null
  readonly commitIndex: LogIndex
  /**
   * Committed, and on the own disk as it was committed: what may be noted there. A commit index above it would count
   * entries of another leader that the disk still holds.
   */
  readonly durableCommitIndex: LogIndex
  readonly lastIndex: LogIndex
  readonly configuration: Configuration
  /** Of the entry that holds the configuration; 0 for the first one. */
  readonly configurationIndex: LogIndex
  /** Is the configuration the last one that was committed? */
  readonly configurationCommitted: boolean
  /** Of the latest snapshot; 0 without one. */
  readonly snapshotIndex: LogIndex
  /** How far each receiver is; empty where this server does not lead. */
  readonly progress: ReadonlyMap<PeerId, { readonly matchIndex: LogIndex }>
}

export function raftStatus(state: RaftState): RaftStatus {
  const progress = new Map<PeerId, { readonly matchIndex: LogIndex }>()
  for (const [peer, { matchIndex }] of state.leading?.progress ?? []) progress.set(peer, { matchIndex })
  if (state.leading !== null) progress.set(state.self, { matchIndex: state.durableIndex })
  const { role, term, leader, commitIndex, durableIndex, configuration } = state
  const durableCommitIndex = commitIndex < durableIndex ? commitIndex : durableIndex
  const { lastIndex, lastConfigIndex } = state.log
  return {
    role,
    term,
    leader,
    commitIndex,
    durableCommitIndex,
    lastIndex,
    configuration,
    configurationIndex: lastConfigIndex,
    configurationCommitted: lastConfigIndex <= commitIndex,
    snapshotIndex: state.snapshot?.meta.lastIndex ?? (0 as LogIndex),
    progress
  }
}
