// Bugs of snapshots and compaction.

import type { Term } from '#model/ids.ts'
import type { RaftState } from '#raft/raft.ts'
import type { Effect, Input, Snapshot } from '#raft/types.ts'
import { received, rewrite, type Mutant } from './mutant.ts'

/** The snapshot of a request that carries all of it in one chunk. */
function whole(input: Input): Snapshot | null {
  const m = received(input, 'install-request')
  return m !== null && m.data.byteLength === m.size ? { meta: m.meta, data: m.data } : null
}

/** Installs a snapshot unconditionally. */
function install(state: RaftState, snapshot: Snapshot, effects: Effect[]): Effect[] {
  const { meta } = snapshot
  state.log.reset(meta)
  state.configuration = meta.configuration
  Object.assign(state, {
    snapshot,
    commitIndex: meta.lastIndex,
    emittedIndex: meta.lastIndex,
    durableIndex: meta.lastIndex
  })
  state.persistsRequested += 1
  for (const mark of state.unsynced) mark.lastIndex = meta.lastIndex
  state.unsynced.push({ count: state.persistsRequested, lastIndex: meta.lastIndex, atMs: state.nowMs })
  return [{ kind: 'install', snapshot }, ...effects.filter(e => e.kind !== 'commit')]
}

const committedBefore = new WeakMap<RaftState, number>()

export const SNAPSHOT_MUTANTS: readonly Mutant[] = [
  {
    name: 'installs-an-older-snapshot',
    bug: 'a delayed snapshot reverts the state (redisraft#42, #53)',
    after: (state, input, effects) => {
      const snapshot = whole(input)
      const m = received(input, 'install-request')
      if (snapshot === null || m?.term !== state.term || snapshot.meta.lastIndex >= state.commitIndex) return effects
      return state.role === 'follower' ? install(state, snapshot, effects) : effects
    }
  },
  {
    name: 'snapshot-drops-a-longer-log',
    bug: 'a snapshot whose last entry is in the log drops acknowledged entries after it (redisraft#60)',
    before: (state, input) => {
      committedBefore.set(state, state.commitIndex)
      return input
    },
    after: (state, input, effects) => {
      const snapshot = whole(input)
      const m = received(input, 'install-request')
      if (snapshot === null || m?.term !== state.term || effects.some(e => e.kind === 'install')) return effects
      const isAhead = snapshot.meta.lastIndex > (committedBefore.get(state) ?? 0)
      return isAhead && state.role === 'follower' ? install(state, snapshot, effects) : effects
    }
  },
  {
    name: 'chunks-in-any-order',
    bug: 'a chunk is accepted at any offset',
    before: (state, input) => {
      const m = received(input, 'install-request')
      const { incoming } = state
      if (m === null || incoming === null || m.data.byteLength === 0) return input
      return incoming.received + m.data.byteLength <= m.size ? rewrite(input, { offset: incoming.received }) : input
    }
  },
  {
    name: 'snapshot-without-sessions',
    bug: 'sessions are missing from the snapshot, so a retried command is executed twice',
    before: (_state, input) => {
      const { event } = input
      if (event.kind !== 'snapshot-taken') return input
      const data = event.snapshot.data.slice()
      new DataView(data.buffer).setUint32(4, 0)
      return { ...input, event: { ...event, snapshot: { ...event.snapshot, data } } }
    }
  },
  {
    name: 'snapshot-without-configuration',
    bug: 'the configuration is missing from the snapshot (redisraft#48)',
    before: (state, input) => {
      const m = received(input, 'install-request')
      return m === null ? input : rewrite(input, { meta: { ...m.meta, configuration: state.configuration } })
    }
  },
  {
    name: 'skips-what-is-compacted',
    bug: 'a follower that needs compacted entries gets later entries instead of a snapshot',
    before: (state, input) => {
      const next = state.log.baseIndex + 1
      for (const progress of state.leading?.progress.values() ?? []) {
        if (progress.nextIndex < next) Object.assign(progress, { nextIndex: next, mode: 'probe', transfer: null })
      }
      return input
    }
  },
  {
    name: 'chunk-counts-as-snapshot',
    bug: 'the reply to a chunk counts for the whole snapshot',
    before: (_state, input) => (received(input, 'install-reply') === null ? input : rewrite(input, { done: true }))
  },
  {
    name: 'term-of-the-snapshot-forgotten',
    bug: 'the term of the snapshot’s last entry is lost (redisraft#43)',
    after: (state, _input, effects) =>
      effects.map(e =>
        e.kind === 'send' &&
        e.message.kind === 'append-request' &&
        e.message.prevIndex === state.snapshot?.meta.lastIndex
          ? { ...e, message: { ...e.message, prevTerm: 0 as Term } }
          : e
      )
  },
  {
    name: 'silent-during-a-transfer',
    bug: 'no heartbeats are sent to a follower during its snapshot transfer',
    after: (state, { event }, effects) =>
      event.kind !== 'tick'
        ? effects
        : effects.filter(e => e.kind !== 'send' || state.leading?.progress.get(e.message.to)?.mode !== 'snapshot')
  },
  {
    name: 'installs-before-durable',
    bug: 'a snapshot is acknowledged before it is durable (redisraft#654)',
    after: (_state, _input, effects) =>
      effects.map(e => (e.kind === 'send' && e.message.kind === 'install-reply' ? { ...e, beforePersist: true } : e))
  }
]
