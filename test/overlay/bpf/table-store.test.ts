// What the maps hold, as the agent knows it: with what it wrote itself, and with what another did behind its back.

import { closeSync } from 'node:fs'
import t, { type Test } from 'tap'
import { closeDatapath, loadDatapath, readObjects, type Datapath } from '#overlay/bpf/datapath.ts'
import { BpfMap, type Entry } from '#overlay/bpf/map.ts'
import { TableStore } from '#overlay/bpf/table-store.ts'
import { HOW, networkValue, portValue, SCOPES, SETTINGS_BYTES, word } from '#overlay/plan/programs/entries.ts'
import {
  decodeEntry,
  stationWord,
  TABLES,
  textOf,
  type Changes,
  type Key,
  type Table,
  type Value
} from '#overlay/plan/programs/tables.ts'
import { parseVni, type Vni } from '#model/ids.ts'
import { parseSubnet } from '#model/ip.ts'
import { parseIpv4 } from '#model/ipv4.ts'
import { parseIpv6 } from '#model/ipv6.ts'
import { parseMac } from '#model/mac.ts'
import * as bpf from '#platform/bpf.ts'
import { addressKey, encodeKey, encodeValue, neighbourValue, stationKey, stationValue } from '../entry-bytes.ts'

const skip = process.getuid?.() === 0 ? false : 'needs root: BPF maps'
const [red, blue, green] = [parseVni(0xa1), parseVni(0xb2), parseVni(0xfec3d4)]
const address = parseIpv4('10.1.0.2')
const address6 = parseIpv6('fd00:1::2')
const mac = parseMac('02:8a:0b:0c:0d:fe')
const COUNTERS = ['vxm_traffic', 'vxm_buckets'] as const

type Maps = Pick<Datapath, 'maps'>
/** An entry of a table: network, key, value. */
type Row = readonly [table: Table, vni: Vni | null, key: Key, value: Value]

function port(network: Vni): string {
  return textOf(portValue({ network, addresses: [address, address6], mac, redirects: true, mtu: 1450 }))
}

function network(tunnel: number): string {
  const told = { subnet: parseSubnet('fd00:1::/64'), first: address - 2, count: 2 ** 16 }
  return textOf(networkValue({ tunnel, told }))
}

const ROWS: readonly Row[] = [
  ['settings', null, 0, textOf(new Uint8Array(SETTINGS_BYTES).fill(0xfe))],
  ['underlays', null, 2, 14],
  ['locals', null, parseIpv4('203.0.113.9'), 1],
  ...[red, blue, green].flatMap((vni, i): Row[] => [
    ['vteps', vni, parseIpv4('192.0.2.2'), 1],
    ['neighbours', vni, address, mac],
    ['neighbours6', vni, address6, mac],
    ['tunnels', vni, 100 + i, vni],
    ['networks', vni, vni, network(100 + i)],
    ['stations', vni, mac, stationWord({ to: 200 + i, how: HOW.peer, tells: i })],
    ['ports', vni, 200 + i, port(vni)]
  ])
]

/** The maps of our programs, of which some have other sizes. */
function newDatapath(t: Test, sizes: Readonly<Record<string, number>> = {}): Datapath {
  const objects = readObjects().map(object => ({
    ...object,
    maps: object.maps.map(map => ({ ...map, maxEntries: sizes[map.name] ?? map.maxEntries }))
  }))
  const datapath = loadDatapath(objects)
  t.teardown(() => closeDatapath(datapath))
  return datapath
}

function mapOf({ maps }: Pick<Datapath, 'maps'>, name: string): BpfMap {
  const map = maps.get(name)
  if (map === undefined) throw new Error(`no map ${name}`)
  return map
}

/** The same map by a descriptor of its own, as another program has it. */
function another(t: Test, datapath: Datapath, name: string): BpfMap {
  const own = mapOf(datapath, name)
  const ids = [...datapath.programs.values()].flatMap(({ fd }) => bpf.programInfo(fd)?.mapIds ?? [])
  for (const id of new Set(ids)) {
    const { value: fd } = bpf.mapById(id)
    if (fd < 0) continue
    if (bpf.mapInfo(fd)?.name === name) {
      const map = new BpfMap(own.shape, fd, own.valueBytes / own.shape.value.bytes)
      t.teardown(() => map.close())
      return map
    }
    closeSync(fd)
  }
  throw new Error(`no program has ${name}`)
}

