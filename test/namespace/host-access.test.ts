// hostAccess on real kernels: a kubelet's probes from the host's own namespace, and everything that must stay unreachable
// nevertheless. ping(8), Python's sockets and ip(8) are the oracle.

import { spawn } from 'node:child_process'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { bare, type LabContainer } from '../lab/container.ts'
import type { LabHost } from '../lab/host.ts'
import { Lab } from '../lab/lab.ts'
import { expectOracle } from '../lab/oracle.ts'
import { makeEndpoint, makeNetwork } from '../overlay/fixtures.ts'
import { OpenVSwitch } from '../lab/open-vswitch.ts'
import { TEST_TIMEOUT_MS, waitFor, waitForState } from '../lab/wait.ts'
import { SERVER } from '../lab/outside.ts'
import { GatewayLab, settled, SETTLED, type Attached } from './gateway-lab.ts'
import { ip } from '../lab/kernel.ts'
import { countReplies } from '../lab/ping.ts'
import { cannotRun } from '../lab/requirements.ts'
import { run } from '../lab/run.ts'

const skip = cannotRun()
const open = makeNetwork('open', 0x111, { hostAccess: true })
const inner = makeNetwork('inner', 0x222, { hostAccess: true, egress: false })
const closed = makeNetwork('closed', 0x333)

const ECHO = `
import socket, sys, threading
def tcp():
    s = socket.create_server(('', 8080))
    while True:
        c, peer = s.accept()
        c.sendall(peer[0].encode()); c.close()
threading.Thread(target=tcp, daemon=True).start()
u = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); u.bind(('', 8080))
while True:
    data, peer = u.recvfrom(100); u.sendto(peer[0].encode(), peer)
`
const ASK = `
import socket, sys
kind = socket.SOCK_STREAM if sys.argv[1] == 'tcp' else socket.SOCK_DGRAM
s = socket.socket(socket.AF_INET, kind); s.settimeout(1)
s.connect((sys.argv[2], 8080)); s.send(b'x'); print(s.recv(100).decode())
`

async function lab(t: Test, hosts: number): Promise<GatewayLab> {
  const g = await GatewayLab.open(hosts)
  g.networks = [open, inner, closed]
  t.teardown(() => g.close())
  return g
}

/** A server on TCP and UDP 8080 that answers with the client's address. */
async function serve(t: Test, { namespace: name }: { readonly namespace: string }): Promise<void> {
  const child = spawn('ip', ['netns', 'exec', name, '/usr/bin/python3', '-c', ECHO], { stdio: 'ignore' })
  t.teardown(() => child.kill('SIGKILL'))
  const listens = async (): Promise<boolean> =>
    (await run('ip', ['netns', 'exec', name, 'ss', '-lntu'])).stdout.split(':8080').length > 2
  await waitFor(`${name} serves`, listens)
}

/** The client's address as the server saw it, or null without an answer. */
async function ask(name: string, kind: 'tcp' | 'udp', address: string): Promise<string | null> {
  const args = ['netns', 'exec', name, '/usr/bin/python3', '-c', ASK, kind, address]
  const { exitCode, stdout } = await run('ip', args, { timeoutMs: 60_000 })
  return exitCode === 0 ? stdout.trim() : null
}

async function probe(name: string, address: string): Promise<string> {
  const [ping, tcp, udp] = await Promise.all([
    run('ip', ['netns', 'exec', name, 'ping', '-n', '-c', '1', '-W', '1', address]),
    ask(name, 'tcp', address),
    ask(name, 'udp', address)
  ])
  const answers = [ping.exitCode === 0 ? 'icmp' : '', tcp === null ? '' : 'tcp', udp === null ? '' : 'udp']
  return answers.filter(Boolean).join(' ')
}

const ALL = 'icmp tcp udp'

