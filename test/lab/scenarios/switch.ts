// What must hold with Open vSwitch in particular: foreign objects stay, lost objects are restored, and impossible requests
// are refused with a reason.

import type { Test } from 'tap'
import { closeSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { systemClock } from '#platform/clock.ts'
import { AF_UNIX, ethtoolValue, SOCK_DGRAM_CLOEXEC, socket } from '#platform/libc.ts'
import { parseSubnet } from '#model/ip.ts'
import { namedNetns } from '#platform/named-netns.ts'
import { inNetns } from '#platform/netns.ts'
import { INSIDE } from '#overlay/plan/gateway/rule-text.ts'
import { SWITCH, vethName } from '#overlay/plan/network/names.ts'
import { cookieOf } from '#overlay/plan/switch/flow.ts'
import { OvsDriver } from '#overlay/ovs/driver.ts'
import { vxlanUnderlay } from '#overlay/plan/underlay/underlay.ts'
import { countHandlers } from '#overlay/ovs/handlers.ts'
import { ip } from '../kernel.ts'
import type { OpenVSwitch } from '../open-vswitch.ts'
import { startPing } from '../ping.ts'
import { routersOf } from '../routers.ts'
import { blue, noFilters, PORT, red, Stage, type Places, type Plane } from '../stage.ts'
import { waitFor } from '../wait.ts'
import { ping } from './plane.ts'

const TWO: Places = { r1: [red, 1, '10.1.0.2'], r2: [red, 2, '10.1.0.3'] }
const datapathOf = (plane: Plane): string => (plane === 'ovs-netdev' ? 'netdev' : 'system')

/** Foreign bridges, ports and flows are the same after everything that we do. */
export async function foreignObjects(t: Test, plane: Plane): Promise<void> {
  const s = await Stage.open(t, plane, { hosts: 1, places: {} })
  const ovs = s.ovs(1)
  await ip(s.lab.host(1).namespace, 'link add theirs type veth peer name theirs1')
  await ip(s.lab.host(1).namespace, 'link add guest type veth peer name guest1')
  await ovs.vsctl('add-br', 'br-theirs', '--', 'set', 'bridge', 'br-theirs', `datapath_type=${datapathOf(plane)}`)
  await ovs.vsctl('add-port', 'br-theirs', 'theirs', '--', 'set', 'interface', 'theirs', 'external_ids:owner=them')
  // A foreign port on our own bridge.
  await ovs.vsctl('add-port', SWITCH, 'guest', '--', 'set', 'interface', 'guest', 'ofport_request=77')
  await addFlow(ovs, 'br-theirs', 'cookie=0x1,priority=7,in_port=1,actions=drop')
  await addFlow(ovs, SWITCH, 'cookie=0x1,table=9,priority=7,in_port=77,actions=drop')
  const before = await others(ovs)
  t.match(before, /guest/)
  await s.add('r1', red, 1, '10.1.0.2')
  await s.add('b1', blue, 1, '10.1.0.2')
  await s.restart(1)
  await s.pass(1)
  await s.remove('r1')
  await s.remove('b1')
  await s.pass(1)
  t.equal(await others(ovs), before)
  t.notMatch(await ovs.ofctl(SWITCH, 'dump-flows'), /abc|def/, 'no flow of the networks is left')
}

/** Ports and flows that another program deletes, changes or adds under our mark are noticed and repaired. */
export async function switchDrift(t: Test, plane: Plane): Promise<void> {
  const s = await Stage.open(t, plane, { hosts: 2, places: TWO })
  const ovs = s.ovs(1)
  const right = await ovs.ofctl(SWITCH, 'dump-flows')
  t.equal(await ping(s, 'r1', 'r2', { count: 3 }), 3)
  const veth = vethName(s.endpoint('r1').containerId, s.endpoint('r1').ifname)
  const cases: Readonly<Record<string, () => Promise<unknown>>> = {
    'all flows deleted': () => ovs.ofctl(SWITCH, 'del-flows'),
    'a flow given other actions': () => ovs.ofctl(SWITCH, 'mod-flows', 'table=4,actions=drop'),
    'a flow added under our mark': () =>
      addFlow(ovs, SWITCH, 'cookie=0x76786d0000000abc,priority=9,in_port=2,actions=NORMAL'),
    'fragments handled differently': () => ovs.ofctl(SWITCH, 'set-frags', 'normal'),
    'a port deleted': () => ovs.vsctl('del-port', veth),
    'a port renumbered': () => ovs.vsctl('set', 'interface', veth, 'ofport_request=99'),
    'the mark of a port changed': () => ovs.vsctl('set', 'interface', veth, 'external_ids:attached-mac=x'),
    'the tunnel deleted': () => ovs.vsctl('del-port', 'vx000000'),
    'the bridge in standalone mode': () => ovs.vsctl('set-fail-mode', SWITCH, 'standalone'),
    'the bridge deleted': () => ovs.vsctl('del-br', SWITCH)
  }
  for (const [title, harm] of Object.entries(cases)) {
    await harm()
    t.not((await s.pass(1)).length, 0, `${title}: a pass repairs it`)
    t.same(await s.pass(1), [], `${title}: the next has nothing to do`)
    t.equal(await ping(s, 'r1', 'r2', { count: 3 }), 3, `${title}: traffic continues`)
  }
  const ports = /in_port=\d+|output:\d+/g
  t.same(lines((await ovs.ofctl(SWITCH, 'dump-flows')).replaceAll(ports, '')), lines(right.replaceAll(ports, '')))
  let changes = 0
  const stop = s.driver(1).onChange(() => changes++)
  await ovs.vsctl('del-port', veth)
  await waitFor('the driver reports a change', () => changes > 0)
  stop()
}

/** ovs-vswitchd or the database is killed and restarted: everything is restored within 10 s. */
export async function daemonReturns(t: Test, plane: Plane): Promise<void> {
  const s = await Stage.open(t, plane, { hosts: 2, places: TWO })
  // Like the reconciler: every notification of the driver starts a pass, and a failed pass is retried.
  let again = false
  const stop = s.driver(1).onChange(() => (again = true))
  t.teardown(stop)
  for (const daemons of [['ovs-vswitchd'], ['ovsdb-server'], ['ovs-vswitchd', 'ovsdb-server']] as const) {
    t.equal(await ping(s, 'r1', 'r2', { count: 3 }), 3)
    const traffic = startPing(s.container('r1').namespace, s.address('r2'), { count: 5_000, intervalMs: 20 })
    for (const daemon of daemons) await s.ovs(1).kill(daemon)
    await t.rejects(s.pass(1), { code: 'ERR_KERNEL' }, `without ${daemons.join(' and ')} a pass fails`)
    again = false
    for (const daemon of [...daemons].reverse()) await s.ovs(1).startDaemon(daemon)
    const since = systemClock.nowMs()
    await waitFor('the driver reports a change', () => again, { timeoutMs: 10_000 })
    await waitFor('a pass', async () => (await s.pass(1)).length >= 0, { timeoutMs: 10_000 })
    await waitFor('traffic', async () => (await ping(s, 'r1', 'r2', { count: 1, waitMs: 500 })) === 1, {
      timeoutMs: 10_000
    })
    const ms = Math.round(systemClock.nowMs() - since)
    traffic.stop()
    const { sent, received } = await traffic.result
    t.ok(ms < 10_000, `${daemons.join(' and ')}: repaired ${ms} ms after the return; ${sent - received} packets lost`)
    t.same(await s.pass(1), [])
  }
}

/** What this host cannot run is refused by a typed error with the reason, and nothing is changed. */
export async function refusals(t: Test, plane: Plane): Promise<void> {
  const s = await Stage.open(t, plane, { hosts: 1, places: {} })
  const ovs = s.ovs(1)
  const { vtep, netns: hostNetns } = s.lab.host(1)
  const opening = { underlay: vxlanUnderlay(vtep), hostNetns, clock: systemClock }
  const common = { ...opening, port: PORT, datapath: plane === 'ovs-netdev' ? 'netdev' : 'system' } as const
  const typed = { code: 'ERR_UNSUPPORTED', field: 'overlay.driver' }
  await t.rejects(OvsDriver.open({ ...common, socket: '/nowhere/db.sock' }), typed, 'no ovsdb-server')
  await s.driver(1).close()
  await ovs.vsctl('del-br', SWITCH)
  await ovs.vsctl('add-br', SWITCH)
  const foreign = { ...typed, message: /not ours/ }
  await t.rejects(OvsDriver.open({ ...common, socket: ovs.socket }), foreign, 'a foreign bridge of that name')
  t.notMatch(await ovs.vsctl('show'), /vxlan/)
  await ovs.vsctl('del-br', SWITCH)
  await ovs.kill('ovs-vswitchd')
  await t.rejects(OvsDriver.open({ ...common, socket: ovs.socket }), typed, 'no ovs-vswitchd')
}

/** A port gets the requested number if it is free; attach returns the actual number. */
export async function portNumbers(t: Test, plane: Plane): Promise<void> {
  const s = await Stage.open(t, plane, { hosts: 1, places: {} })
  const numberOf = (name: string): number => {
    const { containerId, ifname } = s.endpoint(name)
    return s.driver(1).devices.portNumber(vethName(containerId, ifname))
  }
  await s.add('r1', red, 1, '10.1.0.2', { portNumber: 4_242 })
  t.equal(numberOf('r1'), 4_242)
  await s.add('r2', red, 1, '10.1.0.3', { portNumber: 4_242 })
  t.not(numberOf('r2'), 4_242, 'taken already')
  await s.add('r3', red, 1, '10.1.0.4', { portNumber: 70_000 })
  t.ok(numberOf('r3') > 1, 'not a valid OpenFlow port number')
  t.match(await s.ovs(1).vsctl('--columns=ofport', 'find', 'interface', 'ofport=4242'), /4242/)
  await s.restart(1)
  await s.pass(1)
  t.equal(numberOf('r1'), 4_242, 'the next agent keeps it')
  for (const [a, b] of [
    ['r1', 'r2'],
    ['r3', 'r1']
  ] as const) {
    t.equal(await ping(s, a, b, { count: 3 }), 3)
  }
}

/** ovs-vsctl and ovs-ofctl show exactly what docs/openvswitch.md lists, without the router's entries where none can run. */
export async function documented(t: Test, plane: Plane): Promise<void> {
  const s = await Stage.open(t, plane, { hosts: 2, places: {}, family: 'ipv4' })
  await s.add('r1', red, 1, '10.1.0.2', { portNumber: 3 })
  await s.add('r2', red, 2, '10.1.0.3')
  await s.pass(1)
  const here = (part: string): boolean =>
    noFilters === false || !/\b(in_port=2|output:2|vg000abc|02:bc:0a:01:00:01)\b/.test(part)
  const page = readFileSync(join(import.meta.dirname, '../../../docs/openvswitch.md'), 'utf8')
  const flows = blocks(page, 'flows')
  const [, rows = ''] = /```interfaces\n([^`]*)```/.exec(page) ?? []
  const shown = (await s.ovs(1).ofctl(SWITCH, 'dump-flows')).split('\n').map(line => line.trim())
  t.same(lines(shown.join('\n')), lines(flows).filter(here), 'every flow of the page, and no other')
  const columns = '--columns=name,type,ofport,options,external_ids'
  const names = await s.ovs(1).vsctl('list-ports', SWITCH)
  const listed = await s.ovs(1).vsctl('--format=list', columns, 'list', 'interface', ...lines(names))
  const said = rows.split('\n\n').filter(here).join('\n')
  t.same(lines(listed.replaceAll(datapathOf(plane), 'system')), lines(said), 'every port of the page, and no other')
  t.match(await s.driver(1).features(), [{ name: 'open-vswitch', present: true }])
  t.same(lines(await ipv6Flows(t, plane)), lines(blocks(page, 'flows6')), 'and those of a network with IPv6')
  if (plane === 'ovs-system') t.ok((countHandlers(s.ovs(1).dir) ?? 0) > 0, 'the handler threads are counted')
}

/** Those of host 1 for the same containers, with a second subnet. */
async function ipv6Flows(t: Test, plane: Plane): Promise<string> {
  const both = { ...red, egress: false, subnet6: parseSubnet('fd00:1::/64') }
  const s = await Stage.open(t, plane, { hosts: 2, places: {}, networks: [both] })
  await s.add('r1', both, 1, '10.1.0.2', { portNumber: 3 })
  await s.add('r2', both, 2, '10.1.0.3')
  const shown = await s.ovs(1).ofctl(SWITCH, 'dump-flows', `cookie=${cookieOf(both.vni)}/-1`)
  return lines(shown)
    .filter(line => /,(ipv6|icmp6),/.test(line))
    .join('\n')
}

function blocks(page: string, fence: string): string {
  return [...page.matchAll(/```(\w+)\n([^`]*)```/g)]
    .map(([, name, block = '']) => (name === fence ? block : ''))
    .join('')
}

