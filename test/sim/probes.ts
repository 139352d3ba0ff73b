// Probes: rare situations that a good simulation reaches. A probe that stays at zero over many seeds shows that fault
// injection is too weak and that the code for that situation is untested.

import type { LogIndex, Term } from '#model/ids.ts'
import { isVoter } from '#raft/configuration.ts'
import { isReply } from '#raft/effects.ts'
import type { RaftState } from '#raft/raft.ts'
import { diskHangs } from '#raft/roles.ts'
import type { Effect, RaftEvent, RaftRole } from '#raft/types.ts'
import type { Counters } from './counters.ts'

export const PROBES = [
  'leader-elected',
  'leader-deposed-by-higher-term',
  'leader-stepped-down-without-quorum',
  'election-without-winner',
  'pre-vote-refused',
  'vote-refused',
  'vote-request-ignored-under-a-leader',
  'second-vote-of-a-term-refused',
  'conflicting-tail-truncated',
  'append-refused',
  'append-of-an-earlier-term',
  'append-without-new-entries',
  'append-that-ends-before-the-log',
  'append-below-the-commit-index',
  'commit-before-the-leaders-own-disk',
  'earlier-terms-entry-committed',
  'several-entries-committed-at-once',
  'window-full',
  'proposal-refused',
  'proposal-with-unknown-outcome',
  'proposals-in-a-batch',
  'read-served',
  'read-failed',
  'read-waits-for-own-term',
  'transfer-completed',
  'transfer-abandoned',
  'foreign-cluster-message-ignored',
  'group-commit',
  'torn-write-kept-a-prefix',
  'restart-with-a-vote',
  'restart-with-an-uncommitted-tail',
  'restart-from-a-snapshot',
  'damaged-disk-replaced',
  'previous-incarnation-ignored',
  'hung-disk-ended-leadership',
  'log-compacted',
  'snapshot-chunk-sent',
  'snapshot-chunk-out-of-place',
  'snapshot-installed',
  'snapshot-already-covered',
  'snapshot-superseded-by-a-newer-one',
  'append-during-a-transfer',
  'learner-added',
  'learner-promoted',
  'server-removed',
  'leader-removed-itself',
  'configuration-rolled-back',
  'promotion-refused',
  'change-refused-while-one-is-in-progress',
  'change-refused-before-own-commit',
  'retried-command-answered-from-the-session',
  'leader-suspected',
  'leader-suspected-again',
  'hint-about-a-peer-that-does-not-lead',
  'suspicion-ended-by-the-leader',
  'suspicion-ended-in-a-pre-vote',
  'pre-vote-granted-under-suspicion',
  'leader-got-a-peer-lost-hint',
  'sole-voter-campaigns-at-once'
] as const

type Probes = Counters

/** Called before a step. */
export function observeInput(probes: Probes, state: RaftState, event: RaftEvent): void {
  if (event.kind === 'read' && state.role === 'leader' && state.log.termAt(state.commitIndex) !== state.term) {
    probes.add('read-waits-for-own-term')
  }
  if (event.kind !== 'receive') return
  const { message } = event
  if (message.clusterId !== state.clusterId) probes.add('foreign-cluster-message-ignored')
  else if (!isReply(message.kind) && message.incarnation !== state.incarnation)
    probes.add('previous-incarnation-ignored')
  if (message.kind === 'install-request') {
    const { incoming } = state
    if (message.meta.lastIndex <= state.commitIndex) probes.add('snapshot-already-covered')
    if (incoming !== null && incoming.meta.lastIndex < message.meta.lastIndex) {
      probes.add('snapshot-superseded-by-a-newer-one')
    } else if (incoming?.term === message.term && incoming.received !== message.offset) {
      probes.add('snapshot-chunk-out-of-place')
    }
  }
  if (message.kind === 'append-request' && state.incoming !== null) probes.add('append-during-a-transfer')
  if (message.kind !== 'append-request') return
  if (message.term < state.term) probes.add('append-of-an-earlier-term')
  else if (state.log.termAt(message.prevIndex) === message.prevTerm) {
    const end = message.prevIndex + message.entries.length
    const known = message.entries.every(entry => state.log.termAt(entry.index) === entry.term)
    if (message.entries.length > 0 && known) probes.add('append-without-new-entries')
    if (end < state.log.lastIndex) probes.add('append-that-ends-before-the-log')
    if (message.prevIndex < state.commitIndex) probes.add('append-below-the-commit-index')
  }
}

