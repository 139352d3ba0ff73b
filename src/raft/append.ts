// The follower's side of AppendEntries (thesis 3.5, figure 3.1).

import type { LogIndex } from '#model/ids.ts'
import { followCommit } from './commit.ts'
import { persistEntries, send } from './effects.ts'
import type { RaftState } from './raft.ts'
import { followLeader } from './roles.ts'
import type { Entry, Message } from './types.ts'

type AppendRequest = Extract<Message, { readonly kind: 'append-request' }>

/** The message is of the current term, so its sender is that term's leader. */
export function receiveAppendRequest(state: RaftState, message: AppendRequest): void {
  followLeader(state, message)
  const { round } = message
  const request = skipCommitted(state, message)
  if (state.log.termAt(request.prevIndex) !== request.prevTerm) {
    const last = state.log.lastIndex
    const hint = request.prevIndex < last ? request.prevIndex : last
    const matchIndex = state.log.lastOfTermAtMost(request.prevTerm, hint)
    const conflictTerm = state.log.termAt(matchIndex) ?? state.log.baseTerm
    send(state, message.from, { kind: 'append-reply', success: false, matchIndex, conflictTerm, round })
    return
  }
  appendMissing(state, request.entries)
  // Acknowledge only what this request has compared: entries beyond it may be another leader's.
  const matchIndex = (request.prevIndex + request.entries.length) as LogIndex
  followCommit(state, message.leaderCommit, matchIndex)
  send(state, message.from, { kind: 'append-reply', success: true, matchIndex, conflictTerm: state.term, round })
}

/** Committed entries equal every leader's log (leader completeness), so only the rest of an old request is compared. */
function skipCommitted(
  state: RaftState,
  message: AppendRequest
): Pick<AppendRequest, 'prevIndex' | 'prevTerm' | 'entries'> {
  const { commitIndex, log } = state
  if (message.prevIndex >= commitIndex) return message
  const prevTerm = log.termAt(commitIndex) ?? log.baseTerm
  return { prevIndex: commitIndex, prevTerm, entries: message.entries.filter(entry => entry.index > commitIndex) }
}

/** Truncates only on a real conflict: a delayed, shorter request must not shorten the log. */
function appendMissing(state: RaftState, entries: readonly Entry[]): void {
  const at = entries.findIndex(entry => state.log.termAt(entry.index) !== entry.term)
  const missing = at === -1 ? [] : entries.slice(at)
  const first = missing[0]
  if (first === undefined) return
  const conflict = first.index <= state.log.lastIndex
  if (conflict) {
    state.log.truncateFrom(first.index)
  }
  for (const entry of missing) state.log.append(entry)
  state.configuration = state.log.configurationAt(state.log.lastIndex)
  persistEntries(state, missing, conflict ? first.index : null)
}
