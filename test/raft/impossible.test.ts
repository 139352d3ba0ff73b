import fc from 'fast-check'
import t from 'tap'
import type { ClusterId, LogIndex, PeerId, Term } from '#model/ids.ts'
import { encodeConfiguration } from '#raft/configuration.ts'
import { whyMalformed } from '#raft/impossible.ts'
import { step } from '#raft/step.ts'
import type { Entry, Message } from '#raft/types.ts'
import { Cluster, type Server } from './cluster.ts'

const [s1, s2] = ['s1', 's2'] as [PeerId, PeerId]
type Body = { readonly kind: Message['kind']; readonly [field: string]: unknown }

const entry = (index: number, term: number, kind: Entry['kind'] = 'command'): Entry => ({
  index: index as LogIndex,
  term: term as Term,
  kind,
  data: kind === 'config' ? encodeConfiguration({ voters: [s1, s2], learners: [] }) : new Uint8Array(1)
})

const append = (p: Partial<Record<string, unknown>>): Body => ({
  kind: 'append-request',
  prevIndex: 0,
  prevTerm: 0,
  entries: [],
  leaderCommit: 0,
  round: 1,
  ...p
})

function sent(to: Server, from: string, term: number, body: Body): Message {
  const { clusterId } = to.state
  return { clusterId, from, to: to.id, term, incarnation: 0, ...body } as unknown as Message
}

/** A server that a sender contradicts: what it refuses the message with. */
function refusals(to: Server, from: string, term: number, body: Body): string[] {
  const nowMs = to.state.nowMs
  const effects = step(to.state, {
    event: { kind: 'receive', message: sent(to, from, term, body) },
    nowMs,
    random: 0.5
  })
  return effects.flatMap(effect => (effect.kind === 'impossible' ? [effect.why] : []))
}

/** Three servers; s1 leads, and an entry is committed on all. */
function committed(): { leader: Server; follower: Server; term: number } {
  const cluster = new Cluster(['s1', 's2', 's3'])
  cluster.elect('s1')
  cluster.at('s1').propose('a')
  cluster.settle()
  cluster.advance(200)
  return { leader: cluster.at('s1'), follower: cluster.at('s2'), term: cluster.at('s1').state.term }
}

t.test('a snapshot without a byte is malformed: it would be complete before anything of it has come', async t => {
  const { follower, term } = committed()
  const meta = { lastIndex: 9, lastTerm: term, configuration: { voters: [s1], learners: [] } }
  const install: Body = { kind: 'install-request', meta, size: 0, offset: 0, data: new Uint8Array(), round: 1 }
  t.match(refusals(follower, 's1', term, install), [/snapshot of 0 bytes/])
  t.equal(whyMalformed(sent(follower, 's1', term, { ...install, size: 1 })), null)
})

t.test('a second leader of a term is refused by the first', async t => {
  const { leader, term } = committed()
  t.match(refusals(leader, 's2', term, append({})), [/second leader/])
  const meta = { lastIndex: 9, lastTerm: term, configuration: { voters: [s1], learners: [] } }
  const install: Body = { kind: 'install-request', meta, size: 1, offset: 0, data: new Uint8Array(1), round: 1 }
  t.match(refusals(leader, 's2', term, install), [/second leader/])
  t.equal(leader.state.role, 'leader')
})

t.test('an acknowledgement of an entry that was never sent is refused', async t => {
  const { leader, term } = committed()
  const reply: Body = { kind: 'append-reply', success: true, matchIndex: 99, conflictTerm: term, round: 1 }
  t.match(refusals(leader, 's2', term, reply), [/99, which was never sent/])
})

t.test('a late acknowledgement of an earlier term is ignored, whatever it acknowledges', async t => {
  const { leader, term } = committed()
  const reply: Body = { kind: 'append-reply', success: true, matchIndex: 99, conflictTerm: term, round: 1 }
  t.same(refusals(leader, 's2', term - 1, reply), [])
  t.equal(leader.state.role, 'leader')
})

t.test('entries that would replace committed ones are refused, and the log stays', async t => {
  const { follower, term } = committed()
  const before = follower.state.log.lastIndex
  t.ok(follower.state.commitIndex >= 2)
  const entries = [entry(1, term), entry(2, term + 1)]
  t.match(refusals(follower, 's3', term + 1, append({ entries })), [/are committed/])
  t.match(refusals(follower, 's3', term + 1, append({ prevIndex: 2, prevTerm: term + 1 })), [/are committed/])
  t.equal(follower.state.log.lastIndex, before)
  t.equal(follower.state.term, term, 'the term of such a message is not adopted')
})

