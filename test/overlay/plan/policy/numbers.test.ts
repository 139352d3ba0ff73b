import fc from 'fast-check'
import t from 'tap'
import { numbersOf } from '#overlay/plan/policy/numbers.ts'

t.test('each text has a number of 32 bits of its own, and none has 0', t => {
  fc.assert(
    fc.property(fc.array(fc.string()), texts => {
      const numbers = numbersOf(texts)
      t.equal(numbers.size, new Set(texts).size)
      t.equal(new Set(numbers.values()).size, numbers.size)
      t.ok([...numbers.values()].every(each => Number.isInteger(each) && each > 0 && each < 2 ** 32))
    })
  )
  t.end()
})

t.test('numbers do not depend on the order of the texts, and stay when others come and go', t => {
  const texts = Array.from({ length: 1_000 }, (_, n) => `tier=t${n}`)
  const numbers = numbersOf(texts)
  t.same([...numbersOf(texts.toReversed())].sort(), [...numbers].sort())
  const fewer = numbersOf(texts.slice(500))
  t.ok([...fewer].every(([text, number]) => numbers.get(text) === number))
  t.end()
})

t.test('texts with the same hash have numbers that follow each other', t => {
  // Found by search: the birthday of 200,000 texts in 2^32 hashes.
  const [one, other] = colliding()
  const alone = numbersOf([one]).get(one) ?? 0
  t.equal(numbersOf([other]).get(other), alone, 'their hashes are the same')
  const both = numbersOf([other, one])
  t.same([both.get(one), both.get(other)].sort(), [alone, alone + 1].sort())
  t.end()
})

/** In ascending order. */
function colliding(): readonly [string, string] {
  const seen = new Map<number, string>()
  for (let n = 0; n < 1_000_000; n++) {
    const text = `t${n}`
    const number = numbersOf([text]).get(text) ?? 0
    const before = seen.get(number)
    if (before !== undefined) return before < text ? [before, text] : [text, before]
    seen.set(number, text)
  }
  throw new Error('no two texts with the same hash')
}
