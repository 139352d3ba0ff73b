import assert from 'node:assert/strict'
import fc from 'fast-check'
import t from 'tap'
import { Pool } from '#allocator/pool.ts'

const BASE = 1_000
const SIZE = 40
const RESERVED = [BASE, BASE + 7, BASE + SIZE - 1]
const LOW = BASE + 4

function makePool(): Pool {
  return new Pool({ base: BASE, size: SIZE, reserved: RESERVED, firstAutomatic: LOW })
}

/** Takes the next value, as the state machine does. */
function takeNext(pool: Pool): number | null {
  const value = pool.next()
  if (value !== null) pool.take(value)
  return value
}

const step = fc.oneof(
  { weight: 5, arbitrary: fc.constant({ kind: 'take' as const, at: 0 }) },
  { weight: 3, arbitrary: fc.record({ kind: fc.constant('release' as const), at: fc.nat(99) }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('claim' as const), at: fc.nat(SIZE - 1) }) }
)

t.test('a pool is next-fit: it allocates the first free value after the last allocation', t => {
  const property = fc.property(fc.array(step, { maxLength: 200 }), steps => {
    const pool = makePool()
    const held = new Set<number>()
    let cursor = LOW
    for (const { kind, at } of steps) {
      if (kind === 'take') {
        const round = [...Array(SIZE).keys()].map(n => BASE + ((cursor - BASE + n) % SIZE))
        const expected = round.find(value => value >= LOW && !held.has(value) && !RESERVED.includes(value)) ?? null
        const value = takeNext(pool)
        assert.equal(value, expected)
        if (value === null) continue
        held.add(value)
        cursor = value + 1
      } else if (kind === 'release') {
        const value = [...held][at % Math.max(held.size, 1)]
        if (value === undefined) continue
        pool.release(value)
        held.delete(value)
      } else {
        const value = BASE + at
        const free = !held.has(value) && !RESERVED.includes(value)
        assert.equal(pool.isFree(value), free)
        if (!free) {
          assert.throws(() => pool.claim(value))
          continue
        }
        pool.claim(value)
        held.add(value)
      }
      assert.equal(pool.use().used, held.size)
    }
    assert.deepEqual(
      [...pool.values()],
      [...held, ...RESERVED].sort((a, b) => a - b)
    )
  })
  fc.assert(property, { numRuns: 1_000 })
  t.pass()
  t.end()
})

t.test('a released value is the last to be reused', t => {
  // After any history: take one value, release it, and take values until it comes again.
  const property = fc.property(fc.array(step, { maxLength: 120 }), steps => {
    const pool = makePool()
    const held: number[] = []
    for (const { kind, at } of steps) {
      if (kind === 'take') held.push(takeNext(pool) ?? -1)
      else if (kind === 'release' && held.length > 0)
        held.splice(at % held.length, 1).forEach(v => v > 0 && pool.release(v))
    }
    const value = takeNext(pool)
    if (value === null) return
    pool.release(value)
    const others = [...Array(SIZE).keys()].map(n => BASE + n).filter(v => v >= LOW && v !== value && pool.isFree(v))
    const given = others.map(() => takeNext(pool))
    assert.deepEqual([...given].sort(), [...others].sort(), 'all other values come first')
    assert.equal(takeNext(pool), value)
    assert.equal(takeNext(pool), null)
  })
  fc.assert(property, { numRuns: 1_000 })
  t.pass()
  t.end()
})

t.test('refused values are skipped, but only while they are refused', t => {
  const pool = makePool()
  t.equal(
    pool.next(value => value < LOW + 2),
    LOW + 2
  )
  t.equal(pool.next(), LOW, 'next() changes nothing')
  t.equal(
    pool.next(() => true),
    null,
    'all refused'
  )
  pool.take(BASE + SIZE - 2)
  t.equal(pool.cursor, BASE + SIZE - 1)
  t.equal(
    pool.next(value => value !== LOW + 9),
    LOW + 9,
    'it looks all the way round'
  )
  t.end()
})

t.test('explicit values may lie below the automatic range; automatic ones never do', t => {
  const pool = makePool()
  pool.claim(LOW - 1)
  const given: number[] = []
  for (let value = takeNext(pool); value !== null; value = takeNext(pool)) given.push(value)
  t.equal(given.length, SIZE - 4 - 2)
  t.ok(given.every(value => value >= LOW && !RESERVED.includes(value)))
  t.equal(pool.isFree(LOW - 2), true, 'free, but not allocated automatically')
  t.same(pool.use(), { base: BASE, size: SIZE, used: given.length + 1, reserved: 3, cursor: pool.cursor })
  t.end()
})

t.test('violated invariants throw', t => {
  const pool = makePool()
  pool.claim(LOW)
  t.throws(() => pool.claim(LOW), /cannot be set/)
  t.throws(() => pool.claim(BASE + 7), /cannot be set/)
  t.throws(() => pool.claim(BASE - 1), /cannot be set/)
  t.throws(() => pool.claim(BASE + SIZE), /cannot be set/)
  t.throws(() => pool.release(LOW + 1), /cannot be cleared/)
  t.throws(() => pool.release(BASE + 7), /reserved/)
  for (const cursor of [LOW - 1, BASE + SIZE, LOW + 0.5, NaN]) t.throws(() => pool.restoreCursor(cursor), /a cursor at/)
  t.equal(pool.isReserved(BASE + 7), true)
  t.equal(pool.isReserved(LOW), false)
  t.end()
})
