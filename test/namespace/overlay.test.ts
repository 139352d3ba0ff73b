// The Linux driver on real kernels: several hosts in namespaces, one process. ip(8) and bridge(8) are the oracle.

import t, { type Test } from 'tap'
import type { Endpoint } from '#model/endpoint.ts'
import { formatIp } from '#model/ip.ts'
import type { MemberStatus } from '#model/member.ts'
import type { Network } from '#model/network.ts'
import type { PeerId } from '#model/ids.ts'
import { attachRequest, detachRequest } from '#overlay/driver.ts'
import { LinuxDriver } from '#overlay/linux/driver.ts'
import { vxlanUnderlay } from '#overlay/plan/underlay/underlay.ts'
import { systemClock } from '#platform/clock.ts'
import { desired, type DesiredHost } from '#overlay/plan/network/desired.ts'
import { describe } from '#overlay/plan/network/op.ts'
import { plan } from '#overlay/plan/network/plan-network.ts'
import { vethName } from '#overlay/plan/network/names.ts'
import { byNetwork, makeEndpoint, makeHost, makeNetwork, peer } from '../overlay/fixtures.ts'
import { waitFor } from '../lab/wait.ts'
import { ip, bridge, json, removeNamespaces } from '../lab/kernel.ts'
import { countReplies } from '../lab/ping.ts'
import { cannotRun } from '../lab/requirements.ts'
import { Lab } from '../lab/lab.ts'
import type { LabContainer } from '../lab/container.ts'

const skip = cannotRun()
// A lab each, with names of its own.
t.jobs = 4
const MTU = 1450
const red = makeNetwork('red', 0xabc)
const blue = makeNetwork('blue', 0xdef)

type DriverLab = {
  readonly lab: Lab
  readonly drivers: LinuxDriver[]
  readonly endpoints: Endpoint[]
  readonly containers: Map<string, LabContainer>
  statuses: ReadonlyMap<PeerId, MemberStatus> | null
}

/** `endpoints` as [container, network, host, address]. */
async function openDriverLab(
  t: Test,
  p: { hosts: number; mtu?: number; endpoints: [string, Network, number, string][] }
): Promise<DriverLab> {
  const lab = await Lab.create(p)
  t.teardown(() => lab.destroy())
  const containers = new Map<string, LabContainer>()
  const endpoints = p.endpoints.map(([container, network, host, address]) =>
    makeEndpoint(network, { container, host, address })
  )
  for (const { containerId } of endpoints) {
    if (!containers.has(containerId)) containers.set(containerId, await lab.container(containerId))
  }
  const drivers = lab.hosts.map(host =>
    LinuxDriver.open({ underlay: vxlanUnderlay(host.vtep), hostNetns: host.netns, clock: systemClock })
  )
  t.teardown(() => Promise.all(drivers.map(driver => driver.close())))
  return { lab, drivers, endpoints, containers, statuses: null }
}

function driver(w: DriverLab, host: number): LinuxDriver {
  const found = w.drivers[host - 1]
  if (found === undefined) throw new Error(`no host ${host}`)
  return found
}

function container(w: DriverLab, name: string): LabContainer {
  const found = w.containers.get(name)
  if (found === undefined) throw new Error(`no container ${name}`)
  return found
}

function want(w: DriverLab, host: number): DesiredHost {
  return desired({
    self: peer(host),
    selfVtep: w.lab.host(host).vtep,
    networks: [red, blue],
    endpoints: byNetwork(w.endpoints),
    hosts: w.lab.hosts.map(({ vtep }, i) => makeHost(i + 1, vtep)),
    memberStatus: w.statuses,
    overlayMtu: MTU,
    vxlanPort: 4789
  })
}

/** Runs one pass. @returns what it did */
async function pass(t: Test, w: DriverLab, host: number): Promise<string[]> {
  const { ops } = plan(want(w, host), await driver(w, host).forwarding.observe())
  const result = await driver(w, host).forwarding.execute(ops)
  t.strictSame(
    result.failures.map(f => f.error.message),
    [],
    `host ${host}: no op fails`
  )
  return ops.map(describe)
}

const request = (w: DriverLab, endpoint: Endpoint) =>
  attachRequest({
    endpoint,
    network: endpoint.network === red.name ? red : blue,
    overlayMtu: MTU,
    netns: container(w, endpoint.containerId).netns,
    withRoute: true
  })

