// The leader's side of AppendEntries (thesis 3.5): what to send to whom, and what an answer means.

import type { LogIndex, PeerId, Term } from '#model/ids.ts'
import { advanceCommit } from './commit.ts'
import { sendEarly } from './effects.ts'
import { continueTransfer } from './leadership.ts'
import type { Progress, RaftState } from './raft.ts'
import { settleReads } from './read.ts'
import type { Entry, Message } from './types.ts'

/** Sends what is new to every receiver that may get it now. */
export function broadcast(state: RaftState): void {
  for (const [peer, progress] of state.leading?.progress ?? []) sendEntries(state, peer, progress)
}

/** Tells every receiver the commit index and round, entries or not, and repeats a probe that had no answer. */
export function heartbeat(state: RaftState): void {
  const { leading } = state
  if (leading === null) return
  leading.heartbeatAtMs = state.nowMs + state.options.heartbeatMs
  for (const [peer, progress] of leading.progress) {
    progress.probing = false
    if (!sendEntries(state, peer, progress)) sendRequest(state, peer, progress, [])
  }
}

/** To each receiver that has nothing under way: a commit index that it would otherwise hear of at the next heartbeat. */
export function announceCommit(state: RaftState): void {
  for (const [peer, progress] of state.leading?.progress ?? []) {
    if (!sendEntries(state, peer, progress) && progress.mode === 'replicate') sendRequest(state, peer, progress, [])
  }
}

export function receiveAppendReply(
  state: RaftState,
  message: Extract<Message, { readonly kind: 'append-reply' }>
): void {
  const { leading } = state
  const progress = leading?.progress.get(message.from)
  if (leading === null || progress === undefined) return
  progress.heardMs = state.nowMs
  if (message.round > progress.round && message.round <= leading.round) progress.round = message.round
  if (message.success) accepted(state, progress, message.matchIndex)
  else rejected(state, progress, message)
  sendEntries(state, message.from, progress)
  settleReads(state)
}

function accepted(state: RaftState, progress: Progress, matchIndex: LogIndex): void {
  if (matchIndex > state.log.lastIndex) throw new Error(`a follower acknowledges ${matchIndex}, which was never sent`)
  progress.probing = false
  progress.mode = 'replicate'
  while ((progress.inflight[0] ?? Infinity) <= matchIndex) progress.inflight.shift()
  if (matchIndex <= progress.matchIndex) return
  progress.matchIndex = matchIndex
  if (progress.nextIndex <= matchIndex) progress.nextIndex = (matchIndex + 1) as LogIndex
  advanceCommit(state)
  continueTransfer(state)
}

/** The logs do not meet at what was sent: go back to where they may, a whole term at a time (thesis 3.5, end). */
function rejected(
  state: RaftState,
  progress: Progress,
  hint: { readonly matchIndex: LogIndex; readonly conflictTerm: Term }
): void {
  const meet = state.log.lastOfTermAtMost(hint.conflictTerm, hint.matchIndex)
  progress.mode = 'probe'
  progress.probing = false
  progress.inflight = []
  progress.nextIndex = Math.max(Math.min(meet + 1, progress.nextIndex - 1), progress.matchIndex + 1) as LogIndex
}

/** Sends the next entries if there are any and the receiver's window is open. True when something went out. */
function sendEntries(state: RaftState, peer: PeerId, progress: Progress): boolean {
  const { maxAppendBytes, maxInflightAppends } = state.options
  if (progress.mode === 'probe') {
    if (progress.probing) return false
    const entries = state.log.page(progress.nextIndex, maxAppendBytes)
    if (!sendRequest(state, peer, progress, entries)) return false
    progress.probing = true
    return true
  }
  let sent = false
  while (progress.nextIndex <= state.log.lastIndex && progress.inflight.length < maxInflightAppends) {
    const entries = state.log.page(progress.nextIndex, maxAppendBytes)
    const last = entries.at(-1)
    if (last === undefined || !sendRequest(state, peer, progress, entries)) break
    progress.inflight.push(last.index)
    progress.nextIndex = (last.index + 1) as LogIndex
    sent = true
  }
  return sent
}

/** False when the entry before is compacted away: then only a snapshot helps. */
function sendRequest(state: RaftState, peer: PeerId, progress: Progress, entries: readonly Entry[]): boolean {
  const prevIndex = (progress.nextIndex - 1) as LogIndex
  const prevTerm = state.log.termAt(prevIndex)
  if (prevTerm === undefined) return false
  const { commitIndex: leaderCommit } = state
  const round = state.leading?.round ?? 0
  sendEarly(state, peer, { kind: 'append-request', prevIndex, prevTerm, entries, leaderCommit, round })
  return true
}
