// What the tables of one host hold: containers of this host and of others, shaped ones, and devices that do not exist.

import t from 'tap'
import type { Endpoint, Shaping } from '#model/endpoint.ts'
import type { IfName, PeerId, Vni } from '#model/ids.ts'
import { parseIpv4 } from '#model/ipv4.ts'
import { macOf } from '#model/mac.ts'
import type { MemberStatus } from '#model/member.ts'
import { desired, type DesiredHost } from '#overlay/plan/network/desired.ts'
import { bridgeName, vethName, vxlanName } from '#overlay/plan/network/names.ts'
import {
  desiredPrograms,
  portEntries,
  type DesiredPrograms,
  type ProgramsInput
} from '#overlay/plan/programs/desired-programs.ts'
import {
  addressKey,
  addressWord,
  HOW,
  neighbourValue,
  portValue,
  settingsValue,
  stationKey,
  stationValue,
  word,
  type StationEntry
} from '#overlay/plan/programs/entries.ts'
import {
  decodeEntry,
  emptyTables,
  encodeKey,
  stationWord,
  TABLES,
  textOf,
  type MutableTableSet,
  type Table
} from '#overlay/plan/programs/tables.ts'
import { byNetwork, makeEndpoint, makeHost, makeNetwork, peer } from '../../fixtures.ts'

const red = makeNetwork('red', 0xa1)
const blue = makeNetwork('blue', 0xb2, { egress: false })
const unshaped: Shaping = { ingressRate: 0, egressRate: 0, delayUs: 0 }
const SETTINGS = {
  ...{ vtep: parseIpv4('192.0.2.1'), vxlanPort: 4789, flowsRate: 20_000, broadcastsRate: 1_000 },
  ...{ underlay: 2, underlayMtu: 1_500, unwraps: true }
}
const LOCALS = ['127.0.0.1', '198.51.100.255'].map(address => parseIpv4(address))
const ETH0 = { name: 'eth0', ifindex: 2, linkBytes: 14 }

function on(host: number, container: string, last: number, shaping: Partial<Shaping> = {}): Endpoint {
  return { ...makeEndpoint(red, { container, host, address: `10.1.0.${last}` }), ...shaping }
}

const [mine, slow, theirs, failed] = [on(1, 'a', 2), on(1, 'b', 3, { ingressRate: 1e6 }), on(2, 'c', 4), on(3, 'd', 5)]
const device = (endpoint: Endpoint): IfName => vethName(endpoint.containerId, endpoint.ifname)
/** The ifindex of each device of the world. */
const INDEXES: ReadonlyMap<IfName, number> = new Map([
  [bridgeName(red.vni), 10],
  [vxlanName(red.vni), 11],
  [device(mine), 12],
  [device(slow), 13],
  [bridgeName(blue.vni), 20],
  [vxlanName(blue.vni), 21]
])

function hostOf(endpoints: readonly Endpoint[], statuses: Record<number, MemberStatus> = {}): DesiredHost {
  return desired({
    self: peer(1),
    selfVtep: makeHost(1).vtep,
    networks: [red, blue],
    endpoints: byNetwork(endpoints),
    hosts: [1, 2, 3].map(index => makeHost(index)),
    memberStatus: new Map(
      Object.entries({ 1: 'alive' as const, 2: 'alive' as const, 3: 'alive' as const, ...statuses }).map(
        ([index, status]): [PeerId, MemberStatus] => [peer(Number(index)), status]
      )
    ),
    overlayMtu: 1450,
    vxlanPort: 4789
  })
}

function programs(change: Partial<ProgramsInput> = {}): DesiredPrograms {
  return desiredPrograms({
    host: hostOf([mine, slow, theirs, failed]),
    ifindexOf: name => INDEXES.get(name) ?? 0,
    ...{ redirects: true, settings: SETTINGS, underlays: [ETH0], locals: LOCALS, whole: true, isDirect: () => true },
    ...change
  })
}

