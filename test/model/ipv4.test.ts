import assert from 'node:assert/strict'
import { BlockList, isIPv4 } from 'node:net'
import fc from 'fast-check'
import t from 'tap'
import {
  broadcastAddress,
  formatIpv4,
  formatSubnet,
  isHostAddress,
  isUnicast,
  networkAddress,
  parseIpv4,
  parseSubnet,
  subnetContains,
  subnetSize,
  type Ipv4
} from '#model/ipv4.ts'

const ipv4 = fc.nat(0xffffffff).map(n => n as Ipv4)

t.test('addresses are accepted exactly where Node accepts them', t => {
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
  t.test(`${text} is ${value} and formats back`, t => {
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
  t.test(`${JSON.stringify(text)} is not an address`, t => {
    t.throws(() => parseIpv4(text, 'gateway'), { code: 'ERR_INVALID', field: 'gateway' })
    t.end()
  })
}

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
  t.test(`${JSON.stringify(text)} is not a subnet`, t => {
    t.throws(() => parseSubnet(text), { code: 'ERR_INVALID', field: 'subnet' })
    t.end()
  })
}

t.test('a subnet contains the same addresses as in Node', t => {
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
  t.test(`${text} can${unicast ? '' : 'not'} be the address of a host`, t => {
    t.equal(isUnicast(parseIpv4(text)), unicast)
    t.end()
  })
}
