// The helpers by which handlers emit effects. Order matters: an effect after a persist waits until it is durable.

import type { LogIndex, PeerId, Term } from '#model/ids.ts'
import { incarnationOf } from './configuration.ts'
import type { RaftState } from './raft.ts'
import type { Entry, Message, MessageKind, Snapshot } from './types.ts'

type Body<M> = M extends Message ? Omit<M, 'clusterId' | 'from' | 'to' | 'term' | 'incarnation'> : never

/** A reply carries the incarnation of its sender's disk, a request the incarnation of its receiver's disk. */
export function isReply(kind: MessageKind): boolean {
  return kind === 'append-reply' || kind === 'vote-reply' || kind === 'pre-vote-reply' || kind === 'install-reply'
}

/** Sends once all persists emitted so far are durable. The message carries the current term unless another is given. */
export function send(state: RaftState, to: PeerId, body: Body<Message>, term: Term = state.term): void {
  state.effects.push({ kind: 'send', message: address(state, to, body, term), beforePersist: false })
}

/** Sends without waiting for the disk: only what a leader may send before its own write is durable (thesis 10.2.1). */
export function sendBeforePersist(state: RaftState, to: PeerId, body: Body<Message>): void {
  state.effects.push({ kind: 'send', message: address(state, to, body, state.term), beforePersist: true })
}

export function persistHardState(state: RaftState): void {
  const hardState = { term: state.term, votedFor: state.votedFor }
  state.persistsRequested += 1
  state.unsynced.push({ count: state.persistsRequested, lastIndex: state.log.lastIndex, atMs: state.nowMs })
  state.effects.push({ kind: 'persist', hardState, truncateFrom: null, entries: [] })
}

/** Persists entries that are already in the log in memory. */
export function persistEntries(state: RaftState, entries: readonly Entry[], truncateFrom: LogIndex | null): void {
  if (truncateFrom !== null) invalidateAfter(state, (truncateFrom - 1) as LogIndex)
  state.persistsRequested += 1
  state.unsynced.push({ count: state.persistsRequested, lastIndex: state.log.lastIndex, atMs: state.nowMs })
  state.effects.push({ kind: 'persist', hardState: null, truncateFrom, entries })
}

/** Persists a snapshot that replaces the log; the log in memory already starts after it. */
export function persistSnapshot(state: RaftState, snapshot: Snapshot): void {
  invalidateAfter(state, state.commitIndex)
  state.persistsRequested += 1
  state.unsynced.push({ count: state.persistsRequested, lastIndex: snapshot.meta.lastIndex, atMs: state.nowMs })
  state.effects.push({ kind: 'install', snapshot })
}

/** Entries after `index` that are on disk, or on their way there, no longer match the log in memory. */
function invalidateAfter(state: RaftState, index: LogIndex): void {
  if (index < state.durableIndex) state.durableIndex = index
  for (const mark of state.unsynced) if (index < mark.lastIndex) mark.lastIndex = index
}

export function announceRole(state: RaftState): void {
  state.effects.push({ kind: 'role', role: state.role, term: state.term, leader: state.leader })
}

/** Emits the entries that are committed and not emitted yet; called at the end of each step. */
export function emitCommitted(state: RaftState): void {
  if (state.commitIndex === state.emittedIndex) return
  const entries = state.log.between(state.emittedIndex, state.commitIndex)
  state.emittedIndex = state.commitIndex
  state.effects.push({ kind: 'commit', entries, commitIndex: state.commitIndex })
}

function address(state: RaftState, to: PeerId, body: Body<Message>, term: Term): Message {
  const { clusterId, self: from, configuration } = state
  const incarnation = isReply(body.kind) ? state.incarnation : incarnationOf(configuration, to)
  return { ...body, clusterId, from, to, term, incarnation }
}
