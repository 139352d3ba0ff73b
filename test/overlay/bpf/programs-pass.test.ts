// The programs as a part of a pass, in this kernel: what the first pass does, what a later one repairs, what is left alone.

import t, { type Test } from 'tap'
import { closeDatapath, loadDatapath, readObjects } from '#overlay/bpf/datapath.ts'
import { bridgeName, vxlanName } from '#overlay/plan/network/names.ts'
import { TELLS } from '#overlay/plan/network/tells.ts'
import { networkValue, SETTINGS_BYTES, word } from '#overlay/plan/programs/entries.ts'
import { ipv4Of, parseSubnet } from '#model/ip.ts'
import { parseIpv4, type Ipv4 } from '#model/ipv4.ts'
import type { ProgramOp } from '#overlay/plan/programs/plan-programs.ts'
import { makeHost } from '../fixtures.ts'
import { blue, device, on, red, requestFor, texts, World } from './programs-world.ts'
import { Scratch } from './scratch.ts'
import { addressKey, neighbourValue, stationKey, stationValue } from '../entry-bytes.ts'

const skip = process.getuid?.() === 0 ? false : 'needs root: BPF programs'
const [a, b, c] = [on(1, 'a', 0), on(1, 'b', 1), on(2, 'c', 2)]
const [d, e] = [on(1, 'd', 0, blue), on(3, 'e', 4, blue)]
const ALL = [a, b, c, d, e]
const NOTHING: string[] = []

async function settledWorld(t: Test, endpoints = ALL): Promise<World> {
  const world = new World(t)
  world.build(endpoints)
  const { problems } = await world.pass(endpoints)
  t.same(problems, [])
  return world
}

t.test(
  'the first pass writes the tables, then runs the programs, and a second one has nothing to do',
  { skip },
  async t => {
    const world = new World(t)
    world.build(ALL)
    const first = await world.pass(ALL)
    const ops = texts(first.done)
    t.same(first.problems, [])
    const firstProgram = ops.findIndex(op => op.startsWith('run'))
    t.ok(firstProgram > 0)
    t.same(ops.slice(firstProgram), [
      'run from_underlay on eth0',
      `run to_host on ${bridgeName(red.vni)} (vni 161)`,
      `run from_overlay on ${vxlanName(red.vni)} (vni 161)`,
      `run from_container on ${device(a)} (vni 161)`,
      `run from_container on ${device(b)} (vni 161)`,
      `run to_host on ${bridgeName(blue.vni)} (vni 178)`,
      `run from_overlay on ${vxlanName(blue.vni)} (vni 178)`,
      `run from_container on ${device(d)} (vni 178)`
    ])
    t.same(world.held(), world.wanted(ALL))
    t.equal(world.running('eth0'), 'from_underlay')
    t.equal(world.running(bridgeName(red.vni)), 'to_host')
    t.equal(world.running(vxlanName(blue.vni)), 'from_overlay')
    for (const endpoint of [a, b, d]) t.equal(world.running(device(endpoint)), 'from_container')
    t.equal(world.settled, 1)
    t.match(await world.pass(ALL), { attempted: [], done: [], problems: [] })
    for (const { vni } of [red, blue]) t.match(await world.pass(ALL, { scope: vni }), { attempted: [], problems: [] })
    t.equal(world.settled, 1, 'that is told once')
  }
)

t.test('each port and each network is counted from its first packet on', { skip }, async t => {
  const world = await settledWorld(t)
  const ports = [a, b, d].map(endpoint => world.scratch.ifindexOf(device(endpoint))).sort((x, y) => x - y)
  for (const map of ['vxm_ports', 'vxm_traffic', 'vxm_buckets']) t.same(world.keys(map), ports, map)
  t.same(world.keys('vxm_ledger'), [red.vni, red.vni, red.vni, red.vni, blue.vni, blue.vni, blue.vni, blue.vni])
})

t.test('programs that only guard run on bridges and containers, and answer no ARP', { skip }, async t => {
  const world = new World(t, { redirects: false })
  world.build(ALL)
  await world.pass(ALL)
  t.same(world.held(), world.wanted(ALL))
  for (const map of ['vxm_tunnels', 'vxm_networks', 'vxm_neighbours', 'vxm_neighbours6'])
    t.same(world.keys(map), [], map)
  t.equal(world.running(vxlanName(red.vni)), null)
  t.equal(world.running(bridgeName(red.vni)), 'to_host')
})

