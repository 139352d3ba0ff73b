// Ports at attach, at detach and when they are shaped, between passes; and what the programs counted.

import t, { type Test } from 'tap'
import type { Endpoint, Shaping } from '#model/endpoint.ts'
import { formatIp, ipv4Of } from '#model/ip.ts'
import { VxmeshError } from '#model/errors.ts'
import { closeDatapath, loadDatapath, readObjects } from '#overlay/bpf/datapath.ts'
import { DROPS, readPort, word, type StationEntry } from '#overlay/plan/programs/entries.ts'
import { TELLS } from '#overlay/plan/network/tells.ts'
import type { ProgramOp } from '#overlay/plan/programs/plan-programs.ts'
import { makeHost } from '../fixtures.ts'
import { blue, device, dual, on, red, requestFor, six, texts, World } from './programs-world.ts'
import { stationKey, stationValue } from '../entry-bytes.ts'

const skip = process.getuid?.() === 0 ? false : 'needs root: BPF programs'
const [a, b, c, d] = [on(1, 'a', 0), on(1, 'b', 1), on(2, 'c', 2), on(1, 'd', 0, blue)]
const LIMITED = { ingressRate: 1e6, egressRate: 0, delayUs: 0 }
const NO_LIMITS = { ...LIMITED, ingressRate: 0 }

async function settledWorld(t: Test, endpoints: readonly Endpoint[]): Promise<World> {
  const world = new World(t)
  world.build([a, b, d])
  t.same((await world.pass(endpoints)).problems, [])
  return world
}

function ifindexOf(world: World, endpoint: Endpoint): number {
  return world.scratch.ifindexOf(device(endpoint))
}

function admit(world: World, endpoint: Endpoint): void {
  world.programs.admit(ifindexOf(world, endpoint), requestFor(endpoint))
}

function stationOf(world: World, { vni, mac }: Endpoint): Uint8Array | null {
  return world.map('vxm_stations').get(stationKey(vni, mac))
}

function sends(world: World, endpoint: Endpoint): boolean {
  return world.map('vxm_ports').get(word(ifindexOf(world, endpoint)))?.[14] === 1
}

t.test('an admitted port runs its program with its entries, as a pass would leave it', { skip }, async t => {
  const world = await settledWorld(t, [c])
  for (const endpoint of [a, d]) {
    admit(world, endpoint)
    t.equal(world.running(device(endpoint)), 'from_container')
    const port = ifindexOf(world, endpoint)
    t.same(stationOf(world, endpoint), stationValue({ to: port, how: 'peer', tells: TELLS.ipv4 }))
    for (const map of ['vxm_ports', 'vxm_traffic', 'vxm_buckets']) t.ok(world.keys(map).includes(port), map)
    const before = world.held()
    admit(world, endpoint)
    t.same(world.held(), before, 'again')
  }
  const { done } = await world.pass([a, c, d])
  t.same(
    texts(done).filter(op => /ports|from_container|stations/.test(op)),
    ['set 1 stations (vni 161)'],
    'nothing of the ports is left to do, only the container of another host'
  )
  t.same(world.held(), world.wanted([a, c, d]))
})

t.test('a port is admitted before the first pass, and its entries stay', { skip }, async t => {
  const world = new World(t)
  world.build([a, b, d])
  admit(world, a)
  t.equal(world.running(device(a)), 'from_container')
  t.same(
    world.held().filter(line => /ports|stations/.test(line)),
    world.wanted([a]).filter(line => /ports|stations/.test(line))
  )
  const { done, problems } = await world.pass([a, c])
  t.same(problems, [])
  t.notOk(texts(done).some(op => op.startsWith('delete')))
  t.same(world.held(), world.wanted([a, c]))
})

t.test('a port tells what its MAC does: nothing if another one was asked for', { skip }, async t => {
  const world = await settledWorld(t, [c])
  const asking: Endpoint = { ...a, mac: c.mac.replace(/..$/, 'fe') as Endpoint['mac'] }
  admit(world, asking)
  t.same(stationOf(world, asking), stationValue({ to: ifindexOf(world, a), how: 'peer', tells: 0 }))
  await world.pass([asking, c])
  t.same(world.held(), world.wanted([asking, c]))
  world.programs.shape(ifindexOf(world, a), LIMITED)
  t.same(
    stationOf(world, asking),
    stationValue({ to: ifindexOf(world, a), how: 'queue', tells: 0 }),
    'nor when it is shaped'
  )
})

t.test('a port whose device is gone is not admitted', { skip }, async t => {
  const world = await settledWorld(t, [])
  t.throws(() => world.programs.admit(9_999, requestFor(a)), {
    ...{ code: 'ERR_KERNEL', context: { errno: 'ENODEV' } },
    message: `run from_container on ${device(a)}: no such device (ENODEV)`
  })
})