function tablesOf({ tables }: DesiredPrograms, vni: Vni | null = red.vni): MutableTableSet {
  const found = tables.get(vni)
  if (found === undefined) throw new Error(`nothing is wanted for ${String(vni)}`)
  return Object.fromEntries(TABLES.map(table => [table, new Map(found[table])])) as MutableTableSet
}

/** A network's tables with these entries only, which are given as the maps hold them. */
function withEntries(
  entries: Partial<Record<Table, readonly (readonly [Uint8Array, Uint8Array])[]>>,
  network: Vni | null = red.vni
): MutableTableSet {
  const tables = emptyTables()
  for (const table of TABLES) {
    for (const [keyBytes, valueBytes] of entries[table] ?? []) {
      const { vni, key, value } = decodeEntry(table, { key: keyBytes, value: valueBytes })
      if (vni !== network) throw new Error(`an entry of ${String(vni)} in ${table}`)
      tables[table].set(key, value)
    }
  }
  return tables
}

/** The keys of one table in hexadecimal digits, as the map holds them. */
function keysOf(tables: MutableTableSet, table: Table, vni: Vni | null = red.vni): string[] {
  return [...tables[table]].map(([key]) => Buffer.from(encodeKey(table, vni, key)).toString('hex'))
}

function stationsOf(rows: readonly (readonly [Endpoint, StationEntry])[]): (readonly [Uint8Array, Uint8Array])[] {
  return rows.map(([{ mac }, entry]) => [stationKey(red.vni, mac), stationValue(entry)])
}

function portsOf(rows: readonly (readonly [Endpoint, number, boolean])[]): (readonly [Uint8Array, Uint8Array])[] {
  return rows.map(([{ mac, address }, ifindex, redirects]) => {
    return [word(ifindex), portValue({ network: red.vni, address, mac, redirects, mtu: 1450 })]
  })
}

const places = ({ places }: DesiredPrograms): string[] =>
  [...places].map(([ifindex, place]) => `${place.program} on ${place.device} (${ifindex}, ${String(place.vni)})`)

const VTEPS = ['192.0.2.2', '192.0.2.3'].map(vtep => [addressKey(red.vni, parseIpv4(vtep)), word(1)] as const)

t.test('programs that redirect know each container, by which way it is reached, and who may send', t => {
  const want = programs()
  const gateway = { address: red.gateway, mac: macOf(red.vni, red.gateway) }
  t.strictSame(
    tablesOf(want),
    withEntries({
      tunnels: [[word(11), word(red.vni)]],
      networks: [[word(red.vni), word(11)]],
      vteps: VTEPS,
      neighbours: [gateway, mine, slow, theirs, failed].map(({ address, mac }) => [
        addressKey(red.vni, address),
        neighbourValue(mac)
      ]),
      stations: stationsOf([
        [theirs, { to: makeHost(2).vtep, how: 'tunnel' }],
        [failed, { to: makeHost(3).vtep, how: 'tunnel' }],
        [mine, { to: 12, how: 'peer' }],
        [slow, { to: 13, how: 'queue' }]
      ]),
      ports: portsOf([
        [mine, 12, true],
        [slow, 13, true]
      ])
    })
  )
  t.same(places(want), [
    'from_underlay on eth0 (2, null)',
    `to_host on ${bridgeName(red.vni)} (10, 161)`,
    `from_overlay on ${vxlanName(red.vni)} (11, 161)`,
    `from_container on ${device(mine)} (12, 161)`,
    `from_container on ${device(slow)} (13, 161)`
  ])
  t.end()
})

t.test('programs that only guard answer no ARP, take nothing from the tunnel, and leave all ways to the bridge', t => {
  const want = programs({ redirects: false })
  t.strictSame(
    tablesOf(want),
    withEntries({
      vteps: VTEPS,
      stations: stationsOf([
        [theirs, { to: makeHost(2).vtep, how: 'tunnel' }],
        [failed, { to: makeHost(3).vtep, how: 'tunnel' }],
        [mine, { to: 12, how: 'bridge' }],
        [slow, { to: 13, how: 'bridge' }]
      ]),
      ports: portsOf([
        [mine, 12, false],
        [slow, 13, false]
      ])
    })
  )
  t.same(places(want), [
    'from_underlay on eth0 (2, null)',
    `to_host on ${bridgeName(red.vni)} (10, 161)`,
    `from_container on ${device(mine)} (12, 161)`,
    `from_container on ${device(slow)} (13, 161)`
  ])
  t.end()
})

