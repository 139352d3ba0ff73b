// Addresses and subnets through the family-neutral operations, with node's own BlockList as the oracle.

import assert from 'node:assert/strict'
import { BlockList } from 'node:net'
import fc from 'fast-check'
import t from 'tap'
import {
  addressAt,
  compareIp,
  familyOf,
  formatIp,
  formatSubnet,
  hostBits,
  ipv4Of,
  ipv4SubnetOf,
  isHostAddress,
  isIpv4,
  isSingleAddress,
  isTunnelAddress,
  isUnicast,
  lastAddress,
  networkOf,
  offsetOf,
  parseIp,
  parsePrefix,
  parseSubnet,
  singleAddress,
  subnetContains,
  subnetSize,
  type Ip
} from '#model/ip.ts'
import { broadcastAddress, formatIpv4, networkAddress, type Ipv4 } from '#model/ipv4.ts'
import { ipv6OfNumber, numberOfIpv6, type Ipv6 } from '#model/ipv6.ts'

const ipv4 = fc.nat(0xffffffff).map(n => n as Ipv4)
const ipv6 = fc.bigInt({ min: 0n, max: (1n << 128n) - 1n }).map(ipv6OfNumber)
const anyIp: fc.Arbitrary<Ip> = fc.oneof(ipv4, ipv6)

t.test('an address is formatted as it was parsed, and its family is known by its type', t => {
  fc.assert(
    fc.property(ipv4, address => {
      const ip: Ip = parseIp(formatIpv4(address))
      assert.equal(ip, address)
      assert.equal(formatIp(ip), formatIpv4(address))
      assert.equal(familyOf(ip), 'ipv4')
      assert.equal(ipv4Of(ip), address)
    })
  )
  t.pass()
  t.end()
})

t.test('text that is no address of a known family is refused with the field’s name', t => {
  for (const text of [
    '',
    '10.0.0.256',
    '010.0.0.1',
    '10.0.0.1/24',
    ':::',
    'fd00::1::',
    'fd00::1/64',
    'fd00:1:2:3:4:5:6:7:8',
    'fe80::1%eth0',
    '[fd00::1]',
    '::ffff:10.0.0.256',
    'localhost'
  ]) {
    t.throws(() => parseIp(text, 'gateway'), { code: 'ERR_INVALID', field: 'gateway' }, text)
    t.throws(() => parseIp(text), { code: 'ERR_INVALID', field: 'address' }, text)
  }
  t.end()
})

t.test('addresses sort by value, not by text or by sign', t => {
  const texts = ['255.0.0.1', '9.0.0.1', '10.0.0.10', '128.0.0.1', '10.0.0.9']
  t.same(
    texts
      .map(text => parseIp(text))
      .sort(compareIp)
      .map(formatIp),
    ['9.0.0.1', '10.0.0.9', '10.0.0.10', '128.0.0.1', '255.0.0.1']
  )
  t.equal(compareIp(parseIp('10.0.0.9'), parseIp('10.0.0.9')), 0)
  t.end()
})

t.test('IPv6 addresses are formatted in canonical form, and their family is known by their type', t => {
  fc.assert(
    fc.property(ipv6, address => {
      assert.equal(parseIp(formatIp(address)), address)
      assert.equal(parseIp(address.toUpperCase()), address)
      assert.equal(familyOf(address), 'ipv6')
      assert.ok(!isIpv4(address))
      assert.throws(() => ipv4Of(address), /where only IPv4 is possible/)
    })
  )
  t.equal(formatIp(parseIp('FD00:0:0::0A')), 'fd00::a')
  t.end()
})

t.test('the order of addresses is total: IPv4 first, then by value', t => {
  const value = (ip: Ip): bigint => (isIpv4(ip) ? BigInt(ip) : numberOfIpv6(ip) + (1n << 128n))
  fc.assert(
    fc.property(anyIp, anyIp, (a, b) => {
      assert.equal(Math.sign(compareIp(a, b)), value(a) < value(b) ? -1 : value(a) > value(b) ? 1 : 0)
    }),
    { numRuns: 2_000 }
  )
  t.pass()
  t.end()
})

