// The bytes of the maps' entries, written out by hand from programs/maps.h, and what is read back from them.

import { readFileSync } from 'node:fs'
import fc from 'fast-check'
import t from 'tap'
import { parseVni, type Vni } from '#model/ids.ts'
import { parseSubnet } from '#model/ip.ts'
import { parseIpv4, type Ipv4 } from '#model/ipv4.ts'
import { ipv6OfBytes, parseIpv6 } from '#model/ipv6.ts'
import { macAt, parseMac, type Mac } from '#model/mac.ts'
import {
  DROPS,
  HOW,
  ledgerKey,
  networkValue,
  portTraffic,
  portValue,
  readPort,
  readStation,
  SCOPES,
  settingsValue,
  summed,
  word
} from '#overlay/plan/programs/entries.ts'
import { TELLS } from '#overlay/plan/network/tells.ts'
import { addressKey, addressWord, neighbourValue, stationKey, stationValue } from '../../entry-bytes.ts'

const vni = parseVni(0xabcdef)
const address = parseIpv4('10.1.0.2')
const address6 = parseIpv6('fd00:1::a:2')
const mac = parseMac('02:8a:0b:0c:0d:fe')
const HEADER = readFileSync(new URL('../../../../overlay/bpf/programs/maps.h', import.meta.url), 'utf8')

/** The value of a `#define` in maps.h. */
function defined(name: string): number {
  const found = new RegExp(`^#define ${name} (\\d+)`, 'm').exec(HEADER)
  if (found === null) throw new Error(`maps.h does not define ${name}`)
  return Number(found[1])
}

const anyMac = fc
  .uint8Array({ minLength: 6, maxLength: 6 })
  .map(bytes => Array.from(bytes, byte => byte.toString(16).padStart(2, '0')).join(':') as Mac)
const u32 = fc.nat({ max: 0xffffffff })
const anyIpv4 = fc.integer({ min: 1, max: 0xffffffff }).map(n => n as Ipv4)
const anyIpv6 = fc
  .uint8Array({ minLength: 16, maxLength: 16 })
  .filter(bytes => bytes.some(byte => byte > 0))
  .map(ipv6OfBytes)
const u16 = fc.nat({ max: 0xffff })
const u8 = fc.nat({ max: 0xff })
const anyStation = fc.record({ to: u32, how: u16, tells: u8, awaits: u8 }, { noNullPrototype: true })
const anyPort = fc.record({
  network: fc.nat({ max: 0xffffff }).map(n => n as Vni),
  addresses: fc.oneof(
    fc.tuple(anyIpv4),
    fc.tuple(anyIpv6),
    fc.tuple(anyIpv4, anyIpv6),
    fc.constant<readonly never[]>([])
  ),
  mac: anyMac,
  redirects: fc.boolean(),
  services: fc.constantFrom('none', 'inside', 'beyond'),
  mtu: u32
})

