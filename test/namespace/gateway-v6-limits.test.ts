// Limits of routers with IPv6 on real kernels: no container poisons the path MTU of its host, while its own connections learn it;
// connections are counted in both families together, and half-open ones end soon; rates count both. The kernel's tables, ip(8)
// and iperf3(1) are the oracle.

import { spawn } from 'node:child_process'
import { once } from 'node:events'
import t, { type Test } from 'tap'
import { macOf } from '#model/mac.ts'
import { shapeRequest } from '#overlay/driver.ts'
import { CONNECTIONS_OF_CONTAINER } from '#overlay/plan/gateway/limits.ts'
import { datagram, inject, macIn, POISONED_MTU, tooBig } from '../lab/packets/too-big.ts'
import { ip, must } from '../lab/kernel.ts'
import { SERVER, OUTSIDE_GATEWAY_V6, SERVER_V6 } from '../lab/outside.ts'
import { countReplies } from '../lab/ping.ts'
import { cannotRun } from '../lab/requirements.ts'
import { TEST_TIMEOUT_MS, waitFor } from '../lab/wait.ts'
import { MTU, settled, type Attached, type GatewayLab } from './gateway-lab.ts'
import { ask, dual, openV6, routed, serve, six, start } from './gateway-v6-lab.ts'
import { run } from '../lab/run.ts'

const skip = cannotRun()
const [HOST, PEER] = ['2001:db8:a::1', '2001:db8:a::2']
const PORT = 7946

const tooBigAbout = (from: string, to: string, about: { readonly from: string; readonly to: string }): Buffer =>
  tooBig({ from, to }, datagram(about, PORT))

const TALK = `
import socket, sys, time
s = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM); s.bind((sys.argv[1], ${PORT}))
print('up', flush=True)
while True: s.sendto(b'x', (sys.argv[2], ${PORT})); time.sleep(0.2)
`

t.test('no packet-too-big of a container lowers the host’s path MTU to another host', { skip }, async t => {
  const both = { ...routed, hostAccess: true }
  const g = await openV6(t, 2, [dual, six, both])
  const h1 = g.hostName(1)
  const pathMtu = async (): Promise<string> =>
    /mtu \d+/.exec(await ip(h1, `-6 route get ${PEER}`))?.[0] ?? 'not learned'
  const attached = [
    [dual, await g.attach(dual, { container: 'd1', host: 1, address: '10.1.0.2' }), 'fd00:1::2'],
    [six, await g.attach(six, { container: 's1', host: 1, address: 'fd00:1::2' }), 'fd00:1::2'],
    [both, await g.attach(both, { container: 'r1', host: 1, address: '10.7.0.2' }), '2001:db8:77::2']
  ] as const
  await start(t, h1, TALK, HOST, PEER)
  t.equal(await pathMtu(), 'not learned')
  for (const [network, { container }, own] of attached) {
    const about = datagram({ from: own, to: PEER }, PORT)
    const forged = [own, 'fd00:1::1', PEER].flatMap(from => [
      tooBigAbout(from, HOST, { from: HOST, to: PEER }),
      about,
      tooBigAbout(from, HOST, { from: HOST, to: PEER }),
      tooBigAbout(from, HOST, { from: PEER, to: own }),
      tooBigAbout(from, HOST, { from: HOST, to: own }),
      tooBigAbout(from, 'fd76:786d:6573:6800::100:0', { from: HOST, to: PEER }),
      tooBigAbout(from, 'fd00:1::1', { from: HOST, to: PEER })
    ])
    await inject(container.namespace, 'eth0', { to: macOf(network.vni, network.gateway), packets: forged })
    t.equal(await countReplies({ namespace: h1 }, PEER), 3, 'what was sent before has arrived')
    t.equal(await pathMtu(), 'not learned', network.name)
  }
  await inject(g.hostName(2), 'eth0', {
    to: (await macIn(h1, 'eth0')).mac,
    packets: [tooBigAbout(PEER, HOST, { from: HOST, to: PEER })]
  })
  await waitFor('the same error from the underlay is believed', async () => (await pathMtu()) === `mtu ${POISONED_MTU}`)
})

