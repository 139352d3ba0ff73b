// Addresses and subnets through the family-neutral operations, with node's own BlockList as the oracle.

import assert from 'node:assert/strict'
import { BlockList } from 'node:net'
import fc from 'fast-check'
import t from 'tap'
import {
  compareIp,
  familyOf,
  formatIp,
  formatSubnet,
  ipv4Of,
  ipv4SubnetOf,
  isHostAddress,
  isSingleAddress,
  isUnicast,
  parseIp,
  parseSubnet,
  singleAddress,
  subnetContains,
  subnetSize,
  type Ip
} from '#model/ip.ts'
import { broadcastAddress, formatIpv4, networkAddress, parseIpv4, type Ipv4 } from '#model/ipv4.ts'

const ipv4 = fc.nat(0xffffffff).map(n => n as Ipv4)

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
    '::',
    '::1',
    'fd00::1',
    '::ffff:10.0.0.1',
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

t.test('equal addresses are one key of a map', t => {
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
    t.equal(formatIpv4(broadcastAddress(subnet)), broadcast)
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
  '::ffff:10.0.0.0/24',
  'fd00::/8',
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
      const edge = address === subnet.base || address === broadcastAddress(subnet)
      assert.equal(isHostAddress(subnet, address), subnetContains(subnet, address) && !edge)
      assert.ok(subnetContains(subnet, broadcastAddress(subnet)))
      if (subnet.base > 0) assert.ok(!subnetContains(subnet, (subnet.base - 1) as Ipv4))
    }
  )
  fc.assert(property, { numRuns: 2_000 })
  t.pass()
  t.end()
})

for (const [text, unicast] of [
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
    t.equal(isUnicast(parseIpv4(text)), unicast)
    t.end()
  })
}