t.test(
  'the host’s probes reach its own containers, with egress and without, from the gateway’s address',
  { skip },
  async t => {
    const g = await lab(t, 2)
    const h1 = g.hostName(1)
    const withEgress = await g.attach(open, { container: 'o1', host: 1, address: '10.1.0.2' })
    const without = await g.attach(inner, { container: 'i1', host: 1, address: '10.1.0.3' })
    const shut = await g.attach(closed, { container: 'c1', host: 1, address: '10.1.0.4' })
    const remote = await g.attach(open, { container: 'o2', host: 2, address: '10.1.0.5' })
    const servers = [
      ...[withEgress, without, shut, remote].map(({ container }) => container),
      { namespace: h1 },
      { namespace: g.hostName(2) }
    ]
    await Promise.all(servers.map(server => serve(t, server)))

    for (const address of ['10.1.0.2', '10.1.0.3']) {
      t.equal(await probe(h1, address), ALL, address)
      t.equal(await ask(h1, 'tcp', address), '10.1.0.1', 'the container sees its host as the gateway')
    }
    t.equal(await probe(g.hostName(2), '10.1.0.5'), ALL, 'the other host reaches its own')
    t.equal(await probe(h1, '10.1.0.4'), '', 'not without hostAccess')
    t.equal(await probe(h1, '10.1.0.5'), '', 'not another host’s container')
    t.equal(await probe(g.hostName(2), '10.1.0.2'), '', 'not from another host')

    t.equal(await probe(h1, '192.0.2.1'), ALL, 'the host’s own server answers itself')
    for (const { container } of [withEgress, without]) {
      for (const address of ['192.0.2.1', '198.51.100.1', '192.0.2.2']) {
        t.equal(await probe(container.namespace, address), '', `${container.namespace} does not reach ${address}`)
      }
    }
    t.equal(await probe(shut.container.namespace, '10.1.0.2'), '', 'containers of other networks do not reach it')
    t.ok((await countReplies(withEgress.container, SERVER)) > 0, 'egress still works')
    t.equal(
      await countReplies(without.container, SERVER, { waitMs: 1_000 }),
      0,
      'a network without egress still has none'
    )

    await ip(g.hostName(2), 'route add 10.1.0.2/32 via 192.0.2.1')
    await ip(g.outside.namespace, 'route add 10.1.0.2/32 via 198.51.100.1')
    await g.exec(h1, 'sysctl', '-qw', 'net.ipv4.ip_forward=1')
    await g.pass(1)
    t.equal(await probe(g.hostName(2), '10.1.0.2'), '', 'not through the host, from the underlay')
    t.equal(await probe(g.outside.namespace, '10.1.0.2'), '', 'not through the host, from outside')
    t.equal(await probe(h1, '10.1.0.2'), ALL, 'the host itself still reaches it')
    await settled(t, g)
  }
)

t.test('an address of two networks leads to the first; the second is reported and succeeds it', { skip }, async t => {
  const g = await lab(t, 1)
  const h1 = g.hostName(1)
  const first = await g.attach(inner, { container: 'i1', host: 1, address: '10.1.0.2' })
  await serve(t, first.container)
  const second = await g.attach(open, { container: 'o1', host: 1, address: '10.1.0.2' })
  const refusal = {
    done: [],
    repaired: [],
    problems: [{ vni: open.vni, message: '10.1.0.2: the host uses it for network inner', hostAccess: true }]
  }
  t.strictSame(await g.pass(1), refusal, 'a lower VNI does not displace the first')
  t.equal(await probe(h1, '10.1.0.2'), ALL)
  const again = g.open(g.lab.host(1).netns, g.lab.host(1).vtep)
  t.teardown(() => again.close())
  const { problems } = await g.settle(again, { host: 1, mayRemove: true })
  t.strictSame(problems, refusal.problems, 'not after a restart either')
  t.equal(await probe(h1, '10.1.0.2'), ALL)
  t.ok((await countReplies(second.container, SERVER)) > 0, 'its egress is not affected')
  await g.detach(first)
  t.equal(await ask(h1, 'tcp', '10.1.0.2'), null)
  await serve(t, second.container)
  t.equal(await probe(h1, '10.1.0.2'), ALL, 'the second succeeds the first')
  await settled(t, g)
})