t.test('a container’s device that goes between the look and the writing is no problem', { skip }, async t => {
  const world = await settledWorld(t)
  const gone = world.scratch.ifindexOf(device(a))
  world.scratch.remove(device(a))
  t.match(await world.pass(ALL), { attempted: [{ kind: 'program-attach' }], done: [], problems: [], failures: [] })
  t.same(texts((await world.pass(ALL)).done).sort(), ['delete 1 ports (vni 161)', 'delete 1 stations (vni 161)'])
  t.notOk(world.keys('vxm_ports').includes(gone))
  t.match(await world.pass(ALL), { attempted: [], problems: [] })
})

t.test('what another program changed in the tables is repaired by a pass over the whole host', { skip }, async t => {
  const world = await settledWorld(t)
  const [vtep, stranger] = ['192.0.2.2', '192.0.2.77'].map(address => addressKey(red.vni, parseIpv4(address)))
  const drifts: readonly [title: string, drift: () => void, ops: readonly string[]][] = [
    ['a deleted VTEP', () => world.map('vxm_vteps').delete([vtep ?? word(0)]), ['set 1 vteps (vni 161)']],
    [
      'a stranger that may send',
      () => world.map('vxm_vteps').set([{ key: stranger ?? word(0), value: word(1) }]),
      ['delete 1 vteps (vni 161)']
    ],
    [
      'a station that leads elsewhere',
      () => world.map('vxm_stations').set([{ key: stationKey(red.vni, a.mac), value: new Uint8Array(8) }]),
      ['set 1 stations (vni 161)']
    ],
    [
      'a station by a way that there is not',
      () => {
        // 9 is 1, and its ifindex the next, if ways are taken to be less than 8.
        const [ifindex, how] = [world.scratch.ifindexOf(device(a)) - 1, 9]
        const value = Buffer.concat([word(ifindex), word(how)])
        world.map('vxm_stations').set([{ key: stationKey(red.vni, a.mac), value }])
      },
      ['set 1 stations (vni 161)']
    ],
    [
      'a station whose key is padded with something',
      () => {
        const key = stationKey(red.vni, a.mac)
        key[11] = 1
        world.map('vxm_stations').set([{ key, value: new Uint8Array(8) }])
      },
      ['delete 1 stations (vni 161)']
    ],
    [
      'other settings',
      () => world.map('vxm_settings').set([{ key: word(0), value: new Uint8Array(SETTINGS_BYTES) }]),
      ['set 1 settings']
    ],
    [
      'a port without its entry',
      () => world.map('vxm_ports').delete([word(world.scratch.ifindexOf(device(d)))]),
      ['set 1 ports (vni 178)']
    ],
    [
      "another network's tunnel",
      () => world.map('vxm_tunnels').set([{ key: word(world.scratch.ifindexOf(vxlanName(red.vni))), value: word(9) }]),
      ['set 1 tunnels (vni 161)']
    ],
    [
      'a network without its tunnel',
      () => world.map('vxm_networks').delete([word(red.vni)]),
      ['set 1 networks (vni 161)']
    ],
    [
      'a network with the tunnel of another one',
      () =>
        world.map('vxm_networks').set([
          {
            key: word(red.vni),
            value: networkValue({ tunnel: world.scratch.ifindexOf(vxlanName(blue.vni)), told: null })
          }
        ]),
      ['set 1 networks (vni 161)']
    ],
    [
      'a tunnel of a network that is not here',
      () => world.map('vxm_networks').set([{ key: word(9), value: networkValue({ tunnel: 9, told: null }) }]),
      ['delete 1 networks (vni 9)']
    ],
    [
      'a network that says its MACs tell addresses of IPv6',
      () => {
        const told = { subnet: parseSubnet('fd00:1::/64'), first: 0, count: 1 }
        const tunnel = world.scratch.ifindexOf(vxlanName(red.vni))
        world.map('vxm_networks').set([{ key: word(red.vni), value: networkValue({ tunnel, told }) }])
      },
      ['set 1 networks (vni 161)']
    ],
    [
      'a station that tells nothing',
      () => {
        const value = stationValue({ to: ipv4Of(makeHost(2).vtep), how: 'tunnel', tells: 0 })
        world.map('vxm_stations').set([{ key: stationKey(red.vni, c.mac), value }])
      },
      ['set 1 stations (vni 161)']
    ],
    [
      'a station on a host that is another one',
      () => {
        const value = stationValue({ to: ipv4Of(makeHost(3).vtep), how: 'tunnel', tells: TELLS.ipv4 })
        world.map('vxm_stations').set([{ key: stationKey(red.vni, c.mac), value }])
      },
      ['set 1 stations (vni 161)']
    ],
    [
      'a network that is not here',
      () =>
        world
          .map('vxm_neighbours')
          .set([{ key: addressKey(9 as never, parseIpv4('10.0.0.1')), value: new Uint8Array(8) }]),
      ['delete 1 neighbours (vni 9)']
    ]
  ]
  for (const [title, drift, ops] of drifts) {
    drift()
    t.same(texts((await world.pass(ALL, { scope: red.vni, trust: true })).attempted), NOTHING, `${title}: trusted`)
    t.not(world.held().join(), world.wanted(ALL).join(), title)
    t.same(texts((await world.pass(ALL)).done), ops, title)
    t.same(world.held(), world.wanted(ALL), title)
    t.same(texts((await world.pass(ALL)).attempted), NOTHING, `${title}: once`)
  }
})

