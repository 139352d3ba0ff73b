// The single entry point of the consensus core: an input advances the state in place and returns effects, in order.

import { receiveAppendRequest } from './append.ts'
import { persisted } from './commit.ts'
import { incarnationOf } from './configuration.ts'
import { emitCommitted, isReply, send } from './effects.ts'
import {
  ownVoteDurable,
  receivePreVoteReply,
  receivePreVoteRequest,
  receiveTimeoutNow,
  receiveVoteReply,
  receiveVoteRequest,
  startPreVote
} from './election.ts'
import { whyImpossible } from './impossible.ts'
import { receiveInstallRequest } from './install.ts'
import { propose, tickLeader, transferLeadership } from './leadership.ts'
import { changeMembership } from './membership.ts'
import type { RaftState } from './raft.ts'
import { requestRead } from './read.ts'
import { receiveAppendReply, receiveInstallReply } from './replicate.ts'
import { becomeFollower, suspectLeader, leaderIsAlive, resetElectionTimer } from './roles.ts'
import { snapshotTaken } from './snapshot.ts'
import type { Effect, Input, Message } from './types.ts'

/** @throws Error when an invariant of Raft is broken, which no message can do; the server must stop then */
export function step(state: RaftState, input: Input): Effect[] {
  state.random = input.random
  const stalledMs = input.nowMs - state.nowMs
  state.nowMs = Math.max(state.nowMs, input.nowMs)
  // After a stall of this process the leader's messages are still queued: silence so far does not mean that it is dead.
  if (stalledMs >= state.options.electionTimeoutMs && state.role !== 'leader') resetElectionTimer(state)
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
      if (event.peer === state.leader) suspectLeader(state)
      break
    case 'propose':
      propose(state, event.id, event.batch)
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
  emitCommitted(state)
  return state.effects
}

function receive(state: RaftState, message: Message): void {
  if (message.clusterId !== state.clusterId || message.to !== state.self || message.from === state.self) return
  // Requests to, and replies from, an earlier incarnation of a disk are void: that disk's promises are lost.
  const expected = isReply(message.kind) ? incarnationOf(state.configuration, message.from) : state.incarnation
  if (message.incarnation !== expected) return
  const why = whyImpossible(state, message)
  if (why !== null) {
    state.effects.push({ kind: 'impossible', from: message.from, why })
    return
  }
  if (message.kind === 'pre-vote-request') {
    receivePreVoteRequest(state, message)
    return
  }
  if (message.term > state.term) {
    // Thesis 4.2.3: a server in contact with its leader ignores a new term, unless the leader requested the election.
    if (message.kind === 'vote-request' && !message.transfer && leaderIsAlive(state)) return
    becomeFollower(state, message.term, isFromLeader(message) ? message.from : null)
  } else if (message.kind === 'pre-vote-reply') {
    // A pre-vote from a lower term counts: the reply names its request's term, and the voter adopts that with the vote.
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

/** Answers a request of an earlier term with our term, so that its sender steps down. */
function answerStale(state: RaftState, message: Message): void {
  if (message.kind === 'vote-request') send(state, message.from, { kind: 'vote-reply', granted: false })
  if (isFromLeader(message)) {
    const { lastIndex: matchIndex, lastTerm: conflictTerm } = state.log
    send(state, message.from, { kind: 'append-reply', success: false, matchIndex, conflictTerm, round: 0 })
  }
}
