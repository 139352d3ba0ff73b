// Which addresses a network and its endpoints have, against bigints.

import assert from 'node:assert/strict'
import fc from 'fast-check'
import t from 'tap'
import {
  addressesOf,
  asAddresses,
  asSubnets,
  gatewaysOf,
  mirroredBy,
  mirrorOf,
  subnetsOf,
  whyNoPair
} from '#model/addresses.ts'
import { formatIp, formatSubnet, networkOf, parseIp, parseSubnet, subnetContains, type Ip } from '#model/ip.ts'
import { networkAddress, type Ipv4 } from '#model/ipv4.ts'
import { ipv6OfNumber, numberOfIpv6, parseIpv6, type Ipv6 } from '#model/ipv6.ts'

const one = { subnet: parseSubnet('10.1.0.0/24') }
const six = { subnet: parseSubnet('fd00:1::/64') }
const both = { subnet: parseSubnet('10.1.0.0/24'), subnet6: parseSubnet('fd00:1::ab00/120') }

/** A pair of subnets, and an offset into the smaller one. */
const pair = fc
  .tuple(
    fc.nat(0xffffffff),
    fc.integer({ min: 8, max: 30 }),
    fc.bigInt({ min: 0n, max: (1n << 128n) - 1n }),
    fc.integer({ min: 48, max: 126 }),
    fc.nat(2 ** 24 - 1)
  )
  .filter(([, length, , length6]) => 128 - length6 >= 32 - length)
  .map(([base, prefixLength, base6, prefixLength6, n]) => ({
    subnet: { base: networkAddress(base as Ipv4, prefixLength), prefixLength },
    subnet6: { base: networkOf(ipv6OfNumber(base6), prefixLength6), prefixLength: prefixLength6 },
    offset: n % 2 ** (32 - prefixLength)
  }))

t.test('a network has its subnets, gateways and addresses by family, IPv4 first', t => {
  t.same(subnetsOf(one).map(formatSubnet), ['10.1.0.0/24'])
  t.same(subnetsOf(six).map(formatSubnet), ['fd00:1::/64'])
  t.same(subnetsOf(both).map(formatSubnet), ['10.1.0.0/24', 'fd00:1::ab00/120'])
  const gateways = (network: typeof one | typeof both, gateway: string): readonly string[] =>
    gatewaysOf({ ...network, gateway: parseIp(gateway) }).map(formatIp)
  t.same(gateways(one, '10.1.0.1'), ['10.1.0.1'])
  t.same(gateways(six, 'fd00:1::1'), ['fd00:1::1'])
  t.same(gateways(both, '10.1.0.1'), ['10.1.0.1', 'fd00:1::ab01'])
  t.same(gateways(both, '10.1.0.254'), ['10.1.0.254', 'fd00:1::abfe'])
  const addresses = (network: typeof one | typeof both, address: string, address6?: string): readonly string[] =>
    addressesOf(network, {
      address: parseIp(address),
      ...(address6 === undefined ? {} : { address6: parseIpv6(address6) })
    }).map(formatIp)
  t.same(addresses(one, '10.1.0.5'), ['10.1.0.5'])
  t.same(addresses(six, 'fd00:1::5'), ['fd00:1::5'])
  t.same(addresses(both, '10.1.0.5'), ['10.1.0.5', 'fd00:1::ab05'])
  t.same(addresses(both, '10.1.0.5', 'fd00:1::ab99'), ['10.1.0.5', 'fd00:1::ab99'])
  t.same(addresses(both, 'fd00:1::ab05'), ['10.1.0.5', 'fd00:1::ab05'], 'of a row from before the IPv4 subnet')
  t.same(addresses(both, 'fd00:1::ac05'), ['fd00:1::ac05'], 'of one that the network had no place for')
  t.end()
})

