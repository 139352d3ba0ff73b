// When an entry is committed (thesis 3.6.2).

import type { LogIndex } from '#model/ids.ts'
import { quorumSize } from './configuration.ts'
import { configurationCommitted } from './membership.ts'
import type { RaftState } from './raft.ts'
import { announceCommit } from './replicate.ts'
import { confirmReads } from './read.ts'

/**
 * On a leader: commits the highest index of the current term that is durable on a majority. The leader's own disk counts
 * only for what it has synced.
 */
export function advanceCommit(state: RaftState): void {
  const { leading, configuration } = state
  if (leading === null) return
  const durable = configuration.voters.map(voter =>
    voter === state.self ? state.durableIndex : (leading.progress.get(voter)?.matchIndex ?? 0)
  )
  const majority = durable.sort((a, b) => b - a)[quorumSize(configuration) - 1] ?? 0
  const index = majority as LogIndex
  // Counting replicas commits entries of the current term only: figure 3.7 shows an earlier one overwritten.
  if (index <= state.commitIndex || state.log.termAt(index) !== state.term) return
  for (const entry of state.log.between(state.commitIndex, index)) {
    if (entry.term === state.term) leading.uncommittedBytes -= entry.data.byteLength
  }
  state.commitIndex = index
  announceCommit(state)
  confirmReads(state)
  configurationCommitted(state, leading)
}

/** On a follower: the leader's commit index, bounded by the prefix that is known to match the leader's log. */
export function followCommit(state: RaftState, leaderCommit: LogIndex, matched: LogIndex): void {
  const index = leaderCommit < matched ? leaderCommit : matched
  if (index > state.commitIndex) state.commitIndex = index
}

/** All persists up to number `count` are durable. */
export function persisted(state: RaftState, count: number): void {
  while ((state.unsynced[0]?.count ?? Infinity) <= count) {
    const mark = state.unsynced.shift()
    if (mark !== undefined) state.durableIndex = mark.lastIndex
  }
  advanceCommit(state)
}