for (const { what, body, term = 5 } of [
  { what: 'entries out of order', body: append({ entries: [entry(2, 1), entry(1, 1)] }) },
  { what: 'a gap', body: append({ entries: [entry(1, 1), entry(3, 1)] }) },
  { what: 'entries before prevIndex', body: append({ prevIndex: 5, prevTerm: 1, entries: [entry(5, 1)] }) },
  { what: 'terms that go down', body: append({ entries: [entry(1, 3), entry(2, 2)] }) },
  { what: 'an entry of a later term', body: append({ entries: [entry(1, 6)] }) },
  { what: 'prevTerm of a later term', body: append({ prevIndex: 1, prevTerm: 6 }) },
  { what: 'garbage for a configuration', body: append({ entries: [{ ...entry(1, 1), kind: 'config' }] }) },
  { what: 'a commit index out of bounds', body: append({ leaderCommit: 2 ** 50 }) },
  { what: 'a term out of bounds', body: append({}), term: 2 ** 50 },
  { what: 'a candidate with a later log than its term', body: { kind: 'vote-request', lastIndex: 1, lastTerm: 6 } }
] as const) {
  t.test(`${what} is malformed`, async t => {
    const { follower } = committed()
    t.type(whyMalformed(sent(follower, 's3', term, body)), 'string')
    const before = follower.state.term
    t.equal(refusals(follower, 's3', term, body).length, 1)
    t.equal(follower.state.term, before)
  })
}

t.test('what a leader sends is not malformed', async t => {
  const cluster = new Cluster(['s1', 's2', 's3'])
  cluster.elect('s1')
  cluster.at('s1').propose('a')
  cluster.at('s1').propose('b')
  const messages = cluster.take()
  t.ok(messages.some(message => message.kind === 'append-request' && message.entries.length > 0))
  t.same(
    messages.map(whyMalformed),
    messages.map(() => null)
  )
})

const count = fc.oneof(fc.nat(6), fc.constantFrom(2 ** 48, 2 ** 50, Number.MAX_SAFE_INTEGER))
const someEntry = fc
  .tuple(count, count, fc.constantFrom('noop', 'command', 'config'), fc.boolean())
  .map(([index, term, kind, good]) => (good ? entry(index, term, kind) : { ...entry(index, term), kind: kind }))
const meta = fc.record({
  lastIndex: count,
  lastTerm: count,
  configuration: fc.constantFrom({ voters: [s1, s2], learners: [] }, { voters: ['s3' as PeerId], learners: [s1] })
})
const data = fc.uint8Array({ maxLength: 6 })
const body: fc.Arbitrary<Body> = fc.oneof(
  fc.record({
    kind: fc.constant('append-request' as const),
    prevIndex: count,
    prevTerm: count,
    entries: fc.array(someEntry, { maxLength: 4 }),
    leaderCommit: count,
    round: count
  }),
  fc.record({
    kind: fc.constant('append-reply' as const),
    success: fc.boolean(),
    matchIndex: count,
    conflictTerm: count,
    round: count
  }),
  fc.record({
    kind: fc.constant('install-request' as const),
    meta,
    size: fc.nat(20),
    offset: count,
    data,
    round: count
  }),
  fc.record({
    kind: fc.constant('install-reply' as const),
    lastIndex: count,
    offset: count,
    done: fc.boolean(),
    round: count
  }),
  fc.record({
    kind: fc.constantFrom('pre-vote-request' as const, 'vote-request' as const),
    lastIndex: count,
    lastTerm: count,
    transfer: fc.boolean()
  }),
  fc.record({ kind: fc.constant('vote-reply' as const), granted: fc.boolean() }),
  fc.record({ kind: fc.constant('pre-vote-reply' as const), granted: fc.boolean(), requestTerm: count }),
  fc.record({ kind: fc.constant('timeout-now' as const) })
)

t.test('no message of any server makes a core throw, whatever its role', async t => {
  const messages = fc.array(
    fc.tuple(fc.constantFrom('s1', 's2', 's3'), fc.constantFrom('s1', 's2', 's3'), count, body),
    {
      minLength: 1,
      maxLength: 12
    }
  )
  fc.assert(
    fc.property(messages, list => {
      const cluster = new Cluster(['s1', 's2', 's3'])
      cluster.elect('s1')
      cluster.at('s1').propose('a')
      cluster.settle()
      for (const [to, from, term, each] of list) {
        const server = cluster.at(to)
        const message = sent(server, from, term, each)
        const nowMs = server.state.nowMs + 1
        step(server.state, { event: { kind: 'receive', message }, nowMs, random: 0.5 })
        step(server.state, { event: { kind: 'tick' }, nowMs: nowMs + 60, random: 0.5 })
      }
    }),
    { numRuns: 2_000 }
  )
  t.pass('2,000 runs')
})

// The type of a cluster id is a brand: a message of another cluster is dropped silently.
t.test('a message of another cluster is dropped, not refused', async t => {
  const { follower, term } = committed()
  const message = { ...sent(follower, 's3', term, append({ leaderCommit: 2 ** 50 })), clusterId: 'x' as ClusterId }
  t.same(step(follower.state, { event: { kind: 'receive', message }, nowMs: follower.state.nowMs, random: 0 }), [])
})
