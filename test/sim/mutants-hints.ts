// Bugs in the handling of peer-lost hints: a hint has too much effect, or too little.

import { startElection } from '#raft/election.ts'
import { becomeFollower, mayCampaign } from '#raft/roles.ts'
import type { RaftState } from '#raft/raft.ts'
import type { Input } from '#raft/types.ts'
import { received, type Mutant } from './mutant.ts'

/** Is the input a hint that the follower's connection to its leader broke? */
function isOfItsLeader(state: RaftState, { event }: Input): boolean {
  return event.kind === 'peer-lost' && state.role === 'follower' && event.peer === state.leader
}

export const HINT_MUTANTS: readonly Mutant[] = [
  {
    name: 'lost-leader-means-election',
    bug: 'a follower that loses its connection to the leader starts an election without a pre-vote',
    after: (state, input) => {
      if (isOfItsLeader(state, input) && mayCampaign(state)) startElection(state, false)
      return state.effects
    }
  },
  {
    name: 'suspicion-is-for-all',
    bug: 'a follower in contact with its leader votes for a candidate that is not (etcd without check-quorum)',
    before: (state, input) => {
      if (received(input, 'pre-vote-request') !== null || received(input, 'vote-request') !== null) {
        state.leaderContactMs = -Infinity
      }
      return input
    }
  },
  {
    name: 'leader-gives-up-for-a-lost-peer',
    bug: 'a leader steps down when one connection breaks, without counting the followers that still reply',
    after: (state, { event }) => {
      if (event.kind === 'peer-lost' && state.role === 'leader') becomeFollower(state, state.term, null)
      return state.effects
    }
  },
  {
    name: 'each-hint-postpones-the-election',
    bug: 'each refused connection restarts the wait before the election',
    after: (state, input, effects) => {
      if (isOfItsLeader(state, input)) {
        state.electionAtMs = state.nowMs + 2 * state.options.heartbeatMs * (1 + input.random)
      }
      return effects
    }
  },
  {
    name: 'suspicion-survives-a-heartbeat',
    bug: 'a heartbeat does not cancel the shortened timeout that a false hint started',
    before: (state, input) => {
      if (state.leaderContactMs === -Infinity && received(input, 'append-request')?.from === state.leader) {
        state.electionAtMs = Math.min(state.electionAtMs, input.nowMs)
        return { ...input, event: { kind: 'tick' } }
      }
      return input
    }
  }
]
