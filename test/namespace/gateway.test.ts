// Router namespaces on real kernels: hosts with a second uplink, one process. ip(8), nft(8) and ping(8) are the oracle.

import { once } from 'node:events'
import { existsSync, rmSync, statSync, utimesSync, writeFileSync } from 'node:fs'
import { Worker } from 'node:worker_threads'
import t, { type Test } from 'tap'
import type { Vni } from '#model/ids.ts'
import { findRouter } from '#overlay/gateway/observe.ts'
import { routerNames } from '#overlay/plan/gateway/desired-gateway.ts'
import { namedNetns } from '#platform/named-netns.ts'
import { isNamespace } from '#platform/netns.ts'
import { countReplies } from '../lab/ping.ts'
import { cannotRun } from '../lab/requirements.ts'
import { makeNetwork } from '../overlay/fixtures.ts'
import { blue, GatewayLab, MTU, red, settled, shut, type Attached } from './gateway-lab.ts'
import { ip, must } from '../lab/kernel.ts'
import { OUTSIDE_GATEWAY, SERVER } from '../lab/outside.ts'
import { waitFor } from '../lab/wait.ts'
import { run } from '../lab/run.ts'

const skip = cannotRun()

async function lab(t: Test, hosts: number): Promise<GatewayLab> {
  const g = await GatewayLab.open(hosts)
  t.teardown(() => g.close())
  return g
}

const reaches = async (from: Attached, to: string): Promise<boolean> => (await countReplies(from.container, to)) > 0

/** No reply at all: a kernel that may answer does so at once. */
const isCut = async (from: Attached, to: string): Promise<boolean> =>
  (await countReplies(from.container, to, { waitMs: 300 })) === 0

/** The number in the names of the first host's routers. */
const netnsNumber = (g: GatewayLab): number => statSync(g.lab.host(1).netns).ino

t.test(
  'two networks with one subnet and one address reach one server at once, from the first packet',
  { skip },
  async t => {
    const g = await lab(t, 2)
    const r1 = await g.attach(red, { container: 'r1', host: 1, address: '10.1.0.2' })
    t.equal(await countReplies(r1.container, SERVER, { count: 1, waitMs: 1_000 }), 1, 'the first packet after attach')
    const b1 = await g.attach(blue, { container: 'b1', host: 1, address: '10.1.0.2' })
    const r2 = await g.attach(red, { container: 'r2', host: 2, address: '10.1.0.3' })
    const all = [r1, b1, r2]
    const replies = await Promise.all(all.map(({ container }) => countReplies(container, SERVER, { count: 10 })))
    t.strictSame(replies, [10, 10, 10])
    t.ok(await reaches(r1, '10.1.0.1'), 'the gateway answers pings')
    t.ok(await reaches(r1, '10.1.0.3'), 'the network’s other host is still reached inside')
    const seen = await g.sourcesSeen(() => Promise.all(all.map(({ container }) => countReplies(container, SERVER))))
    t.strictSame([...seen].sort(), ['198.51.100.1', '198.51.100.2'], 'the outside sees the hosts, never a container')
    await settled(t, g)
  }
)

t.test('hosts, the underlay, other networks and the metadata service are out of reach', { skip }, async t => {
  const g = await lab(t, 2)
  const r1 = await g.attach(red, { container: 'r1', host: 1, address: '10.1.0.2' })
  const b1 = await g.attach(blue, { container: 'b1', host: 1, address: '10.1.0.9' })
  await g.attach(blue, { container: 'b2', host: 2, address: '10.1.0.10' })
  // A machine of the underlay that is no member, and one with the metadata service's address.
  await ip(g.lab.underlay, 'addr add 192.0.2.200/24 dev br0')
  await ip(g.outside.namespace, 'addr add 169.254.169.254/32 dev lo')
  await ip(g.hostName(1), `route add 169.254.169.254/32 via ${OUTSIDE_GATEWAY}`)
  for (const control of ['192.0.2.200', '192.0.2.2', '169.254.169.254', SERVER]) {
    t.ok((await countReplies({ namespace: g.hostName(1) }, control)) > 0, `the host itself reaches ${control}`)
  }
  const closed = [
    ['192.0.2.1', 'the host by its underlay address'],
    ['198.51.100.1', 'the host by its uplink address'],
    ['192.0.2.2', 'another host'],
    ['192.0.2.200', 'a stranger on the underlay'],
    ['169.254.169.254', 'the metadata service'],
    ['169.254.1.1', 'the next hop'],
    ['240.0.13.239', 'the router of another network'],
    ['10.1.0.9', 'a container of another network here'],
    ['10.1.0.10', 'a container of another network there']
  ] as const
  const open = await Promise.all(closed.map(async ([address, what]) => ((await reaches(r1, address)) ? [what] : [])))
  t.strictSame(open.flat(), [])
  t.ok(await reaches(r1, SERVER), 'the outside is reached')
  t.ok(await reaches(b1, '10.1.0.10'), 'the other network reaches its own')
  t.ok(await isCut({ ...r1, container: g.outside }, '10.1.0.2'), 'the outside opens no connection inwards')
  await ip(g.outside.namespace, 'route add 240.0.10.188/32 via 198.51.100.1')
  t.ok(await isCut({ ...r1, container: g.outside }, '240.0.10.188'), 'nor to a router')
  await settled(t, g)
})