t.test('a host that VXLAN leaves for by another device is left to the VXLAN device', t => {
  const asked: unknown[] = []
  const isDirect = (vtep: unknown): boolean => {
    asked.push(vtep)
    return vtep !== makeHost(3).vtep
  }
  const more = on(3, 'e', 6)
  const host = hostOf([mine, theirs, failed, more])
  const { stations, vteps } = tablesOf(programs({ host, isDirect }))
  const [second, third] = [makeHost(2).vtep, 0].map(to => stationWord({ to, how: HOW.tunnel }))
  t.same(
    [theirs, failed, more].map(({ mac }) => stations.get(mac)),
    [second, third, third]
  )
  t.equal(vteps.size, 2, 'it may send, whichever way it is reached')
  t.same(asked.sort(), [makeHost(2).vtep, makeHost(3).vtep], 'each host is asked about once')
  asked.length = 0
  const guarding = tablesOf(programs({ host, isDirect, redirects: false }))
  t.equal(guarding.stations.get(failed.mac), stationWord({ to: makeHost(3).vtep, how: HOW.tunnel }))
  t.same(asked, [], 'programs that only guard wrap nothing')
  t.end()
})

t.test('what is shaped takes the way on which its queue is', t => {
  const cases: readonly [Partial<Shaping>, redirects: boolean, how: StationEntry['how'], sends: boolean][] = [
    [{}, true, 'peer', true],
    [{ ingressRate: 1 }, true, 'queue', true],
    [{ egressRate: 1 }, true, 'peer', false],
    [{ delayUs: 1 }, true, 'queue', false],
    [{ ingressRate: 1, egressRate: 1, delayUs: 1 }, true, 'queue', false],
    [{}, false, 'bridge', false],
    [{ ingressRate: 1, egressRate: 1, delayUs: 1 }, false, 'bridge', false]
  ]
  const { mac, address } = mine
  for (const [shaping, redirects, how, sends] of cases) {
    const facts = {
      vni: red.vni,
      ifindex: 12,
      mac,
      address,
      mtu: 1450,
      shaping: { ...unshaped, ...shaping },
      redirects
    }
    const { station, port } = portEntries(facts)
    const what = JSON.stringify([shaping, redirects])
    t.equal(station, stationWord({ to: 12, how: HOW[how] }), what)
    t.equal(port, textOf(portValue({ network: red.vni, address, mac, redirects: sends, mtu: 1450 })), what)
  }
  t.end()
})

t.test('for a device that does not exist nothing is wanted', t => {
  const lacking = (missing: IfName): DesiredPrograms =>
    programs({ ifindexOf: name => (name === missing ? 0 : (INDEXES.get(name) ?? 0)) })
  const all = programs()
  const without = (program: string): string[] => places(all).filter(place => !place.includes(program))
  const noContainer = lacking(device(mine))
  t.same(places(noContainer), without(device(mine)))
  t.strictSame(
    [...tablesOf(noContainer).ports].map(([key]) => key),
    [13]
  )
  t.notOk(tablesOf(noContainer).stations.has(mine.mac))
  t.ok(tablesOf(noContainer).stations.has(slow.mac))
  t.ok(tablesOf(noContainer).neighbours.has(mine.address), 'it will be here soon')
  const noTunnel = lacking(vxlanName(red.vni))
  t.same(places(noTunnel), without('from_overlay'))
  t.equal(tablesOf(noTunnel).tunnels.size + tablesOf(noTunnel).networks.size, 0)
  t.strictSame(tablesOf(noTunnel).stations, tablesOf(all).stations, 'where they are is known all the same')
  t.strictSame(tablesOf(noTunnel).ports, tablesOf(all).ports, 'containers of this host reach each other')
  const noBridge = lacking(bridgeName(red.vni))
  t.same(places(noBridge), without('to_host'))
  t.strictSame(tablesOf(noBridge), tablesOf(all))
  const nothing = programs({ ifindexOf: () => 0 })
  t.same(places(nothing), ['from_underlay on eth0 (2, null)'])
  t.equal(tablesOf(nothing).ports.size, 0)
  t.strictSame(tablesOf(nothing).vteps, tablesOf(all).vteps, 'who may send does not depend on devices')
  t.end()
})

