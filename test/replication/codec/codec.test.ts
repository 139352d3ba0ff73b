import fc from 'fast-check'
import t from 'tap'
import type { ClusterId, LogIndex, PeerId, Term } from '#model/ids.ts'
import { decodeMsgpack, encodeMsgpack } from '#platform/msgpack.ts'
import type { Configuration, Entry, Message } from '#raft/types.ts'
import { decodeFeed, encodeFeed } from '#replication/feed/feed-message.ts'
import { decodeEntries, encodeEntries } from '#replication/codec/entry-codec.ts'
import { decodeRaftMessage, encodeRaftMessage } from '#replication/codec/raft-codec.ts'

const ends = { from: 'alice' as PeerId, to: 'bob' as PeerId }
const clusterId = 'c1' as ClusterId
const count = fc.maxSafeNat()
const index = count.map(n => n as LogIndex)
const term = count.map(n => n as Term)
const MAX_U48 = 2 ** 48 - 1
const entry: fc.Arbitrary<Entry> = fc.record({
  index: fc.nat(MAX_U48).map(n => n as LogIndex),
  term: fc.nat(MAX_U48).map(n => n as Term),
  kind: fc.constantFrom('noop' as const, 'command' as const, 'config' as const),
  data: fc.uint8Array({ maxLength: 64 }).map(bytes => Buffer.from(bytes))
})

const peer = fc.constantFrom('alice', 'bob', 'carol', 'dave').map(id => id as PeerId)
const configuration: fc.Arbitrary<Configuration> = fc
  .record({ voters: fc.uniqueArray(peer, { minLength: 1 }), incarnation: fc.integer({ min: 1, max: 2 ** 48 }) })
  .map(({ voters, incarnation }) => ({
    voters: voters.slice(0, 2),
    learners: voters.slice(2),
    incarnations: Object.fromEntries(voters.slice(-1).map(voter => [voter, incarnation]))
  }))

const header = {
  clusterId: fc.constant(clusterId),
  term,
  incarnation: count,
  from: fc.constant(ends.from),
  to: fc.constant(ends.to)
}
const message: fc.Arbitrary<Message> = fc.oneof(
  fc.record({ ...header, kind: fc.constant('pre-vote-request' as const), lastIndex: index, lastTerm: term }),
  fc.record({ ...header, kind: fc.constant('pre-vote-reply' as const), granted: fc.boolean(), requestTerm: term }),
  fc.record({
    ...header,
    kind: fc.constant('vote-request' as const),
    lastIndex: index,
    lastTerm: term,
    transfer: fc.boolean()
  }),
  fc.record({ ...header, kind: fc.constant('vote-reply' as const), granted: fc.boolean() }),
  fc.record({
    ...header,
    kind: fc.constant('append-request' as const),
    prevIndex: index,
    prevTerm: term,
    entries: fc.array(entry, { maxLength: 5 }),
    leaderCommit: index,
    round: count
  }),
  fc.record({
    ...header,
    kind: fc.constant('append-reply' as const),
    success: fc.boolean(),
    matchIndex: index,
    conflictTerm: term,
    round: count
  }),
  fc.record({
    ...header,
    kind: fc.constant('install-request' as const),
    meta: fc.record({ lastIndex: index, lastTerm: term, configuration }),
    size: count,
    offset: count,
    data: fc.uint8Array({ maxLength: 64 }).map(bytes => Buffer.from(bytes)),
    round: count
  }),
  fc.record({
    ...header,
    kind: fc.constant('install-reply' as const),
    lastIndex: index,
    offset: count,
    done: fc.boolean(),
    round: count
  }),
  fc.record({ ...header, kind: fc.constant('timeout-now' as const) })
)

const plain = (value: unknown): unknown => JSON.parse(JSON.stringify(value))

t.test('every Raft message survives the round trip', t => {
  const roundTrip = fc.property(message, m => {
    t.same(plain(decodeRaftMessage(encodeRaftMessage(m), ends)), plain(m))
  })
  fc.assert(roundTrip, { numRuns: 500 })
  t.end()
})

t.test('random bytes never decode to a Raft message', t => {
  const property = fc.property(fc.uint8Array({ maxLength: 200 }), bytes => {
    t.throws(() => decodeRaftMessage(bytes, ends))
  })
  fc.assert(property, { numRuns: 1_000 })
  t.end()
})

t.test('a message with one field of the wrong type is refused', t => {
  const wrong = fc.constantFrom<unknown>(null, 'x', -1, 1.5, 2 ** 60, [], {}, true)
  const property = fc.property(message, fc.nat(), wrong, (m, at, value) => {
    const parts = decodeMsgpack(encodeRaftMessage(m)) as unknown[]
    const place = at % parts.length
    if (typeof parts[place] === typeof value && typeof value !== 'object' && typeof value !== 'number') return
    if (Array.isArray(parts[place]) && Array.isArray(value)) return
    parts[place] = value
    t.throws(() => decodeRaftMessage(encodeMsgpack(parts), ends), `field ${place} of ${m.kind}`)
  })
  fc.assert(property, { numRuns: 1_000 })
  t.end()
})

t.test('entries that are cut off, or of an unknown kind, are refused', t => {
  const property = fc.property(fc.array(entry, { minLength: 1, maxLength: 4 }), fc.nat(), (entries, n) => {
    const bytes = encodeEntries(entries)
    t.same(decodeEntries(bytes), entries)
    t.equal(encodeEntries(entries), bytes, 'the same list is encoded once')
    const cut = bytes.subarray(0, bytes.byteLength - 1 - (n % Math.min(17, bytes.byteLength - 1)))
    const whole = entries.slice(0, -1)
    if (cut.byteLength !== encodeEntries(whole).byteLength) t.throws(() => decodeEntries(cut), { code: 'ERR_PEER' })
    const unknown = Buffer.from(bytes)
    unknown[12] = 3
    t.throws(() => decodeEntries(unknown), { code: 'ERR_PEER' })
  })
  fc.assert(property, { numRuns: 200 })
  for (const value of [null, 7, 'x', [], {}]) t.throws(() => decodeEntries(value), { code: 'ERR_PEER' })
  t.end()
})

t.test('feed messages carry every entry once, in order, and stay below 128 KiB', t => {
  const property = fc.property(fc.array(fc.nat({ max: 30_000 }), { maxLength: 20 }), sizes => {
    const entries = sizes.map((size, at) => ({
      index: (at + 1) as LogIndex,
      term: 1 as Term,
      kind: 'command' as const,
      data: Buffer.alloc(size, at)
    }))
    const messages = encodeFeed({ clusterId, term: 1 as Term, commitIndex: 20 as LogIndex, entries })
    const decoded = messages.map(decodeFeed)
    t.same(
      decoded.flatMap(m => m.entries.map(e => e.index)),
      entries.map(e => e.index)
    )
    t.ok(messages.every(m => m.byteLength < 128 * 1024))
    t.ok(messages.length >= 1, 'an empty range gives one message, a heartbeat')
  })
  fc.assert(property, { numRuns: 100 })
  t.throws(() => decodeFeed(encodeMsgpack(['c1', 1, 1, [[1, 1, 9, Buffer.alloc(0)]]])), { code: 'ERR_PEER' })
  t.throws(() => decodeFeed(encodeMsgpack(['c1', -1, 1, []])), { code: 'ERR_PEER' })
  t.end()
})