t.test('equal addresses are one key of a map', t => {
  t.equal(new Map(['fd00::a', 'fd00:0::A', 'FD00::000a'].map(text => [parseIp(text), text])).size, 1)
  t.equal(
    new Map([
      [parseIp('10.0.0.1'), 1],
      [parseIp('10.0.0.1'), 2]
    ]).size,
    1
  )
  t.end()
})

t.test('the subnet of a single address holds that address alone', t => {
  fc.assert(
    fc.property(ipv4, ipv4, (address, other) => {
      const subnet = singleAddress(address)
      assert.ok(isSingleAddress(subnet))
      assert.equal(subnetSize(subnet), 1)
      assert.equal(formatSubnet(subnet), `${formatIp(address)}/32`)
      assert.ok(subnetContains(subnet, address))
      assert.equal(subnetContains(subnet, other), other === address)
      assert.ok(!isHostAddress(subnet, address))
    })
  )
  fc.assert(
    fc.property(ipv6, anyIp, (address, other) => {
      const subnet = singleAddress(address)
      assert.ok(isSingleAddress(subnet))
      assert.equal(formatSubnet(subnet), `${address}/128`)
      assert.ok(subnetContains(subnet, address))
      assert.equal(subnetContains(subnet, other), other === address)
      assert.equal(hostBits(subnet), 0)
    })
  )
  t.notOk(isSingleAddress({ base: parseIp('fd00::1'), prefixLength: 32 }))
  t.notOk(isSingleAddress(parseSubnet('10.0.0.0/30')))
  t.same(ipv4SubnetOf(parseSubnet('10.0.0.0/30')), { base: 0x0a000000, prefixLength: 30 })
  t.end()
})

const subnets: readonly (readonly [text: string, size: number, broadcast: string])[] = [
  ['10.0.0.0/8', 2 ** 24, '10.255.255.255'],
  ['172.16.0.0/12', 2 ** 20, '172.31.255.255'],
  ['192.168.7.0/24', 256, '192.168.7.255'],
  ['192.168.7.128/25', 128, '192.168.7.255'],
  ['223.255.255.252/30', 4, '223.255.255.255'],
  ['1.0.0.0/8', 2 ** 24, '1.255.255.255'],
  ['100.64.0.0/10', 2 ** 22, '100.127.255.255']
]
for (const [text, size, broadcast] of subnets) {
  t.test(`${text} is a subnet of ${size} addresses up to ${broadcast}`, t => {
    const subnet = parseSubnet(text)
    t.equal(formatSubnet(subnet), text)
    t.equal(subnetSize(subnet), size)
    t.equal(formatIpv4(broadcastAddress(ipv4SubnetOf(subnet))), broadcast)
    t.end()
  })
}

for (const text of [
  '',
  '/',
  '10.0.0.0',
  '10.0.0.0/',
  '/24',
  '10.0.0.0/7',
  '10.0.0.0/31',
  '10.0.0.0/32',
  '10.0.0.0/33',
  '10.0.0.0/0',
  '0.0.0.0/0',
  '10.0.0.0/024',
  '10.0.0.0/08',
  '10.0.0.0/-8',
  '10.0.0.0/+8',
  '10.0.0.0/1e1',
  '10.0.0.0/2４',
  '10.0.0.0/24 ',
  '10.0.0.0/24/24',
  '10.0.0.0/255.0.0.0',
  '10.0.0.1/24',
  '10.0.0.128/24',
  '10.128.0.0/8',
  '010.0.0.0/8',
  '::ffff:10.0.0.0/120',
  'fd00::/8',
  'fd00::/47',
  'fd00::/127',
  'fd00::/128',
  'fd00::/064',
  'fd00::1/64',
  'fd00:1:2:3::/48',
  'fd00::4/125',
  'fe80::/64',
  'febf:ffff:ffff::/48',
  'ff02::/64',
  '::/96',
  '::/48',
  'fd00::',
  'fd00::/64/64',
  'fd00::%eth0/64',
  '0.0.0.0/8',
  '127.0.0.0/8',
  '127.1.0.0/16',
  '224.0.0.0/8',
  '239.1.0.0/16',
  '240.0.0.0/8',
  '255.255.255.0/24',
  '169.254.0.0/16',
  '169.254.7.0/24'
]) {
  t.test(`${JSON.stringify(text)} is no subnet`, t => {
    t.throws(() => parseSubnet(text), { code: 'ERR_INVALID', field: 'subnet' })
    t.end()
  })
}

