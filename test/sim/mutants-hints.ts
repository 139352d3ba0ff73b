// Bugs of hints: word of a lost connection taken for more than it is, or answered with less than it needs.

import { startElection } from '#raft/election.ts'
import { becomeFollower, mayStand } from '#raft/roles.ts'
import type { RaftState } from '#raft/raft.ts'
import type { Input } from '#raft/types.ts'
import { received, type Mutant } from './mutant.ts'

/** Has the follower been told that the way to its leader broke? */
function isOfItsLeader(state: RaftState, { event }: Input): boolean {
  return event.kind === 'peer-lost' && state.role === 'follower' && event.peer === state.leader
}

export const HINT_MUTANTS: readonly Mutant[] = [
  {
    name: 'lost-leader-means-election',
    bug: 'a follower that loses its connection to the leader stands without asking whether it would win',
    after: (state, input) => {
      if (isOfItsLeader(state, input) && mayStand(state)) startElection(state, false)
      return state.effects
    }
  },
  {
    name: 'doubt-is-for-all',
    bug: 'a follower that hears its leader votes against it for one that does not (etcd without check-quorum)',
    before: (state, input) => {
      if (received(input, 'pre-vote-request') !== null || received(input, 'vote-request') !== null) {
        state.leaderHeardMs = -Infinity
      }
      return input
    }
  },
  {
    name: 'leader-gives-up-for-a-lost-peer',
    bug: 'a leader steps down when one connection breaks, without counting those who still answer',
    after: (state, { event }) => {
      if (event.kind === 'peer-lost' && state.role === 'leader') becomeFollower(state, state.term, null)
      return state.effects
    }
  },
  {
    name: 'each-hint-puts-the-election-off',
    bug: 'a connection that is refused again and again begins the wait for an election anew each time',
    after: (state, input, effects) => {
      if (isOfItsLeader(state, input)) {
        state.electionAtMs = state.nowMs + 2 * state.options.heartbeatMs * (1 + input.random)
      }
      return effects
    }
  },
  {
    name: 'doubt-survives-the-leaders-word',
    bug: 'a heartbeat does not take back the short wait that a false hint began',
    before: (state, input) => {
      if (state.leaderHeardMs === -Infinity && received(input, 'append-request')?.from === state.leader) {
        state.electionAtMs = Math.min(state.electionAtMs, input.nowMs)
        return { ...input, event: { kind: 'tick' } }
      }
      return input
    }
  }
]
