// The few ways in which a handler asks the shell for something. Order is meaning: what follows a persist waits for it.

import type { LogIndex, PeerId, Term } from '#model/ids.ts'
import { incarnationOf } from './configuration.ts'
import type { RaftState } from './raft.ts'
import type { Entry, Message, MessageKind, Snapshot } from './types.ts'

type Body<M> = M extends Message ? Omit<M, 'clusterId' | 'from' | 'to' | 'term' | 'incarnation'> : never

/** A reply carries the incarnation of its sender's disk, a request that of its receiver's. */
export function isReply(kind: MessageKind): boolean {
  return kind === 'append-reply' || kind === 'vote-reply' || kind === 'pre-vote-reply' || kind === 'install-reply'
}

/** Sends after everything that was persisted so far. A message carries the own term unless another one is given. */
export function send(state: RaftState, to: PeerId, body: Body<Message>, term: Term = state.term): void {
  state.effects.push({ kind: 'send', message: address(state, to, body, term), beforePersist: false })
}

/** Sends at once: only what a leader may say before its own disk has it (thesis 10.2.1). */
export function sendEarly(state: RaftState, to: PeerId, body: Body<Message>): void {
  state.effects.push({ kind: 'send', message: address(state, to, body, state.term), beforePersist: true })
}

export function persistHardState(state: RaftState): void {
  const hardState = { term: state.term, votedFor: state.votedFor }
  state.persistsAsked += 1
  state.unsynced.push({ count: state.persistsAsked, lastIndex: state.log.lastIndex, atMs: state.nowMs })
  state.effects.push({ kind: 'persist', hardState, truncateFrom: null, entries: [] })
}

/** Asks for entries to be written that are in the log already. */
export function persistEntries(state: RaftState, entries: readonly Entry[], truncateFrom: LogIndex | null): void {
  if (truncateFrom !== null) replaceAfter(state, (truncateFrom - 1) as LogIndex)
  state.persistsAsked += 1
  state.unsynced.push({ count: state.persistsAsked, lastIndex: state.log.lastIndex, atMs: state.nowMs })
  state.effects.push({ kind: 'persist', hardState: null, truncateFrom, entries })
}

/** Asks for a snapshot to take the place of the log, which begins after it already. */
export function persistSnapshot(state: RaftState, snapshot: Snapshot): void {
  replaceAfter(state, state.commitIndex)
  state.persistsAsked += 1
  state.unsynced.push({ count: state.persistsAsked, lastIndex: snapshot.meta.lastIndex, atMs: state.nowMs })
  state.effects.push({ kind: 'install', snapshot })
}

/** What the disk holds, or will, beyond an index is not what the log holds any more. */
function replaceAfter(state: RaftState, index: LogIndex): void {
  if (index < state.durableIndex) state.durableIndex = index
  for (const mark of state.unsynced) if (index < mark.lastIndex) mark.lastIndex = index
}

export function announceRole(state: RaftState): void {
  state.effects.push({ kind: 'role', role: state.role, term: state.term, leader: state.leader })
}

/** Hands out what is committed and was not handed out yet; called once at the end of each step. */
export function handOutCommitted(state: RaftState): void {
  if (state.commitIndex === state.handedOut) return
  const entries = state.log.between(state.handedOut, state.commitIndex)
  state.handedOut = state.commitIndex
  state.effects.push({ kind: 'commit', entries, commitIndex: state.commitIndex })
}

function address(state: RaftState, to: PeerId, body: Body<Message>, term: Term): Message {
  const { clusterId, self: from, configuration } = state
  const incarnation = isReply(body.kind) ? state.incarnation : incarnationOf(configuration, to)
  return { ...body, clusterId, from, to, term, incarnation }
}
