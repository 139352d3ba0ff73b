// Changes of role.

import type { LogIndex, PeerId, Term } from '#model/ids.ts'
import { incarnationOf, isVoter } from './configuration.ts'
import { announceRole, persistHardState } from './effects.ts'
import type { RaftState } from './raft.ts'
import type { Configuration } from './types.ts'

/** Election timeouts; with the tick after it, a leader is gone within two. */
const HUNG_DISK_TIMEOUTS = 1.5

/**
 * Heartbeats to wait for a leader whose connection broke: its next one, a tick late and over a new connection, comes
 * before. Drawn from [1, 2) times as many, so that those who lost it together do not stand together.
 */
const DOUBT_HEARTBEATS = 2

/** Draws a new election timeout from [electionTimeoutMs, 2 * electionTimeoutMs). */
export function resetElectionTimer(state: RaftState): void {
  state.electionAtMs = state.nowMs + state.options.electionTimeoutMs * (1 + state.random)
}

/** A request of the leader of the own term, or a later one, has come. */
export function heardLeader(state: RaftState, message: { readonly term: Term; readonly from: PeerId }): void {
  const { term, from } = message
  if (state.role === 'leader') throw new Error(`two leaders in term ${state.term}: ${state.self} and ${from}`)
  becomeFollower(state, term, from)
  if (state.incoming !== null && state.incoming.term !== term) state.incoming = null
  state.leaderHeardMs = state.nowMs
  resetElectionTimer(state)
}

/**
 * The way to the leader broke. It may be dead: not to have heard it for a little while is enough, and whoever lost it too
 * and asks for a vote may have it. A sign of life from it takes all of that back (`heardLeader`). One hint draws, so that
 * many of them neither put the election off nor make everybody's the shortest.
 */
export function doubtLeader(state: RaftState): void {
  if (state.leaderHeardMs === -Infinity) return
  state.leaderHeardMs = -Infinity
  const soonMs = state.nowMs + DOUBT_HEARTBEATS * state.options.heartbeatMs * (1 + state.random)
  state.electionAtMs = Math.min(state.electionAtMs, soonMs)
}

/**
 * May this server stand? Only a voter, and only on the disk that was made one: another incarnation has forgotten what it
 * promised. One that is removed by an entry that is not committed still may: that entry may need it (thesis 4.2.2).
 */
export function mayStand(state: RaftState): boolean {
  const { configuration, log, commitIndex } = state
  if (isOwnVoter(state, configuration)) return true
  return (
    log.lastConfigIndex > commitIndex && isOwnVoter(state, log.configurationAt((log.lastConfigIndex - 1) as LogIndex))
  )
}

function isOwnVoter({ self, incarnation }: RaftState, configuration: Configuration): boolean {
  return isVoter(configuration, self) && incarnationOf(configuration, self) === incarnation
}

/** The disk has been at work for so long that it may never come back. */
export function diskHangs({ unsynced, diskBusySinceMs, nowMs, options }: RaftState): boolean {
  const sinceMs = Math.min(unsynced[0]?.atMs ?? Infinity, diskBusySinceMs)
  return nowMs - sinceMs >= HUNG_DISK_TIMEOUTS * options.electionTimeoutMs
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
