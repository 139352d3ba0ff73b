// Execution of a switch's plan: order, batches, and what a failure stops. Bridge and database are real, against a peer;
// ovs-ofctl is a recorder that can refuse.

import { join } from 'node:path'
import t, { type Test } from 'tap'
import { VxmeshError } from '#model/errors.ts'
import { parseIfName, parseVni, type Vni } from '#model/ids.ts'
import { parseIpv4 } from '#model/ipv4.ts'
import type { ExecuteResult } from '#overlay/driver.ts'
import { Bridge } from '#overlay/ovs/bridge.ts'
import { executeSwitch, type SwitchTargets } from '#overlay/ovs/execute.ts'
import { Ovsdb } from '#overlay/ovs/ovsdb.ts'
import { SWITCH } from '#overlay/plan/network/names.ts'
import type { DeviceOp, SwitchOp } from '#overlay/plan/network/op.ts'
import type { FlowChange } from '#overlay/plan/network/switch.ts'
import { scratch } from '#test/api/scratch.ts'
import { ManualClock } from '#test/lab/manual-clock.ts'
import { OvsdbPeer } from './ovsdb-peer.ts'

const [red, blue] = [parseVni(1), parseVni(2)]
const SET_SWITCH: SwitchOp = { kind: 'switch-set', vni: null, device: SWITCH }

class Recorder {
  readonly steps: string[] = []
  refusesFlowsOf: readonly Vni[] = []
  refusesFragments = false
  refusesDevices: readonly string[] = []
  vanished: readonly string[] = []

  async devices(ops: readonly DeviceOp[]): Promise<ExecuteResult<DeviceOp>> {
    this.steps.push(`devices ${ops.map(({ device }) => device).join(' ')}`)
    const failed = ops.filter(({ device }) => this.refusesDevices.includes(device))
    const failures = failed.map(op => ({ op, error: new VxmeshError('ERR_KERNEL', 'no such device') }))
    return { done: ops.length - failed.length, skipped: 0, failures }
  }

  async enableFragmentMatching(): Promise<void> {
    this.steps.push('fragments')
    if (this.refusesFragments) throw new VxmeshError('ERR_KERNEL', 'no socket')
  }

  async change(changes: readonly FlowChange[]): Promise<void> {
    this.steps.push(`flows ${changes.map(({ owner }) => owner).join(' ')}`)
    if (changes.some(({ owner }) => (this.refusesFlowsOf as readonly number[]).includes(owner))) {
      throw new VxmeshError('ERR_KERNEL', 'bundle refused')
    }
  }
}

async function setUp(
  t: Test
): Promise<{ peer: OvsdbPeer; recorder: Recorder; targets: SwitchTargets & { readonly bridge: Bridge }; db: Ovsdb }> {
  const peer = await new OvsdbPeer(join(scratch(t), 'db.sock')).listen()
  const db = await Ovsdb.connect({ path: peer.path, clock: new ManualClock().clock })
  t.teardown(async () => {
    db.close()
    await peer.stop()
  })
  const bridge = new Bridge(db, { vtep: parseIpv4('192.0.2.1'), port: 4789, datapath: 'system' })
  const recorder = new Recorder()
  const targets = {
    devices: (ops: readonly DeviceOp[]) => recorder.devices(ops),
    bridge,
    ofctl: recorder,
    hasVanished: (device: string) => recorder.vanished.includes(device)
  }
  return { peer, recorder, targets, db }
}

const link = (vni: Vni | null, device: string): SwitchOp => ({
  kind: 'link-set',
  vni,
  device: parseIfName(device),
  changes: { up: true }
})
const port = (vni: Vni, device: string, number: number): SwitchOp => ({
  kind: 'switch-port-set',
  vni,
  device: parseIfName(device),
  number,
  mark: { vni, alias: device, mac: '' },
  renew: false
})
const flows = (vni: Vni, kind: 'flows-set' | 'flows-delete' = 'flows-set'): SwitchOp => ({
  kind,
  vni,
  device: SWITCH,
  change: { owner: vni, set: new Map(), remove: ['priority=1'] }
})
const gone = (vni: Vni, device: string): SwitchOp => ({ kind: 'switch-port-delete', vni, device: parseIfName(device) })

t.test('consecutive ops of a group run as one batch, in the order of the plan', async t => {
  const { peer, recorder, targets } = await setUp(t)
  const ops = [
    SET_SWITCH,
    port(red, 've1', 2),
    port(blue, 've2', 3),
    flows(red),
    flows(blue),
    link(red, 've1'),
    link(blue, 've2')
  ]
  t.same(await executeSwitch(targets, ops), { done: 7, skipped: 0, failures: [], vanished: [] })
  t.same(recorder.steps, ['fragments', 'flows 1 2', 'devices ve1 ve2'])
  t.ok(peer.row('Port', 've1'))
  t.same(await executeSwitch(targets, [flows(red, 'flows-delete'), gone(red, 've1'), gone(blue, 've2')]), {
    done: 3,
    skipped: 0,
    failures: [],
    vanished: []
  })
  t.same((await targets.bridge.read()).ports.has('ve1'), false)
})