t.test('a subnet contains the addresses that Node says it contains', t => {
  const property = fc.property(
    ipv4,
    fc.integer({ min: 0, max: 32 }),
    ipv4,
    fc.boolean(),
    (any, length, other, near) => {
      const subnet = { base: networkAddress(any, length), prefixLength: length }
      const address = near ? ((subnet.base + (other % subnetSize(subnet))) as Ipv4) : other
      const list = new BlockList()
      list.addSubnet(formatIpv4(any), length)
      assert.equal(subnetContains(subnet, address), list.check(formatIpv4(address)))
      const edge = address === subnet.base || address === broadcastAddress(ipv4SubnetOf(subnet))
      assert.equal(isHostAddress(subnet, address), subnetContains(subnet, address) && !edge)
      assert.ok(subnetContains(subnet, broadcastAddress(ipv4SubnetOf(subnet))))
      if (subnet.base > 0) assert.ok(!subnetContains(subnet, (subnet.base - 1) as Ipv4))
    }
  )
  fc.assert(property, { numRuns: 2_000 })
  t.pass()
  t.end()
})

/** Prefix lengths that a tenant's subnet may have, with a base of it. */
const subnet6 = fc
  .tuple(ipv6, fc.integer({ min: 48, max: 126 }))
  .map(([ip, prefixLength]) => ({ base: networkOf(ip, prefixLength), prefixLength }))

t.test('an IPv6 subnet contains the addresses that Node says it contains', t => {
  const property = fc.property(
    subnet6,
    fc.bigInt({ min: 0n, max: (1n << 80n) - 1n }),
    anyIp,
    fc.boolean(),
    (subnet, offset, other, near) => {
      const base = numberOfIpv6(subnet.base as Ipv6)
      const size = 1n << BigInt(128 - subnet.prefixLength)
      const address = near ? ipv6OfNumber(base + (offset % size)) : other
      const list = new BlockList()
      list.addSubnet(formatIp(subnet.base), subnet.prefixLength, 'ipv6')
      const isThere = !isIpv4(address) && list.check(formatIp(address), 'ipv6')
      assert.equal(subnetContains(subnet, address), isThere)
      assert.equal(isHostAddress(subnet, address), isThere && address !== subnet.base)
      assert.ok(isHostAddress(subnet, lastAddress(subnet)), 'the last address is like any other')
      assert.equal(lastAddress(subnet), ipv6OfNumber(base + size - 1n))
    }
  )
  fc.assert(property, { numRuns: 2_000 })
  t.pass()
  t.end()
})

t.test('an address and how far it is into its subnet stand for each other', t => {
  const four = fc.tuple(ipv4, fc.integer({ min: 8, max: 30 }), fc.nat(2 ** 24 - 1))
  fc.assert(
    fc.property(four, ([any, prefixLength, n]) => {
      const subnet = { base: networkAddress(any, prefixLength), prefixLength }
      assert.equal(hostBits(subnet), 32 - prefixLength)
      const offset = n % 2 ** hostBits(subnet)
      assert.equal(offsetOf(subnet, addressAt(subnet, offset)), offset)
      assert.ok(subnetContains(subnet, addressAt(subnet, offset)))
      assert.equal(lastAddress(subnet), addressAt(subnet, subnetSize(subnet) - 1))
    })
  )
  fc.assert(
    fc.property(subnet6, fc.nat({ max: 2 ** 53 - 1 }), (subnet, n) => {
      assert.equal(hostBits(subnet), 128 - subnet.prefixLength)
      const offset = Math.min(n, 2 ** hostBits(subnet) - 1)
      const address = addressAt(subnet, offset)
      assert.equal(numberOfIpv6(address as Ipv6), numberOfIpv6(subnet.base as Ipv6) + BigInt(offset))
      assert.equal(offsetOf(subnet, address), offset)
      assert.ok(subnetContains(subnet, address))
    })
  )
  t.throws(() => offsetOf(parseSubnet('fd00::/64'), parseIp('10.0.0.1')), /no address of an IPv6 subnet/)
  t.throws(() => offsetOf(parseSubnet('10.0.0.0/24'), parseIp('fd00::1')), /where only IPv4 is possible/)
  t.ok(offsetOf(parseSubnet('fd00::/64'), parseIp('fcff::1')) < 0, 'before its subnet')
  t.end()
})