async function attachAll(t: Test, w: DriverLab): Promise<void> {
  for (const host of w.lab.hosts.keys()) await pass(t, w, host + 1)
  for (const endpoint of w.endpoints) {
    const host = w.lab.hosts.findIndex((_, i) => peer(i + 1) === endpoint.host) + 1
    await driver(w, host).devices.attach(request(w, endpoint))
  }
  for (const host of w.lab.hosts.keys()) t.strictSame(await pass(t, w, host + 1), [], `host ${host + 1} is settled`)
}

const two: [string, Network, number, string][] = [
  ['r1', red, 1, '10.1.0.2'],
  ['r2', red, 2, '10.1.0.3'],
  ['b1', blue, 1, '10.1.0.2'],
  ['b2', blue, 2, '10.1.0.4']
]

type Link = {
  ifname: string
  ifindex: number
  mtu: number
  address: string
  master?: string
  ifalias?: string
  operstate?: string
  flags: string[]
  inet6_addr_gen_mode?: string
  linkinfo?: { info_kind?: string; info_data?: Record<string, unknown>; info_slave_data?: Record<string, unknown> }
}
type Fdb = { mac: string; ifname: string; dst?: string; port?: number; master?: string; flags: string[]; state: string }
type Neigh = { dst: string; lladdr?: string; dev: string; state: string[] }

/** All our objects as ip and bridge list them. A recreated device has another index and, unless it is a bridge, another MAC. */
async function kernelState(w: DriverLab, host: number, options: { indexes: boolean }): Promise<unknown> {
  const { namespace: name } = w.lab.host(host)
  const links = await json<Link>('ip', name, 'link show')
  const fdb = await json<Fdb>('bridge', name, 'fdb show')
  const neighbours = await json<Neigh>('ip', name, 'neigh show')
  const ours = links.filter(link => /^v[bxe][0-9a-f]{6}/.test(link.ifname))
  const addresses = new Map(ours.map(link => [link.ifname, link.address]))
  return {
    links: ours
      .map(l => [
        l.ifname,
        options.indexes ? l.ifindex : 0,
        l.mtu,
        l.flags.includes('UP'),
        l.master ?? '',
        l.ifalias ?? '',
        l.inet6_addr_gen_mode ?? '',
        l.linkinfo?.info_kind === 'bridge' ? l.address : '',
        l.linkinfo?.info_data?.['learning'] ?? '',
        ['learning', 'flood', 'neigh_suppress'].map(flag => l.linkinfo?.info_slave_data?.[flag] ?? '')
      ])
      .map(fields => JSON.stringify(fields))
      .sort(),
    fdb: fdb
      .filter(e => addresses.has(e.ifname) && e.mac !== addresses.get(e.ifname) && !/^(33:33|01:00)/.test(e.mac))
      .map(e => JSON.stringify([e.mac, e.ifname, e.dst ?? '', e.port ?? '', e.master ?? '', e.state]))
      .sort(),
    neighbours: neighbours
      .filter(n => addresses.has(n.dev))
      .map(n => JSON.stringify([n.dst, n.lladdr, n.dev, n.state]))
      .sort()
  }
}

t.test('containers reach their own network from the first packet, and no other', { skip }, async t => {
  const w = await openDriverLab(t, { hosts: 2, endpoints: two })
  await attachAll(t, w)
  t.equal(
    await countReplies(container(w, 'r1'), '10.1.0.3', { count: 1, waitMs: 1_000 }),
    1,
    'first packet, network red'
  )
  t.equal(
    await countReplies(container(w, 'b1'), '10.1.0.4', { count: 1, waitMs: 1_000 }),
    1,
    'first packet, network blue'
  )
  t.equal(await countReplies(container(w, 'r1'), '10.1.0.4', { count: 3, waitMs: 1_000 }), 0, 'red does not see blue')
  t.equal(await countReplies(container(w, 'b2'), '10.1.0.3', { count: 3, waitMs: 1_000 }), 0, 'blue does not see red')
})

t.test('a packet of the overlay MTU passes, one byte more is refused', { skip }, async t => {
  const w = await openDriverLab(t, { hosts: 2, endpoints: two })
  await attachAll(t, w)
  t.equal((await driver(w, 1).devices.underlay()).overlayMtu, MTU)
  t.equal(await countReplies(container(w, 'r1'), '10.1.0.3', { count: 1, size: MTU - 28, waitMs: 1_000 }), 1)
  t.equal(await countReplies(container(w, 'r1'), '10.1.0.3', { count: 1, size: MTU - 27, waitMs: 1_000 }), 0)
})

