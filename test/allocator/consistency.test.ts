import t from 'tap'
import { verify } from '#allocator/consistency.ts'
import { MAX_REMEMBERED, type Remembered } from '#allocator/sessions.ts'
import type { ClusterState } from '#allocator/state-machine.ts'
import type { NetworkTable } from '#allocator/network-table.ts'
import type { Tables } from '#allocator/tables.ts'
import type { Endpoint } from '#model/endpoint.ts'
import type { HostName, LogIndex, NetworkName, PeerId, Vni } from '#model/ids.ts'
import { ipv4Of } from '#model/ip.ts'
import { parseIpv4 } from '#model/ipv4.ts'
import { parseIpv6 } from '#model/ipv6.ts'
import { parseMac } from '#model/mac.ts'
import { attach, Caller, create, makeHost, peer } from './fixtures.ts'

type World = {
  state: ClusterState
  tables: Tables
  red: NetworkTable
  blue: NetworkTable
  one: Endpoint
  two: Endpoint
}

/** Red, VNI 4096, with endpoints one (h1) and two (h2), whose MAC was chosen; blue, VNI 77; two sessions. */
function sound(): World {
  const caller = Caller.ready()
  caller.do(create('blue', { vni: 77 }))
  caller.send({ session: 's2', seq: 0, settledBelow: 0, command: { kind: 'session-open' } })
  const one = caller.endpoint(attach('red', 'one'))
  const two = caller.endpoint(attach('red', 'two', { host: 2, mac: '02:aa:00:00:00:02' }))
  const { tables } = caller.state
  const [red, blue] = ['red', 'blue'].map(name => tables.networks.get(name as NetworkName))
  if (red === undefined || blue === undefined) throw new Error('no network')
  return { state: caller.state, tables, red, blue, one, two }
}

/** The sessions' internal map, for tests that corrupt it. */
function session(
  state: ClusterState,
  id: string
): { lastUsed: number; settledBelow: number; answers: Map<number, Remembered> } {
  const found = [...state.sessions.entries()].find(([each]) => each === id)?.[1]
  if (found === undefined) throw new Error('no session')
  return found
}

const X = 'x' as NetworkName
const ANSWER: Remembered = { outcome: { ok: true, result: { kind: 'session' } }, hash: { a: 0, b: 0 } }