t.test('a program that was stopped or replaced runs again', { skip }, async t => {
  const world = await settledWorld(t)
  const other = loadDatapath(readObjects())
  t.teardown(() => closeDatapath(other))
  const veth = world.scratch.ifindexOf(device(a))
  const theirs = { fd: other.programs.get('from_container')?.fd ?? -1, name: 'from_container' }
  const op = `run from_container on ${device(a)} (vni 161)`
  const drifts: readonly [title: string, drift: () => void][] = [
    ['stopped', () => world.scratch.detach(veth)],
    ['replaced by one of another run', () => world.scratch.attach(veth, theirs)],
    [
      'replaced by another one of ours',
      () => world.scratch.attach(veth, { fd: world.fdOf('to_host'), name: 'to_host' })
    ]
  ]
  for (const [title, drift] of drifts) {
    for (const look of [{}, { scope: red.vni }]) {
      drift()
      t.not(world.running(device(a)), 'from_container', title)
      t.same(texts((await world.pass(ALL, { scope: blue.vni })).attempted), NOTHING, 'a pass over another network')
      t.same(texts((await world.pass(ALL, look)).done), [op], title)
      t.equal(world.running(device(a)), 'from_container', title)
    }
  }
})

t.test(
  'a pass reads the programs of a sample, of the host’s own devices, and of those that run none',
  { skip },
  async t => {
    const world = await settledWorld(t)
    world.sampled = ifindex => ifindex === world.scratch.ifindexOf(device(b))
    for (const name of [device(a), device(b), 'eth0']) world.scratch.detach(world.scratch.ifindexOf(name))
    const sample = ['run from_underlay on eth0', `run from_container on ${device(b)} (vni 161)`]
    t.same(texts((await world.pass(ALL)).done).sort(), sample.sort())
    t.equal(world.running(device(a)), null, 'not looked at')
    world.programs.dismiss(device(a))
    const { done } = await world.pass(ALL)
    t.ok(texts(done).includes(`run from_container on ${device(a)} (vni 161)`), 'as it is not known to run one')
    t.equal(world.running(device(a)), 'from_container')
  }
)

t.test('a pass over one network writes its entries only, also before any pass over the host', { skip }, async t => {
  const world = new World(t)
  world.build(ALL)
  const own = [a, b, c]
  t.match(await world.pass(own, { scope: red.vni }), { problems: [] })
  const ofRed = (lines: readonly string[]): string[] => lines.filter(line => line.startsWith(`${red.vni} `))
  t.same(ofRed(world.held()), ofRed(world.wanted(ALL)))
  t.same(
    world.held().filter(line => !line.startsWith(`${red.vni} `)),
    [`null settings 00000000 ${'00'.repeat(SETTINGS_BYTES)}`]
  )
  t.equal(world.running(device(a)), 'from_container')
  t.equal(world.running('eth0'), null)
  t.equal(world.settled, 0, 'the host is not settled by it')
  const rest = texts((await world.pass(ALL)).done)
  t.same(
    rest.filter(op => op.includes('vni 161')),
    NOTHING,
    'and is not repeated'
  )
  t.same(world.held(), world.wanted(ALL))
})

t.test('what may not be removed yet stays, and the host is not settled', { skip }, async t => {
  const world = await settledWorld(t)
  const before = world.held()
  const held = await world.pass([a, c, d], { mayRemove: false })
  t.same(texts(held.done), NOTHING)
  t.ok(held.deferred.length > 0 && held.deferred.every(({ removes }) => removes))
  t.same(world.held(), before)
  const fresh = new World(t)
  fresh.build(ALL)
  await fresh.pass(ALL, { mayRemove: false })
  t.equal(fresh.settled, 0)
  t.same(fresh.held(), fresh.wanted(ALL), 'what is to be added is added')
  await fresh.pass(ALL)
  t.equal(fresh.settled, 1)
})

