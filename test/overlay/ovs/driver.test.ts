// The whole Open vSwitch driver over a database server in this process and a program under the name of ovs-ofctl. It reads the
// devices of this machine but changes none, and so needs no root.

import { dirname, join } from 'node:path'
import t, { type Test } from 'tap'
import { switchDevices } from '#overlay/ovs/devices.ts'
import { OvsDriver } from '#overlay/ovs/driver.ts'
import { LinuxHost } from '#overlay/linux/host.ts'
import type { IfName, Vni } from '#model/ids.ts'
import { runPass, runPart, type Look, type Part, type PartReport } from '#overlay/pass.ts'
import { desired, type DesiredInput } from '#overlay/plan/network/desired.ts'
import { SWITCH, SWITCH_TUNNEL, vethName } from '#overlay/plan/network/names.ts'
import type { DeviceOp } from '#overlay/plan/network/op.ts'
import { parseFlows } from '#overlay/plan/switch/flow.ts'
import { vxlanUnderlay } from '#overlay/plan/underlay/underlay.ts'
import { systemClock } from '#platform/clock.ts'
import { scratch } from '#test/api/scratch.ts'
import { waitFor } from '#test/lab/wait.ts'
import { byNetwork, makeEndpoint, makeHost, makeNetwork, peer } from '../fixtures.ts'
import { ofctlProgram, type OfctlProgram } from './ofctl-program.ts'
import { OvsdbPeer, type Call } from './ovsdb-peer.ts'

const PORT = 4789
const red = makeNetwork('red', 0xabc, { egress: false })

type Setup = {
  readonly db: OvsdbPeer
  readonly ofctl: OfctlProgram
  readonly open: () => Promise<OvsDriver>
}

async function setUp(t: Test): Promise<Setup> {
  const db = await new OvsdbPeer(join(scratch(t), 'db.sock')).listen()
  t.teardown(() => db.stop())
  const ofctl = ofctlProgram(t)
  const open = async (): Promise<OvsDriver> => {
    const underlay = vxlanUnderlay(makeHost(1).vtep)
    const options = { underlay, port: PORT, socket: db.path, datapath: 'system', clock: systemClock } as const
    const driver = await OvsDriver.open(options)
    t.teardown(() => driver.close())
    return driver
  }
  return { db, ofctl, open }
}

/** Network red with a container here, whose veth is missing, and one on host 2. */
function input(): DesiredInput {
  return {
    self: peer(1),
    selfVtep: makeHost(1).vtep,
    networks: [red],
    endpoints: byNetwork([
      makeEndpoint(red, { container: 'here', host: 1, address: '10.1.0.2' }),
      makeEndpoint(red, { container: 'there', host: 2, address: '10.1.0.3' })
    ]),
    hosts: [makeHost(1), makeHost(2)],
    memberStatus: null,
    overlayMtu: 1450,
    vxlanPort: PORT
  }
}

/** Nothing is removed: the devices of this machine are not this test's. */
function look(): Look {
  const transit = { base: 0xf0000000 as never, prefixLength: 8 }
  const gateways = { routers: new Map(), transit, guarded: [], opened: [], underlay: [] }
  return {
    scope: null,
    trust: false,
    mayRemove: false,
    desired: { host: () => desired(input()), gateways: () => gateways }
  }
}

/** The driver's forwarding alone: its other parts act upon the routers and filters of this machine. */
function forwardingOf(driver: OvsDriver): Part {
  const [part] = driver.parts.filter(({ concern }) => concern === 'forwarding')
  if (part === undefined) throw new Error('no forwarding')
  return part
}

async function pass(driver: OvsDriver): Promise<PartReport> {
  return runPart(forwardingOf(driver), look())
}

/** Drops the connection at the nth transaction from now. */
function dropAt(db: OvsdbPeer, nth: number): void {
  let transactions = 0
  db.onCall = ({ method }: Call) => {
    if (method === 'transact') transactions++
    return method === 'transact' && transactions === nth ? 'drop' : 'normal'
  }
}