for (const text of [
  'fd00::/48',
  'fd00:1:2:3::/64',
  '2001:db8::/126',
  'fd00:1::ffff:fff8/125',
  'fec0::/48',
  'fe7f::/48'
]) {
  t.test(`${text} is a subnet`, t => {
    t.equal(formatSubnet(parseSubnet(text)), text)
    t.end()
  })
}

t.test('what is wrong with a subnet is said', t => {
  t.throws(() => parseSubnet('fd00::1/64', 'subnet'), { message: /did you mean fd00::\/64\?/, field: 'subnet' })
  t.throws(() => parseSubnet('fd00::/127'), { message: /prefix length must be 48 to 126, got \/127/ })
  t.throws(() => parseSubnet('10.0.0.0/31'), { message: /prefix length must be 8 to 30, got \/31/ })
  t.throws(() => parseSubnet('fe80::/64'), { message: /not a unicast range/ })
  t.throws(() => parseSubnet('fd00::'), { message: /a subnet like 10\.1\.0\.0\/16 or fd00:1::\/64/ })
  t.end()
})

t.test('a prefix may have any length, and no host bits', t => {
  for (const text of ['::/0', 'fd00::/8', 'fe80::/10', 'fd00::1/128', '0.0.0.0/0', '10.0.0.1/32', '172.16.0.0/12'])
    t.equal(formatSubnet(parsePrefix(text)), text)
  for (const text of [
    '::/129',
    '10.0.0.0/33',
    'fd00::1/64',
    '10.0.0.1/24',
    'fd00::',
    'fd00::/',
    'fd00::/6 4',
    '::/0/0'
  ])
    t.throws(() => parsePrefix(text, 'bypass'), { code: 'ERR_INVALID', field: 'bypass' }, text)
  t.end()
})

for (const [text, unicast] of [
  ['::', false],
  ['::1', false],
  ['::ffff:10.0.0.1', false],
  ['fd00::1', true],
  ['fe80::1', true],
  ['2001:db8::', true],
  ['ff02::1', false],
  ['0.0.0.0', false],
  ['0.1.2.3', false],
  ['1.0.0.0', true],
  ['10.0.0.5', true],
  ['127.0.0.1', true],
  ['169.254.1.1', true],
  ['223.255.255.255', true],
  ['224.0.0.1', false],
  ['239.255.255.255', false],
  ['240.0.0.1', false],
  ['255.255.255.255', false]
] as const) {
  t.test(`${text} can ${unicast ? '' : 'not '}be the address of one host`, t => {
    t.equal(isUnicast(parseIp(text)), unicast)
    t.end()
  })
}

t.test('a tunnel address is unicast, and no IPv6 address of one link', t => {
  for (const text of ['192.0.2.1', '169.254.1.1', 'fd00::1', '2001:db8::1']) t.ok(isTunnelAddress(parseIp(text)), text)
  for (const text of ['0.0.0.0', '239.0.0.1', '::', '::1', '::ffff:192.0.2.1', 'ff02::1', 'fe80::1', 'febf::1'])
    t.notOk(isTunnelAddress(parseIp(text)), text)
  t.end()
})
