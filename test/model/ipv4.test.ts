import assert from 'node:assert/strict'
import { isIPv4 } from 'node:net'
import fc from 'fast-check'
import t from 'tap'
import { formatIpv4, parseIpv4, parseTransitRange, type Ipv4 } from '#model/ipv4.ts'

t.test('a text is an address exactly when Node accepts it', t => {
  const octet = fc.oneof(
    fc.nat(300).map(String),
    fc.constantFrom('', '00', '01', '010', '0x1', '1e1', '-1', '+1', ' 1', '1 ', '٣', '１', '256', '1_0', '0b1')
  )
  const shape = fc.array(octet, { minLength: 1, maxLength: 6 }).map(octets => octets.join('.'))
  const property = fc.property(fc.oneof(shape, fc.ipV4(), fc.ipV6(), fc.string()), text => {
    let parsed: Ipv4 | null = null
    try {
      parsed = parseIpv4(text)
    } catch {
      // null
    }
    assert.equal(parsed !== null, isIPv4(text), text)
    if (parsed !== null) assert.equal(formatIpv4(parsed), text)
  })
  fc.assert(property, { numRuns: 5_000 })
  t.pass()
  t.end()
})

const good: readonly (readonly [text: string, value: number])[] = [
  ['0.0.0.0', 0],
  ['10.0.0.5', 0x0a000005],
  ['127.0.0.1', 0x7f000001],
  ['128.0.0.1', 0x80000001],
  ['255.255.255.255', 0xffffffff]
]
for (const [text, value] of good) {
  t.test(`${text} is ${value}, and back`, t => {
    t.equal(parseIpv4(text), value)
    t.equal(formatIpv4(value as Ipv4), text)
    t.end()
  })
}

for (const text of [
  '',
  '10',
  '10.1',
  '10.0.5',
  '10.0.0.5.6',
  '10.0.0.256',
  '10.0.0.0005',
  '010.0.0.5',
  '10.0.0.08',
  '0x0a.0.0.5',
  '167772165',
  '1e1.0.0.5',
  '10.0.0.-5',
  '+10.0.0.5',
  '10.0.0.5 ',
  ' 10.0.0.5',
  '10.0.0.5\n',
  '10.0.0.5\0',
  '10..0.5',
  '10,0,0,5',
  '١٠.0.0.5',
  '１０.0.0.5',
  '10.0.0.5/24',
  '10.0.0.5:80',
  '::ffff:10.0.0.5',
  '::',
  'localhost'
]) {
  t.test(`${JSON.stringify(text)} is no address`, t => {
    t.throws(() => parseIpv4(text, 'gateway'), { code: 'ERR_INVALID', field: 'gateway' })
    t.end()
  })
}

t.test('a transit range is a /8 and nothing else', t => {
  t.same(parseTransitRange('240.0.0.0/8'), { base: 0xf0000000, prefixLength: 8 })
  for (const text of ['', '240.0.0.0', '240.0.0.0/9', '240.0.0.1/8', '240.0.0.0/8/8', '240.0.0.0/08', 'fd00::/8']) {
    t.throws(() => parseTransitRange(text), { code: 'ERR_INVALID', field: 'transit' }, text)
  }
  t.end()
})