t.test('open creates the bridge and its tunnel port, and reads the flows', async t => {
  const { db, ofctl, open } = await setUp(t)
  const driver = await open()
  t.match(db.row('Bridge', SWITCH), { fail_mode: 'secure', datapath_type: 'system' })
  t.match(db.row('Interface', SWITCH_TUNNEL), { type: 'vxlan', ofport: 1 })
  t.match(ofctl.calls().at(-1), new RegExp(`dump-flows unix:${dirname(db.path)}/${SWITCH}.mgmt$`))
  t.same(
    driver.parts.map(({ name }) => name),
    ['devices', 'programs', 'gateways', 'router-ports']
  )
  const before = db.transactions().length
  await open()
  t.ok(
    db
      .transactions()
      .slice(before)
      .every(operations => operations.every(({ op }) => op === 'select')),
    'one that is right is left as it is'
  )
})

for (const [what, spoil, why] of [
  ['no server', ({ db }) => db.stop(), /ENOENT|ECONNREFUSED/],
  ['a server that drops the connection', ({ db }) => dropAt(db, 1), /connection to ovsdb-server broke/],
  ['a server that drops it while the bridge is made', ({ db }) => dropAt(db, 2), /connection to ovsdb-server broke/],
  [
    'a foreign bridge of our name',
    ({ db }) => db.insert('Bridge', { name: SWITCH, external_ids: ['map', []], ports: ['set', []] }),
    /not ours/
  ],
  ['a tunnel that cannot be opened', ({ db }) => (db.portNumberOf = () => null), /could not open/],
  [
    'ovs-ofctl that cannot reach the switch',
    ({ ofctl }) => ofctl.put('refusal', 'connection refused'),
    /read flows: connection refused/
  ]
] as readonly [string, (setup: Setup) => unknown, RegExp][]) {
  t.test(`open with ${what} is refused by name, and closes its connection`, async t => {
    const setup = await setUp(t)
    await spoil(setup)
    await t.rejects(setup.open(), { code: 'ERR_UNSUPPORTED', field: 'overlay.driver', message: why })
    await waitFor('the connection is closed', () => setup.db.open === 0)
  })
}

t.test('one pass sets the flows of the host and its networks, and the next has nothing to do', async t => {
  const { ofctl, open } = await setUp(t)
  const driver = await open()
  const first = await pass(driver)
  t.same(first.problems, [])
  t.same(
    [...parseFlows(ofctl.get('dump')).keys()].sort((a, b) => a - b),
    [0, red.vni]
  )
  t.equal(ofctl.get('frags'), 'nx-match\n')
  t.same(
    first.missing.map(({ vni }) => vni),
    [red.vni],
    'the container without an interface is reported'
  )
  const second = await pass(driver)
  t.same(second.attempted, [])
})

t.test('a connection that is lost while the switch is read fails the pass; the next one repairs', async t => {
  const { db, open } = await setUp(t)
  const driver = await open()
  dropAt(db, 1)
  const woken = Promise.withResolvers<unknown>()
  driver.onChange(networks => woken.resolve(networks))
  await t.rejects(pass(driver), { code: 'ERR_KERNEL', message: /connection to ovsdb-server broke/ })
  t.equal(await woken.promise, null, 'the reconcile loop is woken when the server is back')
  t.equal(db.connections, 2)
  t.same((await pass(driver)).problems, [])
})

t.test(
  'a connection that is lost while the bridge is repaired is reported, and stops what needs the bridge',
  async t => {
    const { db, ofctl, open } = await setUp(t)
    const driver = await open()
    await pass(driver)
    db.deleteBridge(SWITCH)
    ofctl.put('dump', '')
    ofctl.put('frags', 'normal\n')
    const bundles = (): number => ofctl.calls().filter(call => call.includes('add-flows')).length
    const before = bundles()
    // The first transaction reads the switch, the second reads it again before the repair.
    dropAt(db, 3)
    const broken = await pass(driver)
    t.match(broken.problems, [
      { vni: null, error: { code: 'ERR_KERNEL', message: /connection to ovsdb-server broke/ } }
    ])
    t.equal(bundles(), before, 'no flow is set without the bridge')
    await waitFor('the connection is back', () => db.connections === 2 && db.open === 1)
    await waitFor('the pass succeeds', async () => (await pass(driver)).problems.length === 0)
    t.match(db.row('Bridge', SWITCH), { fail_mode: 'secure' })
    t.equal(parseFlows(ofctl.get('dump')).size, 2)
  }
)

