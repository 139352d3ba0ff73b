// Elections (thesis 3.4) with pre-vote (9.6): a server asks whether it would win before it disturbs anybody with a new
// term. A leader that asked for its own succession (`transfer`, 3.10) is exempt.

import type { LogIndex, PeerId, Term } from '#model/ids.ts'
import { quorumSize } from './configuration.ts'
import { announceRole, persistHardState, send } from './effects.ts'
import { becomeLeader } from './leadership.ts'
import type { RaftState } from './raft.ts'
import { becomeFollower, diskHangs, leaderIsAlive, mayStand, resetElectionTimer } from './roles.ts'
import type { Message } from './types.ts'

type Of<K extends Message['kind']> = Extract<Message, { readonly kind: K }>

/** The election timer ran out. Only voters stand, and none whose disk hangs: its vote for itself would never be. */
export function startPreVote(state: RaftState): void {
  resetElectionTimer(state)
  if (!mayStand(state) || diskHangs(state)) return
  state.role = 'pre-candidate'
  state.leader = null
  openVotes(state)
  announceRole(state)
  if (hasWon(state)) {
    startElection(state, false)
    return
  }
  // In the term that it would start, without entering it.
  const { lastIndex, lastTerm } = state.log
  for (const voter of others(state)) {
    send(state, voter, { kind: 'pre-vote-request', lastIndex, lastTerm }, (state.term + 1) as Term)
  }
}

export function startElection(state: RaftState, transfer: boolean): void {
  state.term = (state.term + 1) as Term
  state.votedFor = state.self
  state.role = 'candidate'
  state.leader = null
  resetElectionTimer(state)
  persistHardState(state)
  openVotes(state)
  announceRole(state)
  const { lastIndex, lastTerm } = state.log
  for (const voter of others(state)) send(state, voter, { kind: 'vote-request', lastIndex, lastTerm, transfer })
}

/**
 * Changes nothing here, whatever the answer. Answered to anybody of the cluster: a server that is not in this one's
 * configuration may be in a newer one.
 */
export function receivePreVoteRequest(state: RaftState, message: Of<'pre-vote-request'>): void {
  const granted = message.term > state.term && !leaderIsAlive(state) && isUpToDate(state, message)
  // With the own term: one that is behind learns it here, and its later requests are not in vain (canonical/raft#279).
  send(state, message.from, { kind: 'pre-vote-reply', granted, requestTerm: message.term })
}

export function receivePreVoteReply(state: RaftState, message: Of<'pre-vote-reply'>): void {
  // An answer to an earlier round must not count (cockroach#123297).
  if (state.role !== 'pre-candidate' || message.requestTerm !== state.term + 1) return
  state.votes.set(message.from, message.granted)
  if (hasWon(state)) startElection(state, false)
}

/** The own vote counts once it is durable, like every other; a single server has won with it. */
export function ownVoteDurable(state: RaftState): void {
  if (state.role === 'candidate' && state.unsynced.length === 0 && hasWon(state)) becomeLeader(state)
}

/** In the own term: higher terms have been taken over, lower ones answered, before. */
export function receiveVoteRequest(state: RaftState, message: Of<'vote-request'>): void {
  const free = state.votedFor === null || state.votedFor === message.from
  const granted = free && state.role === 'follower' && state.leader === null && isUpToDate(state, message)
  if (granted) {
    if (state.votedFor === null) {
      state.votedFor = message.from
      persistHardState(state)
    }
    resetElectionTimer(state)
  }
  send(state, message.from, { kind: 'vote-reply', granted })
}

export function receiveVoteReply(state: RaftState, message: Of<'vote-reply'>): void {
  if (state.role !== 'candidate') return
  state.votes.set(message.from, message.granted)
  if (hasWon(state)) becomeLeader(state)
}

/** The leader wants this server to follow it. */
export function receiveTimeoutNow(state: RaftState, message: Of<'timeout-now'>): void {
  if (message.from !== state.leader || !mayStand(state)) return
  becomeFollower(state, state.term, null)
  startElection(state, true)
}

/** Thesis 3.6.1: the later last term, or the same one and at least as long. */
function isUpToDate(state: RaftState, log: { readonly lastIndex: LogIndex; readonly lastTerm: Term }): boolean {
  if (log.lastTerm !== state.log.lastTerm) return log.lastTerm > state.log.lastTerm
  return log.lastIndex >= state.log.lastIndex
}

/** The own vote counts as far as the own configuration says so. */
function openVotes(state: RaftState): void {
  state.votes.clear()
  state.votes.set(state.self, true)
}

function hasWon(state: RaftState): boolean {
  const granted = state.configuration.voters.filter(voter => state.votes.get(voter) === true)
  return granted.length >= quorumSize(state.configuration)
}

function others(state: RaftState): readonly PeerId[] {
  return state.configuration.voters.filter(voter => voter !== state.self)
}
