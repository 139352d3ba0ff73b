import fc from 'fast-check'
import t from 'tap'
import { AnswerCache } from '#dns/answer-cache.ts'
import type { ForeignAnswer } from '#dns/foreign-answer.ts'

const answer = (keepS: number, bytes = 100): ForeignAnswer => ({
  flags: 0x8180,
  answers: 1,
  authorities: 0,
  additionals: 0,
  records: Buffer.alloc(bytes),
  ttls: [4],
  keepS
})

t.test('an answer is there until its time is over', t => {
  const cache = new AnswerCache(10_000)
  const kept = answer(10)
  cache.put('a', kept, 1_000)
  t.strictSame(cache.get('a', 1_000), { answer: kept, ageS: 0 })
  t.strictSame(cache.get('a', 10_999), { answer: kept, ageS: 9 })
  t.equal(cache.get('a', 11_000), null)
  t.equal(cache.bytes, 0, 'and takes no room then')
  t.equal(cache.get('b', 0), null)
  t.end()
})

t.test('what may not be kept, or is too large, is not', t => {
  const cache = new AnswerCache(2_000)
  cache.put('a', answer(0), 0)
  cache.put('b', answer(60, 2_000), 0)
  new AnswerCache(0).put('a', answer(60), 0)
  t.equal(cache.get('a', 0), null)
  t.equal(cache.get('b', 0), null)
  t.end()
})

t.test('the least recently used one gives way', t => {
  const cache = new AnswerCache(1_300)
  for (const key of ['a', 'b', 'c']) cache.put(key, answer(60), 0)
  cache.get('a', 0)
  cache.put('d', answer(60), 0)
  t.same(
    ['a', 'b', 'c', 'd'].filter(key => cache.get(key, 0) !== null),
    ['a', 'c', 'd']
  )
  t.end()
})

t.test('its bytes never exceed the bound, and are those of what it holds', t => {
  const step = fc.record({
    key: fc.nat(30),
    bytes: fc.nat(900),
    keepS: fc.nat(5),
    reads: fc.boolean(),
    afterMs: fc.nat(3_000)
  })
  fc.assert(
    fc.property(fc.array(step, { maxLength: 200 }), steps => {
      const cache = new AnswerCache(5_000)
      let nowMs = 0
      for (const { key, bytes, keepS, reads, afterMs } of steps) {
        nowMs += afterMs
        if (reads) cache.get(`${key}`, nowMs)
        else cache.put(`${key}`, answer(keepS, bytes), nowMs)
        if (cache.bytes > 5_000 || cache.bytes < 0) return false
      }
      for (let key = 0; key <= 30; key++) cache.get(`${key}`, nowMs + 10_000)
      return cache.bytes === 0
    })
  )
  t.end()
})
