// Membership changes, one server at a time (thesis 4.1): any majorities of two configurations that differ by one server
// overlap. A configuration takes effect as soon as it is appended.

import { applyChange, encodeConfiguration, isMember, isVoter, members } from './configuration.ts'
import { emitCommitted, sendBeforePersist } from './effects.ts'
import { appendAsLeader, quorumIsActive, refusal, refuse, trackProgress } from './leadership.ts'
import type { LeaderState, RaftState } from './raft.ts'
import { becomeFollower } from './roles.ts'
import type { Change, Configuration, RefusalReason } from './types.ts'

export function changeMembership(state: RaftState, id: number, change: Change): void {
  const next = applyChange(state.configuration, change)
  const refused = refusal(state) ?? (typeof next === 'string' ? next : whyTooEarly(state, change, next))
  if (refused !== null) refuse(state, id, refused)
  if (refused !== null || typeof next === 'string') return
  appendAsLeader(state, 'config', [encodeConfiguration(next)])
  state.effects.push({ kind: 'proposed', id, index: state.log.lastIndex, count: 1, term: state.term })
}

function whyTooEarly(state: RaftState, change: Change, next: Configuration): RefusalReason | null {
  // Two leaders could otherwise commit changes by majorities that do not overlap (Ongaro, raft-dev, 2015-07-10).
  if (state.log.termAt(state.commitIndex) !== state.term) return 'no-own-commit'
  if (state.log.lastConfigIndex > state.commitIndex) return 'change-under-way'
  if (change.kind === 'promote' && !hasCaughtUp(state, change)) return 'not-caught-up'
  // Otherwise the remaining voters could not commit the change itself.
  return quorumIsActive(state, next) ? null : 'too-few-alive'
}

/** A voter that is still catching up could delay every commit (thesis 4.2.1). */
function hasCaughtUp(state: RaftState, { peer }: Change): boolean {
  const progress = state.leading?.progress.get(peer)
  if (state.leading === null || progress?.mode !== 'replicate') return false
  const isActive = state.nowMs - progress.contactMs < state.options.electionTimeoutMs
  return isActive && progress.matchIndex >= state.leading.heartbeatCommit
}

/**
 * The leader has appended a new configuration. A new server gets the log from now on; a removed one still does until its
 * removal is committed.
 */
export function configurationAppended(state: RaftState): void {
  state.configuration = state.log.configurationAt(state.log.lastIndex)
  for (const peer of members(state.configuration)) {
    if (peer !== state.self && state.leading?.progress.has(peer) === false) trackProgress(state, peer)
  }
}

/** After a commit has been announced: stops replicating to removed servers; a removed leader steps down (thesis 4.2.2). */
export function configurationCommitted(state: RaftState, leading: LeaderState): void {
  if (state.log.lastConfigIndex > state.commitIndex) return
  const { configuration } = state
  for (const peer of leading.progress.keys()) {
    if (!isMember(configuration, peer)) leading.progress.delete(peer)
  }
  if (isVoter(configuration, state.self)) return
  const successor = configuration.voters.find(voter => leading.progress.get(voter)?.matchIndex === state.log.lastIndex)
  if (successor !== undefined) sendBeforePersist(state, successor, { kind: 'timeout-now' })
  emitCommitted(state)
  becomeFollower(state, state.term, null)
}