t.test('the kernel holds exactly the desired state', { skip }, async t => {
  const w = await openDriverLab(t, { hosts: 2, endpoints: two.slice(0, 2) })
  await attachAll(t, w)
  const { namespace: name } = w.lab.host(1)
  const links = new Map((await json<Link>('ip', name, 'link show')).map(link => [link.ifname, link]))
  const [endpoint] = w.endpoints
  if (endpoint === undefined) throw new Error('no endpoint')
  const veth = vethName(endpoint.containerId, endpoint.ifname)
  t.match(links.get('vb000abc'), {
    mtu: MTU,
    address: '06:76:78:00:0a:bc',
    ifalias: 'vxmesh network red vni 2748',
    inet6_addr_gen_mode: 'none',
    linkinfo: { info_kind: 'bridge', info_data: { mcast_snooping: 0 } }
  })
  t.match(links.get('vx000abc'), {
    mtu: MTU,
    master: 'vb000abc',
    inet6_addr_gen_mode: 'none',
    linkinfo: {
      info_kind: 'vxlan',
      info_data: { id: 2748, local: '192.0.2.1', port: 4789, learning: false, ttl: 64 },
      info_slave_data: { learning: false, flood: true, neigh_suppress: true }
    }
  })
  t.match(links.get(veth), {
    mtu: MTU,
    master: 'vb000abc',
    ifalias: 'vxmesh endpoint r1/eth0',
    inet6_addr_gen_mode: 'none',
    linkinfo: { info_kind: 'veth', info_slave_data: { learning: false, flood: false } }
  })
  const fdb = await json<Fdb>('bridge', name, 'fdb show')
  const entries = (device: string, mac: string): unknown[] =>
    fdb.filter(e => e.ifname === device && e.mac === mac).map(e => e.dst ?? e.master)
  t.strictSame(entries('vx000abc', '00:00:00:00:00:00'), ['192.0.2.2'])
  t.strictSame(entries('vx000abc', '02:bc:0a:01:00:03').sort(), ['192.0.2.2', 'vb000abc'])
  t.strictSame(entries(veth, '02:bc:0a:01:00:02'), ['vb000abc'])
  const neighbours = await json<Neigh>('ip', name, 'neigh show dev vb000abc')
  t.strictSame(neighbours.map(n => [n.dst, n.lladdr, n.state]).sort(), [
    ['10.1.0.1', '02:bc:0a:01:00:01', ['PERMANENT']],
    ['10.1.0.2', '02:bc:0a:01:00:02', ['PERMANENT']],
    ['10.1.0.3', '02:bc:0a:01:00:03', ['PERMANENT']]
  ])
  t.strictSame(await json('ip', name, '-6 addr show dev vb000abc'), [], 'no IPv6 on the host')
  const inside = container(w, 'r1').namespace
  const [eth0] = await json<Link>('ip', inside, 'link show eth0')
  t.match(eth0, { mtu: MTU, address: '02:bc:0a:01:00:02' })
  t.ok(eth0?.flags.includes('LOWER_UP'))
  t.match(await json('ip', inside, '-4 addr show dev eth0'), [
    { addr_info: [{ local: '10.1.0.2', prefixlen: 16, broadcast: '10.1.255.255' }] }
  ])
  t.match(await json('ip', inside, 'route show default'), [{ gateway: formatIp(red.gateway), dev: 'eth0' }])
})

t.test('a restarted agent adopts everything: same devices, empty plan, attach finds it', { skip }, async t => {
  const w = await openDriverLab(t, { hosts: 2, endpoints: two })
  await attachAll(t, w)
  const before = await kernelState(w, 1, { indexes: true })
  await driver(w, 1).close()
  t.equal(await countReplies(container(w, 'r1'), '10.1.0.3'), 3, 'traffic continues without an agent')
  const host = w.lab.host(1)
  w.drivers[0] = LinuxDriver.open({ underlay: vxlanUnderlay(host.vtep), hostNetns: host.netns, clock: systemClock })
  t.strictSame(await pass(t, w, 1), [])
  for (const endpoint of w.endpoints.filter(e => e.host === peer(1))) {
    t.match(await driver(w, 1).devices.attach(request(w, endpoint)), { created: false })
  }
  t.strictSame(await kernelState(w, 1, { indexes: true }), before)
})