function fill(store: TableStore, rows: readonly Row[] = ROWS): void {
  for (const [table, vni, key, value] of rows) store.set(vni, table, changes([key, value]))
}

/** What a store holds, one line an entry. */
function linesOf({ held }: TableStore): string[] {
  return [...held]
    .flatMap(([vni, tables]) =>
      TABLES.flatMap(table => [...tables[table]].map(([key, value]) => line([table, vni, key, value])))
    )
    .sort()
}

function line([table, vni, key, value]: Row): string {
  return `${table} ${String(vni)} ${Buffer.from(String(key)).toString('hex')} ${Buffer.from(String(value)).toString('hex')}`
}

/** What the maps hold, one line an entry. */
function linesIn(maps: Maps): string[] {
  return TABLES.flatMap(table =>
    mapOf(maps, `vxm_${table}`)
      .entries()
      .map(entry => {
        const { vni, key, value } = decodeEntry(table, entry)
        return line([table, vni, key, value])
      })
  ).sort()
}

const sorted = (rows: readonly Row[]): string[] => rows.map(line).sort()
const numbers = (map: BpfMap): number[] =>
  map
    .entries()
    .map(({ key }) => new DataView(key.buffer, key.byteOffset).getUint32(0, true))
    .sort((a, b) => a - b)

const ledgersOf = (...networks: readonly Vni[]): number[] =>
  networks.flatMap(vni => SCOPES.map(() => vni)).sort((a, b) => a - b)

/** An entry that no map holds, in each table of the host and of this network: it is gone once a table was decoded anew. */
const MARK = 0xdead
function mark({ held }: TableStore): void {
  for (const table of TABLES) held.get(red)?.[table].set(MARK, MARK)
}

/** Of the marked tables those that were decoded since; the marks of the others are taken away. */
function decoded({ held }: TableStore): Table[] {
  return TABLES.filter(table => held.get(red)?.[table].delete(MARK) !== true)
}

function changes(...entries: readonly (readonly [Key, Value])[]): Changes {
  return { keys: entries.map(([key]) => key), values: entries.map(([, value]) => value) }
}

t.test('what was written is held, is in the maps, and is what another run reads', { skip }, async t => {
  const datapath = newDatapath(t)
  const store = new TableStore(datapath.maps)
  fill(store)
  t.same(linesOf(store), sorted(ROWS))
  t.same(linesIn(datapath), sorted(ROWS))
  const next = new TableStore(datapath.maps)
  t.same(linesOf(next), [])
  await next.read(true)
  t.same(linesOf(next), sorted(ROWS))
  t.same(new Set(next.held.keys()), new Set([null, red, blue, green]))
  for (const vni of [red, blue, green]) t.equal(next.of(vni), next.held.get(vni))
})

t.test('of a network that is not here nothing is held, and asking for it changes nothing', { skip }, async t => {
  const store = new TableStore(newDatapath(t).maps)
  for (const table of TABLES) t.equal(store.of(red)[table].size, 0)
  t.equal(store.held.size, 0)
  t.equal(store.portOf(200), null)
  await store.read(true)
  t.same(
    linesOf(store),
    [line(['settings', null, 0, textOf(new Uint8Array(SETTINGS_BYTES))])],
    'an array has its one entry'
  )
})

t.test('a second read without changes decodes nothing', { skip }, async t => {
  const store = new TableStore(newDatapath(t).maps)
  fill(store)
  mark(store)
  await store.read(true)
  t.same(decoded(store), TABLES, 'the first one everything')
  for (const time of ['second', 'third']) {
    mark(store)
    await store.read(true)
    t.same(decoded(store), [], time)
    t.same(linesOf(store), sorted(ROWS))
  }
})