/**
 * Packets that the userspace datapath forwards have complete checksums, from containers and from routers. If a container
 * offloads them again, CHECK reports it and an attach repairs it; a router is repaired by a pass.
 */
export async function checksums(t: Test, plane: Plane): Promise<void> {
  if (plane !== 'ovs-netdev') throw new Error('the kernel datapath leaves them to the card itself')
  const s = await Stage.open(t, plane, { hosts: 1, places: { r1: [red, 1, '10.1.0.2'] } })
  const [router = ''] = await routersOf([s.lab.host(1).namespace])
  await s.check('r1')
  t.same(await s.pass(1), [])
  leaveChecksums(s.container('r1').netns, 'eth0')
  leaveChecksums(namedNetns(router), INSIDE)
  await t.rejects(s.check('r1'), { code: 'ERR_CHECK_FAILED', message: /eth0 leaves checksums/ })
  t.match(await s.pass(1), [/^repair router.*checksums/])
  t.same(await s.pass(1), [])
  const endpoint = s.endpoint('r1')
  s.endpoints = []
  await s.add('r1', red, 1, '10.1.0.2')
  t.same(s.endpoint('r1').mac, endpoint.mac)
  await s.check('r1')
}

/** Equivalent to `ethtool -K DEVICE tx on`. */
function leaveChecksums(netns: string, device: string): void {
  const fd = inNetns(netns, () => socket(AF_UNIX, SOCK_DGRAM_CLOEXEC, 0).value)
  const { errno } = ethtoolValue(fd, device, { command: 0x17, value: 1 })
  closeSync(fd)
  if (errno !== 0) throw new Error(`${device}: errno ${errno}`)
}

