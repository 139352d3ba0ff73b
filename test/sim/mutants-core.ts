// Bugs of elections, replication, commitment and reads.

import type { LogIndex } from '#model/ids.ts'
import type { Effect, Message } from '#raft/types.ts'
import { commitTo, majorityMatch, received, rewrite, type Mutant } from './mutant.ts'

export const CORE_MUTANTS: readonly Mutant[] = [
  {
    name: 'vote-not-durable',
    bug: 'term and vote are not durable before the reply (camunda/zeebe#5356)',
    after: (_state, _input, effects) => effects.map(e => (e.kind === 'persist' ? { ...e, hardState: null } : e))
  },
  {
    name: 'answer-before-durable',
    bug: 'replies do not wait for the disk',
    after: (_state, _input, effects) => effects.map(e => (e.kind === 'send' ? { ...e, beforePersist: true } : e))
  },
  {
    name: 'leader-counts-unsynced',
    bug: 'the leader counts itself for entries that its disk has not synced',
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
    bug: 'one acknowledgement counts as a majority',
    after: (state, _input, effects) => {
      const matches = [...(state.leading?.progress.values() ?? [])].map(p => p.matchIndex)
      return commitTo(state, Math.max(0, ...matches) as LogIndex, effects)
    }
  },
  {
    name: 'follower-commit-unbounded',
    bug: 'a follower commits up to leaderCommit although its tail comes from another leader',
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
    bug: 'a delayed, shorter AppendEntries truncates the log (canonical/raft#450, CCF)',
    after: (state, input, effects) => {
      const m = received(input, 'append-request')
      if (m?.term !== state.term || state.role !== 'follower') return effects
      const end = (m.prevIndex + m.entries.length) as LogIndex
      if (state.log.termAt(m.prevIndex) !== m.prevTerm || end >= state.log.lastIndex || end < state.commitIndex)
        return effects
      state.log.truncateFrom((end + 1) as LogIndex)
      if (end < state.durableIndex) state.durableIndex = end
      for (const mark of state.unsynced) if (end < mark.lastIndex) mark.lastIndex = end
      state.persistsRequested += 1
      state.unsynced.push({ count: state.persistsRequested, lastIndex: end, atMs: state.nowMs })
      const truncate: Effect = { kind: 'persist', hardState: null, truncateFrom: (end + 1) as LogIndex, entries: [] }
      return [truncate, ...effects]
    }
  },
  {
    name: 'stale-votes-counted',
    bug: 'replies to an earlier election are counted (cockroach#123297)',
    before: (state, input) => {
      const m = received(input, 'vote-reply')
      return m !== null && m.term < state.term ? rewrite(input, { term: state.term }) : input
    }
  },
  {
    name: 'vote-forgotten-on-step-down',
    bug: 'the vote is cleared on a step-down within a term (microsoft/CCF#8094)',
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
    bug: 'a candidate with a stale log gets the vote',
    before: (_state, input) =>
      received(input, 'vote-request') === null && received(input, 'pre-vote-request') === null
        ? input
        : rewrite(input, { lastTerm: Number.MAX_SAFE_INTEGER })
  },
  {
    name: 'vote-compares-length-only',
    bug: 'the longer log wins although its last term is earlier',
    before: (state, input) => {
      const m = received(input, 'vote-request') ?? received(input, 'pre-vote-request')
      return m !== null && m.lastIndex >= state.log.lastIndex ? rewrite(input, { lastTerm: state.log.lastTerm }) : input
    }
  },
  {
    name: 'vote-given-to-all',
    bug: 'a second candidate of the same term gets the vote too',
    before: (state, input) => {
      if (received(input, 'vote-request') !== null && state.role === 'follower') state.votedFor = null
      return input
    }
  },
  {
    name: 'acknowledges-more-than-sent',
    bug: 'a follower acknowledges its whole log, including another leader’s tail (CCF)',
    after: (state, _input, effects) =>
      effects.map(e =>
        e.kind === 'send' && e.message.kind === 'append-reply' && e.message.success
          ? { ...e, message: { ...e.message, matchIndex: state.log.lastIndex } }
          : e
      )
  },
  {
    name: 'refusal-counts-as-match',
    bug: 'the hint of a rejected AppendEntries counts as a match (CCF: commit advanced on a NACK)',
    before: (_state, input) => {
      const m = received(input, 'append-reply')
      return m !== null && !m.success ? rewrite(input, { success: true }) : input
    }
  },
  {
    name: 'no-consistency-check',
    bug: 'entries are appended without checking the entry before them',
    before: (state, input) => {
      const m = received(input, 'append-request')
      const here = m === null ? undefined : state.log.termAt(m.prevIndex)
      return here === undefined ? input : rewrite(input, { prevTerm: here })
    }
  },
  {
    name: 'read-without-round',
    bug: 'a leader serves reads without confirming its leadership (redisraft#18, Consul default reads)',
    after: (state, { event }, effects) => {
      if (event.kind !== 'read' || state.role !== 'leader') return effects
      const others = effects.filter(e => e.kind !== 'read-failed')
      return [...others, { kind: 'read-ready', id: event.id, index: state.commitIndex }]
    }
  },
  {
    name: 'read-before-own-commit',
    bug: 'a new leader reads at a stale commit index (thesis 6.4, step 1)',
    after: (state, { event }, effects) => {
      if (event.kind !== 'read' || state.role !== 'leader' || state.log.termAt(state.commitIndex) === state.term)
        return effects
      return [...effects, { kind: 'read-ready', id: event.id, index: state.commitIndex }]
    }
  },
  {
    name: 'no-check-quorum',
    bug: 'a leader without replies from a majority keeps leading (Cloudflare 2020)',
    before: (state, input) => {
      if (state.leading !== null) state.leading.quorumCheckAtMs = Infinity
      return input
    }
  },
  {
    name: 'old-leader-ignored',
    bug: 'a stale leader never learns that its term is over',
    after: (_state, input, effects) => {
      const m = received(input, 'append-request')
      return m !== null && effects.some(e => e.kind === 'send' && e.message.term > m.term)
        ? effects.map(e => (e.kind === 'send' ? { ...e, message: { ...e.message, term: m.term } as Message } : e))
        : effects
    }
  },
  {
    name: 'never-retries-a-probe',
    bug: 'a lost probe is never repeated',
    after: (state, { event }, effects) =>
      event.kind !== 'tick'
        ? effects
        : effects.filter(e => e.kind !== 'send' || state.leading?.progress.get(e.message.to)?.mode !== 'probe')
  },
  {
    name: 'read-counts-old-rounds',
    bug: 'a reply from before the read request confirms the read',
    before: (state, input) => {
      const m = received(input, 'append-reply')
      return m?.success === true && state.leading !== null ? rewrite(input, { round: state.leading.round }) : input
    }
  },
  {
    name: 'announces-what-is-not-committed',
    bug: 'the leader announces its whole log as committed',
    after: (state, _input, effects) =>
      effects.map(e =>
        e.kind === 'send' && e.message.kind === 'append-request'
          ? { ...e, message: { ...e.message, leaderCommit: state.log.lastIndex } }
          : e
      )
  },
  {
    name: 'truncation-not-durable',
    bug: 'a conflicting tail is truncated in memory but not on disk (dqlite#575)',
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
    bug: 'election timeouts are not randomized: the same servers split every vote',
    before: (_state, input) => ({ ...input, random: 0.5 })
  },
  {
    name: 'window-never-opens',
    bug: 'acknowledged requests still count as in flight',
    before: (state, input) => {
      const m = received(input, 'append-reply')
      const inflight = m === null ? undefined : state.leading?.progress.get(m.from)?.inflight
      if (inflight !== undefined && inflight.length > 0) inflight.unshift(Number.MAX_SAFE_INTEGER as LogIndex)
      return input
    }
  },
  {
    name: 'transfer-never-ends',
    bug: 'a leader whose transfer target does not answer refuses proposals forever',
    before: (state, input) => {
      const { leading } = state
      if (leading !== null && leading.transfer !== null) leading.transfer = { ...leading.transfer, untilMs: Infinity }
      return input
    }
  },
  {
    name: 'hung-disk-leads',
    bug: 'a leader whose disk hangs keeps leading (hashicorp/raft#503, consul#3552)',
    before: (state, input) => {
      for (const [at, mark] of state.unsynced.entries()) state.unsynced[at] = { ...mark, atMs: input.nowMs }
      return input
    }
  }
]
