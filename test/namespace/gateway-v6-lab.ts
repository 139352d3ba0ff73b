// A lab of routers whose hosts have IPv6 as well, on both of their links; TCP, UDP and ping as probes of either family.

import { spawn } from 'node:child_process'
import { once } from 'node:events'
import type { Test } from 'tap'
import { parseIp, parseSubnet } from '#model/ip.ts'
import type { Ipv6 } from '#model/ipv6.ts'
import type { Network } from '#model/network.ts'
import { addOutsideV6 } from '../lab/outside.ts'
import { countReplies } from '../lab/ping.ts'
import { makeNetwork } from '../overlay/fixtures.ts'
import { GatewayLab } from './gateway-lab.ts'
import { run } from '../lab/run.ts'

const SUBNET_V6 = parseSubnet('fd00:1::/64')
export const dual = makeNetwork('dual', 0xabc, { subnet6: SUBNET_V6 })
/** With the same subnets. */
export const other = makeNetwork('other', 0xdef, { subnet6: SUBNET_V6 })
export const six = makeNetwork('six', 0x666, { subnet: SUBNET_V6, gateway: parseIp('fd00:1::1') })
export const routed = makeNetwork('routed', 0x777, {
  subnet: parseSubnet('10.7.0.0/16'),
  gateway: parseIp('10.7.0.1'),
  subnet6: parseSubnet('2001:db8:77::/64'),
  egressV6: 'routed'
})

/** The second address of an endpoint of `dual` that was attached with 10.1.0.<n>. */
export const mirror = (n: number): Ipv6 => `fd00:1::${n.toString(16)}` as Ipv6

export async function openV6(t: Test, hosts: number, networks: readonly Network[]): Promise<GatewayLab> {
  const g = await GatewayLab.open(hosts)
  t.teardown(() => g.close())
  g.networks = [...networks]
  await addOutsideV6(g.lab, g.outside)
  return g
}

/** Answers on TCP and UDP port 7 of both families, with the address that it was asked from. */
const ECHO = `
import socket, threading
def plain(peer): return peer[0].removeprefix('::ffff:').encode()
u = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM); u.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
u.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1); u.bind(('::', 7))
def udp():
    while True:
        _, asked, _, peer = u.recvmsg(99, 99); u.sendmsg([plain(peer)], asked, 0, peer)
threading.Thread(target=udp, daemon=True).start()
s = socket.create_server(('::', 7), family=socket.AF_INET6, dualstack_ipv6=True)
print('up', flush=True)
while True:
    c, peer = s.accept(); c.sendall(plain(peer)); c.close()
`
/** Prints what the port answers. */
const ASK = `
import socket, sys
family = socket.AF_INET6 if ':' in sys.argv[2] else socket.AF_INET
s = socket.socket(family, socket.SOCK_STREAM if sys.argv[1] == 'tcp' else socket.SOCK_DGRAM)
s.settimeout(float(sys.argv[3])); s.connect((sys.argv[2], 7))
if sys.argv[1] == 'udp': s.send(b'x')
print(s.recv(99).decode())
`

export const python = (namespace: string, script: string, ...args: readonly string[]): readonly string[] => [
  ...['netns', 'exec', namespace, '/usr/bin/python3', '-c', script],
  ...args
]

/** Runs a script until the end of the test; resolves once it has printed something. */
export async function start(
  t: Test,
  namespace: string,
  script: string,
  ...args: readonly string[]
): Promise<() => string> {
  const child = spawn('ip', python(namespace, script, ...args), { stdio: ['ignore', 'pipe', 'inherit'] })
  t.teardown(() => child.kill('SIGKILL'))
  let text = ''
  child.stdout.on('data', (chunk: Buffer) => (text += chunk.toString()))
  await once(child.stdout, 'data')
  return () => text
}

export async function serve(t: Test, ...namespaces: readonly string[]): Promise<void> {
  for (const namespace of namespaces) await start(t, namespace, ECHO)
}

/** The address that the server saw; null without an answer. */
export async function ask(from: string, kind: 'tcp' | 'udp', to: string, waitS = 1): Promise<string | null> {
  const { exitCode, stdout } = await run('ip', python(from, ASK, kind, to, String(waitS)), { timeoutMs: 60_000 })
  return exitCode === 0 ? stdout.trim() : null
}

export const ALL = 'icmp tcp udp'

/** By what an address answers. */
export async function probe(from: string, to: string, waitMs = 500): Promise<string> {
  const [ping, tcp, udp] = await Promise.all([
    countReplies({ namespace: from }, to, { count: 2, waitMs }),
    ask(from, 'tcp', to, waitMs / 1_000),
    ask(from, 'udp', to, waitMs / 1_000)
  ])
  return [ping > 0 ? 'icmp' : '', tcp === null ? '' : 'tcp', udp === null ? '' : 'udp'].filter(Boolean).join(' ')
}

/** The IPv6 settings of a host's own devices that vxmesh must leave as they were. */
export async function settingsV6(g: GatewayLab, host: number): Promise<string> {
  const pattern = String.raw`net\.ipv6\.conf\.(all|default|lo|eth.)\.(forwarding|accept_ra|disable_ipv6|proxy_ndp)`
  return g.exec(g.hostName(host), 'sysctl', '-a', '-r', pattern)
}
