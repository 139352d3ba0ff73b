// Changes of membership, one server at a time (thesis 4.1): the majorities of two configurations that differ by one
// server have a server in common. A configuration counts from the moment it is in the log.

import { changed, encodeConfiguration, isMember, isVoter, members } from './configuration.ts'
import { handOutCommitted, sendEarly } from './effects.ts'
import { appendOwn, hearsQuorum, refusal, refuse, track } from './leadership.ts'
import type { Leading, RaftState } from './raft.ts'
import { becomeFollower } from './roles.ts'
import type { Change, Configuration, RefusalReason } from './types.ts'

export function changeMembership(state: RaftState, id: number, change: Change): void {
  const next = changed(state.configuration, change)
  const refused = refusal(state) ?? (typeof next === 'string' ? next : tooEarly(state, change, next))
  if (refused !== null) refuse(state, id, refused)
  if (refused !== null || typeof next === 'string') return
  const entry = appendOwn(state, 'config', encodeConfiguration(next))
  state.effects.push({ kind: 'proposed', id, index: entry.index, term: entry.term })
}

function tooEarly(state: RaftState, change: Change, next: Configuration): RefusalReason | null {
  // Two leaders could each change their own configuration and share no majority (Ongaro, raft-dev, 2015-07-10).
  if (state.log.termAt(state.commitIndex) !== state.term) return 'no-own-commit'
  if (state.log.lastConfigIndex > state.commitIndex) return 'change-under-way'
  if (change.kind === 'promote' && !keepsUp(state, change)) return 'not-caught-up'
  // The change itself could never be committed by those who are left.
  return hearsQuorum(state, next) ? null : 'too-few-alive'
}

/** A voter that must catch up first would hold up every commit (thesis 4.2.1). */
function keepsUp(state: RaftState, { peer }: Change): boolean {
  const progress = state.leading?.progress.get(peer)
  if (state.leading === null || progress?.mode !== 'replicate') return false
  const heard = state.nowMs - progress.heardMs < state.options.electionTimeoutMs
  return heard && progress.matchIndex >= state.leading.heartbeatCommit
}

/** The own log has a new configuration: who is new gets the log; who is removed still does until that is committed. */
export function configurationAppended(state: RaftState): void {
  state.configuration = state.log.configurationAt(state.log.lastIndex)
  for (const peer of members(state.configuration)) {
    if (peer !== state.self && state.leading?.progress.has(peer) === false) track(state, peer)
  }
}

/** After a commit that the others have been told of: the removed are let go; a removed leader goes (thesis 4.2.2). */
export function configurationCommitted(state: RaftState, leading: Leading): void {
  if (state.log.lastConfigIndex > state.commitIndex) return
  const { configuration } = state
  for (const peer of leading.progress.keys()) {
    if (!isMember(configuration, peer)) leading.progress.delete(peer)
  }
  if (isVoter(configuration, state.self)) return
  const heir = configuration.voters.find(voter => leading.progress.get(voter)?.matchIndex === state.log.lastIndex)
  if (heir !== undefined) sendEarly(state, heir, { kind: 'timeout-now' })
  handOutCommitted(state)
  becomeFollower(state, state.term, null)
}