t.test('a network that has left this host leaves nothing, and the others everything', { skip }, async t => {
  const world = await settledWorld(t)
  await world.pass([a, b, c, e])
  t.same(world.held(), world.wanted([a, b, c]))
  t.same(world.keys('vxm_ledger'), [red.vni, red.vni, red.vni, red.vni])
  const ports = [a, b].map(endpoint => world.scratch.ifindexOf(device(endpoint)))
  for (const map of ['vxm_traffic', 'vxm_buckets']) t.same(world.keys(map), ports, map)
  await world.pass([])
  t.same(world.held(), world.wanted([]))
  for (const map of ['vxm_ledger', 'vxm_traffic', 'vxm_buckets', 'vxm_ports']) t.same(world.keys(map), [], map)
})

t.test(
  'a host that VXLAN leaves for by another device than the underlay’s is left to the tunnel',
  { skip },
  async t => {
    const world = await settledWorld(t)
    const wayOf = ({ vni, mac }: typeof c): unknown => world.map('vxm_stations').get(stationKey(vni, mac))
    const [second, third] = [makeHost(2).vtep, makeHost(3).vtep].map(ipv4Of) as [Ipv4, Ipv4]
    t.same(wayOf(c), stationValue({ to: second, how: 'tunnel', tells: TELLS.ipv4 }))
    t.same(wayOf(e), stationValue({ to: third, how: 'tunnel', tells: TELLS.ipv4 }))
    world.isDirect = vtep => vtep !== third
    t.same(texts((await world.pass(ALL)).done), ['set 1 stations (vni 178)'])
    t.same(wayOf(e), stationValue({ to: 0, how: 'tunnel', tells: TELLS.ipv4 }))
    t.same(wayOf(c), stationValue({ to: second, how: 'tunnel', tells: TELLS.ipv4 }), 'the other host is as it was')
    t.same(world.held(), world.wanted(ALL))
    world.isDirect = () => true
    t.same(texts((await world.pass(ALL, { scope: blue.vni })).done), ['set 1 stations (vni 178)'], 'and back')
    t.same(world.asked, [true, true, false], 'the kernel is asked anew by passes over the whole host')
  }
)

t.test('an address that the host gets or loses is written by the next pass over the whole host', { skip }, async t => {
  const world = await settledWorld(t)
  world.locals = ['127.0.0.1', '198.51.100.7', '198.51.100.255'].map(address => parseIpv4(address))
  t.same(texts((await world.pass(ALL, { scope: red.vni })).attempted), NOTHING)
  t.same(texts((await world.pass(ALL)).done), ['set 2 locals'])
  t.same(world.held(), world.wanted(ALL))
  world.locals = []
  t.same(texts((await world.pass(ALL)).done), ['delete 3 locals'])
  t.same(world.keys('vxm_locals'), [])
})

t.test('more entries than are written at once are all written, and all deleted', { skip }, async t => {
  const many = Array.from({ length: 11_000 }, (_, n) => on(2, `r${n}`, n + 10))
  const world = new World(t)
  world.build([a])
  await world.pass([a, ...many])
  t.same(world.held(), world.wanted([a, ...many]))
  const { done } = await world.pass([a])
  t.ok(texts(done).includes('delete 11000 stations (vni 161)'))
  t.same(world.held(), world.wanted([a]))
})

t.test('while many entries are written or deleted the event loop gets its turns', { skip }, async t => {
  const world = await settledWorld(t, [a])
  const keys = Array.from({ length: 12_000 }, (_, n) => n + 1)
  const ops: readonly ProgramOp[] = [
    { kind: 'entries-set', vni: red.vni, table: 'vteps', entries: { keys, values: keys.map(() => 1) } },
    { kind: 'entries-delete', vni: red.vni, table: 'vteps', keys }
  ]
  for (const op of ops) {
    let turns = 0
    const count = (): void => {
      turns++
      timer = setImmediate(count)
    }
    let timer = setImmediate(count)
    t.same((await world.programs.execute([op])).failures, [])
    clearImmediate(timer)
    t.ok(turns >= 2, `${op.kind}: ${turns} turns`)
    t.equal(world.keys('vxm_vteps').length, op.kind === 'entries-set' ? 12_000 : 0)
  }
})

