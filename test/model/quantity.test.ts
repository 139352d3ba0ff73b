import assert from 'node:assert/strict'
import fc from 'fast-check'
import t from 'tap'
import { checkDelay, checkRate, formatRate, parseDelay, parseRate, RATE_MAX, RATE_MIN } from '#model/quantity.ts'

const rates: readonly (readonly [text: string, bitsPerSecond: number])[] = [
  ['0', 0],
  ['0mbit', 0],
  ['0.0gbit', 0],
  ['8000', 8_000],
  ['8000bit', 8_000],
  ['8kbit', 8_000],
  ['10mbit', 10_000_000],
  ['10Mbit', 10_000_000],
  ['10MBIT', 10_000_000],
  ['1gbit', 1e9],
  ['1tbit', 1e12],
  ['1.5mbit', 1_500_000],
  ['1.1mbit', 1_100_000],
  ['0.000001tbit', 1_000_000],
  ['8kibit', 8_192],
  ['1mibit', 1_048_576],
  ['1gibit', 1_073_741_824],
  ['1kbps', 8_000],
  ['1mbps', 8_000_000],
  ['1000bps', 8_000]
]
for (const [text, bitsPerSecond] of rates) {
  t.test(`${text} is ${bitsPerSecond} bits/s`, t => {
    t.equal(parseRate(text, 'egressRate'), bitsPerSecond)
    t.end()
  })
}

for (const text of [
  '',
  ' ',
  'mbit',
  '10 mbit',
  ' 10mbit',
  '10mbit ',
  '10mbit\n',
  '-1',
  '-10mbit',
  '+10mbit',
  '10m',
  '10mb',
  '10mbits',
  '10mbit/s',
  '10mbitmbit',
  '10kibps',
  '1e6',
  '1e6bit',
  '0x10',
  'Infinity',
  'NaN',
  '1,5mbit',
  '1.mbit',
  '.5mbit',
  '1.2.3mbit',
  '1.0000000mbit',
  '1000000000000000000000',
  '10\u212Abit',
  '１０mbit',
  '10constructor',
  '10__proto__',
  '10tostring',
  '1',
  '7999',
  '7.999kbit',
  '0.4',
  '0.1bit',
  '0.000001kbit',
  '1.1tbit',
  '2tbit',
  '1tibit',
  '1tbps'
]) {
  t.test(`${JSON.stringify(text)} is not a rate`, t => {
    t.throws(() => parseRate(text, 'egressRate'), { code: 'ERR_INVALID', field: 'egressRate' })
    t.end()
  })
}

const delays: readonly (readonly [text: string, us: number])[] = [
  ['0', 0],
  ['0ms', 0],
  ['500', 500],
  ['500us', 500],
  ['500usec', 500],
  ['10ms', 10_000],
  ['10MS', 10_000],
  ['10msec', 10_000],
  ['1.5ms', 1_500],
  ['1s', 1_000_000],
  ['60s', 60_000_000],
  ['60sec', 60_000_000]
]
for (const [text, us] of delays) {
  t.test(`${text} is ${us} microseconds`, t => {
    t.equal(parseDelay(text, 'delay'), us)
    t.end()
  })
}

for (const text of [
  '',
  '-1ms',
  '61s',
  '60.000001s',
  '10mss',
  '1m',
  '1h',
  '1min',
  '1ns',
  '1e3',
  '10 ms',
  '0.1us',
  '10ｍs'
]) {
  t.test(`${JSON.stringify(text)} is not a delay`, t => {
    t.throws(() => parseDelay(text, 'delay'), { code: 'ERR_INVALID', field: 'delay' })
    t.end()
  })
}

t.test('numbers follow the same rules as text', t => {
  for (const good of [0, RATE_MIN, 12_345, RATE_MAX]) t.equal(checkRate(good, 'r'), good)
  for (const bad of [-1, 1, RATE_MIN - 1, RATE_MIN + 0.5, RATE_MAX + 1, NaN, Infinity]) {
    t.throws(() => checkRate(bad, 'r'), { code: 'ERR_INVALID', field: 'r' }, String(bad))
  }
  for (const good of [0, 1, 60e6]) t.equal(checkDelay(good, 'd'), good)
  for (const bad of [-1, 0.5, 60e6 + 1, NaN, Infinity]) {
    t.throws(() => checkDelay(bad, 'd'), { code: 'ERR_INVALID', field: 'd' }, String(bad))
  }
  t.end()
})

t.test('a rate is formatted in its largest exact unit, and parses back', t => {
  t.equal(formatRate(0), 'unlimited')
  t.equal(formatRate(10_000_000), '10mbit')
  t.equal(formatRate(1_500_000), '1500kbit')
  t.equal(formatRate(8_001), '8001bit')
  t.equal(formatRate(RATE_MAX), '1tbit')
  const zeros = fc.tuple(fc.integer({ min: 1, max: 9_999 }), fc.nat(9)).map(([n, power]) => n * 10 ** power)
  const rate = fc.oneof(zeros, fc.integer({ min: RATE_MIN, max: RATE_MAX })).filter(n => n >= RATE_MIN && n <= RATE_MAX)
  const property = fc.property(rate, n => assert.equal(parseRate(formatRate(n), 'r'), n))
  fc.assert(property, { numRuns: 1_000 })
  t.end()
})

t.test('six decimals of any unit are exact', t => {
  const property = fc.property(fc.integer({ min: 8_000, max: 1e12 }), n => {
    const decimals = (n % 1e6).toString().padStart(6, '0')
    assert.equal(parseRate(`${Math.floor(n / 1e6)}.${decimals}mbit`, 'r'), n)
  })
  fc.assert(property, { numRuns: 1_000 })
  t.pass()
  t.end()
})
