// A container must not change the host's path MTU to another host: made-up ICMP errors from every kind of network, and from a
// container of two networks. ip(8) is the oracle; the same error from the underlay shows that the host believes such a message at all.

import { spawn } from 'node:child_process'
import { once } from 'node:events'
import t, { type Test } from 'tap'
import { ipv4Of, formatIp } from '#model/ip.ts'
import { parseIpv4 } from '#model/ipv4.ts'
import { macOf, parseMac, type Mac } from '#model/mac.ts'
import type { Network } from '#model/network.ts'
import { attachRequest } from '#overlay/driver.ts'
import { ether, ETHER, ICMP, icmp, ipv4, udp, UDP } from '../lab/packets/frames.ts'
import { Sender } from '../lab/packets/raw-socket.ts'
import { ip, json } from '../lab/kernel.ts'
import { SERVER } from '../lab/outside.ts'
import { countReplies } from '../lab/ping.ts'
import { cannotRun } from '../lab/requirements.ts'
import { waitFor } from '../lab/wait.ts'
import { makeEndpoint, makeNetwork } from '../overlay/fixtures.ts'
import { GatewayLab, MTU, type Attached } from './gateway-lab.ts'
import { run } from '../lab/run.ts'

const skip = cannotRun()
const [HOST, PEER] = [parseIpv4('192.0.2.1'), parseIpv4('192.0.2.2')]
/** Serf's port: both ends of this flow are known to everybody. */
const PORT = 7946
/** Above the kernel's own minimum (net.ipv4.route.min_pmtu, 552 bytes). */
const POISONED_MTU = 600

const NETWORKS: readonly (readonly [name: string, network: Network])[] = [
  ['with egress', makeNetwork('out', 0x111)],
  ['with egress and hostAccess', makeNetwork('open', 0x222, { hostAccess: true })],
  ['with hostAccess alone', makeNetwork('inner', 0x333, { hostAccess: true, egress: false })],
  ['with neither', makeNetwork('sealed', 0x444, { egress: false })]
]

/** "Fragmentation needed" about a datagram of the host to its peer. */
function fragmentationNeeded(from: number, inner = { from: HOST as number, to: PEER as number }): Buffer {
  const quoted = ipv4({ ...inner, protocol: UDP }, udp(PORT, PORT, Buffer.alloc(8)))
  return ipv4({ from, to: HOST, protocol: ICMP }, icmp(3, 4, Buffer.concat([u32(POISONED_MTU), quoted])))
}

function u32(value: number): Buffer {
  const bytes = Buffer.alloc(4)
  bytes.writeUInt32BE(value)
  return bytes
}

/** A socket of the host that talks to its peer: the kernel ignores errors about what no socket has sent. */
async function talk(t: Test, host: string): Promise<void> {
  const script = `
import socket, time
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.bind(('192.0.2.1', ${PORT}))
print('up', flush=True)
while True:
    s.sendto(b'x', ('192.0.2.2', ${PORT})); time.sleep(0.2)
`
  const args = ['netns', 'exec', host, '/usr/bin/python3', '-c', script]
  const child = spawn('ip', args, { stdio: ['ignore', 'pipe', 'inherit'] })
  t.teardown(() => child.kill('SIGKILL'))
  await once(child.stdout, 'data')
}

async function linkOf(namespace: string, ifname = 'eth0'): Promise<{ readonly ifindex: number; readonly mac: Mac }> {
  const [row] = await json<{ ifindex: number; address: string }>('ip', namespace, `link show dev ${ifname}`)
  if (row === undefined) throw new Error(`no ${ifname} in ${namespace}`)
  return { ifindex: row.ifindex, mac: parseMac(row.address) }
}

async function send(
  t: Test,
  namespace: string,
  p: { readonly to: Mac; readonly packets: readonly Buffer[]; readonly ifname?: string }
): Promise<void> {
  const { to, packets } = p
  const { ifindex, mac } = await linkOf(namespace, p.ifname)
  const sender = new Sender(`/run/netns/${namespace}`, ifindex)
  t.teardown(() => sender.close())
  for (const packet of packets) sender.send(ether({ to, from: mac, type: ETHER.ipv4 }, packet))
}