t.test('what cannot be done is reported by its network, and stops nothing else', { skip }, async t => {
  const objects = readObjects().map(object => ({
    ...object,
    maps: object.maps.map(map => (map.name === 'vxm_stations' ? { ...map, maxEntries: 1 } : map))
  }))
  const world = new World(t, { datapath: loadDatapath(objects) })
  world.build(ALL)
  // A name that leads to no device any more.
  world.indexes.set(bridgeName(blue.vni), 9_999)
  const { problems, failures } = await world.pass(ALL)
  const found = problems.map(({ vni, error }) => [
    vni,
    error.code,
    error.message.replace(bridgeName(blue.vni), 'BRIDGE')
  ])
  t.match(found, [
    [red.vni, 'ERR_KERNEL', /^set 3 stations \(vni 161\): write BPF map vxm_stations: .*E2BIG/],
    [blue.vni, 'ERR_KERNEL', /^set 2 stations \(vni 178\): .*E2BIG/],
    [blue.vni, 'ERR_KERNEL', /^run to_host on BRIDGE \(vni 178\): .*ENODEV/]
  ])
  t.equal(failures.length, 3)
  t.equal(world.settled, 0)
  t.equal(world.running(device(a)), 'from_container')
  t.equal(world.running(device(d)), 'from_container')
  t.same(world.keys('vxm_tunnels').length, 2)
  const again = await world.pass(ALL)
  t.equal(again.problems.length, 3, 'and again')
})

t.test('after a restart with the same programs nothing is to be done', { skip }, async t => {
  const world = await settledWorld(t)
  const next = new World(t, { scratch: world.scratch, datapath: nextRun(world) })
  t.same(next.held(), world.held())
  t.match(await next.pass(ALL), { attempted: [], problems: [] })
  t.equal(next.settled, 1)
  t.equal(next.running(device(a)), 'from_container of another run')
})

t.test('the first pass after a restart may be over one network: what it held is known', { skip }, async t => {
  const world = await settledWorld(t)
  const next = new World(t, { scratch: world.scratch, datapath: nextRun(world) })
  const others = next.held().filter(line => !line.startsWith(`${red.vni} `))
  const { done } = await next.pass([a, c], { scope: red.vni })
  t.same(
    texts(done).filter(op => op.startsWith('set')),
    NOTHING
  )
  t.same(
    texts(done).filter(op => op.startsWith('delete')),
    ['stations', 'ports'].map(table => `delete 1 ${table} (vni 161)`)
  )
  t.same(
    next.held().filter(line => !line.startsWith(`${red.vni} `)),
    others
  )
})

t.test('after an upgrade the new programs take over, with the entries as they are', { skip }, async t => {
  const world = await settledWorld(t)
  const next = new World(t, { scratch: world.scratch, datapath: nextRun(world, 'vxm_drops') })
  const { done } = await next.pass(ALL)
  // All but from_overlay count drops.
  t.same(
    texts(done).filter(op => !op.startsWith('run ')),
    NOTHING
  )
  t.equal(next.running('eth0'), 'from_underlay')
  t.equal(next.running(vxlanName(red.vni)), 'from_overlay of another run')
  t.equal(next.running(device(a)), 'from_container')
})

t.test(
  'ports whose shape an upgrade changed are there before a program reads them, and are counted on',
  { skip },
  async t => {
    const world = await settledWorld(t)
    const port = word(world.scratch.ifindexOf(device(a)))
    const counted = new Uint8Array(world.map('vxm_traffic').valueBytes).fill(1)
    world.map('vxm_traffic').set([{ key: port, value: counted }])
    const next = new World(t, { scratch: world.scratch, datapath: nextRun(world, 'vxm_ports') })
    t.same([next.keys('vxm_ports'), next.keys('vxm_stations').length], [[], 5], 'only the ports are another map')
    t.same(world.keys('vxm_ports').length, 3, 'which the program of the earlier run goes on with')
    const { done, problems } = await next.pass(ALL)
    t.same(problems, [])
    const ops = texts(done)
    t.same(ops.slice(0, 2), ['set 2 ports (vni 161)', 'set 1 ports (vni 178)'])
    t.ok(ops.slice(2).every(op => op.startsWith('run from_container')))
    t.equal(ops.length, 5)
    t.same(next.held(), next.wanted(ALL))
    t.same(next.map('vxm_traffic').get(port), counted)
  }
)