t.test('a table that was written to is decoded by the next read, once', { skip }, async t => {
  const store = new TableStore(newDatapath(t).maps)
  fill(store)
  await store.read(true)
  for (const [table, vni, key, value] of ROWS.filter(([, vni]) => vni === red)) {
    const writes: readonly (() => void)[] = [
      () => store.set(vni, table, changes([key, value])),
      () => store.delete(vni, table, [key]),
      () => store.delete(vni, table, [key]),
      () => store.set(vni, table, changes([key, value]))
    ]
    for (const write of writes) {
      write()
      const before = linesOf(store)
      mark(store)
      await store.read(true)
      t.same(decoded(store), [table])
      t.same(linesOf(store), before, `${table}: it was held as it is`)
      mark(store)
      await store.read(true)
      t.same(decoded(store), [])
    }
  }
  t.same(linesOf(store), sorted(ROWS))
})

t.test('a change by another program is seen by the next read, which decodes that table only', { skip }, async t => {
  const datapath = newDatapath(t)
  const store = new TableStore(datapath.maps)
  fill(store)
  await store.read(true)
  const other = parseMac('06:76:78:00:00:ff')
  /** What an entry of the first network becomes, and an entry that there was not. */
  const changes: Readonly<Partial<Record<Table, readonly [changed: Value, key: Key, added: Value]>>> = {
    vteps: [2, parseIpv4('192.0.2.77'), 1],
    neighbours: [other, parseIpv4('10.1.0.77'), mac],
    neighbours6: [other, parseIpv6('fd00:1::77'), mac],
    tunnels: [red + 1, 177, red],
    networks: [network(177), red + 1, network(100)],
    stations: [
      stationWord({ to: 200, how: HOW.queue, tells: 0 }),
      other,
      stationWord({ to: 1, how: HOW.bridge, tells: 3 })
    ],
    ports: [textOf(portValue({ network: red, addresses: [address], mac, redirects: false, mtu: 1 })), 277, port(red)]
  }
  for (const row of ROWS.filter(([, vni]) => vni === red)) {
    const [table, vni, key, value] = row
    const [changed, newKey, added] = changes[table] ?? []
    if (changed === undefined || newKey === undefined || added === undefined) throw new Error(table)
    const map = another(t, datapath, `vxm_${table}`)
    t.not(map.fd, mapOf(datapath, `vxm_${table}`).fd)
    const bytes = (key: Key, value: Value): Entry => ({
      key: encodeKey(table, vni, key),
      value: encodeValue(table, value)
    })
    const others = ROWS.filter(other => other !== row)
    // Its network is in the key.
    const addedRow: Row = [table, table === 'networks' ? parseVni(red + 1) : vni, newKey, added]
    const changedRow: Row = [table, table === 'tunnels' ? parseVni(red + 1) : vni, key, changed]
    const steps: readonly [title: string, step: () => void, rows: readonly Row[]][] = [
      ['another value', () => map.set([bytes(key, changed)]), [...others, changedRow]],
      ['deleted', () => map.delete([encodeKey(table, vni, key)]), others],
      ['added', () => map.set([bytes(newKey, added)]), [...others, addedRow]],
      [
        'as it was',
        () => {
          map.delete([encodeKey(table, vni, newKey)])
          map.set([bytes(key, value)])
        },
        ROWS
      ]
    ]
    for (const [title, step, rows] of steps) {
      step()
      await store.read(false)
      mark(store)
      await store.read(true)
      t.same(decoded(store), [table], `${table}: ${title}`)
      t.same(linesOf(store), sorted(rows), `${table}: ${title}`)
    }
  }
})

t.test('the settings, the underlay and the addresses of the host are read again, too', { skip }, async t => {
  const datapath = newDatapath(t)
  const store = new TableStore(datapath.maps)
  fill(store)
  await store.read(true)
  another(t, datapath, 'vxm_settings').set([{ key: word(0), value: new Uint8Array(SETTINGS_BYTES) }])
  another(t, datapath, 'vxm_underlays').delete([word(2)])
  another(t, datapath, 'vxm_locals').set([{ key: encodeKey('locals', null, address), value: word(1) }])
  mark(store)
  await store.read(true)
  t.same(decoded(store), ['settings', 'underlays', 'locals'])
  t.same(linesOf(store), linesIn(datapath))
  t.strictSame(store.held.get(null)?.settings, new Map([[0, textOf(new Uint8Array(SETTINGS_BYTES))]]))
  t.equal(store.held.get(null)?.underlays.size, 0)
  t.equal(store.held.get(null)?.locals.size, 2)
})