t.test('drift of any kind is repaired by one pass', { skip }, async t => {
  const w = await openDriverLab(t, { hosts: 2, endpoints: two })
  await attachAll(t, w)
  const { namespace: name } = w.lab.host(1)
  const [endpoint] = w.endpoints
  if (endpoint === undefined) throw new Error('no endpoint')
  const veth = vethName(endpoint.containerId, endpoint.ifname)
  const state = async (): Promise<string> => JSON.stringify(await kernelState(w, 1, { indexes: false }))
  const before = await state()
  const drifts: [string, 'ip' | 'bridge', string[]][] = [
    ['a deleted FDB entry', 'bridge', ['fdb del 02:bc:0a:01:00:03 dev vx000abc self']],
    ['a deleted bridge entry', 'bridge', ['fdb del 02:bc:0a:01:00:03 dev vx000abc master']],
    ['a wrong VTEP', 'bridge', ['fdb replace 02:bc:0a:01:00:03 dev vx000abc dst 192.0.2.77 self static']],
    [
      'a VTEP with a port of its own',
      'bridge',
      ['fdb replace 02:bc:0a:01:00:03 dev vx000abc dst 192.0.2.2 port 9 self static']
    ],
    ['a stray FDB entry', 'bridge', ['fdb add 02:00:00:00:00:99 dev vx000abc dst 192.0.2.9 self master static']],
    ['a deleted flood entry', 'bridge', ['fdb del 00:00:00:00:00:00 dev vx000abc dst 192.0.2.2 self']],
    ['a stray flood entry', 'bridge', ['fdb append 00:00:00:00:00:00 dev vx000abc dst 192.0.2.9 self']],
    ['an odd flood entry', 'bridge', ['fdb append 00:00:00:00:00:00 dev vx000abc dst 192.0.2.9 port 77 self']],
    ["the container's MAC behind the tunnel", 'bridge', ['fdb replace 02:bc:0a:01:00:02 dev vx000abc master static']],
    ['a stray MAC behind the container', 'bridge', [`fdb add 02:00:00:00:00:98 dev ${veth} master static`]],
    ['a deleted neighbour', 'ip', ['neigh del 10.1.0.3 dev vb000abc']],
    ['a wrong neighbour', 'ip', ['neigh replace 10.1.0.3 dev vb000abc lladdr 02:00:00:00:00:97 nud permanent']],
    ['a stray neighbour', 'ip', ['neigh add 10.1.0.99 dev vb000abc lladdr 02:00:00:00:00:96 nud permanent']],
    ['a bridge that is down', 'ip', ['link set vb000abc down']],
    ['a bridge with another MAC', 'ip', ['link set vb000abc address 02:00:00:00:00:95']],
    ['a tunnel that is down', 'ip', ['link set vx000abc down']],
    ['a tunnel outside its bridge', 'ip', ['link set vx000abc nomaster']],
    ['a tunnel in another bridge', 'ip', ['link set vx000abc master vb000def']],
    ['a tunnel that learns', 'ip', ['link set vx000abc type vxlan learning']],
    ['a port that learns and floods', 'ip', [`link set ${veth} type bridge_slave learning on flood on`]],
    ['a veth outside its bridge', 'ip', [`link set ${veth} nomaster`]],
    ['a lost alias', 'ip', ['link set vb000abc alias ']],
    ['another MTU', 'ip', ['link set vx000abc mtu 1300']],
    ['a deleted tunnel', 'ip', ['link del vx000abc']],
    ['a deleted bridge', 'ip', ['link del vb000abc']],
    ['a deleted bridge and tunnel', 'ip', ['link del vb000abc', 'link del vx000abc']]
  ]
  for (const [title, tool, commands] of drifts) {
    for (const command of commands) await (tool === 'ip' ? ip(name, command) : bridge(name, command))
    t.not(await state(), before, `${title} is a drift`)
    t.not((await pass(t, w, 1)).length, 0, `${title} is detected`)
    t.equal(await state(), before, `${title} is repaired`)
    t.strictSame(await pass(t, w, 1), [], `${title}: nothing is left to do`)
  }
  t.equal(await countReplies(container(w, 'r1'), '10.1.0.3'), 3)
})

