// What the tables of one host hold: containers of this host and of others, shaped ones, and devices that do not exist.

import t from 'tap'
import type { Endpoint, Shaping } from '#model/endpoint.ts'
import type { IfName, PeerId, Vni } from '#model/ids.ts'
import { ipv4Of, parseIp, parseSubnet } from '#model/ip.ts'
import { parseIpv4 } from '#model/ipv4.ts'
import { parseIpv6 } from '#model/ipv6.ts'
import { macOf, parseMac } from '#model/mac.ts'
import type { MemberStatus } from '#model/member.ts'
import { desired, type DesiredHost } from '#overlay/plan/network/desired.ts'
import { bridgeName, vethName, vxlanName } from '#overlay/plan/network/names.ts'
import { TELLS } from '#overlay/plan/network/tells.ts'
import {
  desiredPrograms,
  portEntries,
  type DesiredPrograms,
  type ProgramsInput
} from '#overlay/plan/programs/desired-programs.ts'
import { HOW, networkValue, portValue, settingsValue, word, type StationEntry } from '#overlay/plan/programs/entries.ts'
import {
  decodeEntry,
  emptyTables,
  stationWord,
  TABLES,
  textOf,
  type MutableTableSet,
  type Table
} from '#overlay/plan/programs/tables.ts'
import { byNetwork, makeEndpoint, makeHost, makeNetwork, peer } from '../../fixtures.ts'
import {
  addressKey,
  addressWord,
  encodeKey,
  neighbourValue,
  pairsOf,
  stationKey,
  stationValue
} from '../../entry-bytes.ts'

const red = makeNetwork('red', 0xa1)
const blue = makeNetwork('blue', 0xb2, { egress: false })
const unshaped: Shaping = { ingressRate: 0, egressRate: 0, delayUs: 0 }
const SETTINGS = {
  ...{ vtep: parseIpv4('192.0.2.1'), vxlanPort: 4789, flowsRate: 20_000, broadcastsRate: 1_000 },
  ...{ underlay: 2, underlayMtu: 1_500, unwraps: true }
}
const LOCALS = ['127.0.0.1', '198.51.100.255'].map(address => parseIpv4(address))
const ETH0 = { name: 'eth0', ifindex: 2, linkBytes: 14 }
const OWN = { settings: SETTINGS, underlays: [ETH0], locals: LOCALS }

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
    ...{ redirects: true, own: OWN, isDirect: () => true },
    ...change
  })
}

function tablesOf({ tables }: DesiredPrograms, vni: Vni | null = red.vni): MutableTableSet {
  const found = tables.get(vni)
  if (found === undefined) throw new Error(`nothing is wanted for ${String(vni)}`)
  return Object.fromEntries(TABLES.map(table => [table, new Map(pairsOf(found[table]))])) as MutableTableSet
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
    return [word(ifindex), portValue({ network: red.vni, addresses: [address], mac, redirects, mtu: 1450 })]
  })
}

const places = ({ places }: DesiredPrograms): string[] =>
  [...places].map(([ifindex, place]) => `${place.program} on ${place.device} (${ifindex}, ${String(place.vni)})`)

const VTEPS = ['192.0.2.2', '192.0.2.3'].map(vtep => [addressKey(red.vni, parseIpv4(vtep)), word(1)] as const)

