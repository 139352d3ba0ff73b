// Taking up leadership, proposals, check-quorum and the transfer of leadership.

import type { LogIndex, PeerId } from '#model/ids.ts'
import { isVoter, members, quorumSize } from './configuration.ts'
import { announceRole, persistEntries, sendEarly } from './effects.ts'
import type { Progress, RaftState } from './raft.ts'
import { broadcast, heartbeat } from './replicate.ts'
import { becomeFollower } from './roles.ts'
import type { Entry, EntryKind } from './types.ts'

export function becomeLeader(state: RaftState): void {
  state.role = 'leader'
  state.leader = state.self
  state.votes.clear()
  state.leading = {
    progress: new Map(),
    heartbeatAtMs: state.nowMs + state.options.heartbeatMs,
    quorumCheckAtMs: state.nowMs + state.options.electionTimeoutMs,
    round: 0,
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
  const { leading } = state
  const reason =
    leading === null ? 'not-leader' : leading.transfer !== null ? 'transferring' : hasRoom(state) ? null : 'busy'
  if (reason !== null) {
    state.effects.push({ kind: 'refused', id, reason, leader: state.leader === state.self ? null : state.leader })
    return
  }
  const entry = appendOwn(state, 'command', data)
  state.effects.push({ kind: 'proposed', id, index: entry.index, term: entry.term })
}

/** Time passes for a leader. */
export function tickLeader(state: RaftState): void {
  const { leading, nowMs, options } = state
  if (leading === null) return
  if (leading.transfer !== null && nowMs >= leading.transfer.untilMs) leading.transfer = null
  if (nowMs >= leading.quorumCheckAtMs) {
    leading.quorumCheckAtMs = nowMs + options.electionTimeoutMs
    if (!hearsQuorum(state)) {
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
function appendOwn(state: RaftState, kind: EntryKind, data: Uint8Array): Entry {
  const entry = { index: (state.log.lastIndex + 1) as LogIndex, term: state.term, kind, data }
  state.log.append(entry)
  if (state.leading !== null) state.leading.uncommittedBytes += data.byteLength
  broadcast(state)
  persistEntries(state, [entry], null)
  return entry
}

function track(state: RaftState, peer: PeerId): void {
  const progress: Progress = {
    nextIndex: (state.log.lastIndex + 1) as LogIndex,
    matchIndex: 0 as LogIndex,
    mode: 'probe',
    inflight: [],
    probing: false,
    heardMs: state.nowMs,
    round: 0
  }
  state.leading?.progress.set(peer, progress)
}

/** Has a majority answered within the last election timeout? A leader that nobody follows must not seem to lead. */
function hearsQuorum(state: RaftState): boolean {
  const since = state.nowMs - state.options.electionTimeoutMs
  const heard = state.configuration.voters.filter(
    voter => voter === state.self || (state.leading?.progress.get(voter)?.heardMs ?? -Infinity) >= since
  )
  return heard.length >= quorumSize(state.configuration)
}

function hasRoom(state: RaftState): boolean {
  return (state.leading?.uncommittedBytes ?? 0) < state.options.maxUncommittedBytes
}
