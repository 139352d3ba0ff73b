// Role changes, election timers, and the checks that decide whether a server may campaign or vote.

import type { LogIndex, PeerId, Term } from '#model/ids.ts'
import { incarnationOf, isVoter } from './configuration.ts'
import { announceRole, persistHardState } from './effects.ts'
import type { RaftState } from './raft.ts'
import type { Configuration } from './types.ts'

/** In election timeouts. A leader with a hung disk has stepped down within two of them, including the next tick. */
const HUNG_DISK_TIMEOUTS = 1.5

/**
 * Heartbeats to wait for a leader whose connection broke: long enough for its next one to arrive over a new connection.
 * Multiplied by a random factor in [1, 2), so that followers that lost the leader together do not campaign together.
 */
const SUSPECT_HEARTBEATS = 2

/** Draws a new election timeout from [electionTimeoutMs, 2 * electionTimeoutMs). */
export function resetElectionTimer(state: RaftState): void {
  state.electionAtMs = state.nowMs + state.options.electionTimeoutMs * (1 + state.random)
}

/** Follows the sender of an AppendEntries or InstallSnapshot of the current term or a later one. */
export function followLeader(state: RaftState, message: { readonly term: Term; readonly from: PeerId }): void {
  const { term, from } = message
  becomeFollower(state, term, from)
  if (state.incoming !== null && state.incoming.term !== term) state.incoming = null
  state.leaderContactMs = state.nowMs
  resetElectionTimer(state)
}

/**
 * The connection to the leader broke, so it is suspected dead: the election timeout is shortened, and votes for others
 * are granted. The leader's next message ends the suspicion (`followLeader`). Only the first hint draws a timeout, so that
 * repeated hints neither postpone the election nor shorten the wait further.
 */
export function suspectLeader(state: RaftState): void {
  if (state.leaderContactMs === -Infinity) return
  state.leaderContactMs = -Infinity
  const soonMs = state.nowMs + SUSPECT_HEARTBEATS * state.options.heartbeatMs * (1 + state.random)
  state.electionAtMs = Math.min(state.electionAtMs, soonMs)
}

/**
 * Only a voter may campaign, and only with the disk incarnation that was added: another one has lost its votes. A server
 * whose removal is not committed may still campaign: the commit may depend on it (thesis 4.2.2).
 */
export function mayCampaign(state: RaftState): boolean {
  const { configuration, log, commitIndex } = state
  if (isOwnVoter(state, configuration)) return true
  return (
    log.lastConfigIndex > commitIndex && isOwnVoter(state, log.configurationAt((log.lastConfigIndex - 1) as LogIndex))
  )
}

function isOwnVoter({ self, incarnation }: RaftState, configuration: Configuration): boolean {
  return isVoter(configuration, self) && incarnationOf(configuration, self) === incarnation
}

/** The oldest disk request has taken so long that the disk may never answer. */
export function diskHangs({ unsynced, diskBusySinceMs, nowMs, options }: RaftState): boolean {
  const sinceMs = Math.min(unsynced[0]?.atMs ?? Infinity, diskBusySinceMs)
  return nowMs - sinceMs >= HUNG_DISK_TIMEOUTS * options.electionTimeoutMs
}

/**
 * Is a leader in contact? Then votes are refused, so that it is not disrupted (thesis 4.2.3). A leader counts itself;
 * check-quorum deposes it when it is cut off.
 */
export function leaderIsAlive(state: RaftState): boolean {
  if (state.role === 'leader') return true
  return state.leader !== null && state.nowMs - state.leaderContactMs < state.options.electionTimeoutMs
}

/** Becomes a follower in this term or a later one. The vote is cleared only when the term is new (CCF#8094). */
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