t.test('a host does not become a router for other machines', { skip }, async t => {
  const g = await lab(t, 2)
  const r1 = await g.attach(red, { container: 'r1', host: 1, address: '10.1.0.2' })
  t.ok(await reaches(r1, SERVER))
  await ip(g.outside.namespace, 'route add 192.0.2.0/24 via 198.51.100.1')
  await ip(g.hostName(2), 'route replace 203.0.113.10/32 via 192.0.2.1')
  await ip(g.outside.namespace, 'route add 192.0.2.2/32 via 198.51.100.1')
  const h2 = { namespace: g.hostName(2) }
  t.equal(await countReplies(h2, SERVER, { waitMs: 1_000 }), 0, 'from the underlay through the host')
  await g.exec(g.hostName(1), 'sysctl', '-qw', 'net.ipv4.ip_forward=1')
  await g.pass(1)
  t.ok((await countReplies(h2, SERVER)) > 0, 'unless its administrator enables forwarding')
  t.ok(await reaches(r1, SERVER))
})

t.test('a network without egress has no router and no default route', { skip }, async t => {
  const g = await lab(t, 1)
  const s1 = await g.attach(shut, { container: 's1', host: 1, address: '10.1.0.2' })
  const r1 = await g.attach(red, { container: 'r1', host: 1, address: '10.1.0.2' })
  t.equal((await g.routers(1)).length, 1)
  t.equal(await ip(s1.container.namespace, 'route show default'), '')
  t.match(await ip(r1.container.namespace, 'route show default'), /via 10\.1\.0\.1/)
  t.ok(await isCut(s1, SERVER))
  t.ok(await reaches(r1, SERVER))
})

t.test('two hosts on one machine have routers of their own', { skip }, async t => {
  const g = await lab(t, 2)
  const r1 = await g.attach(red, { container: 'r1', host: 1, address: '10.1.0.2' })
  const r2 = await g.attach(red, { container: 'r2', host: 2, address: '10.1.0.3' })
  const [one, two] = [await g.routers(1), await g.routers(2)]
  for (const names of [one, two]) t.match(names, [/^vxr-000abc(-[0-9a-f]+)?$/])
  t.not(one[0], two[0])
  await g.detach(r1)
  t.strictSame(await g.routers(1), [])
  t.strictSame(await g.routers(2), two)
  t.ok(await reaches(r2, SERVER))
  await settled(t, g, 2)
})

t.test('a gateway answers only on its own host', { skip }, async t => {
  const g = await lab(t, 2)
  await g.attach(red, { container: 'r1', host: 1, address: '10.1.0.2' })
  const r2 = await g.attach(red, { container: 'r2', host: 2, address: '10.1.0.3' })
  const [router2 = ''] = await g.routers(2)
  t.ok(await reaches(r2, '10.1.0.1'), 'its own host’s gateway answers')
  await ip(router2, 'link set inside down')
  await ip(r2.container.namespace, 'neigh flush all')
  t.ok(await isCut(r2, '10.1.0.1'), 'the other host’s gateway does not answer for it')
  const { done } = await g.pass(2)
  t.match(done, [/router inside up/])
  t.ok(await reaches(r2, '10.1.0.1'))
})

t.test('the last endpoint takes its router along, and the host stops forwarding', { skip }, async t => {
  const g = await lab(t, 1)
  const before = await g.footprint(1)
  const r1 = await g.attach(red, { container: 'r1', host: 1, address: '10.1.0.2' })
  const b1 = await g.attach(blue, { container: 'b1', host: 1, address: '10.1.0.2' })
  await g.detach(r1)
  t.match(await g.routers(1), [/^vxr-000def/])
  t.ok(await reaches(b1, SERVER))
  await g.detach(b1)
  t.strictSame(await g.routers(1), [])
  t.equal(await g.footprint(1), before)
  await settled(t, g)
})

