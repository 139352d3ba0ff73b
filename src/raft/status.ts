// What the embedder reads of a server's consensus state.

import type { LogIndex, PeerId, Term } from '#model/ids.ts'
import type { RaftState } from './raft.ts'
import type { Configuration, RaftRole } from './types.ts'

export type RaftStatus = {
  readonly role: RaftRole
  readonly term: Term
  readonly leader: PeerId | null
  readonly commitIndex: LogIndex
  /** The term of the entry at the commit index. */
  readonly commitTerm: Term
  /**
   * Committed and durable here: the commit index that may be written to disk. A higher one could cover entries of a
   * deposed leader that the disk still holds.
   */
  readonly durableCommitIndex: LogIndex
  readonly lastIndex: LogIndex
  readonly configuration: Configuration
  /** The index of the entry that holds the configuration; 0 for the initial one. */
  readonly configurationIndex: LogIndex
  /** Whether the configuration in force is committed. */
  readonly configurationCommitted: boolean
  /** The last index of the latest snapshot; 0 without one. */
  readonly snapshotIndex: LogIndex
  /** The match index of each receiver; empty when this server does not lead. */
  readonly progress: ReadonlyMap<PeerId, { readonly matchIndex: LogIndex }>
}

/** When the next tick is due, in milliseconds of the inputs' clock: nothing depends on time before. Later than the last tick. */
export function tickDueMs({ electionAtMs, leading }: RaftState): number {
  if (leading === null) return electionAtMs
  return Math.min(leading.heartbeatAtMs, leading.quorumCheckAtMs, leading.transfer?.untilMs ?? Infinity)
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
    commitTerm: state.log.termAt(commitIndex) ?? state.log.baseTerm,
    durableCommitIndex,
    lastIndex,
    configuration,
    configurationIndex: lastConfigIndex,
    configurationCommitted: lastConfigIndex <= commitIndex,
    snapshotIndex: state.snapshot?.meta.lastIndex ?? (0 as LogIndex),
    progress
  }
}
