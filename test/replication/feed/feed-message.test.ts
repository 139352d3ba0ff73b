import assert from 'node:assert/strict'
import fc from 'fast-check'
import t from 'tap'
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

for (const { what, data } of malformed) {
  t.test(`a malformed message is refused: ${what}`, t => {
    t.throws(() => decodeFeed(data), { code: 'ERR_PEER' })
    t.end()
  })
}
