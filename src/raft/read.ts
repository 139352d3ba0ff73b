// Linearizable reads without log writes: ReadIndex (thesis 6.4). A round of replies confirms leadership, not a clock.

import { quorumSize } from './configuration.ts'
import { emitCommitted } from './effects.ts'
import type { PendingRead, RaftState } from './raft.ts'
import { heartbeat } from './replicate.ts'

export function requestRead(state: RaftState, id: number): void {
  const { leading } = state
  if (leading === null) {
    state.effects.push({ kind: 'read-failed', id })
    return
  }
  leading.reads.push({ id, request: null })
  confirmReads(state)
}

/** Starts a round for all reads that have none yet, once an entry of the current term is committed. */
export function confirmReads(state: RaftState): void {
  const { leading } = state
  if (leading === null || state.log.termAt(state.commitIndex) !== state.term) return
  const waiting = leading.reads.filter(read => read.request === null)
  if (waiting.length === 0) return
  for (const read of waiting) read.request = { index: state.commitIndex, round: leading.round + 1 }
  heartbeat(state)
  settleReads(state)
}

/** Completes the reads whose round a majority has replied to: this server still led after the read was requested. */
export function settleReads(state: RaftState): void {
  const { leading } = state
  if (leading === null || leading.reads.length === 0) return
  const rounds = state.configuration.voters.map(voter =>
    voter === state.self ? leading.round : (leading.progress.get(voter)?.round ?? 0)
  )
  const confirmed = rounds.sort((a, b) => b - a)[quorumSize(state.configuration) - 1] ?? 0
  // The entries that a read must observe are emitted before its result.
  emitCommitted(state)
  const pending: PendingRead[] = []
  for (const read of leading.reads) {
    if (read.request === null || read.request.round > confirmed) pending.push(read)
    else state.effects.push({ kind: 'read-ready', id: read.id, index: read.request.index })
  }
  leading.reads = pending
}