const pathMtu = async (host: string): Promise<string> =>
  /mtu \d+/.exec(await ip(host, 'route get 192.0.2.2'))?.[0] ?? 'not learned'

/** @param from the source of the packets; default: the container's own address */
async function attack(
  t: Test,
  { endpoint, container }: Attached,
  network: Network,
  from: number = ipv4Of(endpoint.address)
): Promise<void> {
  const about = ipv4({ from, to: PEER, protocol: UDP }, udp(PORT, PORT, Buffer.alloc(8)))
  const packets = [
    fragmentationNeeded(from),
    // After a packet that creates a matching connection entry in the router, and also about the reply to that packet.
    about,
    fragmentationNeeded(from),
    fragmentationNeeded(from, { from: PEER, to: from }),
    fragmentationNeeded(from, { from: HOST, to: from })
  ]
  await send(t, container.namespace, { to: macOf(network.vni, network.gateway), packets, ifname: endpoint.ifname })
}

t.test('no ICMP error of a container lowers the host’s path MTU to another host', { skip }, async t => {
  const g = await GatewayLab.open(2)
  t.teardown(() => g.close())
  g.networks = NETWORKS.map(([, network]) => network)
  const h1 = g.hostName(1)
  const attached: Attached[] = []
  for (const [i, [, network]] of NETWORKS.entries()) {
    attached.push(await g.attach(network, { container: `c${i}`, host: 1, address: `10.1.0.${i + 2}` }))
  }
  await talk(t, h1)
  t.equal(await pathMtu(h1), 'not learned')
  for (const [i, [name, network]] of NETWORKS.entries()) {
    const one = attached[i]
    if (one === undefined) throw new Error('no container')
    await attack(t, one, network)
    const { exitCode } = await run('ip', ['netns', 'exec', h1, 'ping', '-c', '1', '-W', '1', '192.0.2.2'])
    t.equal(exitCode, 0, 'what was sent before has arrived')
    t.equal(await pathMtu(h1), 'not learned', name)
    t.equal((await countReplies(one.container, SERVER)) > 0, network.egress, 'egress is as before')
  }
  t.equal((await run('ip', ['netns', 'exec', h1, 'ping', '-c', '1', '-W', '1', '10.1.0.3'])).exitCode, 0, 'host access')

  const [out, open] = NETWORKS.map(([, network]) => network)
  if (out === undefined || open === undefined) throw new Error('no networks')
  const both = await g.attach(out, { container: 'both', host: 1, address: '10.1.0.20' })
  const second = makeEndpoint(open, { container: 'both', host: 1, address: '10.1.0.21', ifname: 'eth1' })
  g.endpoints.push(second)
  await g.pass(1)
  const more = { endpoint: second, network: open, overlayMtu: MTU, netns: both.container.netns, withRoute: false }
  await g.driver(1).devices.attach(attachRequest(more))
  for (const [one, network, from] of [
    [both, out, ipv4Of(both.endpoint.address)],
    [both, out, ipv4Of(second.address)],
    [{ ...both, endpoint: second }, open, ipv4Of(second.address)],
    [{ ...both, endpoint: second }, open, ipv4Of(both.endpoint.address)]
  ] as const) {
    await attack(t, one, network, from)
    t.equal((await run('ip', ['netns', 'exec', h1, 'ping', '-c', '1', '-W', '1', '192.0.2.2'])).exitCode, 0)
    t.equal(await pathMtu(h1), 'not learned', `of two networks, by ${network.name} from ${formatIp(from)}`)
  }

  const packets = [fragmentationNeeded(PEER)]
  await send(t, g.hostName(2), { to: (await linkOf(h1)).mac, packets })
  await waitFor(
    'the same error from the underlay is believed',
    async () => (await pathMtu(h1)) === `mtu ${POISONED_MTU}`
  )
})
