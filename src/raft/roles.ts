// Changes of role.

import type { PeerId, Term } from '#model/ids.ts'
import { announceRole, persistHardState } from './effects.ts'
import type { RaftState } from './raft.ts'

/** Draws a new election timeout from [electionTimeoutMs, 2 * electionTimeoutMs). */
export function resetElectionTimer(state: RaftState): void {
  state.electionAtMs = state.nowMs + state.options.electionTimeoutMs * (1 + state.random)
}

/**
 * A leader is known to be there: voting against it would only disturb (thesis 4.2.3). A leader knows of itself; check-
 * quorum ends that when it is cut off.
 */
export function leaderIsAlive(state: RaftState): boolean {
  if (state.role === 'leader') return true
  return state.leader !== null && state.nowMs - state.leaderHeardMs < state.options.electionTimeoutMs
}

/** Follows, in this term or a later one. The vote is forgotten only when the term is new (CCF#8094). */
export function becomeFollower(state: RaftState, term: Term, leader: PeerId | null): void {
  const before = { role: state.role, term: state.term, leader: state.leader }
  if (term > state.term) {
    state.term = term
    state.votedFor = null
    persistHardState(state)
  }
  if (state.leading !== null) {
    for (const read of state.leading.reads) state.effects.push({ kind: 'read-failed', id: read.id })
    state.leading = null
    resetElectionTimer(state)
  }
  state.role = 'follower'
  state.leader = leader
  state.votes.clear()
  if (before.role !== 'follower' || before.term !== term || before.leader !== leader) announceRole(state)
}