t.test('programs that redirect know each container, by which way it is reached, and who may send', t => {
  const want = programs()
  t.strictSame(
    tablesOf(want),
    withEntries({
      tunnels: [[word(11), word(red.vni)]],
      networks: [[word(red.vni), networkValue({ tunnel: 11, told: null })]],
      vteps: VTEPS,
      neighbours: [[addressKey(red.vni, red.gateway), neighbourValue(macOf(red.vni, red.gateway))]],
      stations: stationsOf([
        [theirs, { to: ipv4Of(makeHost(2).vtep), how: 'tunnel', tells: TELLS.ipv4 }],
        [failed, { to: ipv4Of(makeHost(3).vtep), how: 'tunnel', tells: TELLS.ipv4 }],
        [mine, { to: 12, how: 'peer', tells: TELLS.ipv4 }],
        [slow, { to: 13, how: 'queue', tells: TELLS.ipv4 }]
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
        [theirs, { to: ipv4Of(makeHost(2).vtep), how: 'tunnel', tells: 0 }],
        [failed, { to: ipv4Of(makeHost(3).vtep), how: 'tunnel', tells: 0 }],
        [mine, { to: 12, how: 'bridge', tells: 0 }],
        [slow, { to: 13, how: 'bridge', tells: 0 }]
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
  const [second, third] = [ipv4Of(makeHost(2).vtep), 0].map(to =>
    stationWord({ to, how: HOW.tunnel, tells: TELLS.ipv4 })
  )
  t.same(
    [theirs, failed, more].map(({ mac }) => stations.get(mac)),
    [second, third, third]
  )
  t.equal(vteps.size, 2, 'it may send, whichever way it is reached')
  t.same(asked.sort(), [makeHost(2).vtep, makeHost(3).vtep], 'each host is asked about once')
  asked.length = 0
  const guarding = tablesOf(programs({ host, isDirect, redirects: false }))
  t.equal(guarding.stations.get(failed.mac), stationWord({ to: ipv4Of(makeHost(3).vtep), how: HOW.tunnel, tells: 0 }))
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
      addresses: [address],
      mtu: 1450,
      shaping: { ...unshaped, ...shaping },
      redirects,
      services: 'none' as const,
      tells: TELLS.ipv6
    }
    const { station, port } = portEntries(facts)
    const what = JSON.stringify([shaping, redirects])
    t.equal(station, stationWord({ to: 12, how: HOW[how], tells: redirects ? TELLS.ipv6 : 0 }), what)
    t.equal(port, textOf(portValue({ network: red.vni, addresses: [address], mac, redirects: sends, mtu: 1450 })), what)
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
  const own = tablesOf(
    programs({ own: { ...OWN, underlays: [ETH0, { name: 'tun0', ifindex: 3, linkBytes: 0 }] } }),
    null
  )
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
  const part = programs({ own: null })
  t.same([...part.tables.keys()], [red.vni])
  t.notOk(part.places.has(2))
  const bare = programs({ host: hostOf([theirs]), own: { ...OWN, underlays: [], locals: [] } })
  t.same([...bare.tables.keys()], [null], 'a host without containers has its settings')
  t.same([bare.places.size, tablesOf(bare, null).locals.size], [0, 0])
  t.end()
})

t.test('two networks with the same addresses share nothing', t => {
  const twin = makeEndpoint(blue, { container: 'e', host: 1, address: '10.1.0.2' })
  const { mac } = theirs
  const remote = { ...makeEndpoint(blue, { container: 'f', host: 2, address: '10.1.0.4' }), mac }
  // Asked for, which tells no address.
  const odd = { ...on(2, 'g', 7), mac: parseMac('0a:00:00:00:00:01') }
  const oddTwin = { ...makeEndpoint(blue, { container: 'h', host: 2, address: '10.1.0.7' }), mac: odd.mac }
  const host = hostOf([mine, theirs, twin, remote, odd, oddTwin])
  const indexes = new Map([...INDEXES, [device(twin), 22]])
  const { tables } = programs({ host, ifindexOf: name => indexes.get(name) ?? 0 })
  const rest = { places: new Map(), services: new Map() }
  const [reds, blues] = [tablesOf({ tables, ...rest }), tablesOf({ tables, ...rest }, blue.vni)]
  for (const table of ['vteps', 'neighbours', 'tunnels', 'networks', 'stations', 'ports'] as const) {
    t.ok(blues[table].size > 0, table)
    const ofRed = keysOf(reds, table)
    t.same(
      keysOf(blues, table, blue.vni).filter(key => ofRed.includes(key)),
      [],
      table
    )
  }
  t.ok(reds.stations.has(mac) && reds.neighbours.has(odd.address), 'although they are the same in both')
  // In the other network the same MAC was asked for.
  const to = ipv4Of(makeHost(2).vtep)
  t.equal(reds.stations.get(mac), stationWord({ to, how: HOW.tunnel, tells: TELLS.ipv4 }))
  t.equal(blues.stations.get(mac), stationWord({ to, how: HOW.tunnel, tells: 0 }))
  t.equal(blues.neighbours.get(remote.address), mac)
  t.notOk(blues.neighbours.has(blue.gateway), 'and a network without a router has none')
  t.end()
})

t.test('of many containers that asked for nothing none is noted, and of each that asked for something all', t => {
  const many = Array.from({ length: 200 }, (_, n) => on(2, `m${n}`, n + 3))
  const asking = { ...on(2, 'odd', 250), mac: parseMac('0a:00:00:00:00:01') }
  const { neighbours } = tablesOf(programs({ host: hostOf([mine, ...many, asking]) }))
  t.same([...neighbours.keys()], [red.gateway, asking.address])
  t.equal(tablesOf(programs({ host: hostOf([mine, asking]), redirects: false })).neighbours.size, 0)
  t.end()
})

t.test(
  'in a network with IPv6 each port has its addresses, and neighbours are known in the table of their family',
  t => {
    const subnet6 = parseSubnet('fd00:1::/64')
    const dual = makeNetwork('dual', 0xc3, { subnet6 })
    const alone = makeNetwork('alone', 0xd4, { subnet: subnet6, gateway: parseIp('fd00:1::1') })
    const [here, there] = ['10.1.0.2', '10.1.0.3'].map((address, i) =>
      makeEndpoint(dual, { container: `d${i}`, host: i + 1, address })
    ) as [Endpoint, Endpoint]
    const asked = {
      ...makeEndpoint(dual, { container: 'd2', host: 1, address: '10.1.0.4' }),
      address6: parseIpv6('fd00:1::99')
    }
    const only = makeEndpoint(alone, { container: 'e0', host: 1, address: 'fd00:1::2' })
    const host = desired({
      ...{ self: peer(1), selfVtep: makeHost(1).vtep, networks: [dual, alone], memberStatus: null },
      ...{ endpoints: byNetwork([here, there, asked, only]), hosts: [1, 2].map(index => makeHost(index)) },
      ...{ overlayMtu: 1450, vxlanPort: 4789 }
    })
    const indexes = new Map([...[here, asked, only].map(device), vxlanName(dual.vni)].map((name, i) => [name, 30 + i]))
    const want = programs({ host, ifindexOf: name => indexes.get(name) ?? 0 })
    const portOf = (endpoint: Endpoint, addresses: readonly string[]): string => {
      const { vni: network, mac } = endpoint
      return textOf(
        portValue({ network, addresses: addresses.map(one => parseIp(one)), mac, redirects: true, mtu: 1450 })
      )
    }
    const tables = tablesOf(want, dual.vni)
    t.equal(tables.ports.get(30), portOf(here, ['10.1.0.2', 'fd00:1::2']))
    t.equal(tables.ports.get(31), portOf(asked, ['10.1.0.4', 'fd00:1::99']))
    t.equal(tablesOf(want, alone.vni).ports.get(32), portOf(only, ['fd00:1::2']))
    const router = macOf(dual.vni, dual.gateway)
    t.same([...tables.neighbours], [[dual.gateway, router]])
    t.same(
      [...tables.neighbours6],
      [
        ['fd00:1::1', router],
        ['fd00:1::99', asked.mac]
      ],
      'routers, and the address that was asked for'
    )
    const tellsOf = (set: MutableTableSet, { mac }: Endpoint): number => (Number(set.stations.get(mac)) % 64) >> 3
    t.same(
      [here, there, asked].map(e => tellsOf(tables, e)),
      [3, 3, TELLS.ipv4]
    )
    const told = { subnet: subnet6, first: ipv4Of(dual.subnet.base), count: 2 ** 16 }
    t.equal(tables.networks.get(dual.vni), textOf(networkValue({ tunnel: 33, told })))
    const others = tablesOf(want, alone.vni)
    t.same([others.neighbours.size, [...others.neighbours6.keys()]], [0, ['fd00:1::1']])
    t.equal(tellsOf(others, only), TELLS.ipv6)
    const guarding = tablesOf(programs({ host, redirects: false }), dual.vni)
    t.same([guarding.neighbours.size, guarding.neighbours6.size], [0, 0])
    t.end()
  }
)
