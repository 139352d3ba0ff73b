// Elections (thesis 3.4) with pre-vote (9.6): a server asks whether it would win before it starts a new term. An
// election that the leader requested (`transfer`, 3.10) skips the pre-vote.

import type { LogIndex, PeerId, Term } from '#model/ids.ts'
import { quorumSize } from './configuration.ts'
import { announceRole, persistHardState, send } from './effects.ts'
import { becomeLeader } from './leadership.ts'
import type { RaftState } from './raft.ts'
import { becomeFollower, diskHangs, leaderIsAlive, mayCampaign, resetElectionTimer } from './roles.ts'
import type { Message } from './types.ts'

type Of<K extends Message['kind']> = Extract<Message, { readonly kind: K }>

/** The election timer fired. Only voters campaign, and none whose disk hangs: its own vote would never become durable. */
export function startPreVote(state: RaftState): void {
  resetElectionTimer(state)
  if (!mayCampaign(state)) {
    // A learner forgets a silent leader, so that it asks others whether it was removed.
    if (state.leader !== null) becomeFollower(state, state.term, null)
    return
  }
  if (diskHangs(state)) return
  state.role = 'pre-candidate'
  state.leader = null
  resetVotes(state)
  announceRole(state)
  if (hasWon(state)) {
    startElection(state, false)
    return
  }
  // The request names the term that the election would start; the server does not enter it yet.
  const { lastIndex, lastTerm } = state.log
  for (const voter of otherVoters(state)) {
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
  resetVotes(state)
  announceRole(state)
  const { lastIndex, lastTerm } = state.log
  for (const voter of otherVoters(state)) send(state, voter, { kind: 'vote-request', lastIndex, lastTerm, transfer })
}

/**
 * A pre-vote changes no state here. Any server of the cluster gets a reply: one that is missing from this server's
 * configuration may be in a newer one.
 */
export function receivePreVoteRequest(state: RaftState, message: Of<'pre-vote-request'>): void {
  const granted = message.term > state.term && !leaderIsAlive(state) && isUpToDate(state, message)
  // The reply carries our term, so that a candidate that is behind catches up with it (canonical/raft#279).
  send(state, message.from, { kind: 'pre-vote-reply', granted, requestTerm: message.term })
}

export function receivePreVoteReply(state: RaftState, message: Of<'pre-vote-reply'>): void {
  // A reply to an earlier pre-vote must not count (cockroach#123297).
  if (state.role !== 'pre-candidate' || message.requestTerm !== state.term + 1) return
  state.votes.set(message.from, message.granted)
  if (hasWon(state)) startElection(state, false)
}

/** A candidate's own vote counts once it is durable, like every other vote; a sole voter wins with it. */
export function ownVoteDurable(state: RaftState): void {
  if (state.role === 'candidate' && state.unsynced.length === 0 && hasWon(state)) becomeLeader(state)
}

/** The request is of the current term: `step` has adopted higher terms and answered lower ones. */
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

/** The leader asks this server to succeed it. */
export function receiveTimeoutNow(state: RaftState, message: Of<'timeout-now'>): void {
  if (message.from !== state.leader || !mayCampaign(state)) return
  becomeFollower(state, state.term, null)
  startElection(state, true)
}

/** Thesis 3.6.1: the candidate's last term is later, or equal and its log at least as long. */
function isUpToDate(state: RaftState, log: { readonly lastIndex: LogIndex; readonly lastTerm: Term }): boolean {
  if (log.lastTerm !== state.log.lastTerm) return log.lastTerm > state.log.lastTerm
  return log.lastIndex >= state.log.lastIndex
}

/** Records the own vote; `hasWon` counts it only if this server is a voter. */
function resetVotes(state: RaftState): void {
  state.votes.clear()
  state.votes.set(state.self, true)
}

function hasWon(state: RaftState): boolean {
  const granted = state.configuration.voters.filter(voter => state.votes.get(voter) === true)
  return granted.length >= quorumSize(state.configuration)
}

function otherVoters(state: RaftState): readonly PeerId[] {
  return state.configuration.voters.filter(voter => voter !== state.self)
}
