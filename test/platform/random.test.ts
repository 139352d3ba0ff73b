import t from 'tap'
import { randomKey, systemRandom } from '#platform/random.ts'

t.test('a unit is in [0, 1), and the values spread over the interval', t => {
  const units = Array.from({ length: 1_000 }, () => systemRandom.unit())
  t.ok(units.every(unit => unit >= 0 && unit < 1))
  t.ok(Math.min(...units) < 0.1 && Math.max(...units) > 0.9)
  t.ok(new Set(units).size > 990)
  t.end()
})

t.test('ids and keys do not repeat', t => {
  t.match(systemRandom.id(), /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/)
  t.equal(new Set(Array.from({ length: 100 }, () => systemRandom.id())).size, 100)
  t.equal(randomKey(32).byteLength, 32)
  t.notOk(randomKey(32).equals(randomKey(32)))
  t.end()
})
