// The switch in the database, against a peer that executes transactions and applies them as ovs-vswitchd does.

import t, { type Test } from 'tap'
import { parseIp } from '#model/ip.ts'
import { parseIpv4 } from '#model/ipv4.ts'
import { parseIfName, parseVni } from '#model/ids.ts'
import { Bridge, isOurs, observedPort, type PortSet } from '#overlay/ovs/bridge.ts'
import { fromMap, fromSet } from '#overlay/ovs/ovsdb.ts'
import { SWITCH, SWITCH_TUNNEL } from '#overlay/plan/network/names.ts'
import { waitFor } from '#test/lab/wait.ts'
import { connected, type Connected } from './connected.ts'
import { idsOf, OvsdbPeer } from './ovsdb-peer.ts'

const OPTIONS = { vtep: parseIpv4('192.0.2.1'), port: 4789, datapath: 'system' } as const
const red = parseVni(0xabc)

async function setUp(t: Test): Promise<Connected & { readonly bridge: Bridge }> {
  const peers = await connected(t)
  return { ...peers, bridge: new Bridge(peers.db, OPTIONS) }
}

function port(device: string, number: number, change: Partial<PortSet> = {}): PortSet {
  const mark = { vni: red, alias: `vxmesh endpoint ${device}/eth0`, mac: '02:bc:00:00:00:01' }
  return { kind: 'switch-port-set', vni: red, device: parseIfName(device), number, mark, renew: false, ...change }
}

/** Transactions that write: a read is made of selects alone. */
function writes(peer: OvsdbPeer): number {
  return peer.transactions().filter(operations => operations.some(({ op }) => op !== 'select')).length
}

t.test('the bridge is created with its tunnel in one transaction, and left alone once it is right', async t => {
  const { peer, bridge } = await setUp(t)
  t.notOk(bridge.isRight(await bridge.read()))
  await bridge.ensure()
  t.equal(writes(peer), 1)
  const rows = await bridge.read()
  t.ok(bridge.isRight(rows))
  t.same([...rows.interfaces.keys()].sort(), [SWITCH, SWITCH_TUNNEL].sort())
  t.match(peer.row('Bridge', SWITCH), { fail_mode: 'secure', datapath_type: 'system' })
  t.same(fromMap(peer.row('Interface', SWITCH_TUNNEL)?.['options']), {
    key: 'flow',
    remote_ip: 'flow',
    local_ip: '192.0.2.1',
    dst_port: '4789'
  })
  t.equal(fromSet(peer.rows('Open_vSwitch')[0]?.['bridges']).length, 1)
  await bridge.ensure()
  t.equal(writes(peer), 1, 'nothing to do')
})

t.test('a tunnel over IPv6 has UDP checksums, without which the kernel’s VXLAN devices hear nothing', async t => {
  const { db, peer } = await setUp(t)
  const bridge = new Bridge(db, { ...OPTIONS, vtep: parseIp('fd00::1') })
  await bridge.ensure()
  t.match(fromMap(peer.row('Interface', SWITCH_TUNNEL)?.['options']), { local_ip: 'fd00::1', csum: 'true' })
  const four = new Bridge(db, OPTIONS)
  t.notOk(four.isRight(await four.read()))
  await four.ensure()
  t.notOk('csum' in fromMap(peer.row('Interface', SWITCH_TUNNEL)?.['options']), 'and not over IPv4')
})

