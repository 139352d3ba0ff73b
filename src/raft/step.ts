// The one way into the consensus core: an input advances the state in place and gives back effects, in order.

import { receiveAppendRequest } from './append.ts'
import { persisted } from './commit.ts'
import { incarnationOf } from './configuration.ts'
import { handOutCommitted, isReply, send } from './effects.ts'
import {
  ownVoteDurable,
  receivePreVoteReply,
  receivePreVoteRequest,
  receiveTimeoutNow,
  receiveVoteReply,
  receiveVoteRequest,
  startPreVote
} from './election.ts'
import { receiveInstallRequest } from './install.ts'
import { propose, tickLeader, transferLeadership } from './leadership.ts'
import { changeMembership } from './membership.ts'
import type { RaftState } from './raft.ts'
import { requestRead } from './read.ts'
import { receiveAppendReply, receiveInstallReply } from './replicate.ts'
import { becomeFollower, doubtLeader, leaderIsAlive, resetElectionTimer } from './roles.ts'
import { snapshotTaken } from './snapshot.ts'
import type { Effect, Input, Message } from './types.ts'

/** @throws Error when an invariant of Raft is broken; the server must not go on */
export function step(state: RaftState, input: Input): Effect[] {
  state.random = input.random
  const stoodStillMs = input.nowMs - state.nowMs
  state.nowMs = Math.max(state.nowMs, input.nowMs)
  // After a stall of this process the leader's messages are still in the queue: not having heard it means nothing yet.
  if (stoodStillMs >= state.options.electionTimeoutMs && state.role !== 'leader') resetElectionTimer(state)
  state.effects = []
  const { event } = input
  switch (event.kind) {
    case 'tick':
      state.diskBusySinceMs = event.diskBusySinceMs ?? Infinity
      if (state.role === 'leader') tickLeader(state)
      else if (state.nowMs >= state.electionAtMs) startPreVote(state)
      break
    case 'receive':
      receive(state, event.message)
      break
    case 'peer-lost':
      if (event.peer === state.leader) doubtLeader(state)
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
    case 'change':
      changeMembership(state, event.id, event.change)
      break
    case 'snapshot-taken':
      snapshotTaken(state, event.snapshot)
      break
  }
  handOutCommitted(state)
  return state.effects
}

function receive(state: RaftState, message: Message): void {
  if (message.clusterId !== state.clusterId || message.to !== state.self || message.from === state.self) return
  // What was meant for, or promised by, a former life of a disk is void: it was forgotten with it.
  const expected = isReply(message.kind) ? incarnationOf(state.configuration, message.from) : state.incarnation
  if (message.incarnation !== expected) return
  if (message.kind === 'pre-vote-request') {
    receivePreVoteRequest(state, message)
    return
  }
  if (message.term > state.term) {
    // Thesis 4.2.3: who hears a leader does not let itself be drawn into a new term, unless the leader wants it so.
    if (message.kind === 'vote-request' && !message.transfer && leaderIsAlive(state)) return
    becomeFollower(state, message.term, isFromLeader(message) ? message.from : null)
  } else if (message.kind === 'pre-vote-reply') {
    // Granted by a server that is behind, too: it enters the term with the vote itself. It names its request's term.
    receivePreVoteReply(state, message)
    return
  } else if (message.term < state.term) {
    answerStale(state, message)
    return
  }
  switch (message.kind) {
    case 'pre-vote-reply':
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
    case 'install-request':
      receiveInstallRequest(state, message)
      return
    case 'install-reply':
      receiveInstallReply(state, message)
      return
    case 'timeout-now':
      receiveTimeoutNow(state, message)
  }
}

function isFromLeader({ kind }: Message): boolean {
  return kind === 'append-request' || kind === 'install-request'
}

/** A request of an earlier term is answered with ours, so that a leader or candidate of the past learns of it. */
function answerStale(state: RaftState, message: Message): void {
  if (message.kind === 'vote-request') send(state, message.from, { kind: 'vote-reply', granted: false })
  if (isFromLeader(message)) {
    const { lastIndex: matchIndex, lastTerm: conflictTerm } = state.log
    send(state, message.from, { kind: 'append-reply', success: false, matchIndex, conflictTerm, round: 0 })
  }
}
