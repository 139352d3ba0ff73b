// Entries in the terms of the state and as the maps hold them: each form follows from the other.

import fc from 'fast-check'
import t from 'tap'
import { parseVni, type Vni } from '#model/ids.ts'
import { parseSubnet } from '#model/ip.ts'
import { parseIpv4 } from '#model/ipv4.ts'
import { ipv6OfBytes, parseIpv6 } from '#model/ipv6.ts'
import { parseMac } from '#model/mac.ts'
import {
  HOW,
  NETWORK_BYTES,
  networkValue,
  portValue,
  readStation,
  SETTINGS_BYTES,
  settingsValue,
  word
} from '#overlay/plan/programs/entries.ts'
import { BACKEND_BYTES, SERVICE_BYTES, SERVICE_KEY_BYTES } from '#overlay/plan/programs/service-entries.ts'
import {
  bytesOf,
  decodeEntry,
  emptyTables,
  stationOf,
  stationWord,
  TABLES,
  textOf,
  type Key,
  type Table,
  type Value
} from '#overlay/plan/programs/tables.ts'
import { encodeKey, encodeValue, SIZES, stationKey } from '../../entry-bytes.ts'

// All 24 bits differ, and none of them is another field of an entry.
const vni = parseVni(0xfe80a1)
const address = parseIpv4('10.1.0.2')
const address6 = parseIpv6('fd00:1::a:2')
const mac = parseMac('02:8a:0b:0c:0d:fe')

t.test('entries become text and bytes again, wherever the bytes are', t => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 40 }), fc.nat({ max: 5 }), (bytes, offset) => {
      const padded = new Uint8Array(offset + bytes.length + 3).fill(0xff)
      padded.set(bytes, offset)
      const text = textOf(padded.subarray(offset, offset + bytes.length))
      t.equal(text.length, bytes.length)
      t.equal(Buffer.compare(bytesOf(text), bytes), 0)
    })
  )
  t.end()
})

t.test('two keys are one text only if their bytes are the same', t => {
  const few = fc.uint8Array({ minLength: 2, maxLength: 3 })
  fc.assert(
    fc.property(few, few, (a, b) => {
      t.equal(textOf(a) === textOf(b), Buffer.compare(a, b) === 0)
    })
  )
  t.not(textOf(Uint8Array.of(0x80)), textOf(Uint8Array.of(0xff)), 'bytes that are no UTF-8')
  t.end()
})

const port = portValue({ network: vni, addresses: [address, address6], mac, redirects: true, mtu: 1450 })
const settings = settingsValue({
  ...{ vtep: address, vxlanPort: 4789, flowsRate: 1, broadcastsRate: 1 },
  ...{ underlay: 2, underlayMtu: 1_500, unwraps: true }
})
const network = networkValue({ tunnel: 9, told: { subnet: parseSubnet('fd00:1::/64'), first: 1, count: 2 } })
const hex = (text: string): Uint8Array => Buffer.from(text.replaceAll(' ', ''), 'hex')
const serviceKey = hex('a180fe00 00000000000000000000ffff0a010002 0050 06 03')
const backend = hex('00000000000000000000ffff0a010003 1f90 028a0b0c0dfe')
const service = new Uint8Array(SERVICE_BYTES).fill(7)
/** An entry of each table as the map holds it, and in the terms of the state. */
const EXAMPLES: readonly (readonly [Table, Uint8Array, Uint8Array, Vni | null, Key, Value])[] = [
  ['settings', word(0), settings, null, 0, textOf(settings)],
  ['underlays', word(vni), word(14), null, vni, 14],
  ['locals', hex('0a010002'), word(1), null, address, 1],
  ['vteps', hex('a180fe00 0a010002'), word(1), vni, address, 1],
  ['neighbours', hex('a180fe00 0a010002'), hex('028a0b0c0dfe 0000'), vni, address, mac],
  ['neighbours6', hex('a180fe00 fd000001 00000000 00000000 000a0002'), hex('028a0b0c0dfe 0000'), vni, address6, mac],
  ['backends', serviceKey, backend, vni, textOf(serviceKey), textOf(backend)],
  ['services', serviceKey, service, vni, textOf(serviceKey), textOf(service)],
  ['tunnels', word(9), word(vni), vni, 9, vni],
  ['networks', word(vni), network, vni, vni, textOf(network)],
  ['stations', hex('a180fe00 028a0b0c0dfe 0000'), hex('05000000 01000201'), vni, mac, ((5 * 4 + 1) * 8 + 2) * 8 + 1],
  ['ports', word(9), port, vni, 9, textOf(port)]
]