t.test('a scoped pass checks, repairs and deletes the router of one network', { skip }, async t => {
  const g = await lab(t, 1)
  const r1 = await g.attach(red, { container: 'r1', host: 1, address: '10.1.0.2' })
  await g.attach(blue, { container: 'b1', host: 1, address: '10.1.0.2' })
  const one = { scope: red.vni, mayRemove: true }
  await ip(g.hostName(1), 'link del vo000abc')
  await ip(g.hostName(1), 'link del vo000def')
  const trusted = await g.settle(g.driver(1), { host: 1, ...one, trust: true })
  t.strictSame(trusted.done, [], 'for an attach a router that was right is trusted')
  t.match((await g.settle(g.driver(1), { host: 1, ...one })).done, [/^repair router vxr-000abc/])
  t.ok(await reaches(r1, SERVER))
  g.endpoints = g.endpoints.filter(({ network }) => network === blue.name)
  t.match((await g.settle(g.driver(1), { host: 1, ...one })).done, [/^delete router vxr-000abc/])
  t.match(await g.routers(1), [/^vxr-000def/])
  t.match((await g.pass(1)).done, [/^repair router vxr-000def/])
})

/** Has the host its end of the first network's router? */
async function hasPort(g: GatewayLab): Promise<boolean> {
  return (await ip(g.hostName(1), '-o link show')).includes('vg000abc')
}

/** Each deletes or changes something; the next pass must report a repair, and everything must work again. */
const DAMAGE: readonly [what: string, where: 'host' | 'router' | 'machine', command: string][] = [
  ['the namespace', 'machine', 'ip netns del ROUTER'],
  ['the port', 'host', 'ip link del vg000abc'],
  ['the uplink', 'host', 'ip link del vo000abc'],
  ['the inside of the router', 'router', 'ip link del inside'],
  ['the gateway address', 'router', 'ip addr flush dev inside'],
  ['a second address', 'router', 'ip addr add 10.1.0.250/16 dev inside'],
  ['the transit address', 'router', 'ip addr flush dev outside'],
  ['the default route', 'router', 'ip route del default'],
  ['the neighbour entry of the next hop', 'router', 'ip neigh flush all nud permanent'],
  ['the router’s rules', 'router', 'nft flush ruleset'],
  ['the router’s forwarding', 'router', 'sysctl -qw net.ipv4.conf.inside.forwarding=0'],
  ['the gateway’s MAC', 'router', 'ip link set inside address 02:00:00:00:00:99'],
  ['the MTU', 'router', 'ip link set outside mtu 1300'],
  ['the port’s bridge', 'host', 'ip link set vg000abc nomaster'],
  ['the port, down', 'host', 'ip link set vg000abc down'],
  ['the uplink, down', 'host', 'ip link set vo000abc down'],
  ['the port’s FDB entry', 'host', 'bridge fdb del 02:bc:0a:01:00:01 dev vg000abc master'],
  ['the isolation of the tunnel', 'host', 'bridge link set dev vx000abc isolated off'],
  ['the route to the router', 'host', 'ip route del 240.0.10.188/32'],
  ['the host’s rules', 'host', 'nft delete table ip vxmesh_nat'],
  ['one of the host’s rules', 'host', 'nft flush chain ip vxmesh_nat input'],
  ['the group of the uplink', 'host', 'ip link set vo000abc group 0'],
  ['the reverse path filter', 'host', 'sysctl -qw net.ipv4.conf.vo000abc.rp_filter=0'],
  ['forwarding on the host’s uplink', 'host', 'sysctl -qw net.ipv4.conf.eth1.forwarding=0']
]

