// Bugs of snapshots and compaction.

import type { Term } from '#model/ids.ts'
import type { RaftState } from '#raft/raft.ts'
import type { Effect, Input, Snapshot } from '#raft/types.ts'
import { received, rewrite, type Mutant } from './mutant.ts'

/** The snapshot of a request that brings all of it. */
function whole(input: Input): Snapshot | null {
  const m = received(input, 'install-request')
  return m !== null && m.data.byteLength === m.size ? { meta: m.meta, data: m.data } : null
}

/** Installs although nothing asked for it. */
function install(state: RaftState, snapshot: Snapshot, effects: Effect[]): Effect[] {
  const { meta } = snapshot
  state.log.reset(meta)
  state.configuration = meta.configuration
  Object.assign(state, {
    snapshot,
    commitIndex: meta.lastIndex,
    handedOut: meta.lastIndex,
    durableIndex: meta.lastIndex
  })
  state.persistsAsked += 1
  for (const mark of state.unsynced) mark.lastIndex = meta.lastIndex
  state.unsynced.push({ count: state.persistsAsked, lastIndex: meta.lastIndex, atMs: state.nowMs })
  return [{ kind: 'install', snapshot }, ...effects.filter(e => e.kind !== 'commit')]
}

const committedBefore = new WeakMap<RaftState, number>()

export const SNAPSHOT_MUTANTS: readonly Mutant[] = [
  {
    name: 'installs-an-older-snapshot',
    bug: 'a late snapshot sets the state back (redisraft#42, #53)',
    after: (state, input, effects) => {
      const snapshot = whole(input)
      const m = received(input, 'install-request')
      if (snapshot === null || m?.term !== state.term || snapshot.meta.lastIndex >= state.commitIndex) return effects
      return state.role === 'follower' ? install(state, snapshot, effects) : effects
    }
  },
  {
    name: 'snapshot-drops-a-longer-log',
    bug: 'a snapshot whose last entry is in the log throws away acknowledged entries after it (redisraft#60)',
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
    bug: 'a chunk is taken wherever it belongs',
    before: (state, input) => {
      const m = received(input, 'install-request')
      const { incoming } = state
      if (m === null || incoming === null || m.data.byteLength === 0) return input
      return incoming.received + m.data.byteLength <= m.size ? rewrite(input, { offset: incoming.received }) : input
    }
  },
  {
    name: 'snapshot-without-sessions',
    bug: 'sessions are not in the snapshot, so a repeated command is done twice',
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
    bug: 'the configuration is not in the snapshot (redisraft#48)',
    before: (state, input) => {
      const m = received(input, 'install-request')
      return m === null ? input : rewrite(input, { meta: { ...m.meta, configuration: state.configuration } })
    }
  },
  {
    name: 'skips-what-is-compacted',
    bug: 'a follower that needs compacted entries gets those after them and no snapshot',
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
    bug: 'the answer to a chunk is taken for the whole',
    before: (_state, input) => (received(input, 'install-reply') === null ? input : rewrite(input, { done: true }))
  },
  {
    name: 'term-of-the-snapshot-forgotten',
    bug: 'the term at the snapshot’s last index is lost (redisraft#43)',
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
    bug: 'nothing is sent to a follower while its snapshot is under way, not even that there is a leader',
    after: (state, { event }, effects) =>
      event.kind !== 'tick'
        ? effects
        : effects.filter(e => e.kind !== 'send' || state.leading?.progress.get(e.message.to)?.mode !== 'snapshot')
  },
  {
    name: 'installs-before-durable',
    bug: 'a snapshot is acknowledged before it is on the disk (redisraft#654)',
    after: (_state, _input, effects) =>
      effects.map(e => (e.kind === 'send' && e.message.kind === 'install-reply' ? { ...e, beforePersist: true } : e))
  }
]