t.test('without the switch nothing else is done', async t => {
  const { recorder, targets } = await setUp(t)
  recorder.refusesFragments = true
  const { done, skipped, failures } = await executeSwitch(targets, [
    SET_SWITCH,
    port(red, 've1', 2),
    flows(red),
    link(null, 'x')
  ])
  t.same([done, skipped, failures.length], [0, 3, 1])
  t.match(failures[0]?.error, { code: 'ERR_KERNEL', message: /^set switch vb000000.*no socket/ })
  t.same(recorder.steps, ['fragments'])
})

t.test('a port that fails stops its own network only', async t => {
  const { peer, recorder, targets } = await setUp(t)
  await executeSwitch(targets, [SET_SWITCH])
  peer.portNumberOf = row => (row['name'] === 've1' ? null : Number(row['ofport_request'] ?? 1))
  const ops = [port(red, 've1', 2), port(blue, 've2', 3), flows(red), flows(blue), link(red, 've1')]
  const { done, skipped, failures } = await executeSwitch(targets, ops)
  t.same([done, skipped], [2, 2])
  t.match(failures, [{ op: { device: 've1' }, error: { message: /could not open ve1/ } }])
  t.same(recorder.steps, ['fragments', 'flows 2'])
})

t.test('a port whose container has ended is skipped alone, whatever the reason: its network goes on', async t => {
  const { peer, recorder, targets } = await setUp(t)
  await executeSwitch(targets, [SET_SWITCH])
  peer.portNumberOf = row => (row['name'] === 've1' ? null : Number(row['ofport_request'] ?? 1))
  recorder.vanished = ['ve1', 've3']
  const ops = [port(red, 've1', 2), port(red, 've2', 3), flows(red), link(red, 've2')]
  t.same(await executeSwitch(targets, ops), { done: 3, skipped: 1, failures: [], vanished: [ops[0]] })
  t.same(recorder.steps, ['fragments', 'flows 1', 'devices ve2'])
  peer.insertForeignPort('ve3')
  t.match(await executeSwitch(targets, [port(red, 've3', 4), flows(red)]), { done: 1, skipped: 1, failures: [] })
})

t.test('a refused transaction of ports is repeated port by port', async t => {
  const { peer, targets } = await setUp(t)
  await executeSwitch(targets, [SET_SWITCH])
  peer.insertForeignPort('ve1')
  const { done, failures } = await executeSwitch(targets, [port(red, 've1', 2), port(blue, 've2', 3)])
  t.equal(done, 1)
  t.match(failures, [{ op: { device: 've1' }, error: { code: 'ERR_KERNEL', message: /exists/ } }])
  t.equal(failures.length, 1)
  t.ok(peer.row('Port', 've2'))
})

t.test('a refused bundle of flows is repeated owner by owner', async t => {
  const { recorder, targets } = await setUp(t)
  recorder.refusesFlowsOf = [red]
  const { done, skipped, failures } = await executeSwitch(targets, [
    flows(red),
    flows(blue),
    gone(red, 've1'),
    link(blue, 've2')
  ])
  t.same([done, skipped, failures.length], [2, 1, 1])
  t.same(recorder.steps, ['flows 1 2', 'flows 1', 'flows 2', 'devices ve2'])
})

t.test('a failed device stops its network, one without a network stops nothing', async t => {
  const { recorder, targets } = await setUp(t)
  recorder.refusesDevices = ['ve1', 'vx']
  const { done, skipped, failures } = await executeSwitch(targets, [
    link(red, 've1'),
    link(null, 'vx'),
    flows(red),
    flows(blue)
  ])
  t.same([done, skipped, failures.length], [1, 1, 2])
  t.same(recorder.steps, ['devices ve1 vx', 'flows 2'])
})

t.test('a database that is gone fails every op of it and is never thrown', async t => {
  const { db, recorder, targets } = await setUp(t)
  db.close()
  const { done, skipped, failures } = await executeSwitch(targets, [
    port(red, 've1', 2),
    gone(blue, 've2'),
    flows(red),
    flows(blue)
  ])
  t.same([done, skipped, failures.length], [0, 2, 2])
  t.ok(failures.every(({ error }) => error.code === 'ERR_KERNEL' && error.message.includes('no connection')))
  t.same(recorder.steps, [])
})

t.test('an empty plan does nothing', async t => {
  const { recorder, targets, peer } = await setUp(t)
  t.same(await executeSwitch(targets, []), { done: 0, skipped: 0, failures: [], vanished: [] })
  t.same(recorder.steps, [])
  t.equal(peer.transactions().length, 0)
})