t.test('a container learns the path MTU of its own connections, from its host and from outside', { skip }, async t => {
  const g = await openV6(t, 1, [dual, routed])
  const [h1, outside] = [g.hostName(1), g.outside.namespace]
  await ip(outside, '-6 route add 2001:db8:77::/64 via 2001:db8:51::1')
  const all = [
    [await g.attach(dual, { container: 'd1', host: 1, address: '10.1.0.2' }), '2001:db8:51::1'],
    [await g.attach(routed, { container: 'r1', host: 1, address: '10.7.0.2' }), '2001:db8:77::2']
  ] as const
  const mtuOf = async ({ container }: Attached): Promise<string> =>
    /mtu \d+/.exec(await ip(container.namespace, `-6 route get ${SERVER_V6}`))?.[0] ?? 'not learned'
  for (const [one, seen] of all) {
    t.equal(await countReplies(one.container, SERVER_V6, { size: MTU - 48 }), 3, 'exactly the MTU passes')
    // From further outside: about a datagram of a socket that the outside sees from this address.
    await start(t, one.container.namespace, TALK, '::', SERVER_V6)
    const packet = tooBigAbout(OUTSIDE_GATEWAY_V6, seen, { from: seen, to: SERVER_V6 })
    const to = (await macIn(h1, 'eth1')).mac
    await waitFor('the container has learned it from outside', async () => {
      await inject(outside, 'br0', { to, packets: [packet] })
      return (await mtuOf(one)) === `mtu ${POISONED_MTU}`
    })
    await ip(one.container.namespace, '-6 route flush cache')
  }
  await ip(h1, 'link set eth1 mtu 1400')
  for (const [one] of all) {
    await countReplies(one.container, SERVER_V6, { size: MTU - 48, count: 1 })
    t.equal(await mtuOf(one), 'mtu 1400', 'from its host')
    t.equal(await countReplies(one.container, SERVER_V6, { size: 1400 - 48 }), 3)
  }
  await settled(t, g)
})

/** SYNs, and bare ACKs to another port, by IPv6 from each of 64,000 ports; as fast as it can, for some seconds. */
const FLOOD = `
import socket, struct, sys, time
source, target, mac, own, seconds = sys.argv[1:]
s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW); s.bind(('eth0', 0))
head = bytes.fromhex(mac.replace(':', '')) + bytes.fromhex(own.replace(':', '')) + b'\\x86\\xdd'
a, b = socket.inet_pton(socket.AF_INET6, source), socket.inet_pton(socket.AF_INET6, target)
def sum16(data): return sum(struct.unpack('!%dH' % (len(data) // 2), data))
def fold(n):
    while n >> 16: n = (n & 0xffff) + (n >> 16)
    return ~n & 0xffff
head += struct.pack('!IHBB', 0x60000000, 20, 6, 64) + a + b
end = time.monotonic() + float(seconds)
print('up', flush=True)
while time.monotonic() < end:
    for sport in range(1024, 65024):
        for port, flags in ((80, 0x02), (81, 0x10)):
            rest = struct.pack('!IIBBH', 1, 0 if flags == 2 else 1, 0x50, flags, 64000)
            tcp = struct.pack('!HH', sport, port) + rest + struct.pack('!HH', fold(sum16(a + b) + 26 + sum16(rest) + port + sport), 0)
            try: s.send(head + tcp)
            except OSError: time.sleep(0.001)
        if not sport % 100 and time.monotonic() >= end: break
print('done', flush=True)
`
const SILENT = '2001:db8:cb::99'
const [HALF_OPEN_S, UNSEEN_S] = [10, 30]

async function tracked(namespace: string): Promise<number> {
  return Number(await must('ip', ['netns', 'exec', namespace, 'sysctl', '-n', 'net.netfilter.nf_conntrack_count']))
}

