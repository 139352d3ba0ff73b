import fc from 'fast-check'
import t from 'tap'
import type { LogIndex, Term } from '#model/ids.ts'
import { FeedOrder, MAX_EARLY_ENTRIES } from '#replication/feed/feed-order.ts'
import type { Entry } from '#raft/types.ts'

const index = (n: number): LogIndex => n as LogIndex
const entry = (n: number): Entry => ({
  index: index(n),
  term: 1 as Term,
  kind: 'command',
  data: Uint8Array.from([n & 255])
})

t.test('whatever gossip does, entries come out in order, each once', t => {
  const property = fc.property(
    fc.array(fc.array(fc.integer({ min: 1, max: 40 }), { maxLength: 6 }), { maxLength: 60 }),
    fc.integer({ min: 0, max: 10 }),
    (messages, applied) => {
      const order = new FeedOrder(index(applied))
      const out = messages.flatMap(m => order.accept(m.map(entry), index(0)).map(e => e.index))
      t.same(
        out,
        out.map((_, at) => applied + 1 + at)
      )
      t.equal(order.next, applied + 1 + out.length)
    }
  )
  fc.assert(property, { numRuns: 500 })
  t.end()
})

t.test('a gap is known from an early entry, and from a commit index alone', t => {
  const order = new FeedOrder(index(0))
  t.equal(order.missing, false)
  t.same(order.accept([entry(3)], index(3)), [])
  t.equal(order.missing, true)
  t.same(
    order.accept([entry(1), entry(2)], index(0)).map(e => e.index),
    [1, 2, 3]
  )
  t.equal(order.missing, false)
  order.accept([], index(5))
  t.equal(order.missing, true)
  t.end()
})

t.test('early entries are bounded, and the wanted one is taken even when the room is full', t => {
  const order = new FeedOrder(index(0))
  for (let n = 2; n < MAX_EARLY_ENTRIES + 100; n++) order.accept([entry(n)], index(n))
  const out = order.accept([entry(1)], index(1))
  t.equal(out.length, MAX_EARLY_ENTRIES + 1)
  t.equal(order.missing, true, 'what did not fit is still known to be missing')
  t.end()
})

t.test('what no server has is not missing', t => {
  const order = new FeedOrder(index(5))
  order.accept([], index(900))
  t.ok(order.missing)
  order.confirm(index(7))
  t.same([order.highest, order.missing], [7, true])
  order.confirm(index(3))
  t.same([order.highest, order.missing], [5, false], 'never below what was handed out')
  t.end()
})
