import fc from 'fast-check'
import t from 'tap'
import type { ClusterId, LogIndex, PeerId, Term } from '#model/ids.ts'
import { createRaft, type RaftState } from '#raft/raft.ts'
import { step } from '#raft/step.ts'
import type { Effect, Entry, Message } from '#raft/types.ts'
import { RAFT_OPTIONS } from '#replication/consensus/raft-node-options.ts'
import { isHeartbeat, merge, Outbox } from '#replication/transport/outbox.ts'

const [LEADER, FOLLOWER] = ['a' as PeerId, 'b' as PeerId]
const HEAD = { clusterId: 'c' as ClusterId, from: LEADER, to: FOLLOWER, term: 2 as Term, incarnation: 0 }

type Append = Extract<Message, { readonly kind: 'append-request' }>
type Reply = Extract<Message, { readonly kind: 'append-reply' }>

const entry = (index: number, bytes = 1): Entry => ({
  index: index as LogIndex,
  term: 2 as Term,
  kind: 'command',
  data: Buffer.alloc(bytes, index)
})
const entries = (from: number, count: number): Entry[] => Array.from({ length: count }, (_, n) => entry(from + n))
const append = (prevIndex: number, count: number, rest: Partial<Append> = {}): Append => ({
  ...HEAD,
  kind: 'append-request',
  prevIndex: prevIndex as LogIndex,
  prevTerm: (prevIndex === 0 ? 0 : 2) as Term,
  entries: entries(prevIndex + 1, count),
  leaderCommit: 0 as LogIndex,
  round: 1,
  ...rest
})
const reply = (matchIndex: number, rest: Partial<Reply> = {}): Reply => ({
  ...HEAD,
  kind: 'append-reply',
  success: true,
  matchIndex: matchIndex as LogIndex,
  conflictTerm: 2 as Term,
  round: 1,
  ...rest
})

t.test('consecutive messages are merged into one', t => {
  const cases: readonly (readonly [string, Message, Message, Message])[] = [
    ['entries after entries', append(0, 2), append(2, 1), append(0, 3)],
    ['entries after nothing', append(4, 0), append(4, 1, { round: 2 }), append(4, 1, { round: 2 })],
    [
      'a newer commit index',
      append(0, 2),
      append(2, 0, { leaderCommit: 2 as LogIndex }),
      append(0, 2, { leaderCommit: 2 as LogIndex })
    ],
    ['a later reply', reply(3), reply(5, { round: 2 }), reply(5, { round: 2 })],
    ['the same reply', reply(3), reply(3), reply(3)]
  ]
  for (const [what, first, second, both] of cases) t.same(merge(first, second), both, what)
  t.end()
})

t.test('messages are not merged when information would be lost', t => {
  const big = append(0, 0, { entries: [entry(1, 200_000)] })
  const cases: readonly (readonly [string, Message, Message])[] = [
    ['a gap', append(0, 2), append(3, 1)],
    ['a repetition', append(0, 2), append(1, 1)],
    ['another term', append(0, 1), append(1, 1, { term: 3 as Term })],
    ['entries of another term before it', append(0, 1), append(1, 1, { prevTerm: 1 as Term })],
    ['another incarnation', append(0, 1), append(1, 1, { incarnation: 7 })],
    ['another cluster', append(0, 1), append(1, 1, { clusterId: 'd' as ClusterId })],
    ['an earlier round', append(0, 1, { round: 2 }), append(1, 1)],
    ['more entries than one message may hold', big, append(1, 0, { entries: [entry(2, 100_000)] })],
    ['a refusal before', reply(3, { success: false }), reply(5)],
    ['a refusal after', reply(3), reply(5, { success: false })],
    ['a reply with a lower match index', reply(5), reply(3)],
    ['a reply of an earlier round', reply(3, { round: 2 }), reply(5)],
    ['different kinds', append(0, 1), reply(1)],
    ['votes', { ...HEAD, kind: 'vote-reply', granted: true }, { ...HEAD, kind: 'vote-reply', granted: true }]
  ]
  for (const [what, first, second] of cases) t.equal(merge(first, second), null, what)
  t.end()
})

t.test('only append-requests without entries may be delayed', t => {
  t.ok(isHeartbeat(append(3, 0)))
  for (const message of [append(3, 1), reply(3), { ...HEAD, kind: 'timeout-now' } as const])
    t.notOk(isHeartbeat(message))
  const outbox = new Outbox()
  t.notOk(outbox.urgent, 'an empty outbox')
  outbox.push(append(3, 0))
  t.notOk(outbox.urgent)
  outbox.push(append(3, 1))
  t.ok(outbox.urgent)
  t.same(outbox.take(), [append(3, 1)])
  t.same(outbox.take(), [], 'messages are taken once')
  t.end()
})

t.test('merged requests lead a follower to the same log, commit index and reply', t => {
  const sizes = fc.array(fc.record({ count: fc.nat(3), commit: fc.nat(3), gap: fc.nat(9) }), { maxLength: 12 })
  fc.assert(
    fc.property(sizes, requests => {
      const outbox = new Outbox()
      const [one, other] = [follower(), follower()]
      let [last, commit, round] = [0, 0, 1]
      for (const { count, commit: more, gap } of requests) {
        if (gap === 0) last += 1 // a message in between was lost
        commit = Math.min(last + count, commit + more)
        round += gap & 1
        const request = append(last, count, { leaderCommit: commit as LogIndex, round })
        last += count
        receive(one, request)
        outbox.push(request)
      }
      const left = outbox.take()
      for (const message of left) receive(other, message)
      return (
        left.length <= requests.length &&
        one.state.commitIndex === other.state.commitIndex &&
        JSON.stringify(one.state.log.between(0 as LogIndex, one.state.log.lastIndex)) ===
          JSON.stringify(other.state.log.between(0 as LogIndex, other.state.log.lastIndex)) &&
        JSON.stringify(one.sent.at(-1)) === JSON.stringify(other.sent.at(-1))
      )
    })
  )
  t.end()
})

type Follower = { readonly state: RaftState; readonly sent: Effect[] }

function follower(): Follower {
  const state = createRaft({
    self: FOLLOWER,
    clusterId: HEAD.clusterId,
    options: RAFT_OPTIONS,
    durable: {
      hardState: { term: 2 as Term, votedFor: null },
      entries: [],
      commitIndex: 0 as LogIndex,
      snapshot: null
    },
    snapshotData: null,
    incarnation: 0,
    configuration: { voters: [LEADER, FOLLOWER], learners: [] },
    nowMs: 0,
    random: 0.5
  })
  return { state, sent: [] }
}

function receive({ state, sent }: Follower, message: Message): void {
  sent.push(
    ...step(state, { event: { kind: 'receive', message }, nowMs: 1, random: 0.5 }).filter(e => e.kind === 'send')
  )
}