t.test('a read that is not of everything reads only if nothing was ever read', { skip }, async t => {
  const datapath = newDatapath(t)
  fill(new TableStore(datapath.maps))
  const store = new TableStore(datapath.maps)
  await store.read(false)
  t.same(linesOf(store), sorted(ROWS))
  another(t, datapath, 'vxm_vteps').set([{ key: addressKey(red, address), value: word(1) }])
  await store.read(false)
  t.same(linesOf(store), sorted(ROWS))
  await store.read(true)
  t.same(linesOf(store), sorted([...ROWS, ['vteps', red, address, 1]]))
})

t.test('what is written while the maps are read is not lost', { skip }, async t => {
  const datapath = newDatapath(t)
  const store = new TableStore(datapath.maps)
  for (const whole of [false, true, true]) {
    const reading = store.read(whole)
    // The settings have been read by now, and nothing else.
    fill(store)
    await reading
    t.same(linesOf(store), sorted(ROWS))
    const deleting = store.read(true)
    for (const [table, vni, key] of ROWS) if (table !== 'settings') store.delete(vni, table, [key])
    await deleting
    t.same(linesOf(store), linesIn(datapath))
    await store.read(true)
    t.same(linesOf(store), linesIn(datapath))
  }
})

t.test('a network whose last entry goes loses its ledger, and no other network does', { skip }, async t => {
  const datapath = newDatapath(t)
  const store = new TableStore(datapath.maps)
  fill(store)
  const ledger = mapOf(datapath, 'vxm_ledger')
  t.same(numbers(ledger), ledgersOf(red, blue, green))
  const ofBlue = ROWS.filter(([, vni]) => vni === blue)
  // Whichever entry is the last one.
  for (let at = 0; at < ofBlue.length; at++) {
    const order = [...ofBlue.slice(at), ...ofBlue.slice(0, at)]
    for (const [i, [table, vni, key]] of order.entries()) {
      t.same(numbers(ledger), ledgersOf(red, blue, green), `${order.length - i} entries`)
      store.delete(vni, table, [key])
    }
    t.same(numbers(ledger), ledgersOf(red, green), `${order.at(-1)?.[0] ?? ''} was the last`)
    t.notOk(store.held.has(blue))
    t.same(linesOf(store), sorted(ROWS.filter(([, vni]) => vni !== blue)))
    t.same(linesIn(datapath), linesOf(store))
    fill(store, ofBlue)
  }
  for (const [table, vni, key] of ROWS)
    if (vni === null) store.delete(vni, table === 'settings' ? 'locals' : table, [key])
  t.ok(store.held.has(null), 'the host itself has none')
  t.same(numbers(ledger), ledgersOf(red, blue, green))
})

t.test('a network that another program emptied is held no more', { skip }, async t => {
  const datapath = newDatapath(t)
  const store = new TableStore(datapath.maps)
  fill(store)
  await store.read(true)
  for (const [table, vni, key] of ROWS) {
    if (vni === blue) another(t, datapath, `vxm_${table}`).delete([encodeKey(table, vni, key)])
  }
  t.ok(store.held.has(blue))
  await store.read(true)
  t.same(new Set(store.held.keys()), new Set([null, red, green]))
})

