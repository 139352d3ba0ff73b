// The one way into the consensus core: an input advances the state in place and gives back effects, in order.

import { receiveAppendRequest } from './append.ts'
import { persisted } from './commit.ts'
import { handOutCommitted, send } from './effects.ts'
import {
  ownVoteDurable,
  receivePreVoteReply,
  receivePreVoteRequest,
  receiveTimeoutNow,
  receiveVoteReply,
  receiveVoteRequest,
  startPreVote
} from './election.ts'
import { propose, tickLeader, transferLeadership } from './leadership.ts'
import type { RaftState } from './raft.ts'
import { requestRead } from './read.ts'
import { receiveAppendReply } from './replicate.ts'
import { becomeFollower, leaderIsAlive } from './roles.ts'
import type { Effect, Input, Message } from './types.ts'

/** @throws Error when an invariant of Raft is broken; the server must not go on */
export function step(state: RaftState, input: Input): Effect[] {
  state.nowMs = Math.max(state.nowMs, input.nowMs)
  state.random = input.random
  state.effects = []
  const { event } = input
  switch (event.kind) {
    case 'tick':
      if (state.role === 'leader') tickLeader(state)
      else if (state.nowMs >= state.electionAtMs) startPreVote(state)
      break
    case 'receive':
      receive(state, event.message)
      break
    case 'propose':
      propose(state, event.id, event.data)
      break
    case 'persisted':
      persisted(state, event.count)
      ownVoteDurable(state)
      break
    case 'read':
      requestRead(state, event.id)
      break
    case 'transfer':
      transferLeadership(state, event.to)
      break
  }
  handOutCommitted(state)
  return state.effects
}

function receive(state: RaftState, message: Message): void {
  if (message.clusterId !== state.clusterId || message.to !== state.self || message.from === state.self) return
  if (message.kind === 'pre-vote-request') {
    receivePreVoteRequest(state, message)
    return
  }
  if (message.term > state.term) {
    // Thesis 4.2.3: who hears a leader does not let itself be drawn into a new term, unless the leader wants it so.
    if (message.kind === 'vote-request' && !message.transfer && leaderIsAlive(state)) return
    becomeFollower(state, message.term, message.kind === 'append-request' ? message.from : null)
  } else if (message.term < state.term) {
    answerStale(state, message)
    return
  }
  switch (message.kind) {
    case 'pre-vote-reply':
      receivePreVoteReply(state, message)
      return
    case 'vote-request':
      receiveVoteRequest(state, message)
      return
    case 'vote-reply':
      receiveVoteReply(state, message)
      return
    case 'append-request':
      receiveAppendRequest(state, message)
      return
    case 'append-reply':
      receiveAppendReply(state, message)
      return
    case 'timeout-now':
      receiveTimeoutNow(state, message)
  }
}

/** A request of an earlier term is answered with ours, so that a leader or candidate of the past learns of it. */
function answerStale(state: RaftState, message: Message): void {
  if (message.kind === 'vote-request') send(state, message.from, { kind: 'vote-reply', granted: false })
  if (message.kind === 'append-request') {
    const { lastIndex: matchIndex, lastTerm: conflictTerm } = state.log
    send(state, message.from, { kind: 'append-reply', success: false, matchIndex, conflictTerm, round: 0 })
  }
}