export const SWITCH_SCENARIOS = {
  checksums,
  foreignObjects,
  switchDrift,
  daemonReturns,
  refusals,
  portNumbers,
  documented
} as const

async function addFlow(ovs: OpenVSwitch, bridge: string, flow: string): Promise<void> {
  await ovs.ofctl(bridge, 'add-flow', flow)
}

/** All foreign objects, as Open vSwitch's own tools list them. */
async function others(ovs: OpenVSwitch): Promise<string> {
  const bridge = (await ovs.vsctl('list-ports', SWITCH)).split('\n').filter(name => !/^v[egx]/.test(name))
  const flows = await ovs.ofctl(SWITCH, 'dump-flows', 'cookie=0x1/-1')
  const theirs = await ovs.ofctl('br-theirs', 'dump-flows')
  const columns = '--columns=_uuid,name,ofport,ofport_request,external_ids,options'
  const rows = await ovs.vsctl(columns, 'list', 'interface', 'theirs', 'guest', 'br-theirs')
  return [bridge.join(' '), flows, theirs, rows, await ovs.vsctl('list-ports', 'br-theirs')].join('\n')
}

function lines(text: string): readonly string[] {
  return text
    .split('\n')
    .map(line => line.trim())
    .filter(line => line !== '')
    .sort()
}