t.test('a flow dump that fails fails the pass, and changes nothing', async t => {
  const { ofctl, open } = await setUp(t)
  const driver = await open()
  await pass(driver)
  const before = ofctl.get('dump')
  ofctl.put('refusal', 'ovs-ofctl: broken pipe')
  await t.rejects(pass(driver), { code: 'ERR_KERNEL', message: /read flows: ovs-ofctl: broken pipe/ })
  await t.rejects(runPass([forwardingOf(driver)], look()), { code: 'ERR_KERNEL' }, 'forwarding is required')
  ofctl.put('refusal', '')
  t.same((await pass(driver)).attempted, [])
  t.equal(ofctl.get('dump'), before)
})

t.test('flows that are refused are problems of their networks', async t => {
  const { ofctl, open } = await setUp(t)
  const driver = await open()
  ofctl.put('refused-change', 'OFPFMFC_TABLE_FULL')
  const { problems } = await pass(driver)
  t.same(problems.map(({ vni }) => vni).sort(), [red.vni, null].sort())
  t.ok(problems.every(({ error }) => error.message.includes('OFPFMFC_TABLE_FULL')))
  ofctl.put('refused-change', '')
  t.same((await pass(driver)).problems, [])
})

t.test(
  'changes by somebody else wake the listener once, and make the flows be read again, until it is stopped',
  async t => {
    const { db, ofctl, open } = await setUp(t)
    const driver = await open()
    let woken = 0
    const stop = driver.onChange(networks => {
      t.equal(networks, null)
      woken++
    })
    db.update('configured')
    db.update('configured')
    await waitFor('the listener is called', () => woken === 1)
    const dumps = (): number => ofctl.calls().filter(call => call.includes('dump-flows')).length
    const before = dumps()
    await driver.forwarding.observe({ scope: red.vni, desired: () => desired(input()) })
    t.equal(dumps(), before + 1)
    stop()
    stop()
    db.deleteBridge(SWITCH)
    await pass(driver)
    t.equal(woken, 1)
  }
)

t.test('doctor is told whether the switch works, and why not', async t => {
  const { db, ofctl, open } = await setUp(t)
  const driver = await open()
  const feature = async () => (await driver.features()).find(({ name }) => name === 'open-vswitch')
  await pass(driver)
  t.same(await feature(), { name: 'open-vswitch', present: true, required: true, detail: 'works' })
  t.notOk(
    (await driver.features()).some(({ name }) => name === 'bridge' || name === 'vxlan'),
    'a switch needs neither'
  )
  ofctl.put('refusal', 'connection refused')
  t.match(await feature(), { present: false, detail: /connection refused/ })
  ofctl.put('refusal', '')
  db.deleteBridge(SWITCH)
  t.match(await feature(), { present: false, detail: /not as it should be/ })
  await driver.close()
  t.match(await feature(), { present: false, detail: /no connection to ovsdb-server/ })
})

t.test('close ends the connection and every watch', async t => {
  const { db, open } = await setUp(t)
  const driver = await open()
  driver.onChange(() => t.fail('called after close'))
  await driver.close()
  await waitFor('the connection is closed', () => db.open === 0)
  db.update('configured')
  t.equal(db.connections, 1, 'it does not connect again')
})

t.test('the devices of the switch: what fails keeps its op, and what is absent has no index', async t => {
  const host = new LinuxHost({ underlay: vxlanUnderlay(makeHost(1).vtep), clock: systemClock }, 'switch')
  t.teardown(() => host.close())
  const devices = switchDevices(host)
  t.equal(devices.ifindexOf('lo'), 1)
  t.equal(devices.ifindexOf('no-such-link'), 0)
  const upOf = (device: IfName): DeviceOp => ({ kind: 'link-set', vni: 1 as Vni, device, changes: { up: true } })
  const ofSwitch = upOf('vx000001' as IfName)
  const { done, failures } = await devices.execute([ofSwitch])
  t.equal(done, 0)
  t.equal(failures[0]?.op, ofSwitch)
  t.match(failures, [{ error: { code: 'ERR_KERNEL' } }])
  const ofContainer = vethName('never' as never, 'eth0' as IfName)
  t.match(await devices.execute([upOf(ofContainer)]), { done: 0, failures: [], skipped: 1 }, 'its container has ended')
  t.same(devices.observe({ names: [ofContainer], shaped: () => true }).links, new Map())
})