t.test('a port is counted from its first entry on to its last, and goes on counting meanwhile', { skip }, async t => {
  const datapath = newDatapath(t)
  const store = new TableStore(datapath.maps)
  fill(store)
  const counters = COUNTERS.map(name => mapOf(datapath, name))
  for (const map of counters) t.same(numbers(map), [200, 201, 202], map.shape.name)
  const filled = (map: BpfMap): Uint8Array => new Uint8Array(map.valueBytes).fill(1)
  for (const map of counters) map.set([{ key: word(200), value: filled(map) }])
  store.set(red, 'ports', changes([200, port(red)]))
  for (const map of counters) t.same(map.get(word(200)), filled(map), `${map.shape.name} goes on`)
  t.ok((store.traffic().get(200)?.sentPackets ?? 0) > 0)
  t.equal(store.traffic().get(201)?.sentPackets, 0)
  store.delete(red, 'stations', [mac])
  for (const map of counters) t.same(numbers(map), [200, 201, 202], 'another entry is none of a port')
  store.delete(red, 'ports', [200, 999])
  for (const map of counters) t.same(numbers(map), [201, 202], map.shape.name)
  t.same([...store.traffic().keys()].sort(), [201, 202])
})

t.test('ports of an earlier run are counted once they were read first', { skip }, async t => {
  const datapath = newDatapath(t)
  fill(new TableStore(datapath.maps))
  const counters = COUNTERS.map(name => mapOf(datapath, name))
  const ledger = mapOf(datapath, 'vxm_ledger')
  const clear = (): void => {
    for (const map of [...counters, ledger]) map.delete(map.entries().map(({ key }) => key))
    for (const map of [...counters, ledger]) t.same(numbers(map), [])
  }
  clear()
  const next = new TableStore(datapath.maps)
  await next.read(true)
  for (const map of counters) t.same(numbers(map), [200, 201, 202], map.shape.name)
  t.same(numbers(ledger), ledgersOf(red, blue, green))
  clear()
  await next.read(true)
  t.same(numbers(ledger), [], 'which is done once')
})

t.test('what another network had by the same ifindex is held by the new one only', { skip }, async t => {
  const datapath = newDatapath(t)
  const store = new TableStore(datapath.maps)
  fill(store)
  store.set(blue, 'ports', changes([200, port(blue)]))
  store.set(blue, 'tunnels', changes([100, blue]))
  t.match(store.portOf(200), { vni: blue, addresses: [address, address6], mac, mtu: 1450 })
  t.equal(store.of(red).ports.size + store.of(red).tunnels.size, 0)
  // A MAC or an address of another network is another one.
  store.set(blue, 'stations', changes([mac, 1]))
  t.equal(store.of(red).stations.get(mac), stationWord({ to: 200, how: HOW.peer, tells: 0 }))
  const before = linesOf(store)
  t.same(linesIn(datapath), before)
  await store.read(true)
  t.same(linesOf(store), before)
})

t.test('a port is found by its ifindex, in whichever network it is', { skip }, async t => {
  const datapath = newDatapath(t)
  const store = new TableStore(datapath.maps)
  fill(store)
  const next = new TableStore(datapath.maps)
  await next.read(true)
  for (const reader of [store, next]) {
    for (const [i, vni] of [red, blue, green].entries()) {
      t.strictSame(reader.portOf(200 + i), { vni, addresses: [address, address6], mac, services: 'none', mtu: 1450 })
    }
    for (const none of [0, 100, 203]) t.equal(reader.portOf(none), null)
  }
})

t.test('a full map is a typed error, and the next read repairs what is held', { skip }, async t => {
  const room = 5
  const tables = ['vteps', 'neighbours', 'tunnels', 'stations'] as const
  const sizes = Object.fromEntries(tables.map(table => [`vxm_${table}`, room]))
  const datapath = newDatapath(t, sizes)
  const store = new TableStore(datapath.maps)
  await store.read(true)
  const row = (table: (typeof tables)[number], n: number): readonly [Key, Value] => {
    if (table === 'tunnels') return [n, red]
    if (table === 'stations')
      return [parseMac(`02:00:00:00:00:0${n}`), stationWord({ to: n, how: HOW.peer, tells: n % 4 })]
    return [n, table === 'vteps' ? 1 : mac]
  }
  for (const table of tables) {
    const own = (): number => store.of(red)[table].size
    store.set(red, table, changes(row(table, 1)))
    await store.read(true)
    const more = [2, 3, 4, 5, 6, 7].map(n => row(table, n))
    t.throws(() => store.set(red, table, changes(...more)), {
      ...{ code: 'ERR_KERNEL', context: { errno: 'E2BIG' } },
      message: new RegExp(`^write BPF map vxm_${table}: .*E2BIG`)
    })
    t.equal(mapOf(datapath, `vxm_${table}`).dump().count, room, 'those before the refused one are written')
    t.equal(own(), 1, 'and not held yet')
    await store.read(false)
    t.equal(own(), 1)
    await store.read(true)
    t.equal(own(), room, table)
    t.same(linesOf(store), linesIn(datapath))
    // What is held can be deleted, and then there is room.
    store.delete(red, table, [row(table, 1)[0], row(table, 2)[0]])
    store.set(red, table, changes(row(table, 6), row(table, 7)))
    t.same(linesOf(store), linesIn(datapath))
    t.equal(own(), room)
  }
})