const defects: readonly { what: string; plant: (world: World) => unknown; found: RegExp }[] = [
  {
    what: 'a VNI that nobody has',
    plant: w => w.tables.vnis.claim(5_000),
    found: /^VNI 5000 is marked but has no owner/
  },
  { what: 'a VNI that is not marked', plant: w => w.tables.vnis.release(77), found: /^VNI 77 has an owner but is not/ },
  {
    what: 'a VNI of two networks',
    plant: w => (w.blue.network = { ...w.blue.network, vni: 4_096 as Vni }),
    found: /^VNI 4096 has two owners/
  },
  {
    what: 'a VNI of 25 bits',
    plant: w => (w.blue.network = { ...w.blue.network, vni: (2 ** 24) as Vni }),
    found: /^VNI 16777216 is out of range/
  },
  { what: 'a network under another name', plant: w => w.tables.networks.set(X, w.red), found: /red is filed under x/ },
  {
    what: 'a network that is not found by its VNI',
    plant: w => w.tables.networkByVni.delete(77 as Vni),
    found: /blue is not found by its VNI/
  },
  {
    what: 'a VNI that leads to another network',
    plant: w => w.tables.networkByVni.set(9 as Vni, w.red),
    found: /VNI 9 leads to network red/
  },
  {
    what: 'an index of VNIs that is too long',
    plant: w => w.tables.networkByVni.set(9 as Vni, w.red),
    found: /3 by VNI/
  },
  {
    what: 'an address that nobody has',
    plant: w => w.red.pool.claim(parseIpv4('10.1.0.9')),
    found: /10\.1\.0\.9 is marked/
  },
  {
    what: 'an address that is not marked',
    plant: w => w.red.pool.release(ipv4Of(w.one.address)),
    found: /red: address 10\.1\.0\.2 has an owner but is not marked/
  },
  {
    what: 'an address of two endpoints',
    plant: w => w.red.byAddress.set(parseIpv4('10.1.0.9'), w.one),
    found: /address 10\.1\.0\.2 has two owners/
  },
  {
    what: 'an endpoint under another address',
    plant: w => w.red.byAddress.set(parseIpv4('10.1.0.9'), w.one),
    found: /one\/eth0 is filed under 10\.1\.0\.9/
  },
  {
    what: 'an endpoint with the address of the gateway',
    plant: w => w.red.byAddress.set(w.red.network.gateway, { ...w.one, address: w.red.network.gateway }),
    found: /address 10\.1\.0\.1 has two owners/
  },
  {
    what: 'an endpoint outside its subnet',
    plant: w => w.red.byAddress.set(parseIpv4('10.9.0.9'), { ...w.one, address: parseIpv4('10.9.0.9') }),
    found: /outside its subnet/
  },
  {
    what: 'an endpoint in another network',
    plant: w => w.blue.byAddress.set(w.one.address, w.one),
    found: /filed in blue/
  },
  {
    what: 'an endpoint with another VNI than its network',
    plant: w => w.red.byAddress.set(w.one.address, { ...w.one, vni: 77 as Vni }),
    found: /one\/eth0 is filed in red/
  },
  {
    what: 'an endpoint that is not found by its MAC',
    plant: w => w.red.byChosenMac.delete(w.two.mac),
    found: /two\/eth0 is not found by its MAC/
  },
  {
    what: 'an endpoint whose derived MAC another one has chosen',
    plant: w => w.red.byChosenMac.set(w.one.mac, w.two),
    found: /one\/eth0 is not found by its MAC/
  },
  {
    what: 'a MAC that nobody has',
    plant: w => w.red.byChosenMac.set(parseMac('02:aa:00:00:00:01'), w.one),
    found: /1 endpoints with a chosen MAC, 2 in the index/
  },
  {
    what: 'an endpoint that is not found on its host',
    plant: w => w.tables.byHost.get(w.one.host)?.delete(w.one),
    found: /one\/eth0 is not found on its host/
  },
  {
    what: 'an endpoint on two hosts',
    plant: w => w.tables.byHost.get(peer(2))?.add(w.one),
    found: /2 endpoints, 3 by host/
  },
  {
    what: 'an endpoint on no host',
    plant: w => w.tables.hosts.delete(peer(1)),
    found: /on a host that does not exist/
  },
  {
    what: 'an endpoint that is not found by its container',
    plant: w => w.tables.containers.remove(w.one),
    found: /one\/eth0 is not found by its container/
  },
  {
    what: 'a container that has no endpoint',
    plant: w => w.tables.containers.add({ ...w.one, containerId: 'x' as never }),
    found: /2 endpoints, 3 by container/
  },
  {
    what: 'an endpoint that was replaced behind its indexes',
    plant: w => w.red.byAddress.set(w.one.address, { ...w.one }),
    found: /one\/eth0 is not found by its container/
  },
  {
    what: 'a row that was changed behind the hash',
    plant: w => (w.red.network = { ...w.red.network, egressRate: 8_000 }),
    found: /hash does not match the rows/
  },
  {
    what: 'a hash of more than the rows',
    plant: w => w.tables.hash.add({ a: 1, b: 0 }),
    found: /hash does not match the rows/
  },
  {
    what: 'a cursor that was moved behind the hash',
    plant: w => w.red.pool.restoreCursor(parseIpv4('10.1.0.99')),
    found: /hash does not match the cursors/
  },
  {
    what: 'a session that was changed behind the hash',
    plant: w => (session(w.state, 's1').settledBelow -= 1),
    found: /hash does not match the sessions/
  },
  {
    what: 'an answer that was changed behind the hash',
    plant: w => session(w.state, 's1').answers.clear(),
    found: /hash does not match the sessions/
  },
  {
    what: 'a host that has lost a network',
    plant: w => w.tables.networksByHost.get(peer(1))?.clear(),
    found: /the counts of its networks are not those of its endpoints/
  },
  {
    what: 'a host that has kept a network',
    plant: w => w.tables.networksByHost.get(peer(1))?.set(77 as Vni, 1),
    found: /the counts of its networks are not those of its endpoints/
  },
  {
    what: 'networks of no host',
    plant: w => w.tables.networksByHost.set(peer(9), new Map()),
    found: /2 hosts with endpoints, 3 by networks/
  },
  {
    what: 'a host under another peer id',
    plant: w => w.tables.hosts.set('x' as PeerId, makeHost(2)),
    found: /h2 is filed under x/
  },
  {
    what: 'a host that is not found by its name',
    plant: w => w.tables.hostByName.delete('h1' as HostName),
    found: /h1 is not found by its name/
  },
  {
    what: 'a host that is not found by its VTEP',
    plant: w => w.tables.hostByVtep.set(parseIpv4('192.0.2.1'), makeHost(2)),
    found: /h1 is not found by its VTEP/
  },
  {
    what: 'a name of no host',
    plant: w => w.tables.hostByName.set('x' as HostName, makeHost(1)),
    found: /2 hosts, 3 by name/
  },
  {
    what: 'a VTEP of no host',
    plant: w => w.tables.hostByVtep.set(parseIpv4('192.0.2.9'), makeHost(1)),
    found: /2 hosts, 3 by VTEP/
  },
  { what: 'a host without a set', plant: w => w.tables.byHost.delete(peer(1)), found: /h1 has no set of endpoints/ },
  { what: 'a set of no host', plant: w => w.tables.byHost.set(peer(9), new Set()), found: /2 hosts, 3 by endpoints/ },
  {
    what: 'a session of the future',
    plant: w => (session(w.state, 's1').lastUsed = w.state.appliedIndex + 1),
    found: /session s1: used at \d+, out of order/
  },
  {
    what: 'sessions out of order',
    plant: w => (session(w.state, 's2').lastUsed = w.state.appliedIndex),
    found: /session s1: used at \d+, out of order/
  },
  {
    what: 'an answer that is settled',
    plant: w => session(w.state, 's1').answers.set(0, ANSWER),
    found: /session s1: answer 0 is settled/
  },
  {
    what: 'too many answers',
    plant: w => [...Array(MAX_REMEMBERED + 1).keys()].map(n => session(w.state, 's2').answers.set(n + 1, ANSWER)),
    found: new RegExp(`session s2: ${MAX_REMEMBERED + 1} answers`)
  }
]

