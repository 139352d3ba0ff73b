import assert from 'node:assert/strict'
import fc from 'fast-check'
import t from 'tap'
import type { Vni } from '#model/ids.ts'
import { parseIpv4, type Ipv4 } from '#model/ipv4.ts'
import { addressOfMac, isDeviceMac, macOf, parseMac } from '#model/mac.ts'

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
    assert.equal(addressOfMac(network, mac), one)
  })
  fc.assert(property, { numRuns: 2_000 })
  t.pass()
  t.end()
})

t.test('a MAC that the network does not derive has no address in it', t => {
  const vni = 4_096 as Vni
  t.equal(addressOfMac(vni, parseMac('02:00:FF:00:00:05')), parseIpv4('255.0.0.5'))
  for (const mac of ['02:01:0a:00:00:05', '06:00:0a:00:00:05', '0a:00:0a:00:00:05', '00:02:00:0a:00:00']) {
    t.equal(addressOfMac(vni, parseMac(mac)), null, mac)
  }
  t.end()
})

t.test('only MACs in the device range are device MACs', t => {
  t.equal(isDeviceMac(parseMac('06:76:78:00:00:01')), true)
  t.equal(isDeviceMac(parseMac('06:76:79:00:00:01')), false)
  t.equal(isDeviceMac(parseMac('02:76:78:00:00:01')), false)
  t.end()
})