/** Called after a step. */
export function observeEffects(
  probes: Probes,
  p: {
    readonly state: RaftState
    readonly before: {
      readonly role: RaftRole
      readonly term: Term
      readonly lastIndex: LogIndex
      readonly commitIndex: LogIndex
      readonly baseIndex: LogIndex
      readonly configIndex: LogIndex
      readonly suspecting: boolean
      readonly transferring: boolean
    }
    readonly event: RaftEvent
    readonly effects: readonly Effect[]
  }
): void {
  const { state, before, event, effects } = p
  if (state.role === 'leader' && before.role !== 'leader') probes.add('leader-elected')
  if (state.role !== 'leader' && before.role === 'leader') {
    if (event.kind === 'tick') {
      probes.add(diskHangs(state) ? 'hung-disk-ended-leadership' : 'leader-stepped-down-without-quorum')
    } else if (state.term > before.term) probes.add('leader-deposed-by-higher-term')
    if (!isVoter(state.configuration, state.self)) probes.add('leader-removed-itself')
  }
  if (before.role === 'candidate' && state.role === 'pre-candidate') probes.add('election-without-winner')
  if (event.kind === 'receive' && event.message.kind === 'vote-request') {
    const { term } = event.message
    if (effects.length === 0 && term > state.term) probes.add('vote-request-ignored-under-a-leader')
  }
  if (before.transferring && event.kind === 'tick' && state.leading?.transfer === null) probes.add('transfer-abandoned')
  if (event.kind === 'receive' && event.message.kind === 'timeout-now' && state.role === 'candidate') {
    probes.add('transfer-completed')
  }
  observeSuspicion(probes, p)
  if (event.kind === 'snapshot-taken' && state.log.baseIndex > before.baseIndex) probes.add('log-compacted')
  if (state.leading !== null) observeLeader(probes, p)
  if (state.log.lastConfigIndex < before.configIndex && state.log.baseIndex === before.baseIndex) {
    probes.add('configuration-rolled-back')
  }
  for (const effect of effects) observeEffect(probes, { state, event, effect })
}

/** The effects of peer-lost hints. */
function observeSuspicion(
  probes: Probes,
  p: {
    readonly state: RaftState
    readonly before: { readonly role: RaftRole; readonly suspecting: boolean }
    readonly event: RaftEvent
    readonly effects: readonly Effect[]
  }
): void {
  const { state, before, event, effects } = p
  if (event.kind === 'peer-lost') {
    if (state.role === 'leader') probes.add('leader-got-a-peer-lost-hint')
    else if (event.peer !== state.leader) probes.add('hint-about-a-peer-that-does-not-lead')
    else probes.add(before.suspecting ? 'leader-suspected-again' : 'leader-suspected')
  }
  if (!before.suspecting) return
  if (state.role === 'pre-candidate') probes.add('suspicion-ended-in-a-pre-vote')
  if (state.leader !== null && state.leaderContactMs !== -Infinity) probes.add('suspicion-ended-by-the-leader')
  if (effects.some(e => e.kind === 'send' && e.message.kind === 'pre-vote-reply' && e.message.granted)) {
    probes.add('pre-vote-granted-under-suspicion')
  }
}

function observeLeader(
  probes: Probes,
  { state, before }: { readonly state: RaftState; readonly before: { readonly commitIndex: LogIndex } }
): void {
  const { leading } = state
  if (leading === null) return
  if (state.commitIndex > before.commitIndex) {
    if (state.commitIndex > state.durableIndex) probes.add('commit-before-the-leaders-own-disk')
    if (state.commitIndex > before.commitIndex + 1) probes.add('several-entries-committed-at-once')
    if (state.log.termAt((before.commitIndex + 1) as LogIndex) !== state.term)
      probes.add('earlier-terms-entry-committed')
  }
  for (const progress of leading.progress.values()) {
    if (progress.inflight.length >= state.options.maxInflightAppends && progress.nextIndex <= state.log.lastIndex) {
      probes.add('window-full')
    }
  }
}

const CHANGED = { 'add-learner': 'learner-added', promote: 'learner-promoted', remove: 'server-removed' } as const

function observeEffect(
  probes: Probes,
  p: { readonly state: RaftState; readonly event: RaftEvent; readonly effect: Effect }
): void {
  const { state, event, effect } = p
  switch (effect.kind) {
    case 'persist':
      if (effect.truncateFrom !== null) probes.add('conflicting-tail-truncated')
      return
    case 'refused':
      probes.add('proposal-refused')
      return
    case 'read-ready':
      probes.add('read-served')
      return
    case 'read-failed':
      probes.add('read-failed')
      return
    case 'install':
      probes.add('snapshot-installed')
      return
    case 'proposed':
      if (event.kind === 'change') probes.add(CHANGED[event.change.kind])
      return
    case 'send': {
      const { message } = effect
      if (message.kind === 'install-request' && message.data.byteLength > 0) probes.add('snapshot-chunk-sent')
      if (message.kind === 'pre-vote-reply' && !message.granted) probes.add('pre-vote-refused')
      if (message.kind === 'append-reply' && !message.success) probes.add('append-refused')
      if (message.kind !== 'vote-reply' || message.granted) return
      probes.add('vote-refused')
      if (state.votedFor !== null && state.votedFor !== message.to) probes.add('second-vote-of-a-term-refused')
      return
    }
    case 'commit':
    case 'lost-log':
    case 'impossible':
    case 'role':
  }
}
