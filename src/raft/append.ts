// The follower's side of AppendEntries (thesis 3.5, figure 3.1).

import type { LogIndex } from '#model/ids.ts'
import { followCommit } from './commit.ts'
import { persistEntries, send } from './effects.ts'
import type { RaftState } from './raft.ts'
import { heardLeader } from './roles.ts'
import type { Entry, Message } from './types.ts'

type AppendRequest = Extract<Message, { readonly kind: 'append-request' }>

/** In the own term: the sender is its leader. */
export function receiveAppendRequest(state: RaftState, message: AppendRequest): void {
  heardLeader(state, message)
  const { round } = message
  const request = withoutCommitted(state, message)
  if (state.log.termAt(request.prevIndex) !== request.prevTerm) {
    const last = state.log.lastIndex
    const hint = request.prevIndex < last ? request.prevIndex : last
    const matchIndex = state.log.lastOfTermAtMost(request.prevTerm, hint)
    const conflictTerm = state.log.termAt(matchIndex) ?? state.log.baseTerm
    send(state, message.from, { kind: 'append-reply', success: false, matchIndex, conflictTerm, round })
    return
  }
  appendMissing(state, request.entries)
  // Only what this request has compared: entries beyond it may be another leader's.
  const matchIndex = (request.prevIndex + request.entries.length) as LogIndex
  followCommit(state, message.leaderCommit, matchIndex)
  send(state, message.from, { kind: 'append-reply', success: true, matchIndex, conflictTerm: state.term, round })
}

/** What is committed here equals every leader's log (leader completeness), so an old request is cut to what is not. */
function withoutCommitted(
  state: RaftState,
  message: AppendRequest
): Pick<AppendRequest, 'prevIndex' | 'prevTerm' | 'entries'> {
  const { commitIndex, log } = state
  if (message.prevIndex >= commitIndex) return message
  const prevTerm = log.termAt(commitIndex) ?? log.baseTerm
  return { prevIndex: commitIndex, prevTerm, entries: message.entries.filter(entry => entry.index > commitIndex) }
}

/** Truncates on a real conflict alone: a late, shorter request must not shorten the log. */
function appendMissing(state: RaftState, entries: readonly Entry[]): void {
  const at = entries.findIndex(entry => state.log.termAt(entry.index) !== entry.term)
  const fresh = at === -1 ? [] : entries.slice(at)
  const first = fresh[0]
  if (first === undefined) return
  const conflict = first.index <= state.log.lastIndex
  if (conflict) {
    if (first.index <= state.commitIndex) throw new Error(`entry ${first.index} is committed and would be truncated`)
    state.log.truncateFrom(first.index)
  }
  for (const entry of fresh) state.log.append(entry)
  state.configuration = state.log.configurationAt(state.log.lastIndex)
  persistEntries(state, fresh, conflict ? first.index : null)
}