t.test('a port that cannot be counted is a typed error, and gets no entry', { skip }, async t => {
  for (const name of [...COUNTERS, 'vxm_ledger']) {
    const datapath = newDatapath(t, { [name]: name === 'vxm_ledger' ? SCOPES.length : 1 })
    const store = new TableStore(datapath.maps)
    store.set(red, 'ports', changes([200, port(red)]))
    const error = { code: 'ERR_KERNEL', message: new RegExp(`^write BPF map ${name}: `), context: { errno: 'E2BIG' } }
    t.throws(() => store.set(blue, 'ports', changes([201, port(blue)])), error)
    t.same(numbers(mapOf(datapath, 'vxm_ports')), [200])
    t.same(linesOf(store), [line(['ports', red, 200, port(red)])])
    store.delete(red, 'ports', [200])
    t.same(numbers(mapOf(datapath, name)), [], `${name}: there is room again`)
    store.set(blue, 'ports', changes([201, port(blue)]))
    t.match(store.portOf(201), { vni: blue })
  }
})

t.test('what another program writes is read as what it is, and can be deleted', { skip }, async t => {
  const datapath = newDatapath(t)
  const store = new TableStore(datapath.maps)
  store.set(red, 'stations', changes([mac, stationWord({ to: 5, how: HOW.peer, tells: 0 })]))
  const padded = stationKey(red, mac)
  padded[10] = 1
  const stations = another(t, datapath, 'vxm_stations')
  stations.set([{ key: padded, value: stationValue({ to: 9, how: 'tunnel', tells: 0 }) }])
  await store.read(true)
  const { stations: held } = store.of(red)
  t.equal(held.size, 2)
  t.equal(held.get(mac), stationWord({ to: 5, how: HOW.peer, tells: 0 }), 'the packets’ own station is the other one')
  store.delete(
    red,
    'stations',
    [...held.keys()].filter(key => key !== mac)
  )
  t.same(
    stations.entries().map(({ key }) => textOf(key)),
    [textOf(stationKey(red, mac))]
  )
  stations.set([{ key: stationKey(red, mac), value: Buffer.concat([word(4), word(9)]) }])
  await store.read(true)
  t.not(store.of(red).stations.get(mac), stationWord({ to: 5, how: HOW.peer, tells: 0 }), 'a way that there is not')
  another(t, datapath, 'vxm_neighbours').set([{ key: addressKey(green, address), value: neighbourValue(mac) }])
  await store.read(true)
  t.strictSame([...store.of(green).neighbours], [[address, mac]])
})

t.test('without its map a table is neither read nor written', { skip }, async t => {
  const { maps } = newDatapath(t)
  const lacking = new TableStore(new Map([...maps].filter(([name]) => name !== 'vxm_vteps')))
  t.throws(() => lacking.set(red, 'vteps', changes([1, 1])), /no map vxm_vteps/)
  t.throws(() => lacking.delete(red, 'vteps', [1]), /no map vxm_vteps/)
  await t.rejects(lacking.read(true), /no map vxm_vteps/)
  const nothing = new TableStore(new Map())
  t.throws(() => nothing.traffic(), /no map vxm_traffic/)
  t.throws(() => nothing.drops(), /no map vxm_drops/)
})
