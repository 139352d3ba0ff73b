import assert from 'node:assert/strict'
import fc from 'fast-check'
import t from 'tap'
import { parseContainerId, parseIfName, parseNetworkName, parseVni, VNI_MAX } from '#model/ids.ts'
import { macOf } from '#model/mac.ts'
import { parseIpv4 } from '#model/ipv4.ts'
import {
  bridgeMac,
  bridgeName,
  endpointAlias,
  isMarkedOurs,
  nameRole,
  networkAlias,
  OVERLAY_GROUP,
  parseEndpointAlias,
  parseNetworkAlias,
  REMOVAL_GROUP,
  vethName,
  vxlanName
} from '#overlay/plan/network/names.ts'

const eth0 = parseIfName('eth0')

t.test('names carry the VNI as six hex digits', async t => {
  t.equal(bridgeName(parseVni(1)), 'vb000001')
  t.equal(vxlanName(parseVni(VNI_MAX)), 'vxffffff')
  t.equal(bridgeMac(parseVni(0x123456)), '06:76:78:12:34:56')
  t.not(bridgeMac(parseVni(1)).slice(0, 2), macOf(parseVni(1), parseIpv4('10.0.0.1')).slice(0, 2))
})

t.test('a veth name is the upper 52 bits of FNV-1a 64', async t => {
  const oracle = (text: string): string => {
    let hash = 0xcbf29ce484222325n
    for (const byte of new TextEncoder().encode(text))
      hash = ((hash ^ BigInt(byte)) * 0x100000001b3n) & (2n ** 64n - 1n)
    return `ve${hash.toString(16).padStart(16, '0').slice(0, 13)}`
  }
  fc.assert(
    fc.property(fc.stringMatching(/^[A-Za-z0-9][A-Za-z0-9_.-]{0,127}$/), id => {
      const name = vethName(parseContainerId(id), eth0)
      assert.equal(name, oracle(`${id}/eth0`))
      assert.equal(parseIfName(name), name)
    })
  )
  t.pass()
})

t.test('100,000 consecutive containers have 100,000 names', async t => {
  const names = new Set(Array.from({ length: 100_000 }, (_, i) => vethName(parseContainerId(`c${i}`), eth0)))
  t.equal(names.size, 100_000)
})

t.test('only names of our forms have a role', async t => {
  t.strictSame(nameRole('vb00000a'), { role: 'bridge', vni: 10 })
  t.strictSame(nameRole('vxffffff'), { role: 'vxlan', vni: VNI_MAX })
  t.strictSame(nameRole('ve0123456789abc'), { role: 'veth' })
  for (const name of [
    '',
    'eth0',
    'vb000000',
    'vb00000',
    'vb0000000',
    'vb00000G',
    'vb00000A',
    'vxlan0',
    'veth0',
    've123',
    've0123456789abcd',
    'xvb00000a'
  ]) {
    t.equal(nameRole(name), null, name)
  }
})

t.test('aliases say what a device is for, and are read back', async t => {
  const name = parseNetworkName('red')
  t.strictSame(parseNetworkAlias(networkAlias(name, parseVni(5))), { name, vni: 5 })
  const containerId = parseContainerId('a.b-c_1')
  t.strictSame(parseEndpointAlias(endpointAlias(containerId, eth0)), { containerId, ifname: 'eth0' })
  t.ok(endpointAlias(parseContainerId('x'.repeat(128)), parseIfName('y'.repeat(15))).length < 256, 'IFALIASZ')
  for (const text of [
    '',
    'vxmesh',
    'vxmesh network RED vni 5',
    'vxmesh network red vni 0',
    'vxmesh network red',
    'xvxmesh network red vni 5'
  ]) {
    t.equal(parseNetworkAlias(text), null, text)
  }
  for (const text of [
    '',
    'vxmesh endpoint c1',
    'vxmesh endpoint /eth0',
    'vxmesh endpoint c1/',
    'vxmesh endpoint c 1/eth0',
    'vxmesh network red vni 5'
  ]) {
    t.equal(parseEndpointAlias(text), null, text)
  }
})

t.test('a device is ours by name and mark together', async t => {
  const alias = 'vxmesh network red vni 10'
  const cases: [boolean, { name: string; alias: string; group: number }][] = [
    [true, { name: 'vb00000a', alias, group: 0 }],
    [true, { name: 'vx00000a', alias, group: OVERLAY_GROUP }],
    [true, { name: 'vb00000a', alias: '', group: OVERLAY_GROUP }],
    [true, { name: 'vb00000a', alias: '', group: REMOVAL_GROUP }],
    [true, { name: 've0123456789abc', alias: 'vxmesh endpoint c1/eth0', group: 0 }],
    [false, { name: 'vb00000b', alias, group: OVERLAY_GROUP }],
    [false, { name: 'vb00000a', alias: '', group: 0 }],
    [false, { name: 'vb00000a', alias: 'my bridge', group: OVERLAY_GROUP }],
    [false, { name: 'br0', alias, group: OVERLAY_GROUP }],
    [false, { name: 've0123456789abc', alias, group: OVERLAY_GROUP }]
  ]
  for (const [ours, device] of cases) t.equal(isMarkedOurs(device), ours, JSON.stringify(device))
})