t.test('foreign objects are never touched, and a name in use is a conflict', { skip }, async t => {
  const w = await openDriverLab(t, { hosts: 2, endpoints: two })
  const { namespace: name } = w.lab.host(1)
  await ip(name, 'link add vb000abc type bridge')
  await ip(name, 'link add ve0123456789abc type veth peer name other0')
  await ip(name, 'link add vx00ffff type vxlan id 77 local 192.0.2.1 dstport 4790')
  await ip(name, 'link add br-mine type bridge')
  const foreign = async (): Promise<string> => {
    const links = await json<Link>('ip', name, 'link show')
    const names = ['vb000abc', 've0123456789abc', 'other0', 'vx00ffff', 'br-mine', 'eth0']
    return JSON.stringify(links.filter(link => names.includes(link.ifname)))
  }
  const before = await foreign()
  const { ops, conflicts } = plan(want(w, 1), await driver(w, 1).forwarding.observe())
  t.match(conflicts, [{ vni: red.vni, device: 'vb000abc' }])
  t.strictSame((await driver(w, 1).forwarding.execute(ops)).failures, [])
  w.endpoints.length = 0
  await pass(t, w, 1)
  t.equal(await foreign(), before)
  const left = await json<Link>('ip', name, 'link show')
  t.strictSame(
    left.filter(link => link.ifalias?.startsWith('vxmesh') === true),
    [],
    'ours are gone'
  )
})

t.test(
  'a VNI in use by a foreign VXLAN device fails only its network, with the kernel’s message',
  { skip },
  async t => {
    const w = await openDriverLab(t, { hosts: 2, endpoints: two })
    await ip(w.lab.host(1).namespace, 'link add vxother type vxlan id 2748 local 192.0.2.1 dstport 4789')
    const { ops } = plan(want(w, 1), await driver(w, 1).forwarding.observe())
    const { failures, skipped } = await driver(w, 1).forwarding.execute(ops)
    t.match(failures, [
      { op: { kind: 'vxlan-create', vni: red.vni }, error: { code: 'ERR_KERNEL', context: { errno: 'EEXIST' } } }
    ])
    t.match(failures[0]?.error.message, /specified VNI already exists/)
    t.equal(skipped, 5)
    const { ops: left } = plan(want(w, 1), await driver(w, 1).forwarding.observe())
    t.strictSame([...new Set(left.map(op => op.vni))], [red.vni], 'network blue is settled')
  }
)

t.test(
  'a failed host loses its flood entries and keeps its unicast entries; one that left loses both',
  { skip },
  async t => {
    const w = await openDriverLab(t, { hosts: 2, endpoints: two.slice(0, 2) })
    await attachAll(t, w)
    const fdb = async (): Promise<unknown[]> => {
      const all = await json<Fdb>('bridge', w.lab.host(1).namespace, 'fdb show dev vx000abc')
      return all.filter(e => e.dst !== undefined).map(e => e.mac)
    }
    w.statuses = new Map([[peer(2), 'failed' as const]])
    await pass(t, w, 1)
    t.strictSame(await fdb(), ['02:bc:0a:01:00:03'])
    t.equal(await countReplies(container(w, 'r1'), '10.1.0.3'), 3, 'a cut of the control plane cuts no container')
    w.statuses = new Map([[peer(2), 'left' as const]])
    await pass(t, w, 1)
    t.strictSame(await fdb(), [])
  }
)

t.test('an attach ends when both ends run: the first packet is not lost', { skip }, async t => {
  const w = await openDriverLab(t, { hosts: 1, endpoints: [['r1', red, 1, '10.1.0.2']] })
  await pass(t, w, 1)
  const [endpoint] = w.endpoints
  if (endpoint === undefined) throw new Error('no endpoint')
  const asked = request(w, endpoint)
  const ends = [
    [w.lab.host(1).namespace, asked.hostInterface],
    [container(w, 'r1').namespace, asked.ifname]
  ] as const
  for (let n = 0; n < 10; n++) {
    await driver(w, 1).devices.attach(asked)
    for (const [place, name] of ends) {
      // A list: for whoever asks for a single interface, the kernel first finishes what is under way.
      const links = await json<Link>('ip', place, 'link show type veth')
      t.equal(links.find(({ ifname }) => ifname === name)?.operstate, 'UP')
    }
    await driver(w, 1).devices.detach(detachRequest(endpoint))
  }
})

