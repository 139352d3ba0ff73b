import t from 'tap'
import fc from 'fast-check'
import { BACKENDS_MAX, maglev, SLOTS, slotsFor } from '#overlay/plan/services/maglev.ts'

const identities = (max: number): fc.Arbitrary<string[]> =>
  fc.uniqueArray(
    fc
      .tuple(fc.nat({ max: 0xffff }), fc.integer({ min: 1, max: 65_535 }))
      .map(([host, port]) => `10.1.${host} ${port}`),
    { minLength: 1, maxLength: max }
  )

function slotsOf(backends: readonly string[]): Map<string, number> {
  const counts = new Map(backends.map(backend => [backend, 0]))
  for (const place of maglev(backends)) {
    const backend = backends[place] ?? 'nobody'
    counts.set(backend, (counts.get(backend) ?? 0) + 1)
  }
  return counts
}

/** By slot, who has it. */
const holders = (backends: readonly string[]): string[] =>
  [...maglev(backends)].map(place => backends[place] ?? 'nobody')

t.test('each backend has a part that is at most 5 % off, and no slot is without one', async t => {
  const check = (backends: readonly string[]): void => {
    const counts = slotsOf(backends)
    const part = slotsFor(backends.length) / backends.length
    for (const [backend, count] of counts) {
      if (Math.abs(count - part) / part > 0.05) throw new Error(`${backend} of ${backends.length}: ${count} of ${part}`)
    }
    if (counts.has('nobody')) throw new Error('a slot without a backend')
  }
  fc.assert(fc.property(identities(51), check), { numRuns: 200 })
  fc.assert(fc.property(identities(BACKENDS_MAX), check), { numRuns: 40 })
  for (const count of [1, 20, 51, 52, BACKENDS_MAX]) check(Array.from({ length: count }, (_, i) => `10.1.0.${i} 80`))
  t.same(maglev([]), new Uint8Array())
})

t.test(
  'when a backend goes, hardly any slot of another one changes; when it comes, hardly any but its own',
  async () => {
    const check = (backends: readonly string[], gone: string): void => {
      const before = holders(backends)
      const after = holders(backends.filter(backend => backend !== gone))
      const moved = before.filter((backend, slot) => backend !== gone && backend !== after[slot]).length
      if (moved > SLOTS.few * 0.12) throw new Error(`${moved} slots moved with ${backends.length} backends`)
    }
    fc.assert(
      fc.property(identities(51), fc.nat(), (backends, n) => {
        fc.pre(backends.length > 1)
        check(backends, backends[n % backends.length] ?? '')
      }),
      { numRuns: 200 }
    )
    // With a constant distance between the slots that a backend asks for, as the paper has it, 426 move.
    check(['10.1.0.97 80', '10.1.0.98 80', '10.1.0.154 80'], '10.1.0.154 80')
  }
)

t.test('the table does not depend on the order, so all hosts have the same', async () => {
  fc.assert(
    fc.property(identities(51), backends => {
      const [one, other] = [holders(backends), holders([...backends].reverse())]
      return one.every((backend, slot) => backend === other[slot])
    }),
    { numRuns: 50 }
  )
})

t.test('sizes are prime and 7 does not divide them less one, so that each backend meets every slot', async t => {
  for (const size of Object.values(SLOTS)) {
    t.not((size - 1) % 7, 0)
    for (let divisor = 2; divisor * divisor <= size; divisor++)
      if (size % divisor === 0) t.fail(`${size} by ${divisor}`)
  }
  t.same([0, 1, 51, 52, BACKENDS_MAX].map(slotsFor), [0, SLOTS.few, SLOTS.few, SLOTS.many, SLOTS.many])
})
