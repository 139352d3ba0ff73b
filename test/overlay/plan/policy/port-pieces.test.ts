import fc from 'fast-check'
import t from 'tap'
import { piecesOf, prefixesOf, PORT_BITS } from '#overlay/plan/policy/port-pieces.ts'

const interval = fc
  .tuple(fc.nat({ max: 65_535 }), fc.nat({ max: 65_535 }))
  .map(([a, b]) => ({ first: Math.min(a, b), last: Math.max(a, b) }))

t.test('the prefixes of a range follow each other, are aligned, and cover exactly the range', t => {
  const check = (first: number, last: number): void => {
    const prefixes = prefixesOf({ first, last })
    let next = first
    for (const { port, portBits } of prefixes) {
      const size = 2 ** (PORT_BITS - portBits)
      if (port !== next || port % size !== 0) t.fail(`${port}/${portBits} of ${first}-${last}`)
      next = port + size
    }
    t.equal(next, last + 1, `${first}-${last}`)
    t.ok(prefixes.length <= 30, `${prefixes.length} prefixes`)
  }
  fc.assert(fc.property(interval, ({ first, last }) => check(first, last)))
  for (const [first, last] of [
    [0, 65_535],
    [1, 65_534],
    [0, 0],
    [65_535, 65_535],
    [80, 80]
  ] as const)
    check(first, last)
  t.equal(prefixesOf({ first: 1, last: 65_534 }).length, 30, 'the worst one')
  t.same(prefixesOf({ first: 0, last: 65_535 }), [{ port: 0, portBits: 0 }])
  t.same(prefixesOf({ first: 8_000, last: 8_007 }), [{ port: 8_000, portBits: 13 }])
  t.end()
})

t.test('pieces cover all ports, and no range begins or ends inside one', t => {
  fc.assert(
    fc.property(fc.array(interval, { maxLength: 8 }), ranges => {
      const pieces = piecesOf(ranges)
      t.equal(pieces[0]?.first, 0)
      t.equal(pieces.at(-1)?.last, 65_535)
      t.ok(pieces.every(({ last }, at) => pieces[at + 1] === undefined || pieces[at + 1]?.first === last + 1))
      t.ok(
        ranges.every(({ first, last }) =>
          pieces.every(
            piece => piece.last < first || piece.first > last || (piece.first >= first && piece.last <= last)
          )
        )
      )
      t.ok(pieces.length <= 2 * ranges.length + 1)
    })
  )
  t.end()
})