t.test('attach is idempotent, completes a half-made pair, and refuses foreign devices', { skip }, async t => {
  const w = await openDriverLab(t, { hosts: 2, endpoints: two })
  await pass(t, w, 1)
  const [endpoint] = w.endpoints
  if (endpoint === undefined) throw new Error('no endpoint')
  const asked = request(w, endpoint)
  const host = w.lab.host(1).namespace
  const inside = container(w, 'r1').namespace
  const first = await driver(w, 1).devices.attach(asked)
  t.equal(first.created, true)
  t.strictSame(await driver(w, 1).devices.attach(asked), { ...first, created: false })

  await ip(inside, 'link set eth0 down')
  t.match(await driver(w, 1).devices.attach(asked), { created: false, ifindex: first.ifindex }, 'set up again')
  await ip(inside, 'addr flush dev eth0')
  const second = await driver(w, 1).devices.attach(asked)
  t.equal(second.created, true, 'a pair without its address is recreated')
  t.match(await json('ip', inside, '-4 addr show dev eth0'), [{ addr_info: [{ local: '10.1.0.2' }] }])

  const elsewhere = container(w, 'b1')
  const third = await driver(w, 1).devices.attach({ ...asked, netns: elsewhere.netns })
  t.equal(third.created, true, 'a new namespace of the container gets a new pair')
  await t.rejects(ip(inside, 'link show eth0'), 'the old one is gone')
  await driver(w, 1).devices.detach(detachRequest(endpoint))

  await ip(inside, 'link add eth0 type veth peer name x0')
  await t.rejects(driver(w, 1).devices.attach(asked), { code: 'ERR_IFNAME_IN_USE', field: 'ifname' })
  t.equal((await json<Link>('ip', inside, 'link show eth0')).length, 1, "the container's own device stays")
  await ip(inside, 'link del eth0')
  await ip(host, `link add ${asked.hostInterface} type veth peer name y0`)
  await ip(host, `link set ${asked.hostInterface} alias mine`)
  await t.rejects(driver(w, 1).devices.attach(asked), { code: 'ERR_IFNAME_IN_USE' })
  t.strictSame(await driver(w, 1).devices.detach(detachRequest(endpoint)), { removed: false })
  await ip(host, `link del ${asked.hostInterface}`)

  const missing = { ...asked, vni: makeNetwork('none', 77).vni }
  await t.rejects(driver(w, 1).devices.attach(missing), { code: 'ERR_KERNEL', message: /no bridge vb00004d/ })
  const left = await json<Link>('ip', host, 'link show')
  t.notOk(
    left.some(link => link.ifname === asked.hostInterface),
    'a failed attach leaves nothing'
  )

  for (const netns of [
    '/run/netns/none',
    'relative',
    '/etc/hostname',
    '/proc/self/ns/user',
    '/proc/self/ns/net',
    w.lab.host(1).netns
  ]) {
    await t.rejects(driver(w, 1).devices.attach({ ...asked, netns }), { code: 'ERR_NETNS', field: 'netns' }, netns)
  }
})

t.test('a second network leaves the default route of the first', { skip }, async t => {
  const w = await openDriverLab(t, {
    hosts: 1,
    endpoints: [two[0] ?? ['r1', red, 1, '10.1.0.2'], ['b1', blue, 1, '10.1.0.5']]
  })
  await attachAll(t, w)
  const second = makeEndpoint(blue, { container: 'r1', host: 1, address: '10.1.0.9', ifname: 'eth1' })
  await driver(w, 1).devices.attach(request(w, second))
  const routes = await json<{ dev: string }>('ip', container(w, 'r1').namespace, 'route show default')
  t.strictSame(
    routes.map(route => route.dev),
    ['eth0']
  )
})

t.test('detach removes the pair, even without the namespace, and is idempotent', { skip }, async t => {
  const w = await openDriverLab(t, { hosts: 2, endpoints: two })
  await attachAll(t, w)
  const [r1, , b1] = w.endpoints
  if (r1 === undefined || b1 === undefined) throw new Error('no endpoints')
  t.strictSame(await driver(w, 1).devices.detach(detachRequest(r1)), { removed: true })
  t.strictSame(await driver(w, 1).devices.detach(detachRequest(r1)), { removed: false })
  await t.rejects(ip(container(w, 'r1').namespace, 'link show eth0'))
  await removeNamespaces([container(w, 'b1').namespace])
  await driver(w, 1).devices.detach(detachRequest(b1))
  w.endpoints.length = 0
  await pass(t, w, 1)
  const left = await json<Link>('ip', w.lab.host(1).namespace, 'link show')
  t.strictSame(left.map(link => link.ifname).sort(), ['eth0', 'lo'])
})