/** The longest remaining time of connections to the silent address, in s, by their state. */
async function remaining(namespace: string): Promise<ReadonlyMap<string, number>> {
  // In the namespace: the table has megabytes.
  const most =
    '/dst=2001:0db8:00cb:0000:0000:0000:0000:0099 / && $5 > m[$6] { m[$6] = $5 } END { for (s in m) print s, m[s] }'
  const text = await must('ip', ['netns', 'exec', namespace, 'awk', most, '/proc/net/nf_conntrack'])
  return new Map([...text.matchAll(/^(\w+) (\d+)$/gm)].map(([, state = '', left]) => [state, Number(left)]))
}

t.test(
  'connections of IPv6 are limited, half-open ones end soon, and nobody else is harmed',
  { skip, timeout: TEST_TIMEOUT_MS },
  async t => {
    const near = { ...six, vni: 0x555 as never, name: 'near' as never }
    const g = await openV6(t, 1, [dual, near])
    const [h1, outside] = [g.hostName(1), g.outside.namespace]
    const evil = await g.attach(dual, { container: 'evil', host: 1, address: '10.1.0.2' })
    const good = await g.attach(near, { container: 'good', host: 1, address: 'fd00:1::2' })
    const router = await g.router(dual)
    // Or else the host tracks what is bridged as well: keeping that out is the guard's part.
    await run('ip', ['netns', 'exec', h1, 'sysctl', '-qw', 'net.bridge.bridge-nf-call-ip6tables=0'])
    await serve(t, outside)
    await ip(outside, `-6 route add blackhole ${SILENT}/128`)
    const own = (await macIn(evil.container.namespace, 'eth0')).mac
    const gateway = macOf(dual.vni, dual.gateway)
    const said = await start(t, evil.container.namespace, FLOOD, 'fd00:1::2', SILENT, gateway, own, '10')
    await waitFor('the flood has arrived', async () => (await tracked(router)) > 10_000)
    for (let n = 0; n < 5; n++) {
      t.equal(await ask(good.container.namespace, 'tcp', SERVER_V6, 2), '2001:db8:51::1', 'another tenant')
      t.ok(await ask(h1, 'tcp', SERVER_V6, 2), 'the host')
    }
    await waitFor('it is over', () => said().includes('done'), { timeoutMs: 60_000 })
    for (const name of [router, h1]) {
      const [count, most] = [await tracked(name), await remaining(name)]
      t.ok(count <= CONNECTIONS_OF_CONTAINER * 1.1, `${count} connections`)
      t.ok((most.get('SYN_SENT') ?? 0) > 0 && (most.get('SYN_SENT') ?? 0) <= HALF_OPEN_S, 'half-open')
      t.ok((most.get('ESTABLISHED') ?? 0) > 0 && (most.get('ESTABLISHED') ?? 0) <= UNSEEN_S, 'without a beginning')
    }
  }
)

t.test('a container has one limit for both families', { skip }, async t => {
  const g = await openV6(t, 1, [dual])
  const d1 = await g.attach(dual, { container: 'd1', host: 1, address: '10.1.0.2' })
  await serve(t, g.outside.namespace)
  const router = await g.router(dual)
  for (const to of [SERVER, SERVER_V6]) t.ok(await ask(d1.container.namespace, 'tcp', to), `${to} is reached`)
  // As if a connection over its limit had just been counted.
  const own = (await macIn(d1.container.namespace, 'eth0')).mac
  await g.exec(router, 'nft', `add element inet vxmesh_router6 full { ${own} timeout 1m }`)
  for (const to of [SERVER, SERVER_V6]) t.equal(await ask(d1.container.namespace, 'tcp', to), null, `${to} is not`)
  await g.exec(router, 'nft', 'flush set inet vxmesh_router6 full')
  await g.exec(router, 'nft', 'add element inet vxmesh_router6 crowded { "inside" timeout 1m }')
  for (const to of [SERVER, SERVER_V6])
    t.equal(await ask(d1.container.namespace, 'tcp', to), null, `${to}, for the network`)
  await g.exec(router, 'nft', 'flush set inet vxmesh_router6 crowded')
  for (const to of [SERVER, SERVER_V6]) t.ok(await ask(d1.container.namespace, 'tcp', to), `${to} is reached again`)
})