t.test('whatever of the bridge is wrong is repaired', async t => {
  const { peer, db, bridge } = await setUp(t)
  await bridge.ensure()
  const wrong: readonly [string, string, string, Readonly<Record<string, unknown>>][] = [
    ['fail mode', 'Bridge', SWITCH, { fail_mode: 'standalone' }],
    ['datapath', 'Bridge', SWITCH, { datapath_type: 'netdev' }],
    ['tunnel type', 'Interface', SWITCH_TUNNEL, { type: 'gre' }],
    ['tunnel options', 'Interface', SWITCH_TUNNEL, { options: ['map', [['key', '5']]] }],
    ['requested number', 'Interface', SWITCH_TUNNEL, { ofport_request: 9, ofport: 9 }]
  ]
  for (const [title, table, name, change] of wrong) {
    Object.assign(peer.row(table, name) ?? {}, change)
    t.notOk(bridge.isRight(await bridge.read()), title)
    await bridge.ensure()
    t.ok(bridge.isRight(await bridge.read()), `${title} is repaired`)
  }
  const tunnel = (await bridge.read()).ports.get(SWITCH_TUNNEL)
  for (const row of peer.rows('Bridge')) {
    row['ports'] = [
      'set',
      fromSet(row['ports']).filter(reference => JSON.stringify(reference) !== JSON.stringify(['uuid', tunnel]))
    ]
  }
  for (const [table, name] of [
    ['Port', SWITCH_TUNNEL],
    ['Interface', SWITCH_TUNNEL]
  ] as const) {
    const [, uuid] = peer.row(table, name)?.['_uuid'] as [string, string]
    peer.tables.get(table)?.delete(uuid)
  }
  await bridge.ensure()
  t.ok(bridge.isRight(await bridge.read()), 'a deleted tunnel port is created again')
  const other = new Bridge(db, { ...OPTIONS, vtep: parseIpv4('192.0.2.9') })
  t.notOk(other.isRight(await other.read()), 'another tunnel address')
})

t.test('a foreign bridge with our name is an error, and is not touched', async t => {
  const { peer, bridge } = await setUp(t)
  peer.insert('Bridge', {
    name: SWITCH,
    fail_mode: 'standalone',
    external_ids: ['map', [['owner', 'ovn']]],
    ports: ['set', []]
  })
  await t.rejects(bridge.ensure(), { code: 'ERR_KERNEL', message: /not ours/ })
  t.equal(writes(peer), 0)
  t.notOk(isOurs(peer.row('Bridge', SWITCH) ?? {}))
})

t.test('a bridge that ovs-vswitchd cannot set up is an error with its reason', async t => {
  const { peer, bridge } = await setUp(t)
  peer.portNumberOf = row => (row['name'] === SWITCH_TUNNEL ? null : 65_534)
  await t.rejects(bridge.ensure(), { code: 'ERR_KERNEL', message: /cannot set up bridge.*could not open vx000000/ })
})

t.test('a daemon that does not apply the configuration within 5 s is an error', async t => {
  const { peer, bridge, time } = await setUp(t)
  peer.daemonHangs = true
  const failing = t.rejects(bridge.ensure(), { code: 'ERR_KERNEL', message: /has not applied/ })
  await waitFor('the client waits', () => peer.transactions().length === 3)
  await waitFor('the reply has arrived', () => time.pending === 1)
  await time.advance(5_000)
  await failing
})

t.test('ports are created with number and mark, and read back', async t => {
  const { bridge, peer } = await setUp(t)
  await bridge.ensure()
  const before = writes(peer)
  t.same(await bridge.setPorts([port('ve1', 2), port('ve2', 7)]), new Map())
  t.equal(writes(peer), before + 1, 'in one transaction')
  const { interfaces } = await bridge.read()
  t.match(observedPort(interfaces.get('ve2') ?? {}), {
    number: 7,
    requested: 7,
    mark: { vni: red, alias: 'vxmesh endpoint ve2/eth0', mac: '02:bc:00:00:00:01' }
  })
  t.equal(idsOf(peer.row('Interface', 've1'))['owner'], 'vxmesh')
  t.equal(observedPort(interfaces.get(SWITCH_TUNNEL) ?? {}).mark, null, 'the tunnel port has no mark')
  t.same(await bridge.setPorts([port('ve1', 3)]), new Map(), 'an existing port gets another number')
  t.equal(peer.rows('Port').filter(row => row['name'] === 've1').length, 1)
})

