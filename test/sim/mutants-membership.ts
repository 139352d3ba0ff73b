// Bugs of membership changes and of wiped disks.

import type { LogIndex, PeerId } from '#model/ids.ts'
import { incarnationOf, isVoter, quorumSize } from '#raft/configuration.ts'
import { isReply } from '#raft/effects.ts'
import type { RaftState } from '#raft/raft.ts'
import type { Configuration } from '#raft/types.ts'
import { commitTo, override, rewrite, removeOverrides, type Mutant } from './mutant.ts'

export const MEMBERSHIP_MUTANTS: readonly Mutant[] = [
  {
    name: 'change-before-own-commit',
    bug: 'a leader changes the membership before an entry of its own term is committed (Ongaro 2015)',
    before: (state, input) => {
      if (input.event.kind !== 'change') return input
      // The first check of a change is whether the commit index is of the current term.
      const value = (): unknown => {
        removeOverrides(state)
        return state.term
      }
      override(state, 'termAt', { value })
      // The buggy implementations had no quorum check either: a reply from a majority usually commits that entry anyway.
      contactBefore.set(state, new Map([...(state.leading?.progress ?? [])].map(([peer, p]) => [peer, p.contactMs])))
      for (const progress of state.leading?.progress.values() ?? []) progress.contactMs = input.nowMs
      return input
    },
    after: (state, _input, effects) => {
      removeOverrides(state)
      for (const [peer, contactMs] of contactBefore.get(state) ?? []) {
        const progress = state.leading?.progress.get(peer)
        if (progress !== undefined) progress.contactMs = contactMs
      }
      contactBefore.delete(state)
      return effects
    }
  },
  {
    name: 'two-changes-at-a-time',
    bug: 'a change is accepted while the previous one is not committed',
    before: (state, input) => {
      if (input.event.kind === 'change') override(state, 'lastConfigIndex', { get: () => 0 })
      return input
    },
    after: (state, _input, effects) => {
      removeOverrides(state)
      return effects
    }
  },
  {
    name: 'learners-count',
    bug: 'a learner’s vote and acknowledgement count',
    before: (state, input) => {
      const { voters, learners } = state.configuration
      if (learners.length > 0) state.configuration = { ...state.configuration, voters: [...voters, ...learners] }
      return input
    }
  },
  {
    name: 'receivers-count',
    bug: 'acknowledgements of servers outside the configuration count towards the majority',
    after: (state, _input, effects) => {
      const { leading } = state
      if (leading === null) return effects
      const matches = [state.durableIndex, ...[...leading.progress.values()].map(p => p.matchIndex)]
      const index = (matches.sort((a, b) => b - a)[quorumSize(state.configuration) - 1] ?? 0) as LogIndex
      return state.log.termAt(index) === state.term ? commitTo(state, index, effects) : effects
    }
  },
  {
    name: 'promotes-whoever-asks',
    bug: 'a learner that lags is promoted and delays every commit (thesis 4.2.1)',
    before: (state, input) => {
      const { event } = input
      if (event.kind !== 'change' || state.leading === null) return input
      const progress = state.leading.progress.get(event.change.peer)
      state.leading.heartbeatCommit = 0 as LogIndex
      if (progress !== undefined) Object.assign(progress, { mode: 'replicate', contactMs: input.nowMs })
      return input
    }
  },
  {
    name: 'removed-leader-stays',
    bug: 'a leader keeps leading after its removal is committed (thesis 4.2.2)',
    before: (state, input) => {
      keptLeading.set(state, state.leading)
      return input
    },
    after: (state, _input, effects) => {
      const leading = keptLeading.get(state)
      if (
        leading === null ||
        leading === undefined ||
        state.leading !== null ||
        isVoter(state.configuration, state.self)
      )
        return effects
      if (effects.some(e => e.kind === 'role' && e.term > state.term)) return effects
      Object.assign(state, { leading, role: 'leader', leader: state.self })
      return effects.filter(e => e.kind !== 'role')
    }
  },
  {
    name: 'configuration-not-rolled-back',
    bug: 'a truncated configuration stays in force (canonical/raft#250, #323)',
    before: (state, input) => {
      keptConfiguration.set(state, state.configuration)
      return input
    },
    after: (state, _input, effects) => {
      const before = keptConfiguration.get(state)
      const cut = effects.some(e => e.kind === 'persist' && e.truncateFrom !== null)
      if (cut && before !== undefined && state.log.lastConfigIndex <= state.commitIndex) state.configuration = before
      return effects
    }
  },
  {
    name: 'configuration-on-commit',
    bug: 'a configuration takes effect only when it is committed (thesis 4.1)',
    after: (state, _input, effects) => {
      if (state.log.lastConfigIndex > state.commitIndex) {
        state.configuration = state.log.configurationAt(state.commitIndex)
      }
      return effects
    }
  },
  {
    name: 'wiped-disk-takes-part',
    bug: 'a server whose disk was replaced votes again under its old id (redis-raft, hashicorp/raft)',
    before: (state, input) => {
      const { event } = input
      if (event.kind !== 'receive') return input
      const { kind, from } = event.message
      const expected = isReply(kind) ? incarnationOf(state.configuration, from) : state.incarnation
      return rewrite(input, { incarnation: expected })
    }
  }
]

const contactBefore = new WeakMap<RaftState, ReadonlyMap<PeerId, number>>()
const keptLeading = new WeakMap<RaftState, RaftState['leading']>()
const keptConfiguration = new WeakMap<RaftState, Configuration>()
