// The leader's side of AppendEntries (thesis 3.5): what to send to whom, and what an answer means.

import type { LogIndex, PeerId, Term } from '#model/ids.ts'
import { advanceCommit } from './commit.ts'
import { sendEarly } from './effects.ts'
import { continueTransfer } from './leadership.ts'
import type { Leading, Progress, RaftState } from './raft.ts'
import { settleReads } from './read.ts'
import { askReceiver, chunkAnswered, sendSnapshot } from './snapshot.ts'
import type { Entry, Message } from './types.ts'

type Reply = Extract<Message, { readonly kind: 'append-reply' | 'install-reply' }>

/** Sends what is new to every receiver that may get it now. */
export function broadcast(state: RaftState): void {
  for (const [peer, progress] of state.leading?.progress ?? []) sendEntries(state, peer, progress)
}

/** Tells every receiver the commit index and round, entries or not, and repeats what had no answer. */
export function heartbeat(state: RaftState): void {
  const { leading } = state
  if (leading === null) return
  leading.round += 1
  leading.heartbeatAtMs = state.nowMs + state.options.heartbeatMs
  leading.heartbeatCommit = state.commitIndex
  for (const [peer, progress] of leading.progress) {
    progress.probing = false
    if (sendEntries(state, peer, progress)) continue
    if (progress.mode === 'snapshot') askReceiver(state, peer, progress)
    else if (progress.mode !== 'lost') sendRequest(state, peer, progress, [])
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
  const heard = heardReceiver(state, message)
  if (heard === null) return
  const { leading, progress } = heard
  if (message.success) accepted(state, leading, progress, message.matchIndex)
  else rejected(state, { progress, peer: message.from }, message)
  goOn(state, message.from, progress)
}

export function receiveInstallReply(
  state: RaftState,
  message: Extract<Message, { readonly kind: 'install-reply' }>
): void {
  const heard = heardReceiver(state, message)
  if (heard === null) return
  chunkAnswered(state, heard.progress, message)
  advanceCommit(state)
  goOn(state, message.from, heard.progress)
}

function heardReceiver(
  state: RaftState,
  message: Reply
): { readonly leading: Leading; readonly progress: Progress } | null {
  const { leading } = state
  const progress = leading?.progress.get(message.from)
  if (leading === null || progress === undefined || progress.mode === 'lost') return null
  progress.heardMs = state.nowMs
  if (message.round > progress.round && message.round <= leading.round) progress.round = message.round
  return { leading, progress }
}

function goOn(state: RaftState, peer: PeerId, progress: Progress): void {
  // An answer may have ended this leadership: a leader that has committed its own removal steps down.
  if (state.leading?.progress.get(peer) === progress) sendEntries(state, peer, progress)
  settleReads(state)
}

function accepted(state: RaftState, leading: Leading, progress: Progress, matchIndex: LogIndex): void {
  if (matchIndex > state.log.lastIndex) throw new Error(`a follower acknowledges ${matchIndex}, which was never sent`)
  // A late answer does not end a transfer: only one that says that the log can go on where it is not compacted.
  if (progress.mode !== 'snapshot' || state.log.termAt(matchIndex) !== undefined) {
    progress.probing = false
    progress.mode = 'replicate'
    progress.transfer = null
  }
  while ((progress.inflight[0] ?? Infinity) <= matchIndex) progress.inflight.shift()
  if (matchIndex <= progress.matchIndex) return
  progress.matchIndex = matchIndex
  progress.matchRound = leading.round
  if (progress.nextIndex <= matchIndex) progress.nextIndex = (matchIndex + 1) as LogIndex
  advanceCommit(state)
  continueTransfer(state)
}

/** The logs do not meet at what was sent: go back to where they may, a whole term at a time (thesis 3.5, end). */
function rejected(
  state: RaftState,
  { progress, peer }: { readonly progress: Progress; readonly peer: PeerId },
  hint: { readonly matchIndex: LogIndex; readonly conflictTerm: Term; readonly round: number }
): void {
  if (hint.matchIndex < progress.matchIndex && hint.round > progress.matchRound) {
    // Asked after it had acknowledged matchIndex, it has less: its disk lost what was counted on.
    progress.mode = 'lost'
    progress.matchIndex = 0 as LogIndex
    progress.transfer = null
    state.effects.push({ kind: 'lost-log', peer })
    return
  }
  if (progress.mode === 'snapshot') return
  const meet = state.log.lastOfTermAtMost(hint.conflictTerm, hint.matchIndex)
  progress.mode = 'probe'
  progress.probing = false
  progress.inflight = []
  progress.nextIndex = Math.max(Math.min(meet + 1, progress.nextIndex - 1), progress.matchIndex + 1) as LogIndex
}

/** Sends the next entries if there are any and the receiver's window is open. True when something went out. */
function sendEntries(state: RaftState, peer: PeerId, progress: Progress): boolean {
  const { maxAppendBytes, maxInflightAppends } = state.options
  if (progress.mode === 'lost') return false
  if (progress.mode === 'snapshot' || state.log.termAt((progress.nextIndex - 1) as LogIndex) === undefined) {
    return sendSnapshot(state, peer, progress)
  }
  if (progress.mode === 'probe') {
    if (progress.probing) return false
    sendRequest(state, peer, progress, state.log.page(progress.nextIndex, maxAppendBytes))
    progress.probing = true
    return true
  }
  let sent = false
  while (progress.nextIndex <= state.log.lastIndex && progress.inflight.length < maxInflightAppends) {
    const entries = state.log.page(progress.nextIndex, maxAppendBytes)
    const last = entries.at(-1)
    if (last === undefined) break
    sendRequest(state, peer, progress, entries)
    progress.inflight.push(last.index)
    progress.nextIndex = (last.index + 1) as LogIndex
    sent = true
  }
  return sent
}

/** The entry before nextIndex is in the log. */
function sendRequest(state: RaftState, peer: PeerId, progress: Progress, entries: readonly Entry[]): void {
  const prevIndex = (progress.nextIndex - 1) as LogIndex
  const prevTerm = state.log.termAt(prevIndex)
  if (prevTerm === undefined) return
  const { commitIndex: leaderCommit } = state
  const round = state.leading?.round ?? 0
  sendEarly(state, peer, { kind: 'append-request', prevIndex, prevTerm, entries, leaderCommit, round })
}
