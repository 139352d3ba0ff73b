import assert from 'node:assert/strict'
import fc from 'fast-check'
import t from 'tap'
import { decodeMsgpack, encodeMsgpack } from '#platform/msgpack.ts'
import { decodeFeed, encodeFeed } from '#replication/feed/feed-message.ts'
import { CLUSTER, entry, index } from '../entries.ts'
import { malformed, TERM } from './fixtures.ts'

t.test('a range is split into as few messages as it fits in, and decodes to itself', t => {
  const property = fc.property(fc.array(fc.nat(20_000), { maxLength: 30 }), fc.nat(1_000), (sizes, start) => {
    const all = sizes.map((size, n) => entry(start + n + 1, size))
    const commitIndex = index(start + all.length)
    const messages = encodeFeed({ clusterId: CLUSTER, term: TERM, commitIndex, entries: all })
    const read = messages.map(decodeFeed)
    assert.deepEqual(
      read.flatMap(m => m.entries.map(e => ({ ...e, data: Uint8Array.from(e.data) }))),
      all
    )
    for (const { clusterId, term, commitIndex: commit } of read) {
      assert.deepEqual([clusterId, term, commit], [CLUSTER, TERM, commitIndex])
    }
    assert.ok(messages.every(m => m.byteLength < 72 * 1024))
    assert.ok(messages.slice(0, -1).every(m => m.byteLength > 40 * 1024))
    assert.ok(messages.length > 0, 'an empty range has a message too: it carries the commit index')
  })
  fc.assert(property, { numRuns: 100 })
  t.pass()
  t.end()
})

t.test('notes travel in the last message, and a message without them is that of earlier releases', t => {
  const notes = [
    [64, '2 abc'],
    [70, '']
  ] as const
  const message = { clusterId: CLUSTER, term: TERM, commitIndex: index(70) }
  const many = encodeFeed({ ...message, entries: [1, 2, 3].map(n => entry(n, 40_000)), notes }).map(decodeFeed)
  t.same(
    many.flatMap(each => each.notes),
    notes
  )
  t.same(many.at(-1)?.notes, notes)
  t.same(
    encodeFeed({ ...message, entries: [], notes }).map(data => decodeFeed(data).notes),
    [notes]
  )
  const [without] = encodeFeed({ ...message, entries: [] })
  t.equal((decodeMsgpack(without ?? new Uint8Array()) as unknown[]).length, 4)
  t.end()
})

t.test('malformed notes are refused', t => {
  const good = [64, 'x']
  for (const notes of [null, 'x', {}, [good, null], [[64]], [[-1, 'x']], [[1.5, 'x']], [[64, 7]], [[64, 'x', 1]]]) {
    const data = encodeMsgpack([CLUSTER, TERM, 1, [], notes])
    t.throws(() => decodeFeed(data), { code: 'ERR_PEER' }, JSON.stringify(notes))
  }
  for (const notes of [Array(5).fill(good), [[64, 'x'.repeat(129)]], [[Number.MAX_SAFE_INTEGER, 'x']]]) {
    t.throws(() => decodeFeed(encodeMsgpack([CLUSTER, TERM, 1, [], notes])), { code: 'ERR_PEER' })
  }
  t.throws(() => decodeFeed(encodeMsgpack([CLUSTER, TERM, 1, [], [good], 1])), { code: 'ERR_PEER' }, 'six parts')
  t.end()
})

for (const { what, data } of malformed) {
  t.test(`a malformed message is refused: ${what}`, t => {
    t.throws(() => decodeFeed(data), { code: 'ERR_PEER' })
    t.end()
  })
}
