// Parsing and formatting against node's net and Python's ipaddress, and arithmetic against bigints.

import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { isIPv6 } from 'node:net'
import fc from 'fast-check'
import t from 'tap'
import {
  bytesOfIpv6,
  compareIpv6,
  ipv6At,
  lastAddressIpv6,
  lowBitsOfIpv6,
  ipv6OfBytes,
  ipv6OfNumber,
  isLinkLocalIpv6,
  isUnicastIpv6,
  networkAddressIpv6,
  numberOfIpv6,
  offsetOfIpv6,
  parseIpv6,
  type Ipv6
} from '#model/ipv6.ts'

const STRINGS = 1_000_000
const STACK_FRAMES = Error.stackTraceLimit
const LAST = (1n << 128n) - 1n
const number = fc.bigInt({ min: 0n, max: LAST })

/** Reads a text a line; answers the canonical form, or an empty line. */
const PYTHON = `
import ipaddress, sys
for line in sys.stdin:
    try:
        print(ipaddress.IPv6Address(line.rstrip('\\n')))
    except ValueError:
        print()
`

t.test(
  'a million texts are addresses exactly when node and Python accept them, and have Python’s canonical form',
  t => {
    const texts = Array.from({ length: STRINGS }, randomTexts(1))
    const answers = execFileSync('python3', ['-c', PYTHON], {
      input: `${texts.join('\n')}\n`,
      encoding: 'utf8',
      maxBuffer: STRINGS * 64
    }).split('\n')
    let accepted = 0
    // A stack trace takes longer than the rest of a refusal.
    Error.stackTraceLimit = 0
    t.teardown(() => (Error.stackTraceLimit = STACK_FRAMES))
    for (const [at, text] of texts.entries()) {
      const parsed = tryParse(text)
      if (parsed !== null) accepted += 1
      if ((parsed !== null) !== isIPv6(text) || (parsed ?? '') !== answers[at])
        assert.fail(`${text} is ${parsed ?? 'no address'}; node: ${isIPv6(text)}; Python: ${answers[at]}`)
    }
    // The texts decide something.
    t.ok(accepted > STRINGS / 10 && accepted < (STRINGS * 9) / 10, `${accepted} of them are addresses`)
    t.end()
  }
)

t.test('a zone is no part of an address', t => {
  for (const text of ['fe80::1%eth0', '::1%', 'fd00::1%25lo']) {
    t.throws(() => parseIpv6(text, 'gateway'), { code: 'ERR_INVALID', field: 'gateway' }, text)
  }
  t.end()
})

t.test('numbers, bytes and texts stand for each other', t => {
  const property = fc.property(number, value => {
    const address = ipv6OfNumber(value)
    assert.equal(numberOfIpv6(address), value)
    assert.equal(parseIpv6(address), address)
    assert.equal(ipv6OfBytes(bytesOfIpv6(address)), address)
    assert.equal(BigInt(`0x${Buffer.from(bytesOfIpv6(address)).toString('hex')}`), value)
  })
  fc.assert(property, { numRuns: 2_000 })
  t.pass()
  t.end()
})

t.test('addresses sort by value', t => {
  const property = fc.property(number, number, (a, b) => {
    assert.equal(Math.sign(compareIpv6(ipv6OfNumber(a), ipv6OfNumber(b))), a < b ? -1 : a > b ? 1 : 0)
  })
  fc.assert(property, { numRuns: 2_000 })
  t.pass()
  t.end()
})

t.test('an address is its network address and an offset', t => {
  const property = fc.property(number, fc.integer({ min: 0, max: 128 }), (value, prefixLength) => {
    const address = ipv6OfNumber(value)
    const hostBits = BigInt(128 - prefixLength)
    const base = networkAddressIpv6(address, prefixLength)
    assert.equal(numberOfIpv6(base), (value >> hostBits) << hostBits)
    const last = lastAddressIpv6({ base, prefixLength })
    assert.equal(numberOfIpv6(last), numberOfIpv6(base) + (1n << hostBits) - 1n)
    const offset = offsetOfIpv6({ base, prefixLength }, address)
    const expected = Number(value - numberOfIpv6(base))
    if (expected <= Number.MAX_SAFE_INTEGER) {
      assert.equal(offset, expected)
      assert.equal(ipv6At({ base, prefixLength }, offset), address)
    } else assert.ok(Math.abs(offset / expected - 1) < 1e-15)
    assert.equal(lowBitsOfIpv6(address), Number(value & 0xffffffffn))
  })
  fc.assert(property, { numRuns: 5_000 })
  t.pass()
  t.end()
})

t.test('an offset is exact below 2^53, and beyond it has the right sign', t => {
  const near = fc.bigInt({ min: -(1n << 53n) + 1n, max: (1n << 53n) - 1n })
  const property = fc.property(number, near, number, (base, difference, other) => {
    const subnet = { base: ipv6OfNumber(base), prefixLength: 128 }
    const value = base + difference
    if (value >= 0n && value < 1n << 128n) assert.equal(offsetOfIpv6(subnet, ipv6OfNumber(value)), Number(difference))
    assert.equal(Math.sign(offsetOfIpv6(subnet, ipv6OfNumber(other))), Math.sign(Number(other - base)))
  })
  fc.assert(property, { numRuns: 5_000 })
  t.pass()
  t.end()
})

t.test('which addresses one host may have', t => {
  const good = ['2001:db8::1', 'fd00::1', 'fe80::1', '::ffff:0:0:1', '1::', 'feff::']
  const bad = ['::', '::1', '::1.2.3.4', '::ffff:1.2.3.4', 'ff02::1', 'ffff::']
  for (const text of good) t.ok(isUnicastIpv6(parseIpv6(text)), text)
  for (const text of bad) t.notOk(isUnicastIpv6(parseIpv6(text)), text)
  t.same(
    ['fe80::1', 'febf::', 'fec0::', 'fd00::', 'fe7f::'].map(text => isLinkLocalIpv6(parseIpv6(text))),
    [true, true, false, false, false]
  )
  t.end()
})

function tryParse(text: string): Ipv6 | null {
  try {
    return parseIpv6(text)
  } catch {
    return null
  }
}

/** Texts near the border: groups of any length, too many or too few, `::` anywhere, dotted tails. */
function randomTexts(seed: number): () => string {
  let state = seed
  const below = (bound: number): number => {
    state = (Math.imul(state, 1_103_515_245) + 12_345) >>> 0
    return Math.floor((state / 2 ** 32) * bound)
  }
  const group = (): string => {
    const digits = below(20) === 0 ? below(6) : 1 + below(4)
    const text = Array.from({ length: digits }, () => '0123456789abcdefABCDEF'[below(22)]).join('')
    return below(3) === 0 ? '0' : below(200) === 0 ? 'g' : text
  }
  const octet = (): string => (below(10) === 0 ? `0${below(10)}` : String(below(280)))
  return () => {
    const count = below(4) === 0 ? below(11) : below(2) === 0 ? 8 : 1 + below(7)
    const groups = Array.from({ length: count }, group)
    if (below(8) === 0) groups.splice(-2, 2, Array.from({ length: below(12) === 0 ? 3 : 4 }, octet).join('.'))
    if (below(2) === 0 && groups.length < 9) groups.splice(below(groups.length + 1), 0, '')
    const text = groups.join(':')
    if (text.startsWith(':') && below(8) !== 0) return `:${text}`
    return text.endsWith(':') && below(8) !== 0 ? `${text}:` : text
  }
}