t.test('a container that arrives from another host is no longer sent by the tunnel', { skip }, async t => {
  const away: Endpoint = { ...a, host: c.host }
  const world = await settledWorld(t, [away, b])
  t.same(stationOf(world, a), stationValue({ to: ipv4Of(makeHost(2).vtep), how: 'tunnel', tells: TELLS.ipv4 }))
  admit(world, a)
  const here = stationValue({ to: ifindexOf(world, a), how: 'peer', tells: TELLS.ipv4 })
  t.same(stationOf(world, a), here, 'and its MAC tells what it told')
})

t.test('a dismissed port leaves no entry and no counter, and the others stay', { skip }, async t => {
  const world = await settledWorld(t, [a, b, c, d])
  const gone = ifindexOf(world, a)
  const others = world.held().filter(line => !line.includes(Buffer.from(word(gone)).toString('hex')))
  world.scratch.remove(device(a))
  world.programs.dismiss(device(a))
  t.same(world.held(), others)
  for (const map of ['vxm_ports', 'vxm_traffic', 'vxm_buckets']) t.notOk(world.keys(map).includes(gone), map)
  t.equal(stationOf(world, a), null)
  t.notOk(world.indexes.has(device(a)))
  world.programs.dismiss(device(a))
  world.programs.dismiss('ve-of-nobody')
  t.same(world.held(), others, 'what is not there is no error')
  const { done, problems } = await world.pass([b, c, d])
  t.same([texts(done), problems], [[], []], 'its MAC told its address, and nobody else knew')
  t.same(world.held(), world.wanted([b, c, d]))
})

t.test('the last port of a network takes what was counted of the network with it', { skip }, async t => {
  const world = await settledWorld(t, [a, d])
  world.programs.dismiss(device(d))
  t.ok(world.keys('vxm_ledger').includes(blue.vni), 'its tunnel is still there')
  await world.pass([a])
  t.notOk(world.keys('vxm_ledger').includes(blue.vni))
  t.ok(world.keys('vxm_ledger').includes(red.vni))
})

t.test(
  'a container that is on another host by now keeps its way there when its old port is dismissed',
  { skip },
  async t => {
    const world = await settledWorld(t, [a, b])
    const away: Endpoint = { ...a, host: c.host }
    await world.pass([away, b], { scope: red.vni, mayRemove: false })
    const tunnel = stationValue({ to: ipv4Of(makeHost(2).vtep), how: 'tunnel', tells: TELLS.ipv4 })
    t.same(stationOf(world, a), tunnel)
    const port = ifindexOf(world, a)
    t.ok(world.keys('vxm_ports').includes(port))
    world.programs.dismiss(device(a))
    t.same(stationOf(world, a), tunnel)
    t.notOk(world.keys('vxm_ports').includes(port))
  }
)

t.test('after a restart a port is dismissed once a pass has seen it', { skip }, async t => {
  const world = await settledWorld(t, [a, b])
  const ids = [...world.datapath.programs.values()].map(({ id }) => id)
  const next = new World(t, { scratch: world.scratch, datapath: loadDatapath(readObjects(), ids) })
  const port = ifindexOf(world, a)
  next.programs.dismiss(device(a))
  t.ok(next.keys('vxm_ports').includes(port), 'unknown yet, and left to the pass')
  await next.pass([a, b])
  next.programs.dismiss(device(a))
  t.notOk(next.keys('vxm_ports').includes(port))
})

t.test(
  'a shaped port is reached by its queue and sends by its queue, until it is not shaped any more',
  { skip },
  async t => {
    const world = await settledWorld(t, [a, b])
    const ifindex = ifindexOf(world, a)
    const rows: readonly [shaping: Shaping, how: StationEntry['how'], sends: boolean][] = [
      [LIMITED, 'queue', true],
      [NO_LIMITS, 'peer', true],
      [{ ...NO_LIMITS, egressRate: 1e6 }, 'peer', false],
      [{ ...NO_LIMITS, delayUs: 1 }, 'queue', false],
      [NO_LIMITS, 'peer', true]
    ]
    const of = stationOf(world, b)
    for (const [shaping, how, sending] of rows) {
      const what = JSON.stringify(shaping)
      world.programs.shape(ifindex, shaping)
      t.same(stationOf(world, a), stationValue({ to: ifindex, how, tells: TELLS.ipv4 }), what)
      t.equal(sends(world, a), sending, what)
      const { attempted } = await world.pass([{ ...a, ...shaping }, b])
      t.same(texts(attempted), [], `${what}: as a pass wants it`)
      t.same(stationOf(world, b), of)
    }
  }
)