/** Both, VNI 4097, 10.2.0.0/24 and fd00:2::/64, with endpoints mirrored and chosen; six, fd00:6::/64, with near and far. */
type World6 = {
  state: ClusterState
  tables: Tables
  both: NetworkTable
  six: NetworkTable
  mirrored: Endpoint
  chosen: Endpoint
  near: Endpoint
  far: Endpoint
}

function sound6(): World6 {
  const caller = Caller.raised()
  caller.do(create('both', { subnet: '10.2.0.0/24', subnet6: 'fd00:2::/64' }))
  caller.do(create('six', { subnet: 'fd00:6::/64' }))
  const { tables } = caller.state
  const [both, six] = ['both', 'six'].map(name => tables.networks.get(name as NetworkName))
  if (both === undefined || six === undefined) throw new Error('no network')
  return {
    state: caller.state,
    tables,
    both,
    six,
    mirrored: caller.endpoint(attach('both', 'mirrored')),
    chosen: caller.endpoint(attach('both', 'chosen', { address6: 'fd00:2::77' })),
    near: caller.endpoint(attach('six', 'near')),
    far: caller.endpoint(attach('six', 'far', { address: 'fd00:6::1:0:0:9' }))
  }
}

/** The row with other facts, in all indexes that go by address. */
function replaced(table: NetworkTable, before: Endpoint, change: Partial<Endpoint>): void {
  const after = { ...before, ...change }
  table.byAddress.delete(before.address)
  table.byAddress.set(after.address, after)
  if (before.address6 !== undefined) table.byChosen6.delete(before.address6)
  if (after.address6 !== undefined) table.byChosen6.set(after.address6, after)
}

