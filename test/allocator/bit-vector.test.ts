import assert from 'node:assert/strict'
import fc from 'fast-check'
import t from 'tap'
import { BITS_MAX, BitVector } from '#allocator/bit-vector.ts'

/** The simplest possible implementation. */
class Model {
  readonly bits = new Set<number>()
  readonly size: number

  constructor(size: number) {
    this.size = size
  }

  nextFree(from: number, low: number): number | null {
    for (let bit = Math.max(from, low); bit < this.size; bit++) if (!this.bits.has(bit)) return bit
    for (let bit = low; bit < Math.min(from, this.size); bit++) if (!this.bits.has(bit)) return bit
    return null
  }

  runs(): number[][] {
    const runs: number[][] = []
    for (const bit of [...this.bits].sort((a, b) => a - b)) {
      const last = runs.at(-1)
      if (last?.[1] === bit - 1) last[1] = bit
      else runs.push([bit, bit])
    }
    return runs
  }
}

/** Sizes around a word, a chunk and several chunks; 32 chunks fill one word of the index of full chunks. */
const size = fc.constantFrom(1, 2, 31, 32, 33, 64, 4_095, 4_096, 4_097, 12_000, 132_000)

type Step = { readonly at: number; readonly length: number; readonly set: boolean }
const step: fc.Arbitrary<Step> = fc.record({
  at: fc.nat(131_999),
  length: fc.oneof(fc.constant(1), fc.constant(32), fc.constant(4_096), fc.nat(9_000), fc.constant(132_000)),
  set: fc.boolean()
})

t.test('a bit vector behaves like a set', t => {
  const property = fc.property(size, fc.array(step, { maxLength: 8 }), fc.nat(), fc.nat(), (size, steps, from, low) => {
    const vector = new BitVector(size)
    const model = new Model(size)
    for (const { at, length, set } of steps) {
      const first = at % size
      for (let bit = first; bit < Math.min(size, first + length); bit++) {
        if (set === model.bits.has(bit)) continue
        if (set) {
          vector.set(bit)
          model.bits.add(bit)
        } else {
          vector.clear(bit)
          model.bits.delete(bit)
        }
      }
      assert.equal(vector.count, model.bits.size)
      const [start, bottom] = [from % (size + 1), low % size]
      assert.equal(vector.nextFree(start), model.nextFree(start, 0))
      assert.equal(vector.nextFree(start, bottom), model.nextFree(start, bottom))
    }
    assert.deepEqual(
      [...vector.bits()],
      [...model.bits].sort((a, b) => a - b)
    )
    assert.deepEqual([...vector.runs()], model.runs())
    assert.equal(vector.has(from % size), model.bits.has(from % size))
    const touched = new Set([...model.bits].map(bit => bit >>> 12)).size
    assert.equal(vector.chunkCount, touched, 'chunks exist only where a bit is set')
  })
  fc.assert(property, { numRuns: 300 })
  t.pass()
  t.end()
})

t.test('setting a set bit or clearing a clear bit throws', t => {
  const vector = new BitVector(100)
  vector.set(5)
  for (const bit of [-1, 100, 4_096, 1.5, NaN, 2 ** 32 + 6]) {
    t.throws(() => vector.set(bit), /cannot be set/, `set ${bit}`)
    t.throws(() => vector.clear(bit), /cannot be cleared/, `clear ${bit}`)
    t.equal(vector.has(bit), false, `has ${bit}`)
  }
  t.throws(() => vector.set(5), /cannot be set/, 'twice')
  t.throws(() => vector.clear(6), /cannot be cleared/, 'not set')
  t.equal(vector.count, 1)
  for (const size of [0, -1, 1.5, NaN, BITS_MAX + 1]) t.throws(() => new BitVector(size), /a bit vector of/)
  t.end()
})

t.test('a vector of 2^24 bits allocates chunks only where bits are set, and frees them', t => {
  const vector = new BitVector(BITS_MAX)
  t.equal(vector.chunkCount, 0)
  const bits = [0, 4_095, 4_096, 8_000_000, BITS_MAX - 1]
  for (const bit of bits) vector.set(bit)
  t.equal(vector.chunkCount, 4)
  t.same([...vector.bits()], bits)
  for (const bit of bits) vector.clear(bit)
  t.equal(vector.chunkCount, 0)
  t.equal(vector.count, 0)
  t.end()
})

t.test('the only free bit is found from any start', t => {
  const vector = new BitVector(BITS_MAX)
  for (let bit = 0; bit < BITS_MAX; bit++) vector.set(bit)
  t.equal(vector.nextFree(0), null)
  t.equal(vector.nextFree(BITS_MAX), null)
  for (const hole of [0, 4_095, 4_096, 131_072, 9_999_999, BITS_MAX - 1]) {
    vector.clear(hole)
    for (const from of [0, hole, hole + 1, 5_000_000, BITS_MAX])
      t.equal(vector.nextFree(from), hole, `${hole}, ${from}`)
    t.equal(vector.nextFree(hole, Math.min(hole + 1, BITS_MAX - 1)), hole === BITS_MAX - 1 ? hole : null, 'low is kept')
    vector.set(hole)
  }
  t.same([...vector.runs()], [[0, BITS_MAX - 1]])
  t.end()
})