t.test('a port has its addresses of both families, or of IPv6 alone, also after it was shaped', { skip }, async t => {
  const [both, only] = [on(1, 'f', 3, dual), on(1, 'g', 4, six)]
  const world = new World(t)
  world.build([both, only], [dual, six])
  await world.pass([both])
  const addressesOf = (endpoint: Endpoint): string[] => {
    const value = world.map('vxm_ports').get(word(ifindexOf(world, endpoint)))
    return value === null ? [] : readPort(value).addresses.map(formatIp)
  }
  admit(world, only)
  for (const [endpoint, addresses, tells] of [
    [both, ['10.1.0.5', 'fd00:1::5'], TELLS.ipv4 | TELLS.ipv6],
    [only, ['fd00:2::6'], TELLS.ipv6]
  ] as const) {
    t.same(addressesOf(endpoint), addresses)
    world.programs.shape(ifindexOf(world, endpoint), LIMITED)
    t.same(stationOf(world, endpoint), stationValue({ to: ifindexOf(world, endpoint), how: 'queue', tells }))
    t.same(addressesOf(endpoint), addresses, 'shaped')
    world.programs.shape(ifindexOf(world, endpoint), NO_LIMITS)
  }
  const { done, problems } = await world.pass([both, only])
  t.same(
    [texts(done).filter(op => /ports|stations|from_container/.test(op)), problems],
    [[], []],
    'as a pass wants them'
  )
  t.same(world.held(), world.wanted([both, only]))
  world.programs.dismiss(device(only))
  t.same(addressesOf(only), [])
})

t.test('shaping a port that is not there changes nothing', { skip }, async t => {
  const world = await settledWorld(t, [a])
  const before = world.held()
  for (const ifindex of [0, 9_999, ifindexOf(world, b)]) world.programs.shape(ifindex, LIMITED)
  t.same(world.held(), before)
})

t.test('without redirects shaping changes no way', { skip }, async t => {
  const world = new World(t, { redirects: false })
  world.build([a, b, d])
  await world.pass([a, b])
  const before = world.held()
  world.programs.shape(ifindexOf(world, a), LIMITED)
  t.same(world.held(), before)
})

t.test('traffic is counted by port, over all processors', { skip }, async t => {
  const world = await settledWorld(t, [a, d])
  const zero = { sentPackets: 0, sentBytes: 0, redirectedPackets: 0, redirectedBytes: 0 }
  const none = { ...zero, droppedPackets: 0, limitedPackets: 0 }
  const ports = [a, d].map(endpoint => ifindexOf(world, endpoint))
  t.strictSame(
    [...world.programs.traffic()].sort(([x], [y]) => x - y),
    ports.map(port => [port, none])
  )
  const map = world.map('vxm_traffic')
  const value = new BigUint64Array(map.valueBytes / 8)
  value.set([1n, 2n, 3n, 4n, 5n, 6n])
  // Of the last processor.
  value.set([10n, 20n, 30n, 40n, 50n, 60n], value.length - 6)
  map.set([{ key: word(ports[0] ?? 0), value: new Uint8Array(value.buffer) }])
  const factor = value.length === 6 ? 10 : 11
  const fields = Object.keys(none).map((name, i) => [name, factor * (i + 1)])
  t.strictSame(world.programs.traffic().get(ports[0] ?? 0), Object.fromEntries(fields))
  t.strictSame(world.programs.traffic().get(ports[1] ?? 0), none)
  world.programs.dismiss(device(a))
  t.same([...world.programs.traffic().keys()], [ports[1]])
})

t.test('drops are counted by reason', { skip }, async t => {
  const world = await settledWorld(t, [])
  t.same(world.programs.drops(), Object.fromEntries(DROPS.map(why => [why, 0])))
  const map = world.map('vxm_drops')
  for (const [i] of DROPS.entries()) {
    const value = new BigUint64Array(map.valueBytes / 8)
    // Packets and bytes of the last processor.
    value.set([BigInt(i + 1), 999n], value.length - 2)
    map.set([{ key: word(i), value: new Uint8Array(value.buffer) }])
  }
  t.same(world.programs.drops(), Object.fromEntries(DROPS.map((why, i) => [why, i + 1])))
})

t.test('an op that needs what is not loaded is a bug, and reported as one', { skip }, async t => {
  const datapath = loadDatapath(readObjects())
  t.teardown(() => closeDatapath(datapath))
  const world = new World(t, { datapath: { programs: new Map(), maps: new Map() } })
  const ops: readonly ProgramOp[] = [
    { kind: 'program-attach', device: 'eth0', ifindex: 2, program: 'to_host', vni: red.vni },
    { kind: 'entries-set', vni: red.vni, table: 'vteps', entries: { keys: [1], values: [1] } }
  ]
  const { done, failures } = await world.programs.execute(ops)
  t.same(done, [])
  for (const { problem } of failures) t.ok(problem.error instanceof VxmeshError)
  t.match(
    failures.map(({ problem }) => problem),
    [
      { vni: red.vni, error: { code: 'ERR_INTERNAL', message: 'run to_host on eth0 (vni 161): no program to_host' } },
      { vni: red.vni, error: { code: 'ERR_INTERNAL', message: 'set 1 vteps (vni 161): no map vxm_vteps' } }
    ]
  )
})