t.test('the host’s own routes are kept', { skip }, async t => {
  const g = await lab(t, 2)
  const [h1, before] = [g.hostName(1), await ip(g.hostName(1), 'route get 10.1.0.7')]
  await ip(h1, 'route add 10.1.0.4/30 via 198.51.100.254')
  await g.attach(open, { container: 'o1', host: 1, address: '10.1.0.2' })
  await g.attach(open, { container: 'o2', host: 1, address: '10.1.0.5' })
  const { problems } = await g.pass(1)
  t.match(problems, [{ vni: open.vni, message: /10\.1\.0\.5: 10\.1\.0\.4\/30 is the host's own/, hostAccess: true }])
  t.match(await ip(h1, 'route get 10.1.0.5'), /via 198\.51\.100\.254 dev eth1/)
  t.match(await ip(h1, 'route get 10.1.0.2'), /dev vo000111/)
  t.match(before, /eth1/)
  await ip(h1, 'route del 10.1.0.4/30')
  await g.pass(1)
  t.match(await ip(h1, 'route get 10.1.0.5'), /dev vo000111/)
  await settled(t, g)
})

t.test('a new container behind a trusted router gets its route, and the router is not checked', { skip }, async t => {
  const g = await lab(t, 1)
  const h1 = g.hostName(1)
  const one = await g.attach(inner, { container: 'i1', host: 1, address: '10.1.0.2' })
  const [router = ''] = await g.routers(1)
  await ip(router, 'route del default')
  const added = makeEndpoint(inner, { container: 'i2', host: 1, address: '10.1.0.3' })
  g.endpoints.push(added)
  const options = { scope: inner.vni, mayRemove: true }
  const trusted = await g.settle(g.driver(1), { host: 1, ...options, trust: true })
  t.strictSame(trusted, { done: ['add routes to 10.1.0.3 by vo000222 (vni 546)'], repaired: [], problems: [] })
  t.strictSame(await g.settle(g.driver(1), { host: 1, ...options, trust: true }), SETTLED)
  t.match(
    (await g.settle(g.driver(1), { host: 1, ...options })).done,
    [/^repair router/],
    'the next full check repairs it'
  )
  await ip(h1, 'link del vo000222')
  g.endpoints = [one.endpoint, makeEndpoint(inner, { container: 'i3', host: 1, address: '10.1.0.4' })]
  const broken = await g.settle(g.driver(1), { host: 1, ...options, trust: true })
  t.match(
    broken.problems,
    [{ vni: inner.vni, hostAccess: true }],
    'without a device there is no route, which is reported'
  )
  t.match((await g.settle(g.driver(1), { host: 1, ...options, trust: true })).done, [/^repair router/, /^add/])
  await settled(t, g)
})

t.test('drift is repaired, a restart loses no probe, and a detach leaves nothing', { skip }, async t => {
  const g = await lab(t, 1)
  const h1 = g.hostName(1)
  const clean = await g.footprint(1)
  const one: Attached = await g.attach(inner, { container: 'i1', host: 1, address: '10.1.0.2' })
  await g.attach(inner, { container: 'i2', host: 1, address: '10.1.0.3' })
  await serve(t, one.container)
  t.notMatch(await g.exec(h1, 'sysctl', 'net.ipv4.conf.eth1.forwarding'), / = 1/, 'it needs no forwarding')
  for (const harm of [
    'route del 10.1.0.2/32',
    'link set vo000222 down',
    'link del vo000222',
    'neigh flush dev vo000222 nud permanent'
  ]) {
    await ip(h1, harm)
    const { done, repaired } = await g.pass(1)
    t.same(
      repaired.map(({ what }) => what),
      done,
      'everything done counts as a repair'
    )
    t.equal(await probe(h1, '10.1.0.2'), ALL, harm)
    await settled(t, g)
  }
  await ip(h1, 'route add 10.1.0.99/32 via 240.0.2.34 dev vo000222 onlink')
  t.match((await g.pass(1)).done, ['delete routes to 10.1.0.99 by vo000222 (vni 546)'])

  const ping = run('ip', ['netns', 'exec', h1, 'ping', '-n', '-q', '-i', '0.01', '-c', '200', '10.1.0.2'], {
    timeoutMs: 20_000
  })
  for (let restart = 0; restart < 3; restart++) {
    const driver = g.open(g.lab.host(1).netns, g.lab.host(1).vtep)
    const { done } = await g.settle(driver, { host: 1, mayRemove: true })
    t.notMatch(done.join(), /routes/, 'its routes are unchanged')
    await driver.close()
  }
  t.match((await ping).stdout, /200 packets transmitted, 200 received/)

  const held = g.endpoints
  g.endpoints = held.slice(1)
  const driver = g.driver(1)
  await g.settle(driver, { host: 1, mayRemove: false })
  t.match(await ip(h1, 'route show 10.1.0.2'), /vo000222/, 'a state that may be stale removes no route')
  g.endpoints = held
  await g.detach(one)
  t.equal(await ip(h1, 'route show 10.1.0.2'), '', 'the route goes with the endpoint')
  g.endpoints = []
  await g.pass(1)
  t.equal(await g.footprint(1), clean, 'nothing is left on the host')
})

t.test(
  'with agents: a kill loses no probe, the state oracle holds, and a route is removed with its endpoint',
  { skip },
  async t => {
    const lab = await Lab.create()
    t.teardown(() => lab.destroy())
    const h1 = await lab.addHost({ bootstrapExpect: 1, join: [] })
    await h1.startAgent()
    await h1.waitReady()
    const create = ['network', 'create', '--subnet', '10.1.0.0/24', '--no-egress']
    await h1.cliJson(...create, 'red', '--host-access')
    await t.rejects(h1.cliJson(...create, 'blue', '--host-access'), /overlaps 10\.1\.0\.0\/24 of network red/)
    await h1.cliJson(...create, 'blue')
    const [one, two] = await lab.containers(['one', 'two'])
    if (one === undefined || two === undefined) throw new Error('no containers')
    const { address } = await h1.attach(one, 'red')
    t.equal(address, (await h1.attach(two, 'blue')).address, 'the same address in both')
    const [target = ''] = address.split('/')
    await expectOracle(lab)
    const flags = ['-n', '-q', '-i', '0.01', '-c', '500', target]
    const ping = run('ip', ['netns', 'exec', h1.namespace, 'ping', ...flags], { timeoutMs: 30_000 })
    await h1.killAgent()
    await h1.startAgent()
    await h1.waitReady()
    t.match((await ping).stdout, /500 packets transmitted, 500 received/)
    await expectOracle(lab)
    await h1.detach(one)
    await h1.detach(two)
    const routes = async (): Promise<string> => (await h1.exec('ip', 'route')).stdout
    await waitFor('no route is left', async () => !(await routes()).includes('vo'))
    t.pass('nothing is left')
  }
)

t.test(
  'with Open vSwitch: the same containers are reached and no others, a kill loses no probe, and nothing is left',
  { skip: cannotRun() || (await OpenVSwitch.cannotRun()), timeout: TEST_TIMEOUT_MS },
  async t => {
    const lab = await Lab.create()
    t.teardown(() => lab.destroy())
    const dirOf = (n: number): string => join(lab.dir, `ovs${n}`)
    const settings = (n: number): Readonly<Record<string, unknown>> => ({
      overlay: { driver: 'ovs', ovs: { socket: join(dirOf(n), 'db.sock'), datapath: 'netdev' } }
    })
    const h1 = await lab.addHost({ bootstrapExpect: 1, join: [], settings: settings(1) })
    const h2 = await lab.addHost({ role: 'client', join: ['192.0.2.1'], settings: settings(2) })
    for (const [i, host] of [h1, h2].entries()) {
      const ovs = await OpenVSwitch.start(host.namespace, dirOf(i + 1))
      t.teardown(() => ovs.stop())
      await ovs.takeUnderlay('eth0', `${host.address}/24`)
    }
    await Promise.all([h1.startAgent(), h2.startAgent()])
    await Promise.all([h1.waitReady(), h2.waitReady()])
    const create = (name: string, subnet: string, ...flags: string[]): Promise<unknown> =>
      h1.cliJson('network', 'create', name, '--subnet', subnet, ...flags)
    await create('open', '10.1.0.0/24', '--host-access')
    await create('inner', '10.2.0.0/24', '--host-access', '--no-egress')
    await create('closed', '10.3.0.0/24')
    const containers = await lab.containers(['o1', 'i1', 'c1', 'o2'])
    const [o1, i1, c1, o2] = containers as [LabContainer, LabContainer, LabContainer, LabContainer]
    const attached = [await h1.attach(o1, 'open'), await h1.attach(i1, 'inner'), await h1.attach(c1, 'closed')]
    const [open, inner, closed] = attached.map(({ address }) => bare(address)) as [string, string, string]
    const far = bare((await h2.attach(o2, 'open')).address)
    await Promise.all([...containers, h1].map(({ namespace: name }) => serve(t, { namespace: name })))

    for (const address of [open, inner]) {
      t.equal(await probe(h1.namespace, address), ALL, `the host reaches ${address}`)
    }
    t.equal(await ask(h1.namespace, 'tcp', open), '10.1.0.1', 'from the gateway’s address')
    t.equal(await probe(h2.namespace, far), ALL, 'the other host reaches its own')
    for (const [host, address] of [
      [h1, closed],
      [h1, far],
      [h2, open]
    ] as const) {
      t.equal(await probe(host.namespace, address), '', `${host.name} does not reach ${address}`)
    }
    for (const { namespace, name } of [o1, i1]) {
      t.equal(await probe(namespace, h1.address), '', `${name} does not reach its host`)
    }
    // The userspace datapath loses the first packet to a host.
    await waitFor('the other host’s container is reached', async () => (await ask(o1.namespace, 'udp', far)) !== null)
    t.equal(await probe(o1.namespace, far), ALL, 'the network itself is not affected')
    t.equal(await probe(c1.namespace, open), '')

    // The mirrors of 10.1.0.2, 10.3.0.2 and 10.1.0.3.
    const [open6, closed6, far6] = ['fd00:1::2', 'fd00:3::2', 'fd00:1::3']
    for (const [name, subnet] of [
      ['open', 'fd00:1::/64'],
      ['closed', 'fd00:3::/64']
    ] as const)
      await h1.cliJson('network', 'update', name, '--add-subnet', subnet)
    const pings6 = (host: LabHost, to: string): Promise<number> =>
      countReplies({ namespace: host.namespace }, to, { waitMs: 1_000 })
    for (const [host, own] of [
      [h1, open6],
      [h2, far6]
    ] as const)
      await waitFor('the host reaches its own over IPv6', async () => (await pings6(host, own)) === 3)
    await waitFor('they reach each other', async () => (await countReplies(o1, far6)) === 3)
    t.equal(await pings6(h1, far6), 0, 'the other host’s container')
    t.equal(await pings6(h2, open6), 0)
    t.equal(await pings6(h1, closed6), 0, 'a network without hostAccess')
    t.equal(await countReplies(c1, open6, { waitMs: 1_000 }), 0, 'another network')

    const flags = ['-n', '-q', '-i', '0.01', '-c', '500', open]
    const ping = run('ip', ['netns', 'exec', h1.namespace, 'ping', ...flags], { timeoutMs: 30_000 })
    await h1.killAgent()
    await h1.startAgent()
    await h1.waitReady()
    t.match((await ping).stdout, /500 packets transmitted, 500 received/)
    await h1.exec('ip', 'route', 'del', `${open}/32`)
    await waitFor('the route is restored', async () => (await ask(h1.namespace, 'tcp', open)) !== null, {
      timeoutMs: 15_000
    })

    for (const container of [o1, i1, c1]) await h1.detach(container)
    const left = async (): Promise<string> => (await h1.exec('sh', '-c', 'ip route; ip -br link')).stdout
    await waitFor('no route is left', async () => !/^vo|dev vo/m.test(await left()), { explain: () => h1.logTail() })
    await waitForState('no network is degraded', () => h1.status(), { overlay: { degraded: [] } })
  }
)