t.test('whatever is deleted or changed is repaired by one pass, and the next has nothing to do', { skip }, async t => {
  const g = await lab(t, 1)
  const r1 = await g.attach(red, { container: 'r1', host: 1, address: '10.1.0.2' })
  const b1 = await g.attach(blue, { container: 'b1', host: 1, address: '10.1.0.2' })
  await settled(t, g)
  for (const [what, where, command] of DAMAGE) {
    const router = await g.router(red)
    const words = command.replace('ROUTER', router).split(' ')
    if (where === 'machine') await run('ip', words.slice(1))
    else await g.exec(where === 'host' ? g.hostName(1) : router, ...words)
    // The kernel deletes the devices of a namespace some time after it; an agent is told of that.
    if (where === 'machine') await waitFor('its devices have gone', async () => !(await hasPort(g)))
    const { done, problems } = await g.pass(1)
    t.ok(done.length > 0, `${what}: ${done.join('; ')}`)
    t.strictSame(problems, [], what)
    await settled(t, g)
    const [outside, host] = await Promise.all([reaches(r1, SERVER), isCut(r1, '192.0.2.1')])
    t.strictSame({ outside, host }, { outside: true, host: true }, `${what}: the outside is reached, the host is not`)
  }
  t.ok(await reaches(b1, SERVER))
})

t.test('a new agent adopts a router without disturbing it', { skip }, async t => {
  const g = await lab(t, 1)
  const r1 = await g.attach(red, { container: 'r1', host: 1, address: '10.1.0.2' })
  const index = await ip(await g.router(red), '-o link show')
  await g.quiet(g.hostName(1), await g.router(red))
  const ping = countReplies(r1.container, SERVER, { count: 60 })
  await g.driver(1).close()
  g.drivers[0] = g.open(g.lab.host(1).netns, g.lab.host(1).vtep)
  const router = await g.router(red)
  const within = g.changesDuring(router, async () => {
    const changes = await g.changesDuring(g.hostName(1), async () => {
      const { done, problems } = await g.pass(1)
      t.strictSame(problems, [])
      t.notMatch(done, [/create/])
    })
    t.strictSame(changes, [], 'no device, address, route or neighbour of the host is touched')
  })
  t.strictSame(await within, [], 'none of the router')
  t.equal(await ping, 60, 'no packet is lost')
  t.equal(await ip(await g.router(red), '-o link show'), index, 'the same devices')
  await settled(t, g)
})

t.test('a repair deletes no neighbour', { skip }, async t => {
  const g = await lab(t, 1)
  const r1 = await g.attach(red, { container: 'r1', host: 1, address: '10.1.0.2' })
  t.ok(await reaches(r1, SERVER))
  const router = await g.router(red)
  await g.quiet(g.hostName(1), router)
  await ip(router, 'route del default')
  const within = g.changesDuring(router, async () => {
    const changes = await g.changesDuring(g.hostName(1), async () => t.match((await g.pass(1)).done, [/default route/]))
    t.notMatch(changes.join(), /NEIGH/, 'of the host')
  })
  t.notMatch((await within).join(), /NEIGH/, 'of the router')
  t.ok(await reaches(r1, SERVER))
})

t.test('a foreign device is left alone and reported', { skip }, async t => {
  const g = await lab(t, 1)
  await ip(g.hostName(1), 'link add vo000abc type veth peer name theirs')
  await ip(g.hostName(1), 'link add voip0 type veth peer name phone')
  const r1 = await g.attach(red, { container: 'r1', host: 1, address: '10.1.0.2' })
  const b1 = await g.attach(blue, { container: 'b1', host: 1, address: '10.1.0.2' })
  const { problems } = await g.pass(1)
  t.match(problems, [{ vni: red.vni, message: /vo000abc is "veth", not ours/ }])
  t.ok(await reaches(b1, SERVER), 'the other network has egress')
  t.ok(await isCut(r1, SERVER))
  await g.detach(r1)
  await g.detach(b1)
  t.match(await ip(g.hostName(1), '-o link show vo000abc'), /theirs/)
  t.match(await ip(g.hostName(1), '-o link show voip0'), /phone/)
})

t.test('the name of a router whose host is gone is reused', { skip }, async t => {
  const g = await lab(t, 1)
  const gone = 'vxr-fade01'
  await run('ip', ['netns', 'add', gone])
  await run('ip', ['-n', gone, 'link', 'set', 'lo', 'alias', `vxmesh router vni 16440833 of net:[1]`])
  t.teardown(() => run('ip', ['netns', 'del', gone]))
  const network = makeNetwork('fade', 0xfade01)
  g.networks = [network]
  const f1 = await g.attach(network, { container: 'f1', host: 1, address: '10.1.0.2' })
  t.strictSame(await g.routers(1), [gone])
  t.ok(await reaches(f1, SERVER))
})

