import assert from 'node:assert/strict'
import fc from 'fast-check'
import t from 'tap'
import { VxmeshError } from '#model/errors.ts'
import {
  parseContainerId,
  parseHostName,
  parseIfName,
  parseNetworkName,
  parsePeerId,
  parseVni,
  quote,
  VNI_MAX
} from '#model/ids.ts'

type Parse = (value: never) => unknown
const cases: readonly { parse: Parse; good: readonly unknown[]; bad: readonly unknown[] }[] = [
  {
    parse: parseVni,
    good: [1, 4_096, VNI_MAX, '1', '16777215'],
    bad: [
      0,
      -1,
      1.5,
      NaN,
      Infinity,
      VNI_MAX + 1,
      '0',
      '-1',
      '+1',
      '1.0',
      '0x10',
      '1e3',
      ' 1',
      '1 ',
      '',
      '16777216',
      '٣',
      7n
    ]
  },
  {
    parse: parseNetworkName,
    good: ['a', '0', 'red', 'a-b', 'a--b', 'x'.repeat(63)],
    bad: ['', '-a', 'a-', 'Red', 'a.b', 'a_b', 'a b', 'a/b', '..', 'a\n', '\na', 'ä', 'а', 'x'.repeat(64), '__proto__']
  },
  {
    parse: parseHostName,
    good: ['h1', 'rack-12-u3', 'x'.repeat(63)],
    bad: ['', 'H1', 'h1.example.com', '-h', 'h-', 'h1\0', 'h1\n', 'x'.repeat(64), ['h1']]
  },
  {
    parse: parseContainerId,
    good: ['a', '0', 'A_b.c-d', 'a..', 'x'.repeat(128), 'a'.repeat(64)],
    bad: ['', '.', '..', '-a', '_a', 'a/b', 'a b', 'a\n', 'a:b', 'ä', 'x'.repeat(129), null, 7, {}]
  },
  {
    parse: parseIfName,
    good: ['eth0', 'e', 'veth-a_b.1', '...', 'net@1', 'x'.repeat(15)],
    bad: [
      '',
      '.',
      '..',
      'a/b',
      'a:1',
      'a b',
      'a\t',
      'a\n',
      'a\0',
      'a\x7f',
      'ä',
      'eth\u00a0',
      'eth%d',
      'x'.repeat(16),
      undefined,
      0
    ]
  },
  {
    parse: parsePeerId,
    good: [`12D3KooW${'a'.repeat(44)}`, `Qm${'1'.repeat(44)}`],
    bad: [
      '',
      'a'.repeat(39),
      'a'.repeat(81),
      `${'a'.repeat(45)}0`,
      `${'a'.repeat(45)}O`,
      `${'a'.repeat(45)}/`,
      'l'.repeat(45)
    ]
  }
]

for (const { parse, good, bad } of cases) {
  for (const value of good) {
    t.test(`${parse.name} accepts ${quote(value)}`, t => {
      t.equal(parse(value as never), parse === parseVni ? Number(value) : value)
      t.end()
    })
  }
  for (const value of bad) {
    t.test(`${parse.name} refuses ${quote(value)}`, t => {
      t.throws(() => parse(value as never), { code: 'ERR_INVALID' })
      t.end()
    })
  }
}

t.test('an error names the field as the caller calls it, and shows the value', t => {
  t.throws(() => parseNetworkName('A', 'network'), { field: 'network', message: /^network: .*, got "A"$/ })
  t.throws(() => parseVni('x'), { field: 'vni', message: /^vni: must be an integer from 1 to 16777215, got "x"$/ })
  t.throws(() => parseIfName('..', 'to'), { field: 'to', message: /^to: .* got "\.\."$/ })
  t.end()
})

t.test('any input parses to itself or throws ERR_INVALID', t => {
  const property = fc.property(fc.anything(), value => {
    for (const { parse } of cases) {
      try {
        const parsed = parse(value as never)
        assert.equal(String(parsed), String(value))
      } catch (err) {
        assert.ok(err instanceof VxmeshError && err.code === 'ERR_INVALID', String(err))
      }
    }
  })
  fc.assert(property, { numRuns: 1_000 })
  t.pass()
  t.end()
})

const quoted: readonly (readonly [value: unknown, text: string])[] = [
  ['a', '"a"'],
  [7, '7'],
  [null, 'null'],
  [undefined, 'undefined'],
  [Symbol('x'), 'symbol'],
  [7n, 'bigint'],
  ['\0\n\x1b[31m', '"\\u0000\\n\\u001b[31m"'],
  ['\x7f\x9b31m', '"\\u007f\\u009b31m"'],
  ['a\u202eb\u2028', '"a\\u202eb\\u2028"'],
  ['ü', '"ü"'],
  ['x'.repeat(78), `"${'x'.repeat(78)}"`],
  ['x'.repeat(79), `"${'x'.repeat(75)}..."`]
]
for (const [value, text] of quoted) {
  t.test(`a quoted value is safe to print on a terminal: ${text.slice(0, 40)}`, t => {
    t.equal(quote(value), text)
    t.end()
  })
}

t.test('any value is quoted in at most 80 characters without control characters', t => {
  const property = fc.property(fc.oneof(fc.anything({ withBigInt: true }), fc.string({ unit: 'binary' })), value => {
    const text = quote(value)
    assert.ok(text.length <= 80)
    assert.doesNotMatch(text, /[\p{Cc}\p{Zl}\p{Zp}\p{Bidi_C}]/u)
  })
  fc.assert(property, { numRuns: 2_000 })
  const round: { self?: unknown } = {}
  round.self = round
  t.equal(quote(round), 'object')
  t.end()
})