t.test('a host may send into a network in which it has containers, also after it failed, but not once it left', t => {
  const vteps = (statuses: Record<number, MemberStatus>, endpoints = [mine, theirs, failed]): string[] => {
    return keysOf(tablesOf(programs({ host: hostOf(endpoints, statuses) })), 'vteps')
  }
  const [second, third] = ['a1000000c0000202', 'a1000000c0000203']
  t.same(vteps({}), [second, third])
  t.same(vteps({ 3: 'failed' }), [second, third])
  t.same(vteps({ 3: 'left' }), [second])
  t.same(vteps({}, [mine, failed]), [third], 'a host without containers in it')
  t.same(vteps({}, [mine]), [])
  t.end()
})

t.test('what belongs to no network is wanted by a pass over the whole host only', t => {
  const own = tablesOf(programs({ underlays: [ETH0, { name: 'tun0', ifindex: 3, linkBytes: 0 }] }), null)
  t.strictSame(
    own,
    withEntries(
      {
        settings: [[word(0), settingsValue(SETTINGS)]],
        underlays: [
          [word(2), word(14)],
          [word(3), word(0)]
        ],
        locals: LOCALS.map(address => [addressWord(address), word(1)])
      },
      null
    )
  )
  const part = programs({ whole: false })
  t.same([...part.tables.keys()], [red.vni])
  t.notOk(part.places.has(2))
  const bare = programs({ host: hostOf([theirs]), underlays: [], locals: [] })
  t.same([...bare.tables.keys()], [null], 'a host without containers has its settings')
  t.same([bare.places.size, tablesOf(bare, null).locals.size], [0, 0])
  t.end()
})

t.test('two networks with the same addresses share nothing', t => {
  const twin = makeEndpoint(blue, { container: 'e', host: 1, address: '10.1.0.2' })
  const { mac } = theirs
  const remote = { ...makeEndpoint(blue, { container: 'f', host: 2, address: '10.1.0.4' }), mac }
  const host = hostOf([mine, theirs, twin, remote])
  const indexes = new Map([...INDEXES, [device(twin), 22]])
  const { tables } = programs({ host, ifindexOf: name => indexes.get(name) ?? 0 })
  const [reds, blues] = [tablesOf({ tables, places: new Map() }), tablesOf({ tables, places: new Map() }, blue.vni)]
  for (const table of ['vteps', 'neighbours', 'tunnels', 'networks', 'stations', 'ports'] as const) {
    t.ok(blues[table].size > 0, table)
    const ofRed = keysOf(reds, table)
    t.same(
      keysOf(blues, table, blue.vni).filter(key => ofRed.includes(key)),
      [],
      table
    )
  }
  t.ok(reds.stations.has(mac) && reds.neighbours.has(twin.address), 'although they are the same in both')
  t.equal(blues.stations.get(mac), stationWord({ to: makeHost(2).vtep, how: HOW.tunnel }))
  t.notOk(blues.neighbours.has(blue.gateway), 'and a network without a router has none')
  t.end()
})

t.test("a network's neighbours are its own map: a pass copies none", t => {
  const host = hostOf([mine, theirs])
  const network = host.networks.get(red.vni)
  t.ok(network !== undefined && network.neighbours.size > 0)
  t.equal(programs({ host }).tables.get(red.vni)?.neighbours, network?.neighbours)
  t.equal(tablesOf(programs({ host, redirects: false })).neighbours.size, 0)
  t.ok((network?.neighbours.size ?? 0) > 0, 'which the programs that only guard leave as it is')
  t.end()
})
