// Taking up leadership, proposals, check-quorum and the transfer of leadership.

import type { LogIndex, PeerId } from '#model/ids.ts'
import { isVoter, members, quorumSize } from './configuration.ts'
import { announceRole, persistEntries, sendEarly } from './effects.ts'
import { configurationAppended } from './membership.ts'
import type { Progress, RaftState } from './raft.ts'
import { broadcast, heartbeat } from './replicate.ts'
import { becomeFollower, diskHangs } from './roles.ts'
import type { Configuration, Entry, EntryKind, RefusalReason } from './types.ts'

export function becomeLeader(state: RaftState): void {
  state.role = 'leader'
  state.leader = state.self
  state.votes.clear()
  state.leading = {
    progress: new Map(),
    heartbeatAtMs: state.nowMs + state.options.heartbeatMs,
    quorumCheckAtMs: state.nowMs + state.options.electionTimeoutMs,
    round: 0,
    heartbeatCommit: state.commitIndex,
    reads: [],
    uncommittedBytes: 0,
    transfer: null
  }
  for (const peer of members(state.configuration)) if (peer !== state.self) track(state, peer)
  announceRole(state)
  // Entries of earlier terms are committed only through one of the own term (thesis 3.6.2, figure 3.7).
  appendOwn(state, 'noop', new Uint8Array())
}

/** A client's proposal. Refused unless this server leads, stays and has room. */
export function propose(state: RaftState, id: number, data: Uint8Array): void {
  const reason = refusal(state)
  if (reason !== null) {
    refuse(state, id, reason)
    return
  }
  const entry = appendOwn(state, 'command', data)
  state.effects.push({ kind: 'proposed', id, index: entry.index, term: entry.term })
}

/** Why this server appends nothing now, whatever it is. */
export function refusal({ leading, options }: RaftState): RefusalReason | null {
  if (leading === null) return 'not-leader'
  if (leading.transfer !== null) return 'transferring'
  return leading.uncommittedBytes < options.maxUncommittedBytes ? null : 'busy'
}

export function refuse(state: RaftState, id: number, reason: RefusalReason): void {
  state.effects.push({ kind: 'refused', id, reason, leader: state.leader === state.self ? null : state.leader })
}

/** Time passes for a leader. */
export function tickLeader(state: RaftState): void {
  const { leading, nowMs, options } = state
  if (leading === null) return
  // Heartbeats need no disk: a leader that can write nothing would keep the others from electing one that can.
  if (diskHangs(state)) {
    becomeFollower(state, state.term, null)
    return
  }
  if (leading.transfer !== null && nowMs >= leading.transfer.untilMs) leading.transfer = null
  if (nowMs >= leading.quorumCheckAtMs) {
    leading.quorumCheckAtMs = nowMs + options.electionTimeoutMs
    if (!hearsQuorum(state, state.configuration)) {
      becomeFollower(state, state.term, null)
      return
    }
  }
  if (nowMs >= leading.heartbeatAtMs) heartbeat(state)
}

/** Begins to hand over to a voter (thesis 3.10); given up after an election timeout. */
export function transferLeadership(state: RaftState, to: PeerId): void {
  const { leading } = state
  if (leading === null || to === state.self || !isVoter(state.configuration, to)) return
  leading.transfer = { to, untilMs: state.nowMs + state.options.electionTimeoutMs, asked: false }
  continueTransfer(state)
}

/** Once the successor has the whole log it is told to stand at once. */
export function continueTransfer(state: RaftState): void {
  const transfer = state.leading?.transfer ?? null
  if (transfer === null || transfer.asked) return
  if (state.leading?.progress.get(transfer.to)?.matchIndex !== state.log.lastIndex) return
  transfer.asked = true
  sendEarly(state, transfer.to, { kind: 'timeout-now' })
}

/** The leader's own entry: into the log, to the others, and to the own disk, in that order. */
export function appendOwn(state: RaftState, kind: EntryKind, data: Uint8Array): Entry {
  const entry = { index: (state.log.lastIndex + 1) as LogIndex, term: state.term, kind, data }
  state.log.append(entry)
  if (kind === 'config') configurationAppended(state)
  if (state.leading !== null) state.leading.uncommittedBytes += data.byteLength
  broadcast(state)
  persistEntries(state, [entry], null)
  return entry
}

/** Nothing is known of this receiver yet. */
export function track(state: RaftState, peer: PeerId): void {
  const progress: Progress = {
    nextIndex: (state.log.lastIndex + 1) as LogIndex,
    matchIndex: 0 as LogIndex,
    mode: 'probe',
    transfer: null,
    inflight: [],
    probing: false,
    heardMs: -Infinity,
    round: 0,
    matchRound: 0
  }
  state.leading?.progress.set(peer, progress)
}

/** Has a majority answered within the last election timeout? A leader that nobody follows must not seem to lead. */
export function hearsQuorum(state: RaftState, configuration: Configuration): boolean {
  const since = state.nowMs - state.options.electionTimeoutMs
  const heard = configuration.voters.filter(
    voter => voter === state.self || (state.leading?.progress.get(voter)?.heardMs ?? -Infinity) >= since
  )
  return heard.length >= quorumSize(configuration)
}