t.test(
  'of a version that noted every neighbour, what is noted goes after the programs can do without it',
  { skip },
  async t => {
    const world = await settledWorld(t)
    const [own, before] = [[a, b, c], world.held()]
    for (const { mac, address } of own) {
      const station = world.map('vxm_stations').get(stationKey(red.vni, mac)) ?? new Uint8Array()
      station[6] = 0
      world.map('vxm_stations').set([{ key: stationKey(red.vni, mac), value: station }])
      world.map('vxm_neighbours').set([{ key: addressKey(red.vni, address), value: neighbourValue(mac) }])
    }
    const next = new World(t, { scratch: world.scratch, datapath: nextRun(world, 'vxm_networks') })
    const { done, problems } = await next.pass(ALL)
    t.same(problems, [])
    const ops = texts(done)
    t.same(ops.slice(0, 3), ['set 1 networks (vni 161)', 'set 1 networks (vni 178)', 'set 3 stations (vni 161)'])
    t.same(
      ops.slice(3).map(op => op.replace(/ on .*/, '')),
      ['run from_container', 'run from_container', 'run from_container', 'delete 3 neighbours (vni 161)']
    )
    t.same(next.held(), before)
  }
)

t.test('counters whose shape an upgrade changed are there for the ports of the earlier run', { skip }, async t => {
  const world = await settledWorld(t)
  for (const map of ['vxm_traffic', 'vxm_buckets', 'vxm_ledger']) {
    const next = new World(t, { scratch: world.scratch, datapath: nextRun(world, map) })
    t.same(next.keys(map), [], `${map} is another map`)
    t.same(next.keys('vxm_ports').length, 3)
    await next.pass(ALL)
    t.same(next.keys(map), world.keys(map), map)
  }
})

/** The next run of the agent, whose map of this name has another shape. */
function nextRun({ datapath }: World, changed?: string): World['datapath'] {
  const objects = readObjects().map(object => ({
    ...object,
    maps: object.maps.map(map => (map.name === changed ? { ...map, maxEntries: map.maxEntries + 1 } : map))
  }))
  return loadDatapath(
    objects,
    [...datapath.programs.values()].map(({ id }) => id)
  )
}

t.test('what an earlier run has left on devices that are not ours now is stopped, once', { skip }, async t => {
  const scratch = new Scratch(t)
  const before = loadDatapath(readObjects())
  const fdOf = (name: string): number => before.programs.get(name)?.fd ?? -1
  const [old, foreign] = ['eth9', 'eth8'].map(name => scratch.add(name))
  scratch.attach(old ?? 0, { fd: fdOf('from_underlay'), name: 'from_underlay' })
  scratch.attach(foreign ?? 0, { fd: fdOf('from_underlay'), name: 'their_program' })
  closeDatapath(before)
  const world = new World(t, { scratch })
  world.build(ALL)
  t.same(
    texts((await world.pass(ALL, { scope: red.vni })).done).filter(op => op.startsWith('stop')),
    NOTHING
  )
  const waiting = await world.pass(ALL, { mayRemove: false })
  t.same(texts(waiting.deferred), ['stop from_underlay on eth9'])
  t.equal(world.running('eth9'), 'from_underlay of another run')
  t.same(texts((await world.pass(ALL)).done), ['stop from_underlay on eth9'])
  t.equal(world.running('eth9'), null)
  t.equal(world.running('eth8'), 'their_program of another run', 'what is not ours goes on')
  scratch.attach(old ?? 0, { fd: world.fdOf('from_underlay'), name: 'from_underlay' })
  t.same(texts((await world.pass(ALL)).done), NOTHING, 'a settled host is not searched again')
})

t.test('a device that becomes another network’s is in its new network only', { skip }, async t => {
  const world = await settledWorld(t)
  const veth = world.scratch.ifindexOf(device(a))
  const moved = { ...a, network: blue.name, vni: blue.vni, address: parseIpv4('10.1.0.99') }
  const now = [b, c, d, e, moved]
  await world.pass(now)
  t.same(world.held(), world.wanted(now))
  t.ok(world.keys('vxm_ports').includes(veth))
  world.programs.admit(veth, requestFor(a))
  await world.pass([d, e], { scope: blue.vni })
  t.ok(world.keys('vxm_ports').includes(veth), 'its old network does not delete the entry of the new one')
  await world.pass(ALL, { scope: red.vni })
  t.same(world.held(), world.wanted(ALL))
  t.ok(world.keys('vxm_traffic').includes(veth))
})
