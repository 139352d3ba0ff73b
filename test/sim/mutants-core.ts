// Bugs of elections, replication, commitment and reads.

import type { LogIndex } from '#model/ids.ts'
import type { Effect, Message } from '#raft/types.ts'
import { commitTo, majorityMatch, received, rewrite, type Mutant } from './mutant.ts'

export const CORE_MUTANTS: readonly Mutant[] = [
  {
    name: 'vote-not-durable',
    bug: 'term and vote are not written before the answer (camunda/zeebe#5356)',
    after: (_state, _input, effects) => effects.map(e => (e.kind === 'persist' ? { ...e, hardState: null } : e))
  },
  {
    name: 'answer-before-durable',
    bug: 'answers do not wait for the disk',
    after: (_state, _input, effects) => effects.map(e => (e.kind === 'send' ? { ...e, beforePersist: true } : e))
  },
  {
    name: 'leader-counts-unsynced',
    bug: 'the leader counts itself for entries that its disk does not have',
    before: (state, input) => {
      if (state.role === 'leader') state.durableIndex = state.log.lastIndex
      return input
    }
  },
  {
    name: 'commit-any-term',
    bug: 'an entry of an earlier term is committed by counting (thesis figure 3.7)',
    after: (state, _input, effects) =>
      state.role === 'leader' ? commitTo(state, majorityMatch(state), effects) : effects
  },
  {
    name: 'commit-by-one-follower',
    bug: 'one acknowledgement is taken for a majority',
    after: (state, _input, effects) => {
      const matches = [...(state.leading?.progress.values() ?? [])].map(p => p.matchIndex)
      return commitTo(state, Math.max(0, ...matches) as LogIndex, effects)
    }
  },
  {
    name: 'follower-commit-unbounded',
    bug: 'a follower commits up to leaderCommit although its tail is another leader’s',
    before: (state, input) => {
      const m = received(input, 'append-request')
      if (m !== null && m.term >= state.term && state.log.termAt(m.prevIndex) === m.prevTerm) {
        state.commitIndex = Math.max(state.commitIndex, Math.min(m.leaderCommit, state.log.lastIndex)) as LogIndex
      }
      return input
    }
  },
  {
    name: 'truncate-on-late-append',
    bug: 'a late, shorter AppendEntries shortens the log (canonical/raft#450, CCF)',
    after: (state, input, effects) => {
      const m = received(input, 'append-request')
      if (m?.term !== state.term || state.role !== 'follower') return effects
      const end = (m.prevIndex + m.entries.length) as LogIndex
      if (state.log.termAt(m.prevIndex) !== m.prevTerm || end >= state.log.lastIndex || end < state.commitIndex)
        return effects
      state.log.truncateFrom((end + 1) as LogIndex)
      if (end < state.durableIndex) state.durableIndex = end
      for (const mark of state.unsynced) if (end < mark.lastIndex) mark.lastIndex = end
      state.persistsAsked += 1
      state.unsynced.push({ count: state.persistsAsked, lastIndex: end, atMs: state.nowMs })
      const truncate: Effect = { kind: 'persist', hardState: null, truncateFrom: (end + 1) as LogIndex, entries: [] }
      return [truncate, ...effects]
    }
  },
  {
    name: 'stale-votes-counted',
    bug: 'answers of an earlier election are counted (cockroach#123297)',
    before: (state, input) => {
      const m = received(input, 'vote-reply')
      return m !== null && m.term < state.term ? rewrite(input, { term: state.term }) : input
    }
  },
  {
    name: 'vote-forgotten-on-step-down',
    bug: 'the vote is cleared on a step-down within the term (microsoft/CCF#8094)',
    before: (state, input) => {
      const m = received(input, 'vote-request')
      if (m !== null && m.term === state.term && state.role !== 'leader') {
        state.votedFor = null
        state.role = 'follower'
      }
      return input
    }
  },
  {
    name: 'vote-without-log-check',
    bug: 'a candidate with an older log gets the vote',
    before: (_state, input) =>
      received(input, 'vote-request') === null && received(input, 'pre-vote-request') === null
        ? input
        : rewrite(input, { lastTerm: Number.MAX_SAFE_INTEGER })
  },
  {
    name: 'vote-compares-length-only',
    bug: 'the longer log wins although its last term is older',
    before: (state, input) => {
      const m = received(input, 'vote-request') ?? received(input, 'pre-vote-request')
      return m !== null && m.lastIndex >= state.log.lastIndex ? rewrite(input, { lastTerm: state.log.lastTerm }) : input
    }
  },
  {
    name: 'vote-given-to-all',
    bug: 'a second candidate of the term gets the vote too',
    before: (state, input) => {
      if (received(input, 'vote-request') !== null && state.role === 'follower') state.votedFor = null
      return input
    }
  },
  {
    name: 'acknowledges-more-than-sent',
    bug: 'a follower acknowledges its whole log, another leader’s tail included (CCF)',
    after: (state, _input, effects) =>
      effects.map(e =>
        e.kind === 'send' && e.message.kind === 'append-reply' && e.message.success
          ? { ...e, message: { ...e.message, matchIndex: state.log.lastIndex } }
          : e
      )
  },
  {
    name: 'refusal-counts-as-match',
    bug: 'the hint of a refused AppendEntries is taken for a match (CCF: commit advanced on a NACK)',
    before: (_state, input) => {
      const m = received(input, 'append-reply')
      return m !== null && !m.success ? rewrite(input, { success: true }) : input
    }
  },
  {
    name: 'no-consistency-check',
    bug: 'entries are appended without comparing the entry before them',
    before: (state, input) => {
      const m = received(input, 'append-request')
      const here = m === null ? undefined : state.log.termAt(m.prevIndex)
      return here === undefined ? input : rewrite(input, { prevTerm: here })
    }
  },
  {
    name: 'read-without-round',
    bug: 'a leader answers reads without asking whether it still leads (redisraft#18, Consul default reads)',
    after: (state, { event }, effects) => {
      if (event.kind !== 'read' || state.role !== 'leader') return effects
      const others = effects.filter(e => e.kind !== 'read-failed')
      return [...others, { kind: 'read-ready', id: event.id, index: state.commitIndex }]
    }
  },
  {
    name: 'read-before-own-commit',
    bug: 'a new leader reads at a commit index that is behind (thesis 6.4, step 1)',
    after: (state, { event }, effects) => {
      if (event.kind !== 'read' || state.role !== 'leader' || state.log.termAt(state.commitIndex) === state.term)
        return effects
      return [...effects, { kind: 'read-ready', id: event.id, index: state.commitIndex }]
    }
  },
  {
    name: 'no-check-quorum',
    bug: 'a leader that nobody answers goes on leading (Cloudflare 2020)',
    before: (state, input) => {
      if (state.leading !== null) state.leading.quorumCheckAtMs = Infinity
      return input
    }
  },
  {
    name: 'old-leader-ignored',
    bug: 'a leader of the past is never told that its term is over',
    after: (_state, input, effects) => {
      const m = received(input, 'append-request')
      return m !== null && effects.some(e => e.kind === 'send' && e.message.term > m.term)
        ? effects.map(e => (e.kind === 'send' ? { ...e, message: { ...e.message, term: m.term } as Message } : e))
        : effects
    }
  },
  {
    name: 'never-retries-a-probe',
    bug: 'a follower whose first request was lost is never asked again',
    after: (state, { event }, effects) =>
      event.kind !== 'tick'
        ? effects
        : effects.filter(e => e.kind !== 'send' || state.leading?.progress.get(e.message.to)?.mode !== 'probe')
  },
  {
    name: 'read-counts-old-rounds',
    bug: 'an answer that was given before the read was asked confirms it',
    before: (state, input) => {
      const m = received(input, 'append-reply')
      return m?.success === true && state.leading !== null ? rewrite(input, { round: state.leading.round }) : input
    }
  },
  {
    name: 'announces-what-is-not-committed',
    bug: 'the leader says of its whole log that it is committed',
    after: (state, _input, effects) =>
      effects.map(e =>
        e.kind === 'send' && e.message.kind === 'append-request'
          ? { ...e, message: { ...e.message, leaderCommit: state.log.lastIndex } }
          : e
      )
  },
  {
    name: 'truncation-not-durable',
    bug: 'a conflicting tail is dropped in memory and stays on the disk (dqlite#575)',
    after: (_state, _input, effects) => effects.map(e => (e.kind === 'persist' ? { ...e, truncateFrom: null } : e))
  },
  {
    name: 'applies-what-it-receives',
    bug: 'a follower applies entries before they are committed',
    after: (state, _input, effects) =>
      state.role === 'follower' ? commitTo(state, state.log.lastIndex, effects) : effects
  },
  {
    name: 'equal-timeouts',
    bug: 'election timeouts are not random: the same servers split the vote again and again',
    before: (_state, input) => ({ ...input, random: 0.5 })
  },
  {
    name: 'window-never-opens',
    bug: 'what was acknowledged still counts as under way',
    before: (state, input) => {
      const m = received(input, 'append-reply')
      const inflight = m === null ? undefined : state.leading?.progress.get(m.from)?.inflight
      if (inflight !== undefined && inflight.length > 0) inflight.unshift(Number.MAX_SAFE_INTEGER as LogIndex)
      return input
    }
  },
  {
    name: 'transfer-never-ends',
    bug: 'a leader whose successor does not answer refuses proposals for ever',
    before: (state, input) => {
      const { leading } = state
      if (leading !== null && leading.transfer !== null) leading.transfer = { ...leading.transfer, untilMs: Infinity }
      return input
    }
  },
  {
    name: 'hung-disk-leads',
    bug: 'a leader whose disk does not come back goes on (hashicorp/raft#503, consul#3552)',
    before: (state, input) => {
      for (const [at, mark] of state.unsynced.entries()) state.unsynced[at] = { ...mark, atMs: input.nowMs }
      return input
    }
  }
]
