import assert from 'node:assert/strict'
import fc from 'fast-check'
import t from 'tap'
import type { Vni } from '#model/ids.ts'
import { parseIpv4, type Ipv4 } from '#model/ipv4.ts'
import { ipv6OfNumber, parseIpv6 } from '#model/ipv6.ts'
import {
  isDeviceMac,
  lowBitsOf,
  lowBitsOfMac,
  macBeyondPool,
  macOf,
  parseMac,
  tellsNumber,
  type Mac
} from '#model/mac.ts'

for (const text of ['02:00:0a:00:00:05', '00:00:00:00:00:01', 'FE:FF:FF:FF:FF:FF', 'aA:bB:cC:dD:eE:fF']) {
  t.test(`${text} parses as a MAC in lower case`, t => {
    t.equal(parseMac(text), text.toLowerCase())
    t.end()
  })
}

for (const text of [
  '',
  '02',
  '02:00:0a:00:00',
  '02:00:0a:00:00:05:06',
  '02:00:0a:00:00:5',
  '2:0:a:0:0:5',
  '02-00-0a-00-00-05',
  '0200.0a00.0005',
  '02000a000005',
  '02:00:0a:00:00:0g',
  '02:00:0a:00:00:05 ',
  '02:00:0a:00:00:05\n',
  ' 02:00:0a:00:00:05',
  '０2:00:0a:00:00:05',
  '01:00:5e:00:00:01',
  '33:33:00:00:00:01',
  'ff:ff:ff:ff:ff:ff',
  '03:00:0a:00:00:05',
  '00:00:00:00:00:00'
]) {
  t.test(`${JSON.stringify(text)} is not a container's MAC`, t => {
    t.throws(() => parseMac(text, 'mac2'), { code: 'ERR_INVALID', field: 'mac2' })
    t.end()
  })
}

t.test('a derived MAC consists of the low octet of the VNI and the address', t => {
  t.equal(macOf(4_096 as Vni, parseIpv4('10.0.0.5')), '02:00:0a:00:00:05')
  t.equal(macOf(0xffff_ab as Vni, parseIpv4('192.168.255.254')), '02:ab:c0:a8:ff:fe')
  t.end()
})

t.test('within a network each address has a distinct, well-formed MAC outside the range of devices', t => {
  const address = fc.nat(0xffffffff).map(n => n as Ipv4)
  const vni = fc.integer({ min: 1, max: 0xffffff }).map(n => n as Vni)
  const property = fc.property(vni, address, address, (network, one, two) => {
    const mac = macOf(network, one)
    assert.equal(parseMac(mac), mac)
    assert.equal(Number.parseInt(mac.slice(0, 2), 16) & 3, 2, 'unicast, locally administered')
    assert.equal(isDeviceMac(mac), false)
    assert.equal(macOf(network, two) === mac, one === two)
    assert.equal(lowBitsOfMac(network, mac), one)
  })
  fc.assert(property, { numRuns: 2_000 })
  t.pass()
  t.end()
})

t.test('the MAC of an IPv6 address consists of the low octet of the VNI and its lowest 32 bits', t => {
  t.equal(macOf(4_097 as Vni, parseIpv6('fd00:1:2:3::a0b:c0d')), '02:01:0a:0b:0c:0d')
  t.equal(macOf(4_097 as Vni, parseIpv6('fd00::ffff:ffff')), '02:01:ff:ff:ff:ff')
  const value = fc.bigInt({ min: 0n, max: (1n << 128n) - 1n })
  fc.assert(
    fc.property(value, fc.integer({ min: 1, max: 0xffffff }), (bits, vni) => {
      const mac = macOf(vni as Vni, ipv6OfNumber(bits))
      const low = Number(bits & 0xffffffffn)
      assert.equal(parseMac(mac), mac)
      assert.equal(isDeviceMac(mac), false)
      assert.equal(mac, macOf(vni as Vni, low as Ipv4))
      assert.equal(lowBitsOf(ipv6OfNumber(bits)), low)
      assert.equal(lowBitsOfMac(vni as Vni, mac), low)
    })
  )
  t.equal(lowBitsOf(parseIpv4('255.0.0.1')), 0xff000001)
  t.end()
})

t.test('the MAC of an address in no pool depends on all of its bits, and is none that a pool’s address has', t => {
  t.equal(macBeyondPool(parseIpv6('fd00::1:0:0:5')), '0a:f4:2b:54:3c:3c')
  const value = fc.bigInt({ min: 0n, max: (1n << 128n) - 1n })
  fc.assert(
    fc.property(value, fc.nat(127), (bits, changed) => {
      const mac = macBeyondPool(ipv6OfNumber(bits))
      assert.equal(parseMac(mac), mac)
      assert.equal(Number.parseInt(mac.slice(0, 2), 16) & 3, 2, 'unicast, locally administered')
      assert.equal(isDeviceMac(mac), false)
      for (let vni = 1; vni <= 256; vni++) assert.equal(lowBitsOfMac(vni as Vni, mac), null)
      assert.notEqual(macBeyondPool(ipv6OfNumber(bits ^ (1n << BigInt(changed)))), mac)
    })
  )
  const macs = new Set<string>()
  for (let high = 1; high <= 100; high++)
    for (let low = 0; low < 100; low++) macs.add(macBeyondPool(parseIpv6(`fd00::${high}:0:0:${low}`)))
  t.equal(macs.size, 10_000, 'addresses like those that people choose have MACs of their own')
  t.end()
})

t.test('a MAC that the network does not derive has no address in it', t => {
  const vni = 4_096 as Vni
  t.equal(lowBitsOfMac(vni, parseMac('02:00:FF:00:00:05')), parseIpv4('255.0.0.5'))
  for (const mac of ['02:01:0a:00:00:05', '06:00:0a:00:00:05', '0a:00:0a:00:00:05', '00:02:00:0a:00:00']) {
    t.equal(lowBitsOfMac(vni, parseMac(mac)), null, mac)
  }
  t.end()
})

t.test('a MAC tells a number if it is derived from an address with these lowest 32 bits, and only then', t => {
  const number = fc.oneof(
    fc.nat(0xffffffff),
    fc.nat(31).map(bit => (1 << bit) >>> 0)
  )
  const vni = fc.integer({ min: 1, max: 0xffffff })
  fc.assert(
    fc.property(vni, number, vni, number, fc.nat(47), (network, one, other, two, bit) => {
      const mac = macOf(network as Vni, one as Ipv4)
      assert.equal(tellsNumber(mac, network as Vni, one), true)
      assert.equal(tellsNumber(mac, network as Vni, two), one === two)
      assert.equal(tellsNumber(mac, other as Vni, one), (network & 255) === (other & 255))
      // With a single bit of its 48 changed.
      const bits = BigInt(`0x${mac.replaceAll(':', '')}`) ^ (1n << BigInt(bit))
      const changed = (bits.toString(16).padStart(12, '0').match(/../g) ?? []).join(':') as Mac
      assert.equal(tellsNumber(changed, network as Vni, one), false)
    }),
    { numRuns: 2_000 }
  )
  t.equal(tellsNumber(macBeyondPool(parseIpv6('fd00::1:0:0:5')), 4_096 as Vni, 5), false)
  t.end()
})

t.test('only MACs in the device range are device MACs', t => {
  t.equal(isDeviceMac(parseMac('06:76:78:00:00:01')), true)
  t.equal(isDeviceMac(parseMac('06:76:79:00:00:01')), false)
  t.equal(isDeviceMac(parseMac('02:76:78:00:00:01')), false)
  t.end()
})