t.test('each entry has the bytes of its struct: numbers in host order, addresses and ports as a packet has them', t => {
  const port = { network: vni, addresses: [address, address6], mac, redirects: true, mtu: 1450 }
  const [head, none6] = ['028a0b0c0dfe 0100 aa050000', '00'.repeat(16)]
  const hex6 = 'fd000001 00000000 00000000 000a0002'
  const rates = { flowsRate: 20_000, broadcastsRate: 1_000 }
  const settings = { vtep: parseIpv4('192.0.2.1'), vxlanPort: 4790, ...rates, underlay: 0x102, underlayMtu: 9_000 }
  for (const [what, bytes, hex] of [
    ['a number', word(0x01020304), '04030201'],
    ['the greatest number', word(0xffffffff), 'ffffffff'],
    ['a port that redirects', portValue(port), `efcdab00 0a010002 ${head} ${hex6}`],
    ['of IPv4 alone', portValue({ ...port, addresses: [address] }), `efcdab00 0a010002 ${head} ${none6}`],
    ['of IPv6 alone', portValue({ ...port, addresses: [address6] }), `efcdab00 00000000 ${head} ${hex6}`],
    [
      'one that does not redirect',
      portValue({ ...port, redirects: false }),
      `efcdab00 0a010002 028a0b0c0dfe 0000 aa050000 ${hex6}`
    ],
    ['a station', stationKey(vni, mac), 'efcdab00 028a0b0c0dfe 0000'],
    ['reached by its own device', stationValue({ to: 0x102, how: 'peer', tells: 3 }), '02010000 0100 0300'],
    ['by its queue', stationValue({ to: 7, how: 'queue', tells: 1 }), '07000000 0200 0100'],
    ['on another host', stationValue({ to: parseIpv4('192.0.2.9'), how: 'tunnel', tells: 2 }), 'c0000209 0300 0200'],
    ['on one that the VXLAN device knows', stationValue({ to: 0, how: 'tunnel', tells: 1 }), '00000000 0300 0100'],
    ['by the bridge', stationValue({ to: 7, how: 'bridge', tells: 0 }), '07000000 0400 0000'],
    ['a network of IPv4', networkValue({ tunnel: 0x102, told: null }), `02010000 ${'00'.repeat(24)}`],
    [
      'one with IPv6',
      networkValue({ tunnel: 9, told: { subnet: parseSubnet('fd00:1:2:3::/64'), first: 0x0a010000, count: 0x10000 } }),
      '09000000 0000010a 00000100 fd000001 00020003 00000000 00000000'
    ],
    ['a neighbour or VTEP', addressKey(vni, address), 'efcdab00 0a010002'],
    ['an address above 127.255.255.255', addressKey(vni, parseIpv4('203.0.113.9')), 'efcdab00 cb007109'],
    ['a neighbour of IPv6', addressKey(vni, address6), `efcdab00 ${hex6}`],
    ['a local address', addressWord(parseIpv4('203.0.113.9')), 'cb007109'],
    ['a MAC', neighbourValue(mac), '028a0b0c0dfe 0000'],
    [
      'the settings',
      settingsValue({ ...settings, unwraps: true }),
      'c0000201 12b6 2823 204e0000 e8030000 02010000 01000000'
    ],
    [
      'those of a host that unwraps nothing',
      settingsValue({ ...settings, unwraps: false }),
      'c0000201 12b6 2823 204e0000 e8030000 02010000 00000000'
    ],
    [
      'the greatest MTU',
      settingsValue({ ...settings, underlayMtu: 65_535, underlay: 0, unwraps: false }),
      'c0000201 12b6 ffff 204e0000 e8030000 00000000 00000000'
    ],
    ['a ledger', ledgerKey(vni, 'received'), 'efcdab00 02000000']
  ] as const) {
    t.equal(Buffer.from(bytes).toString('hex'), hex.replaceAll(' ', ''), what)
  }
  t.end()
})

t.test('what a number stands for is what maps.h says', t => {
  for (const [i, scope] of SCOPES.entries()) t.equal(defined(`SCOPE_${scope.toUpperCase()}`), i, scope)
  for (const [i, why] of DROPS.entries()) t.equal(defined(`DROP_${why.toUpperCase().replace('-', '_')}`), i, why)
  t.same(Object.keys(HOW), ['peer', 'queue', 'tunnel', 'bridge'])
  for (const how of ['peer', 'queue', 'tunnel', 'bridge'] as const) {
    t.equal(stationValue({ to: 0, how, tells: 0 })[4], defined(`BY_${how.toUpperCase()}`), how)
    t.equal(HOW[how], defined(`BY_${how.toUpperCase()}`), how)
  }
  t.same([TELLS.ipv4, TELLS.ipv6], [defined('TELLS_IPV4'), defined('TELLS_IPV6')])
  const port = portValue({ network: vni, addresses: [address], mac, redirects: true, mtu: 0 })
  t.equal(port[14], defined('PORT_REDIRECTS'))
  const served = (services: 'inside' | 'beyond'): number | undefined =>
    portValue({ network: vni, addresses: [address], mac, redirects: false, services, mtu: 0 })[14]
  t.equal(served('inside'), defined('PORT_SERVICES'))
  t.equal(served('beyond'), defined('PORT_SERVICES') + defined('PORT_BEYOND'))
  t.throws(() => defined('SCOPE_NOWHERE'), /does not define/)
  const count = (prefix: string): number => HEADER.match(new RegExp(`^#define ${prefix}_`, 'gm'))?.length ?? 0
  t.same([count('SCOPE'), count('DROP'), count('BY'), count('PORT')], [SCOPES.length, DROPS.length, 4, 3])
  t.end()
})

t.test('a station reads back as it was written, wherever its bytes are, also by a way that there is not', t => {
  fc.assert(
    fc.property(anyStation, fc.nat({ max: 9 }), (station, offset) => {
      const bytes = Buffer.alloc(offset + 12, 0xff)
      if (station.how === HOW.tunnel) bytes.writeUInt32BE(station.to, offset)
      else bytes.writeUInt32LE(station.to, offset)
      bytes.writeUInt16LE(station.how, offset + 4)
      bytes.writeUInt8(station.tells, offset + 6)
      bytes.writeUInt8(station.awaits, offset + 7)
      t.strictSame(readStation(bytes.subarray(offset)), station)
    })
  )
  t.end()
})

t.test('a port reads back as it was written, wherever its bytes are', t => {
  fc.assert(
    fc.property(anyPort, fc.nat({ max: 9 }), (port, offset) => {
      const bytes = new Uint8Array(offset + 40).fill(0xff)
      bytes.set(portValue(port), offset)
      const { addresses, mac, services, mtu } = port
      t.strictSame(readPort(bytes.subarray(offset)), { addresses, mac, services, mtu })
    })
  )
  t.end()
})

