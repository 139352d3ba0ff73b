// Becoming leader, proposals, check-quorum and leadership transfer.

import type { LogIndex, PeerId } from '#model/ids.ts'
import { isVoter, members, quorumSize } from './configuration.ts'
import { announceRole, persistEntries, sendBeforePersist } from './effects.ts'
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
  for (const peer of members(state.configuration)) if (peer !== state.self) trackProgress(state, peer)
  announceRole(state)
  // Entries of earlier terms commit only together with an entry of the current term (thesis 3.6.2, figure 3.7).
  appendAsLeader(state, 'noop', [new Uint8Array()])
}

/** Clients' proposals. Refused unless this server leads, is not transferring leadership, and is within its bound. */
export function propose(state: RaftState, id: number, batch: readonly Uint8Array[]): void {
  const reason = refusal(state)
  if (reason !== null) {
    refuse(state, id, reason)
    return
  }
  const index = (state.log.lastIndex + 1) as LogIndex
  appendAsLeader(state, 'command', batch)
  state.effects.push({ kind: 'proposed', id, index, count: batch.length, term: state.term })
}

/** Why this server refuses every proposal and membership change at the moment; null if it does not. */
export function refusal({ leading, options }: RaftState): RefusalReason | null {
  if (leading === null) return 'not-leader'
  if (leading.transfer !== null) return 'transferring'
  return leading.uncommittedBytes < options.maxUncommittedBytes ? null : 'busy'
}

export function refuse(state: RaftState, id: number, reason: RefusalReason): void {
  state.effects.push({ kind: 'refused', id, reason, leader: state.leader === state.self ? null : state.leader })
}

/** The leader's part of a tick. */
export function tickLeader(state: RaftState): void {
  const { leading, nowMs, options } = state
  if (leading === null) return
  // Heartbeats need no disk: a leader that cannot write would keep the others from electing one that can.
  if (diskHangs(state)) {
    becomeFollower(state, state.term, null)
    return
  }
  if (leading.transfer !== null && nowMs >= leading.transfer.untilMs) leading.transfer = null
  if (nowMs >= leading.quorumCheckAtMs) {
    leading.quorumCheckAtMs = nowMs + options.electionTimeoutMs
    if (!quorumIsActive(state, state.configuration)) {
      becomeFollower(state, state.term, null)
      return
    }
  }
  if (nowMs >= leading.heartbeatAtMs) heartbeat(state)
}

/** Starts a leadership transfer to a voter (thesis 3.10); it is abandoned after an election timeout. */
export function transferLeadership(state: RaftState, to: PeerId): void {
  const { leading } = state
  if (leading === null || to === state.self || !isVoter(state.configuration, to)) return
  leading.transfer = { to, untilMs: state.nowMs + state.options.electionTimeoutMs, asked: false }
  continueTransfer(state)
}

/** Once the target has the whole log, it is told to start an election at once. */
export function continueTransfer(state: RaftState): void {
  const transfer = state.leading?.transfer ?? null
  if (transfer === null || transfer.asked) return
  if (state.leading?.progress.get(transfer.to)?.matchIndex !== state.log.lastIndex) return
  transfer.asked = true
  sendBeforePersist(state, transfer.to, { kind: 'timeout-now' })
}

/** Appends entries as leader: to the log in memory, to the receivers, then to the own disk. */
export function appendAsLeader(state: RaftState, kind: EntryKind, batch: readonly Uint8Array[]): void {
  const { leading, log, term } = state
  const entries: Entry[] = []
  for (const data of batch) {
    const entry = { index: (log.lastIndex + 1) as LogIndex, term, kind, data }
    log.append(entry)
    entries.push(entry)
    if (leading !== null) leading.uncommittedBytes += data.byteLength
  }
  if (kind === 'config') configurationAppended(state)
  broadcast(state)
  persistEntries(state, entries, null)
}

/** Starts to track a receiver of which nothing is known yet. */
export function trackProgress(state: RaftState, peer: PeerId): void {
  const progress: Progress = {
    nextIndex: (state.log.lastIndex + 1) as LogIndex,
    matchIndex: 0 as LogIndex,
    mode: 'probe',
    transfer: null,
    inflight: [],
    probing: false,
    contactMs: -Infinity,
    round: 0,
    matchRound: 0
  }
  state.leading?.progress.set(peer, progress)
}

/** Check-quorum: has a majority of the configuration replied within the last election timeout? */
export function quorumIsActive(state: RaftState, configuration: Configuration): boolean {
  const since = state.nowMs - state.options.electionTimeoutMs
  const active = configuration.voters.filter(
    voter => voter === state.self || (state.leading?.progress.get(voter)?.contactMs ?? -Infinity) >= since
  )
  return active.length >= quorumSize(configuration)
}