t.test("an entry's network is in its key, or in the value of a device", t => {
  t.same(
    EXAMPLES.map(([table]) => table),
    TABLES
  )
  for (const [table, keyBytes, valueBytes, vni, key, value] of EXAMPLES) {
    t.strictSame(decodeEntry(table, { key: keyBytes, value: valueBytes }), { vni, key, value }, table)
    t.equal(Buffer.compare(encodeKey(table, vni, key), keyBytes), 0, `${table}: key`)
    t.equal(Buffer.compare(encodeValue(table, value), valueBytes), 0, `${table}: value`)
  }
  t.end()
})

type Entry = { readonly table: Table; readonly vni: Vni | null; readonly key: Key; readonly value: Value }

const u32 = fc.nat({ max: 0xffffffff })
const anyVni = fc.integer({ min: 1, max: 0xffffff }).map(n => n as Vni)
const anyMac = fc
  .uint8Array({ minLength: 6, maxLength: 6 })
  .map(bytes => Array.from(bytes, byte => byte.toString(16).padStart(2, '0')).join(':'))
const anyIpv6 = fc.uint8Array({ minLength: 16, maxLength: 16 }).map(ipv6OfBytes)
const textOfLength = (bytes: number): fc.Arbitrary<string> =>
  fc.uint8Array({ minLength: bytes, maxLength: bytes }).map(textOf)
const anyStation = fc.record(
  { to: u32, how: fc.constantFrom(...Object.values(HOW)), tells: fc.nat({ max: 3 }), awaits: fc.nat({ max: 1 }) },
  { noNullPrototype: true }
)
/** Entries of each table, whatever the state may want, at the edges of the numbers and addresses, too. */
const ANY: Readonly<Record<Table, fc.Arbitrary<Omit<Entry, 'table'>>>> = {
  settings: fc.record({ vni: fc.constant(null), key: u32, value: textOfLength(SETTINGS_BYTES) }),
  underlays: fc.record({ vni: fc.constant(null), key: u32, value: u32 }),
  locals: fc.record({ vni: fc.constant(null), key: u32, value: u32 }),
  vteps: fc.record({ vni: anyVni, key: u32, value: u32 }),
  neighbours: fc.record({ vni: anyVni, key: u32, value: anyMac }),
  neighbours6: fc.record({ vni: anyVni, key: anyIpv6, value: anyMac }),
  backends: fc
    .tuple(anyVni, textOfLength(SERVICE_KEY_BYTES - 4), textOfLength(BACKEND_BYTES))
    .map(([vni, key, value]) => ({ vni, key: textOf(word(vni)) + key, value })),
  services: fc
    .tuple(anyVni, textOfLength(SERVICE_KEY_BYTES - 4), textOfLength(SERVICE_BYTES))
    .map(([vni, key, value]) => ({ vni, key: textOf(word(vni)) + key, value })),
  tunnels: fc.tuple(anyVni, u32).map(([vni, key]) => ({ vni, key, value: vni })),
  networks: fc.tuple(anyVni, textOfLength(NETWORK_BYTES)).map(([vni, value]) => ({ vni, key: vni, value })),
  stations: fc.record({ vni: anyVni, key: anyMac, value: anyStation.map(stationWord) }),
  ports: fc
    .tuple(anyVni, u32, textOfLength(32))
    .map(([vni, key, rest]) => ({ vni, key, value: textOf(word(vni)) + rest }))
}
const anyOffset = fc.nat({ max: 9 })

/** The same bytes within others. */
function within(bytes: Uint8Array, offset: number): Uint8Array {
  const padded = new Uint8Array(offset + bytes.length + 5).fill(0xff)
  padded.set(bytes, offset)
  return padded.subarray(offset, offset + bytes.length)
}

t.test('an entry reads back as it was written, wherever its bytes are', t => {
  for (const table of TABLES) {
    fc.assert(
      fc.property(ANY[table], anyOffset, ({ vni, key, value }, offset) => {
        const bytes = { key: encodeKey(table, vni, key), value: encodeValue(table, value) }
        t.same([bytes.key.length, bytes.value.length], SIZES[table], table)
        const inside = { key: within(bytes.key, offset), value: within(bytes.value, offset) }
        t.strictSame(decodeEntry(table, inside), { vni, key, value }, table)
      })
    )
  }
  t.end()
})

