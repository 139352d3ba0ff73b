import fc from 'fast-check'
import t from 'tap'
import { PrefixTable } from '#overlay/plan/policy/prefix-table.ts'

t.test('the longest prefix of a key is found, and of equal ones the last', t => {
  const table = new PrefixTable<string>(8)
  t.equal(table.find(0n), undefined)
  table.add(0b1010_0000n, 4, 'four')
  table.add(0b1010_1000n, 5, 'five')
  t.equal(table.find(0b1010_0111n), 'four')
  t.equal(table.find(0b1010_1111n), 'five')
  t.equal(table.find(0b1011_0000n), undefined)
  table.add(0n, 0, 'all')
  t.equal(table.find(0b1011_0000n), 'all')
  // Bits after the length are no part of a stored key.
  table.add(0b1010_1111n, 5, 'again')
  t.equal(table.find(0b1010_1000n), 'again')
  table.add(0xffn, 8, 'one key')
  t.equal(table.find(0xffn), 'one key')
  t.end()
})

t.test('what is found is what a comparison with every entry finds', t => {
  const entry = fc.record({ key: fc.nat({ max: 255 }), length: fc.nat({ max: 8 }) })
  fc.assert(
    fc.property(fc.array(entry, { maxLength: 20 }), entries => {
      const table = new PrefixTable<number>(8)
      entries.forEach(({ key, length }, at) => table.add(BigInt(key), length, at))
      const digits = (key: number): string => key.toString(2).padStart(8, '0')
      for (let key = 0; key < 256; key++) {
        const fitting = entries
          .map(({ key: own, length }, at) => ({ prefix: digits(own).slice(0, length), at }))
          .filter(({ prefix }) => digits(key).startsWith(prefix))
          .sort((a, b) => b.prefix.length - a.prefix.length || b.at - a.at)
        if (table.find(BigInt(key)) !== fitting[0]?.at) t.fail(`${key}`)
      }
      t.pass()
    })
  )
  t.end()
})
