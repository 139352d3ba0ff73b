// Linearizable reads without writing to the log: ReadIndex (thesis 6.4). No clock decides, only a round of answers.

import { quorumSize } from './configuration.ts'
import { handOutCommitted } from './effects.ts'
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

/** Starts the round of every read that still waits, once an entry of the own term is committed. */
export function confirmReads(state: RaftState): void {
  const { leading } = state
  if (leading === null || state.log.termAt(state.commitIndex) !== state.term) return
  const waiting = leading.reads.filter(read => read.request === null)
  if (waiting.length === 0) return
  for (const read of waiting) read.request = { index: state.commitIndex, round: leading.round + 1 }
  heartbeat(state)
  settleReads(state)
}

/** Answers the reads whose round a majority has answered: they still followed after the question came. */
export function settleReads(state: RaftState): void {
  const { leading } = state
  if (leading === null || leading.reads.length === 0) return
  const rounds = state.configuration.voters.map(voter =>
    voter === state.self ? leading.round : (leading.progress.get(voter)?.round ?? 0)
  )
  const confirmed = rounds.sort((a, b) => b - a)[quorumSize(state.configuration) - 1] ?? 0
  // What a read must see goes out before its answer.
  handOutCommitted(state)
  const left: PendingRead[] = []
  for (const read of leading.reads) {
    if (read.request === null || read.request.round > confirmed) left.push(read)
    else state.effects.push({ kind: 'read-ready', id: read.id, index: read.request.index })
  }
  leading.reads = left
}