t.test('many devices are removed together, and foreign ones in their group stay', { skip }, async t => {
  const names = Array.from({ length: 6 }, (_, i): [string, Network, number, string] => [
    `m${i}`,
    red,
    1,
    `10.1.0.${10 + i}`
  ])
  const w = await openDriverLab(t, { hosts: 1, endpoints: names })
  await attachAll(t, w)
  await ip(w.lab.host(1).namespace, `link add br-mine group 7764078 type bridge`)
  await Promise.all(w.endpoints.map(endpoint => driver(w, 1).devices.detach(detachRequest(endpoint))))
  const left = await json<Link>('ip', w.lab.host(1).namespace, 'link show')
  t.strictSame(left.map(link => link.ifname).sort(), ['br-mine', 'eth0', 'lo', 'vb000abc', 'vx000abc'])
  await ip(w.lab.host(1).namespace, 'link del br-mine')
  for (const endpoint of w.endpoints) await driver(w, 1).devices.attach(request(w, endpoint))
  await Promise.all(w.endpoints.map(endpoint => driver(w, 1).devices.detach(detachRequest(endpoint))))
  const rest = await json<Link>('ip', w.lab.host(1).namespace, 'link show')
  t.strictSame(rest.map(link => link.ifname).sort(), ['eth0', 'lo', 'vb000abc', 'vx000abc'])
})

t.test('counters are the container’s own', { skip }, async t => {
  const w = await openDriverLab(t, { hosts: 2, endpoints: two.slice(0, 2) })
  await attachAll(t, w)
  const [endpoint] = w.endpoints
  if (endpoint === undefined) throw new Error('no endpoint')
  await countReplies(container(w, 'r1'), '10.1.0.3')
  type Stats = { stats64: Record<'rx' | 'tx', { bytes: number; packets: number }> }
  // The two reads are not atomic: one of the kernel's own packets may come between them.
  await waitFor('both counts agree', async () => {
    const counters = (await driver(w, 1).devices.counters()).get(vethName(endpoint.containerId, endpoint.ifname))
    const [inside] = await json<Stats>('ip', container(w, 'r1').namespace, '-s link show eth0')
    const { rx, tx } = inside?.stats64 ?? {}
    return (
      rx !== undefined && rx.packets >= 3 && rx.packets === counters?.rxPackets && tx?.packets === counters.txPackets
    )
  })
})

t.test('a foreign change wakes the listener, our own does not', { skip }, async t => {
  const w = await openDriverLab(t, { hosts: 1, endpoints: two.slice(0, 1) })
  await attachAll(t, w)
  await driver(w, 1).forwarding.observe()
  let wakes = 0
  let woken: () => void = () => undefined
  const stop = driver(w, 1).onChange(() => {
    wakes++
    woken()
  })
  w.endpoints.push(makeEndpoint(red, { container: 'x', host: 1, address: '10.1.0.77' }))
  t.not((await pass(t, w, 1)).length, 0, 'a neighbour entry is added')
  const keep = setInterval(() => undefined, 1000)
  const next = new Promise<void>((resolve, reject) => {
    woken = resolve
    AbortSignal.timeout(5000).onabort = () => reject(new Error('not woken within 5 s'))
  })
  await ip(w.lab.host(1).namespace, 'neigh del 10.1.0.2 dev vb000abc')
  await next
  clearInterval(keep)
  stop()
  t.equal(wakes, 1)
})

t.test('this machine’s kernel has every required feature', { skip }, async t => {
  const w = await openDriverLab(t, { hosts: 1, endpoints: [] })
  const features = await driver(w, 1).features()
  t.strictSame(
    features.filter(f => f.required && !f.present),
    []
  )
  t.ok(features.some(f => f.name === 'neigh-suppress'))
})

t.test('a bind address that no device has is a typed error', { skip }, async t => {
  const w = await openDriverLab(t, { hosts: 1, endpoints: [] })
  const lost = LinuxDriver.open({
    underlay: vxlanUnderlay(makeHost(77).vtep),
    hostNetns: w.lab.host(1).netns,
    clock: systemClock
  })
  t.teardown(() => lost.close())
  await t.rejects(lost.devices.underlay(), { code: 'ERR_CONFIG', field: 'bind', message: /192\.0\.2\.77/ })
})