const defects6: readonly { what: string; plant: (world: World6) => unknown; found: RegExp }[] = [
  {
    what: 'an IPv6 address that nobody has',
    plant: w => w.six.pool.claim(9),
    found: /six: address fd00:6::9 is marked but has no owner/
  },
  {
    what: 'an IPv6 address that is not marked',
    plant: w => w.six.pool.release(2),
    found: /six: address fd00:6::2 has an owner but is not marked/
  },
  {
    what: 'an address beyond the pool that is not in its index',
    plant: w => w.six.beyond.clear(),
    found: /six: 1 endpoints beyond the pool, 0 in the index/
  },
  {
    what: 'an address of the pool in the index of those beyond it',
    plant: w => w.six.beyond.add(w.near),
    found: /six: 1 endpoints beyond the pool, 2 in the index/
  },
  {
    what: 'another row in the index of those beyond the pool',
    plant: w => {
      w.six.beyond.clear()
      w.six.beyond.add({ ...w.far })
    },
    found: /six: 1 endpoints beyond the pool, 1 in the index/
  },
  {
    what: 'an endpoint beyond the pool that is not found by its MAC',
    plant: w => w.six.byChosenMac.delete(w.far.mac),
    found: /far\/eth0 is not found by its MAC/
  },
  {
    what: 'a chosen second address that is not in its index',
    plant: w => w.both.byChosen6.clear(),
    found: /chosen\/eth0 is not found by fd00:2::77/
  },
  {
    what: 'a second address that nobody has',
    plant: w => w.both.byChosen6.set(parseIpv6('fd00:2::99'), w.chosen),
    found: /both: 1 endpoints with a chosen IPv6 address, 2 in the index/
  },
  {
    what: 'a mirror that another endpoint has chosen',
    plant: w => replaced(w.both, w.chosen, { address6: parseIpv6('fd00:2::2') }),
    found: /mirrored\/eth0 is not found by fd00:2::2/
  },
  {
    what: 'a second address outside of its subnet',
    plant: w => replaced(w.both, w.chosen, { address6: parseIpv6('fd00:9::77') }),
    found: /chosen\/eth0 has an address outside its subnet/
  },
  {
    what: 'the network address as a second address',
    plant: w => replaced(w.both, w.chosen, { address6: parseIpv6('fd00:2::') }),
    found: /chosen\/eth0 has an address outside its subnet/
  },
  {
    what: 'a second address in a network with one subnet',
    plant: w => replaced(w.six, w.near, { address6: parseIpv6('fd00:2::5') }),
    found: /near\/eth0 has an address outside its subnet/
  },
  {
    what: 'the mirror of the gateway as a second address',
    plant: w => replaced(w.both, w.chosen, { address6: parseIpv6('fd00:2::1') }),
    found: /chosen\/eth0 has the address of its gateway/
  },
  {
    what: 'a gateway beyond the pool that an endpoint has',
    plant: w => (w.six.network = { ...w.six.network, gateway: w.far.address }),
    found: /far\/eth0 has the address of its gateway/
  },
  {
    what: 'an endpoint outside of its IPv6 subnet',
    plant: w => replaced(w.six, w.near, { address: parseIpv6('fd00:9::2') }),
    found: /near\/eth0 has an address outside its subnet/
  },
  {
    what: 'a second subnet that was added behind the hash',
    plant: w => (w.both.network = { ...w.both.network, subnet6: { base: parseIpv6('fd00:3::'), prefixLength: 64 } }),
    found: /hash does not match the rows/
  },
  {
    what: 'a second address that was chosen behind the hash',
    plant: w => replaced(w.both, w.mirrored, { address6: parseIpv6('fd00:2::99') }),
    found: /hash does not match the rows/
  },
  {
    what: 'a second subnet without room for the mirrors',
    plant: w => (w.both.network = { ...w.both.network, subnet6: { base: parseIpv6('fd00:2::'), prefixLength: 121 } }),
    found: /network both: fd00:2::\/121 has fewer addresses/
  },
  {
    what: 'the MAC of a gateway from before there was a second subnet, without one',
    plant: w => (w.six.network = { ...w.six.network, wasIpv6: true }),
    found: /network six was of IPv6 alone, and has one subnet/
  },
  {
    what: 'a gateway outside of its subnet',
    plant: w => (w.six.network = { ...w.six.network, gateway: parseIpv6('fd00:9::1') }),
    found: /network six: its gateway fd00:9::1 is outside/
  },
  {
    what: 'a subnet that hosts do not reach in the index of those that they do',
    plant: w => w.tables.hostRouted.add(w.six.network.name, [w.six.network.subnet]),
    found: /hosts reach 0 subnets, 1 in the index/
  },
  {
    what: 'a subnet that hosts reach and that is not in the index',
    plant: w => (w.six.network = { ...w.six.network, hostAccess: true }),
    found: /network six is not found by fd00:6::\/64, which hosts reach/
  },
  {
    what: 'rules that a host does not know',
    plant: w => w.tables.putHost(makeHost(2, { version: '0.1.9' })),
    found: /host h2 has version 0\.1\.9, which does not know rules 8/
  },
  {
    what: 'IPv6 before the rules allow it',
    plant: w => (w.tables.rules = 4),
    found: /network both has IPv6 by rules 4/
  }
]

t.test('a consistent state has no faults', t => {
  t.same(verify(sound().state), [])
  t.same(verify(sound6().state), [])
  t.end()
})

for (const { what, plant, found } of defects6) {
  t.test(`found: ${what}`, t => {
    const world = sound6()
    plant(world)
    const faults = verify(world.state)
    t.ok(
      faults.some(fault => found.test(fault)),
      faults.join('; ')
    )
    t.end()
  })
}

for (const { what, plant, found } of defects) {
  t.test(`found: ${what}`, t => {
    const world = sound()
    plant(world)
    const faults = verify(world.state)
    t.ok(
      faults.some(fault => found.test(fault)),
      faults.join('; ')
    )
    t.end()
  })
}

t.test('an entry without a command is not a fault', t => {
  const { state } = sound()
  state.skip((state.appliedIndex + 1) as LogIndex)
  t.same(verify(state), [])
  t.end()
})