t.test('subnets and addresses are given in any order, one of each family', t => {
  const subnets = (...texts: readonly string[]): readonly string[] =>
    subnetsOf(asSubnets(texts.map(text => parseSubnet(text)))).map(formatSubnet)
  t.same(subnets('10.1.0.0/24'), ['10.1.0.0/24'])
  t.same(subnets('fd00::/64'), ['fd00::/64'])
  t.same(subnets('10.1.0.0/24', 'fd00::/64'), ['10.1.0.0/24', 'fd00::/64'])
  t.same(subnets('fd00::/64', '10.1.0.0/24'), ['10.1.0.0/24', 'fd00::/64'])
  const [four, six] = [parseIp('10.1.0.5'), parseIp('fd00::5')]
  t.strictSame(asAddresses([]), {})
  t.strictSame(asAddresses([four]), { address: four })
  t.strictSame(asAddresses([six]), { address: six })
  t.strictSame(asAddresses([six, four]), { address: four, address6: six })
  const refused = { code: 'ERR_INVALID', field: 'x', message: 'x: must be one, or one of each family' }
  for (const wrong of [[], ['10.1.0.0/24', '10.2.0.0/24'], ['fd00::/64', 'fd01::/64']])
    t.throws(
      () =>
        asSubnets(
          wrong.map(text => parseSubnet(text)),
          'x'
        ),
      refused,
      wrong.join()
    )
  t.throws(() => asSubnets([parseSubnet('fd00::/121'), parseSubnet('10.1.0.0/24')]), {
    code: 'ERR_INVALID',
    field: 'subnets',
    message: /fewer addresses/
  })
  for (const wrong of [
    [four, four],
    [six, six],
    [four, six, six]
  ])
    t.throws(() => asAddresses(wrong, 'x'), refused)
  t.end()
})

t.test('an address is that of which its mirror is the mirror', t => {
  fc.assert(
    fc.property(pair, ({ subnet, subnet6, offset }) => {
      const network = { subnet, subnet6 }
      const address = ((subnet.base as number) + offset) as Ip
      const mirror = mirrorOf(network, address)
      assert.ok(mirror !== null)
      assert.equal(numberOfIpv6(mirror), numberOfIpv6(subnet6.base as Ipv6) + BigInt(offset))
      assert.ok(subnetContains(subnet6, mirror))
      assert.equal(mirroredBy(network, mirror), address)
    }),
    { numRuns: 2_000 }
  )
  t.pass()
  t.end()
})

t.test('an IPv6 address mirrors one address at most, and none from the size of the IPv4 subnet on', t => {
  fc.assert(
    fc.property(pair, fc.bigInt({ min: -3n, max: 1n << 81n }), fc.boolean(), ({ subnet, subnet6 }, any, atEdge) => {
      const network = { subnet, subnet6 }
      const size = 1n << BigInt(32 - subnet.prefixLength)
      const offset = atEdge ? size + ((any & 3n) - 2n) : any
      const value = numberOfIpv6(subnet6.base as Ipv6) + offset
      if (value < 0n || value >= 1n << 128n) return
      const address = mirroredBy(network, ipv6OfNumber(value))
      assert.equal(address !== null, offset >= 0n && offset < size)
      if (address !== null) assert.equal(mirrorOf(network, address), ipv6OfNumber(value))
    }),
    { numRuns: 2_000 }
  )
  t.pass()
  t.end()
})

t.test('in a network with one subnet nothing is mirrored', t => {
  t.equal(mirrorOf(one, parseIp('10.1.0.5')), null)
  t.equal(mirrorOf(six, parseIp('fd00:1::5')), null)
  t.equal(mirroredBy(one, parseIpv6('fd00:1::5')), null)
  t.equal(mirroredBy(six, parseIpv6('fd00:1::5')), null)
  t.end()
})

for (const [first, second, why] of [
  ['10.1.0.0/24', 'fd00::/120', null],
  ['10.1.0.0/24', 'fd00::/64', null],
  ['10.0.0.0/8', 'fd00::/104', null],
  ['10.0.0.0/30', 'fd00::/126', null],
  ['10.1.0.0/24', 'fd00::/121', /fd00::\/121 has fewer addresses than 10\.1\.0\.0\/24, which it must mirror/],
  ['10.0.0.0/8', 'fd00::/105', /fewer addresses/],
  ['10.1.0.0/24', '10.2.0.0/24', /one subnet of each family at most/],
  ['fd00::/64', 'fd01::/64', /one subnet of each family at most/],
  ['fd00::/64', '10.1.0.0/24', /one subnet of each family at most/]
] as const) {
  t.test(`${first} and ${second} ${why === null ? 'can' : 'cannot'} be the subnets of one network`, t => {
    const answer = whyNoPair(parseSubnet(first), parseSubnet(second))
    if (why === null) t.equal(answer, null)
    else t.match(answer, why)
    t.end()
  })
}