/** An iperf3 server outside. */
function serveIperf(t: Test, g: GatewayLab): void {
  const args = ['netns', 'exec', g.outside.namespace, 'iperf3', '-s', '-B', SERVER_V6]
  const server = spawn('ip', args, { stdio: 'ignore' })
  t.teardown(async () => {
    server.kill('SIGKILL')
    await once(server, 'close')
  })
}

/** IP packets of TCP over IPv6 with the outside, in bits/s. */
async function measure({ container }: Attached, ...flags: readonly string[]): Promise<number> {
  const command = ['netns', 'exec', container.namespace, 'iperf3', '-6', '-J', '-c', SERVER_V6, '-O', '1', '-t', '4']
  const measured = async (): Promise<number | undefined> => {
    const { stdout } = await run('ip', [...command, ...flags], { timeoutMs: 60_000 })
    const { end } = JSON.parse(stdout) as { end: { sum_received?: { bits_per_second: number } } }
    return end.sum_received?.bits_per_second // missing while the server is not up yet or still busy
  }
  // A full packet carries its size less 40 bytes of IPv6 and 32 of TCP with time stamps.
  return ((await waitFor('iperf3 has measured', measured, { timeoutMs: 30_000 })) * MTU) / (MTU - 72)
}

/** A sender that was starved of a processor stays below the rate: it has three attempts, none of which may exceed it. */
async function holds(t: Test, rate: number, one: Attached, ...flags: readonly string[]): Promise<void> {
  let got = 0
  for (let attempt = 0; attempt < 3 && got < rate * 0.95; attempt++) {
    got = await measure(one, ...flags)
    t.ok(got <= rate * 1.05, `${(got / 1e6).toFixed(1)} Mbit/s`)
  }
  t.ok(got >= rate * 0.95, `${(rate / 1e6).toFixed(1)} Mbit/s are used`)
}

t.test('the egress rate of a network holds for IPv6, and counters count it', { skip }, async t => {
  const g = await openV6(t, 1, [{ ...dual, egressRate: 20e6 }])
  const one = await g.attach(dual, { container: 'd1', host: 1, address: '10.1.0.2' })
  serveIperf(t, g)
  const sent = async (): Promise<number> => [...(await g.driver(1).devices.counters()).values()][0]?.txBytes ?? 0
  const before = await sent()
  await holds(t, 20e6, one)
  t.ok((await sent()) - before > 8e6, 'counted')
})

t.test('the rates and the delay of a container hold for IPv6', { skip }, async t => {
  const g = await openV6(t, 1, [dual])
  const one = await g.attach(dual, { container: 'd1', host: 1, address: '10.1.0.2' })
  serveIperf(t, g)
  const request = { endpoint: one.endpoint, network: dual, overlayMtu: MTU }
  const { devices } = g.driver(1)
  const { delay } = await devices.shapingSupport()
  await devices.shape({ ...shapeRequest(request), shaping: { ingressRate: 10e6, egressRate: 20e6, delayUs: 0 } })
  await holds(t, 20e6, one)
  await holds(t, 10e6, one, '-R')
  if (!delay) {
    t.comment('this kernel has no netem')
    return
  }
  await devices.shape({ ...shapeRequest(request), shaping: { ingressRate: 0, egressRate: 0, delayUs: 20_000 } })
  const { averageMs } = await one.container.ping(SERVER_V6, { count: 5 })
  t.ok((averageMs ?? 0) >= 40 && (averageMs ?? 0) < 60, `${averageMs} ms there and back`)
})
