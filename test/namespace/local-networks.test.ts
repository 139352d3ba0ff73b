// Another runtime's bridge on the host, like Docker's: what is behind it is not outside. ping(8), nc(1) and a UDP socket are
// the oracle.

import { spawn } from 'node:child_process'
import { once } from 'node:events'
import t, { type Test } from 'tap'
import { parsePrefix } from '#model/ip.ts'
import type { LabContainer } from '../lab/container.ts'
import { ip } from '../lab/kernel.ts'
import { SERVER } from '../lab/outside.ts'
import { countReplies } from '../lab/ping.ts'
import { cannotRun } from '../lab/requirements.ts'
import { GatewayLab, red, settled } from './gateway-lab.ts'
import { run } from '../lab/run.ts'

const skip = cannotRun()

/** Answers on TCP and UDP port 7. */
const ECHO = `
import socket, threading
u = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); u.bind(('', 7))
def udp():
    while True:
        data, peer = u.recvfrom(99); u.sendto(data, peer)
threading.Thread(target=udp, daemon=True).start()
s = socket.create_server(('', 7))
print('up', flush=True)
while True:
    c, _ = s.accept(); c.sendall(b'x'); c.close()
`
/** Exits with 0 if the port answers. */
const ASK = `
import socket, sys
kind = socket.SOCK_STREAM if sys.argv[1] == 'tcp' else socket.SOCK_DGRAM
s = socket.socket(socket.AF_INET, kind); s.settimeout(0.5); s.connect((sys.argv[2], 7))
if sys.argv[1] == 'udp': s.send(b'x')
assert s.recv(9) == b'x'
`

type Reached = { readonly ping: boolean; readonly tcp: boolean; readonly udp: boolean }
const OPEN: Reached = { ping: true, tcp: true, udp: true }
const CLOSED: Reached = { ping: false, tcp: false, udp: false }

async function reached(from: LabContainer, to: string): Promise<Reached> {
  const asks = async (kind: string): Promise<boolean> => {
    const args = ['netns', 'exec', from.namespace, '/usr/bin/python3', '-c', ASK, kind, to]
    return (await run('ip', args)).exitCode === 0
  }
  const ping = (await countReplies(from, to, { waitMs: 500 })) > 0
  return { ping, tcp: await asks('tcp'), udp: await asks('udp') }
}

/** A bridge of the host that is not ours, with a container at .2. */
async function foreignBridge(t: Test, g: GatewayLab, p: { name: string; prefix: string }): Promise<void> {
  const [h1, { name, prefix }] = [g.hostName(1), p]
  const { namespace } = await g.lab.container(name)
  await ip(h1, `link add ${name} type bridge`)
  await ip(h1, `link add p-${name} type veth peer name eth0 netns ${namespace}`)
  await ip(h1, `link set p-${name} master ${name} up`)
  await ip(h1, `link set ${name} up`)
  await ip(h1, `addr add ${prefix}.1/24 dev ${name}`)
  await ip(namespace, `addr add ${prefix}.2/24 dev eth0`)
  await ip(namespace, 'link set eth0 up')
  await ip(namespace, `route add default via ${prefix}.1`)
  const child = spawn('ip', ['netns', 'exec', namespace, '/usr/bin/python3', '-c', ECHO], {
    stdio: ['ignore', 'pipe', 'inherit']
  })
  t.teardown(() => child.kill('SIGKILL'))
  await once(child.stdout, 'data')
}

t.test('a network of the host itself is closed to containers until it is opened', { skip }, async t => {
  const g = await GatewayLab.open(1)
  t.teardown(() => g.close())
  const h1 = g.hostName(1)
  await g.exec(h1, 'sysctl', '-q', '-w', 'net.ipv4.ip_forward=1')
  const { container } = await g.attach(red, { container: 'r1', host: 1, address: '10.1.0.2' })
  const outside = async (): Promise<boolean> => (await countReplies(container, SERVER)) > 0
  t.ok(await outside(), 'the outside is reached')

  await foreignBridge(t, g, { name: 'docker0', prefix: '172.17.0' })
  t.same(await reached(container, '172.17.0.2'), CLOSED, 'closed from its first packet, before any pass')
  await g.exec(h1, 'nft', 'insert rule ip vxmesh_nat forward ip daddr 172.17.0.2 accept')
  t.same(await reached(container, '172.17.0.2'), OPEN, 'by our rule and by nothing else')
  await g.pass(1)
  t.same(await reached(container, '172.17.0.2'), CLOSED, 'which a pass restores')
  await settled(t, g)

  g.opened = [parsePrefix('172.17.0.2/32')]
  await g.pass(1)
  t.same(await reached(container, '172.17.0.2'), OPEN, 'opened by configuration')
  await foreignBridge(t, g, { name: 'docker1', prefix: '172.18.0' })
  t.same(await reached(container, '172.18.0.2'), CLOSED, 'another one stays closed')
  await settled(t, g)
  g.opened = []
  await g.pass(1)
  t.same(await reached(container, '172.17.0.2'), CLOSED, 'closed again')
  t.ok(await outside(), 'the outside is still reached')
  await settled(t, g)
})

t.test('an uplink that appears or changes is an exit after one pass', { skip }, async t => {
  const g = await GatewayLab.open(1)
  t.teardown(() => g.close())
  const h1 = g.hostName(1)
  const { container } = await g.attach(red, { container: 'r1', host: 1, address: '10.1.0.2' })
  const outside = async (): Promise<boolean> => (await countReplies(container, SERVER)) > 0
  const ways = [
    ['a route to the destination', 'route add 203.0.113.0/24 via 198.51.100.254'],
    ['a default route with two hops', 'route add default nexthop via 198.51.100.254 nexthop via 198.51.100.254'],
    ['a route of another table', 'route add default via 198.51.100.254 table 100']
  ] as const
  await ip(h1, 'rule add priority 40000 lookup 100')
  for (const [way, command] of ways) {
    await ip(h1, 'route flush root 0.0.0.0/0 proto boot scope global')
    await g.pass(1)
    t.notOk(await outside(), 'without a route there is no way')
    await ip(h1, command)
    await g.pass(1)
    t.ok(await outside(), way)
    await settled(t, g)
  }
})