t.test('the key of any entry that a map may hold reads as one that is written as the same bytes', t => {
  for (const table of TABLES) {
    const [keyBytes, valueBytes] = SIZES[table]
    const bytesOfLength = (length: number): fc.Arbitrary<Uint8Array> =>
      fc.uint8Array({ minLength: length, maxLength: length })
    fc.assert(
      fc.property(bytesOfLength(keyBytes), bytesOfLength(valueBytes), anyOffset, (key, value, offset) => {
        const read = decodeEntry(table, { key: within(key, offset), value: within(value, offset) })
        t.equal(Buffer.compare(encodeKey(table, read.vni, read.key), key), 0, `${table}: it can be deleted`)
        // A neighbour's padding does nothing, and of a way that there is not nothing is known but that it is none.
        if (table === 'neighbours' || table === 'neighbours6') value.fill(0, 6)
        if (table === 'stations') {
          if ((value[4] ?? 0) > 7 || value[5] !== 0) value.set([7, 0], 4)
          value.set([Math.min(value[6] ?? 0, 7), Math.min(value[7] ?? 0, 3)], 6)
        }
        t.equal(Buffer.compare(encodeValue(table, read.value), value), 0, `${table}: value`)
      })
    )
  }
  t.end()
})

t.test('two entries are written as the same bytes only if they are the same', t => {
  // Of so few that they are often the same.
  const [networks, macs] = [
    [vni, parseVni(1)],
    [mac, parseMac('02:00:00:00:00:01')]
  ]
  const few: Readonly<Record<'vteps' | 'neighbours' | 'neighbours6' | 'stations', readonly Key[]>> = {
    ...{ vteps: [0, 1, address], neighbours: [0, 1, address], neighbours6: ['::', '::1', address6], stations: macs }
  }
  for (const table of ['vteps', 'neighbours', 'neighbours6', 'stations'] as const) {
    const one = fc.tuple(fc.constantFrom(...networks), fc.constantFrom(...few[table]))
    fc.assert(
      fc.property(one, one, ([a, key], [b, other]) => {
        const isSame = Buffer.compare(encodeKey(table, a, key), encodeKey(table, b, other)) === 0
        t.equal(isSame, a === b && key === other, table)
      })
    )
  }
  t.end()
})

t.test('ifindex or VTEP of a station and its way are one number, which no other station has', t => {
  fc.assert(
    fc.property(anyStation, anyStation, (a, b) => {
      t.strictSame(stationOf(stationWord(a)), a)
      t.equal(stationWord(a) === stationWord(b), a.to === b.to && a.how === b.how && a.tells === b.tells)
      t.ok(Number.isSafeInteger(stationWord(a)))
    })
  )
  for (const how of Object.values(HOW)) {
    for (const to of [0, 1, 7, 8, 0x7fffffff, 0xffffffff]) {
      for (const tells of [0, 1, 2, 3]) {
        const station = { to, how, tells, awaits: tells % 2 }
        t.strictSame(readStation(encodeValue('stations', stationWord(station))), station, `${how} ${to} ${tells}`)
      }
    }
  }
  t.end()
})

t.test('a way that there is not is no way of another station', t => {
  const wanted = new Set([4, 5, 6].flatMap(to => Object.values(HOW).map(how => stationWord({ to, how, tells: 0 }))))
  for (const how of [0, 5, 6, 7, 8, 9, 17, 0x80000001, 0xffffffff]) {
    const value = Buffer.concat([word(5), word(how)])
    const read = decodeEntry('stations', { key: stationKey(vni, mac), value })
    t.notOk(wanted.has(Number(read.value)), `${how}`)
    t.equal(stationOf(Number(read.value)).to, 5)
  }
  t.end()
})

t.test('no two tables share their entries, and a port comes last', t => {
  const [one, other] = [emptyTables(), emptyTables()]
  one.ports.set('a', 'b')
  t.same([...TABLES].sort(), Object.keys(one).sort())
  for (const table of TABLES) {
    t.equal(one[table].size, table === 'ports' ? 1 : 0, table)
    t.equal(other[table].size, 0, table)
  }
  t.equal(TABLES.at(-1), 'ports')
  t.end()
})