t.test('a port that does not get its number is reported with the reason, and the others are set', async t => {
  const { bridge, peer } = await setUp(t)
  await bridge.ensure()
  peer.portNumberOf = row =>
    row['name'] === 've1' ? null : row['name'] === 've2' ? 55 : Number(row['ofport_request'] ?? 1)
  const ops = [port('ve1', 2), port('ve2', 3), port('ve3', 4)] as const
  t.same(
    [...(await bridge.setPorts(ops))],
    [
      [ops[0], 'could not open ve1'],
      [ops[1], 'got port number 55']
    ]
  )
})

t.test('a port that holds a deleted device is replaced by a new one', async t => {
  const { bridge, peer } = await setUp(t)
  await bridge.ensure()
  await bridge.setPorts([port('ve1', 2)])
  const stale = (await bridge.read()).ports.get('ve1')
  await bridge.setPorts([port('ve1', 2, { renew: true }), port('ve2', 3, { renew: true })])
  const renewed = (await bridge.read()).ports.get('ve1')
  t.ok(renewed)
  t.not(renewed, stale)
  t.notMatch(JSON.stringify(peer.row('Bridge', SWITCH)?.['ports']), `"${stale ?? ''}"`)
})

t.test('no port is set without a bridge, and none when the transaction is refused', async t => {
  const { bridge, peer } = await setUp(t)
  await t.rejects(bridge.setPorts([port('ve1', 2)]), { code: 'ERR_KERNEL', message: /no bridge/ })
  await bridge.ensure()
  peer.insertForeignPort('ve2')
  await t.rejects(bridge.setPorts([port('ve1', 2), port('ve2', 3)]), { code: 'ERR_KERNEL', message: /ve2 exists/ })
  t.equal(peer.row('Interface', 've1'), undefined)
})

t.test('ports are deleted; an absent one, or an absent bridge, is success', async t => {
  const { bridge, peer } = await setUp(t)
  await bridge.deletePorts(['ve1'])
  await bridge.ensure()
  await bridge.setPorts([port('ve1', 2), port('ve2', 3)])
  const before = writes(peer)
  await bridge.deletePorts(['ve1', 'never'])
  t.equal(writes(peer), before + 1)
  t.same([...(await bridge.read()).ports.keys()].sort(), [SWITCH, SWITCH_TUNNEL, 've2'].sort())
  await bridge.deletePorts(['ve1'])
  t.equal(writes(peer), before + 1, 'nothing to delete, nothing to write')
})

t.test('ports of other bridges are not read as ours', async t => {
  const { bridge, peer } = await setUp(t)
  await bridge.ensure()
  peer.insertForeignPort('tap0')
  const { ports, interfaces } = await bridge.read()
  t.notOk(ports.has('tap0'))
  t.notOk(interfaces.has('tap0'))
})

t.test('rows with missing or malformed columns read as a port without number and mark', async t => {
  const empty = { number: 0, requested: 0, mark: null, ifindex: 0 }
  const ids = (vni: string): unknown => [
    'map',
    [
      ['owner', 'vxmesh'],
      ['vxmesh-vni', vni]
    ]
  ]
  t.same(observedPort({}), empty)
  t.same(observedPort({ ofport: ['set', []], ofport_request: ['set', []], ifindex: 'x' }), empty)
  t.equal(observedPort({ ofport: -1 }).number, 0, 'the device could not be opened')
  for (const vni of ['', '0', '-1', '1.5', 'x']) t.equal(observedPort({ external_ids: ids(vni) }).mark, null, vni)
  t.same(observedPort({ external_ids: ids('5') }).mark, { vni: 5, alias: '', mac: '' })
  t.equal(observedPort({ external_ids: ['map', [['vxmesh-vni', '5']]] }).mark, null, 'not ours')
})
