// The leader's side of AppendEntries (thesis 3.5): what to send to each receiver, and how a reply changes its progress.

import type { LogIndex, PeerId, Term } from '#model/ids.ts'
import { advanceCommit } from './commit.ts'
import { sendBeforePersist } from './effects.ts'
import { continueTransfer } from './leadership.ts'
import type { LeaderState, Progress, RaftState } from './raft.ts'
import { settleReads } from './read.ts'
import { probeReceiver, onChunkReply, sendSnapshot } from './snapshot.ts'
import type { Entry, Message } from './types.ts'

type Reply = Extract<Message, { readonly kind: 'append-reply' | 'install-reply' }>

/** Sends new entries to every receiver whose window is open. */
export function broadcast(state: RaftState): void {
  for (const [peer, progress] of state.leading?.progress ?? []) sendEntries(state, peer, progress)
}

/** Sends commit index and round to every receiver, with or without entries, and repeats unanswered probes. */
export function heartbeat(state: RaftState): void {
  const { leading } = state
  if (leading === null) return
  leading.round += 1
  leading.heartbeatAtMs = state.nowMs + state.options.heartbeatMs
  leading.heartbeatCommit = state.commitIndex
  for (const [peer, progress] of leading.progress) {
    progress.probing = false
    if (sendEntries(state, peer, progress)) continue
    if (progress.mode === 'snapshot') probeReceiver(state, peer, progress)
    else if (progress.mode !== 'lost') sendRequest(state, peer, progress, [])
  }
}

/** Sends a new commit index at once, with entries if there are any, instead of at the next heartbeat. */
export function announceCommit(state: RaftState): void {
  for (const [peer, progress] of state.leading?.progress ?? []) {
    if (!sendEntries(state, peer, progress) && progress.mode === 'replicate') sendRequest(state, peer, progress, [])
  }
}

export function receiveAppendReply(
  state: RaftState,
  message: Extract<Message, { readonly kind: 'append-reply' }>
): void {
  const receiver = recordContact(state, message)
  if (receiver === null) return
  const { leading, progress } = receiver
  if (message.success) onAccepted(state, leading, progress, message.matchIndex)
  else onRejected(state, { progress, peer: message.from }, message)
  continueReplication(state, message.from, progress)
}

export function receiveInstallReply(
  state: RaftState,
  message: Extract<Message, { readonly kind: 'install-reply' }>
): void {
  const receiver = recordContact(state, message)
  if (receiver === null) return
  onChunkReply(state, receiver.progress, message)
  advanceCommit(state)
  continueReplication(state, message.from, receiver.progress)
}

function recordContact(
  state: RaftState,
  message: Reply
): { readonly leading: LeaderState; readonly progress: Progress } | null {
  const { leading } = state
  const progress = leading?.progress.get(message.from)
  if (leading === null || progress === undefined || progress.mode === 'lost') return null
  progress.contactMs = state.nowMs
  if (message.round > progress.round && message.round <= leading.round) progress.round = message.round
  return { leading, progress }
}

function continueReplication(state: RaftState, peer: PeerId, progress: Progress): void {
  // The reply may have ended this leadership: a leader that commits its own removal steps down.
  if (state.leading?.progress.get(peer) === progress) sendEntries(state, peer, progress)
  settleReads(state)
}

function onAccepted(state: RaftState, leading: LeaderState, progress: Progress, matchIndex: LogIndex): void {
  // A late reply does not end a snapshot transfer, unless replication can go on from an entry that is not compacted.
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

/** The consistency check failed: back up to the next possible match, skipping whole terms (thesis 3.5, end). */
function onRejected(
  state: RaftState,
  { progress, peer }: { readonly progress: Progress; readonly peer: PeerId },
  hint: { readonly matchIndex: LogIndex; readonly conflictTerm: Term; readonly round: number }
): void {
  if (hint.matchIndex < progress.matchIndex && hint.round > progress.matchRound) {
    // It was asked after it had acknowledged matchIndex and has less: its disk lost acknowledged entries.
    progress.mode = 'lost'
    progress.matchIndex = 0 as LogIndex
    progress.transfer = null
    state.effects.push({ kind: 'lost-log', peer })
    return
  }
  if (progress.mode === 'snapshot') return
  const candidate = state.log.lastOfTermAtMost(hint.conflictTerm, hint.matchIndex)
  progress.mode = 'probe'
  progress.probing = false
  progress.inflight = []
  progress.nextIndex = Math.max(Math.min(candidate + 1, progress.nextIndex - 1), progress.matchIndex + 1) as LogIndex
}

/** Sends the next entries if there are any and the receiver's window is open. @returns whether anything was sent */
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

/** Sends entries from nextIndex on; the entry before nextIndex must not be compacted. */
function sendRequest(state: RaftState, peer: PeerId, progress: Progress, entries: readonly Entry[]): void {
  const prevIndex = (progress.nextIndex - 1) as LogIndex
  const prevTerm = state.log.termAt(prevIndex)
  if (prevTerm === undefined) return
  const { commitIndex: leaderCommit } = state
  const round = state.leading?.round ?? 0
  sendBeforePersist(state, peer, { kind: 'append-request', prevIndex, prevTerm, entries, leaderCommit, round })
}
