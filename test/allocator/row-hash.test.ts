import assert from 'node:assert/strict'
import fc from 'fast-check'
import t from 'tap'
import { Hasher, hashAnswer, hashEndpoint, hashHost, hashNetwork, SetHash, type Hash } from '#allocator/row-hash.ts'
import type { Outcome } from '#model/command.ts'
import { invalid } from '#model/errors.ts'
import { parseIp } from '#model/ip.ts'
import { parseIpv6 } from '#model/ipv6.ts'
import { attach, Caller, create, makeHost } from './fixtures.ts'

const caller = Caller.ready()
const network = caller.network(create('a', { requestId: 'r' }))
const endpoint = caller.endpoint(attach('a', 'c', { requestId: 'r' }))
const host = makeHost(1)
const six = Caller.raised()
const both = six.network(create('both', { subnet: '10.2.0.0/24', subnet6: 'fd00:2::/64', requestId: 'r' }))
const chosen = six.endpoint(attach('both', 'c', { address6: 'fd00:2::77', requestId: 'r' }))

const text = (hash: Hash): string => `${hash.a} ${hash.b}`
const ok = (result: Extract<Outcome, { ok: true }>['result']): Outcome => ({ ok: true, result })

/** The row, and the row with each of its fields changed or, where it may be, left out. */
function variants<T extends object>(row: T): T[] {
  const changed = Object.entries(row).map(([key, value]: [string, unknown]) => {
    const other =
      typeof value === 'number'
        ? value + 1
        : typeof value === 'string'
          ? `${value}x`
          : typeof value === 'boolean' && !value
    return { ...row, [key]: typeof value === 'object' ? { ...value, base: 7 } : other }
  })
  return [row, ...changed]
}

t.test('every field of a row affects its hash', t => {
  const { requestId, ...bare } = endpoint
  const { requestId: other, ...bareNetwork } = network
  const hashes = [
    ...variants(network).map(hashNetwork),
    hashNetwork({ ...network, subnet: { ...network.subnet, prefixLength: 25 } }),
    hashNetwork({ ...network, egress: network.hostAccess, hostAccess: network.egress }),
    hashNetwork(bareNetwork),
    hashNetwork({ ...network, requestId: '' }),
    ...variants(endpoint).map(hashEndpoint),
    hashEndpoint(bare),
    hashEndpoint({ ...endpoint, requestId: '' }),
    hashEndpoint({ ...endpoint, ingressRate: 8_000 }),
    hashEndpoint({ ...endpoint, egressRate: 8_000 }),
    ...variants(host).map(hashHost),
    ...variants(both).map(hashNetwork),
    hashNetwork({ ...both, wasIpv6: true }),
    hashNetwork({ ...both, subnet6: { base: parseIp('fd00:2::'), prefixLength: 65 } }),
    hashNetwork({ ...network, subnet: { base: parseIp('fd00:2::'), prefixLength: 64 } }),
    hashNetwork({ ...network, gateway: parseIp('fd00:2::1') }),
    ...variants(chosen).map(hashEndpoint),
    hashEndpoint({ ...endpoint, address: parseIpv6('fd00:2::77') })
  ].map(text)
  t.equal(new Set(hashes).size, hashes.length)
  t.equal(requestId, other)
  t.end()
})

t.test('every part of a remembered answer affects its hash', t => {
  const error = invalid('vni', 'no').toBody()
  const outcomes: Outcome[] = [
    ok({ kind: 'session' }),
    ok({ kind: 'network', network }),
    ok({ kind: 'endpoint', endpoint, created: true }),
    ok({ kind: 'endpoint', endpoint, created: false }),
    ok({ kind: 'endpoint', endpoint: { ...endpoint, delayUs: 1 }, created: false }),
    ok({ kind: 'endpoint-released', endpoint }),
    ok({ kind: 'host', host }),
    ok({ kind: 'host-removed', host, released: 0 }),
    ok({ kind: 'host-removed', host, released: 1 }),
    ok({ kind: 'network', network: both }),
    ok({ kind: 'endpoint', endpoint: chosen, created: true }),
    { ok: false, error },
    { ok: false, error: { ...error, field: 'x' } },
    { ok: false, error: { ...error, code: 'ERR_BUSY' } },
    { ok: false, error: { code: error.code, message: error.message } }
  ]
  const hashes = outcomes.flatMap(outcome => [hashAnswer(1, outcome), hashAnswer(2, outcome)]).map(text)
  t.equal(new Set(hashes).size, hashes.length)
  t.end()
})

t.test('adjacent texts are delimited, and all 53 bits of a number count', t => {
  const hashes = [
    new Hasher().text('ab').text('c'),
    new Hasher().text('a').text('bc'),
    new Hasher().text('').text('abc'),
    new Hasher().text('abc'),
    new Hasher().number(0),
    new Hasher().number(0).number(0),
    new Hasher().number(1),
    new Hasher().number(2 ** 32),
    new Hasher().number(2 ** 32 + 1),
    new Hasher().number(2 ** 31),
    new Hasher().number(Number.MAX_SAFE_INTEGER)
  ].map(hasher => text(hasher.finish()))
  t.equal(new Set(hashes).size, hashes.length)
  t.end()
})

t.test('absent text and empty text have different hashes', t => {
  const hashes = [undefined, '', '\0', '\u0001'].map(value => text(new Hasher().optionalText(value).finish()))
  t.equal(new Set(hashes).size, hashes.length)
  t.end()
})

t.test('the sum over a set does not depend on order, and removing a row undoes adding it', t => {
  const number = fc.nat(2 ** 31 - 1)
  const property = fc.property(
    fc.uniqueArray(number, { maxLength: 40 }),
    fc.infiniteStream(fc.nat(1_000)),
    (all, random) => {
      const of = (n: number): Hash => new Hasher().number(n).finish()
      const [forward, mixed] = [new SetHash(), new SetHash()]
      for (const n of all) forward.add(of(n))
      const bag = [...all, ...all.map(n => -n - 1)]
      while (bag.length > 0) mixed.add(of(bag.splice((random.next().value ?? 0) % bag.length, 1)[0] ?? 0))
      for (const n of all) mixed.remove(of(-n - 1))
      assert.deepEqual(mixed.value, forward.value)
      if (all[0] !== undefined) forward.remove(of(all[0]))
      assert.equal(text(mixed.value) === text(forward.value), all.length === 0)
    }
  )
  fc.assert(property, { numRuns: 300 })
  t.pass()
  t.end()
})

t.test('100,000 similar rows have almost no collisions in either lane', t => {
  const hashes = [...Array(100_000).keys()].map(n => new Hasher().text('endpoint').number(n).finish())
  t.equal(new Set(hashes.map(text)).size, hashes.length)
  // Among 10^5 random 32-bit words about one pair collides.
  for (const half of ['a', 'b'] as const) t.ok(new Set(hashes.map(h => h[half])).size > hashes.length - 20, half)
  t.end()
})