t.test('a MAC reads back as it was written, wherever its bytes are, and is written within its six bytes', t => {
  fc.assert(
    fc.property(anyMac, fc.nat({ max: 9 }), (mac, at) => {
      const bytes = new Uint8Array(at + 9).fill(0xff)
      bytes.set(neighbourValue(mac).subarray(0, 6), at)
      t.equal(macAt(bytes, at), mac)
      t.equal(macAt(bytes.subarray(at), 0), mac)
      t.equal(Buffer.from(neighbourValue(mac)).toString('hex'), `${mac.replaceAll(':', '')}0000`)
      t.equal(macAt(stationKey(vni, mac), 4), mac)
    })
  )
  t.end()
})

t.test('each of the 256 octets is written and read, at each place of a MAC', t => {
  for (let octet = 0; octet < 256; octet++) {
    for (let at = 0; at < 6; at++) {
      const bytes = new Uint8Array(8)
      bytes[at] = octet
      const hex = Buffer.from(bytes.subarray(0, 6)).toString('hex')
      const text = (hex.match(/../g) ?? []).join(':') as Mac
      t.equal(macAt(bytes, 0), text)
      t.strictSame(neighbourValue(text), bytes, text)
    }
  }
  t.end()
})

t.test('a port that is cut short does not read', t => {
  const bytes = portValue({ network: vni, addresses: [address], mac, redirects: true, mtu: 1450 })
  for (let length = 0; length < bytes.length; length++) {
    t.throws(() => readPort(bytes.subarray(0, length)), RangeError, `${length} bytes`)
  }
  t.end()
})

t.test('a port that differs in a single field has other bytes', t => {
  fc.assert(
    fc.property(anyPort, anyPort, (a, b) => {
      for (const field of Object.keys(a) as (keyof typeof a)[]) {
        const changed = { ...a, [field]: b[field] }
        const isSame = String(a[field]) === String(b[field])
        t.equal(Buffer.compare(portValue(a), portValue(changed)) === 0, isSame, field)
      }
    })
  )
  t.end()
})

/** One value for each processor, as the kernel returns them. */
function perProcessor(...values: readonly (readonly bigint[])[]): Uint8Array {
  return new Uint8Array(BigUint64Array.from(values.flat()).buffer)
}

t.test('counters are summed over the processors, field by field', t => {
  const cases: readonly [readonly (readonly bigint[])[], fields: number, number[]][] = [
    [[[1n, 10n]], 2, [1, 10]],
    [
      [
        [1n, 10n],
        [2n, 20n],
        [0n, 0n],
        [4n, 40n]
      ],
      2,
      [7, 70]
    ],
    [[[5n], [6n]], 1, [11]],
    [
      [
        [0xffffffffn, 1n],
        [1n, 0x1_0000_0000n]
      ],
      2,
      [2 ** 32, 2 ** 32 + 1]
    ],
    [[[2n ** 53n - 1n]], 1, [Number.MAX_SAFE_INTEGER]],
    // Without processors, or with fewer bytes than a value has, there is nothing to add.
    [[], 2, [0, 0]],
    [[[9n]], 2, [0, 0]],
    [[[1n, 2n], [3n]], 2, [1, 2]]
  ]
  for (const [values, fields, sums] of cases) t.same(summed(perProcessor(...values), fields), sums, sums.join())
  const inside = Buffer.concat([Buffer.alloc(3, 0xff), perProcessor([1n, 2n])]).subarray(3)
  t.same(summed(inside, 2), [1, 2], 'wherever its bytes are')
  t.end()
})

t.test("a port's traffic has its fields in the order of struct traffic", t => {
  const fields = /struct traffic \{(.*?)\};/s.exec(HEADER)?.[1]?.match(/\w+(?=;)/g) ?? []
  t.same(
    fields.map(name => name.replace(/_(.)/g, (_, letter: string) => letter.toUpperCase())),
    ['sentPackets', 'sentBytes', 'redirectedPackets', 'redirectedBytes', 'droppedPackets', 'limitedPackets']
  )
  t.same(portTraffic(perProcessor([1n, 2n, 3n, 4n, 5n, 6n], [10n, 20n, 30n, 40n, 50n, 60n])), {
    sentPackets: 11,
    sentBytes: 22,
    redirectedPackets: 33,
    redirectedBytes: 44,
    droppedPackets: 55,
    limitedPackets: 66
  })
  const nothing = { sentPackets: 0, sentBytes: 0, redirectedPackets: 0, redirectedBytes: 0 }
  t.same(portTraffic(new Uint8Array()), { ...nothing, droppedPackets: 0, limitedPackets: 0 })
  t.end()
})