t.test('a name without a namespace, left by a killed agent, is deleted', { skip }, async t => {
  const g = await lab(t, 1)
  const own = netnsNumber(g)
  const leave = (vni: number, hostNetns: number, p: { ageS: number; text?: string }): string => {
    const file = namedNetns(routerNames(vni as Vni, hostNetns)[1])
    const at = Date.now() / 1_000 - p.ageS
    writeFileSync(file, p.text ?? '')
    utimesSync(file, at, at)
    t.teardown(() => rmSync(file, { force: true }))
    return file
  }
  const left = leave(0xfade02, own, { ageS: 60 })
  const others = {
    'a new one, which may be about to be mounted': leave(0xfade03, own, { ageS: 0 }),
    'one that is not empty': leave(0xfade04, own, { ageS: 60, text: 'theirs' }),
    'one of another host': leave(0xfade05, own + 1, { ageS: 60 })
  }
  t.match((await g.pass(1)).done, [/^delete router vxr-fade02-\w+ /])
  t.notOk(existsSync(left))
  for (const [why, file] of Object.entries(others)) t.ok(existsSync(file), why)
  await settled(t, g)
})

t.test('a name that another process makes and removes while it is looked at is no error', { skip }, async t => {
  const vni = 0xfade08 as Vni
  const [name] = routerNames(vni, 1)
  const file = namedNetns(name)
  const churn = `
    const { parentPort, workerData } = require('node:worker_threads')
    const { rmSync, writeFileSync } = require('node:fs')
    let times = 0
    for (const end = Date.now() + 20_000; Atomics.load(workerData.stop, 0) === 0 && Date.now() < end; times++) {
      writeFileSync(workerData.file, '')
      rmSync(workerData.file)
    }
    parentPort.postMessage(times)`
  const stop = new Int32Array(new SharedArrayBuffer(4))
  const worker = new Worker(churn, { eval: true, workerData: { stop, file } })
  const churned = once(worker, 'message')
  t.teardown(() => rmSync(file, { force: true }))
  try {
    await waitFor('the name exists', () => existsSync(file))
    let found = 0
    for (let n = 0; n < 20_000; n++) if (findRouter(vni, 1) !== null) found++
    t.equal(found, 0)
  } finally {
    Atomics.store(stop, 0, 1)
    const [times] = (await churned) as [number]
    t.ok(times > 100, `made and removed ${times} times`)
  }
})

t.test('a mounted name that is no network namespace is left alone and reported', { skip }, async t => {
  const g = await lab(t, 1)
  const network = makeNetwork('fade', 0xfade07)
  const name = routerNames(network.vni, netnsNumber(g))[1]
  const file = namedNetns(name)
  writeFileSync(file, '')
  await must('mount', ['--bind', '/proc/self/ns/uts', file])
  t.teardown(async () => {
    await run('umount', [file])
    rmSync(file, { force: true })
  })
  await settled(t, g)
  g.networks = [network]
  await g.attach(network, { container: 'f1', host: 1, address: '10.1.0.2' })
  t.match((await g.pass(1)).problems, [{ vni: network.vni, message: `namespace ${name} cannot be read` }])
  t.ok(isNamespace(file))
})

t.test('a foreign policy that drops forwarded packets is named', { skip }, async t => {
  const g = await lab(t, 1)
  const r1 = await g.attach(red, { container: 'r1', host: 1, address: '10.1.0.2' })
  const egress = async (): Promise<unknown> => (await g.driver(1).features()).find(({ name }) => name === 'egress')
  t.match(await egress(), { present: true })
  const chain = 'chain FORWARD { type filter hook forward priority filter; policy drop; }'
  await g.exec(g.hostName(1), 'nft', `table ip filter { ${chain}; }`)
  t.match(await egress(), { present: false, detail: /ip filter FORWARD drops what is forwarded/ })
  t.ok(await isCut(r1, SERVER), 'it really drops them')
})

t.test('a packet that is too large is answered with the path MTU', { skip }, async t => {
  const g = await lab(t, 1)
  const r1 = await g.attach(red, { container: 'r1', host: 1, address: '10.1.0.2' })
  t.equal(await countReplies(r1.container, SERVER, { size: MTU - 28 }), 3, 'exactly the MTU passes')
  await ip(g.hostName(1), 'link set eth1 mtu 1400')
  await countReplies(r1.container, SERVER, { size: MTU - 28, count: 1 })
  t.match(await ip(r1.container.namespace, `route get ${SERVER}`), /mtu 1400/, 'the container has learned 1400')
  t.equal(await countReplies(r1.container, SERVER, { size: 1400 - 28 }), 3)
})
