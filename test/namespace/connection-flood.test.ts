// A container that floods its router with half-open connections: other tenants, their traffic across hosts, and the host
// itself go on, and the half-open connections are gone in seconds. The kernel's count of connections, ping(8) and Python's
// sockets are the oracle.

import { spawn } from 'node:child_process'
import { once } from 'node:events'
import t, { type Test } from 'tap'
import { macOf } from '#model/mac.ts'
import { CONNECTIONS_OF_CONTAINER } from '#overlay/plan/gateway/limits.ts'
import { ip, must } from '../lab/kernel.ts'
import { SERVER } from '../lab/outside.ts'
import { cannotRun } from '../lab/requirements.ts'
import { TEST_TIMEOUT_MS, waitFor } from '../lab/wait.ts'
import { blue, GatewayLab, red, type Attached } from './gateway-lab.ts'
import { run } from '../lab/run.ts'

const TRIES = 10
/** Outside, and answers nothing. */
const SILENT = '203.0.113.99'
const PORT = 7
/** A tenth more than the limit: connections are sampled, and the kernel frees the entries of ended ones when it comes to it. */
const MOST = CONNECTIONS_OF_CONTAINER * 1.1
const [HALF_OPEN_S, UNSEEN_S] = [10, 30]

/** A SYN, and a bare ACK to another port, from each of 64,000 ports to each of some ports; as fast as it can, for some seconds. */
const FLOOD = `
import socket, struct, sys, time
source, target, mac, own, seconds = sys.argv[1:]
s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW); s.bind(('eth0', 0))
ether = bytes.fromhex(mac.replace(':', '')) + bytes.fromhex(own.replace(':', '')) + b'\\x08\\x00'
a, b = socket.inet_aton(source), socket.inet_aton(target)
def sum16(data): return sum(struct.unpack('!%dH' % (len(data) // 2), data))
def fold(n):
    while n >> 16: n = (n & 0xffff) + (n >> 16)
    return ~n & 0xffff
ip = struct.pack('!BBHHHBBH', 0x45, 0, 40, 0, 0x4000, 64, 6, 0) + a + b
ip = ip[:10] + struct.pack('!H', fold(sum16(ip))) + ip[12:]
head = ether + ip
end, sent = time.monotonic() + float(seconds), 0
print('up', flush=True)
while time.monotonic() < end:
    for first in (80, 443, 8080, 8443):
        for sport in range(1024, 65024):
            for port, flags in ((first, 0x02), (first + 1, 0x10)):
                rest = struct.pack('!IIBBH', 1, 0 if flags == 2 else 1, 0x50, flags, 64000)
                base = sum16(a + b) + 6 + 20 + sum16(rest) + port
                tcp = struct.pack('!HH', sport, port) + rest + struct.pack('!HH', fold(base + sport), 0)
                try: s.send(head + tcp); sent += 1
                except OSError: time.sleep(0.001)
            if not sport % 100 and time.monotonic() >= end: print(sent, flush=True); sys.exit()
`
const ECHO = `
import socket, sys, threading
u = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); u.bind((sys.argv[1], ${PORT}))
def udp():
    while True:
        data, peer = u.recvfrom(99); u.sendto(data, peer)
threading.Thread(target=udp, daemon=True).start()
s = socket.create_server(('', ${PORT}))
print('up', flush=True)
while True:
    c, _ = s.accept(); c.sendall(b'x'); c.close()
`
/** Prints how many of the tries were answered. */
const ASK = `
import socket, sys, time
kind, target = sys.argv[1:]; answered = 0
for _ in range(${TRIES}):
    s = socket.socket(socket.AF_INET, socket.SOCK_STREAM if kind == 'tcp' else socket.SOCK_DGRAM); s.settimeout(2)
    try:
        s.connect((target, ${PORT}))
        if kind == 'udp': s.send(b'x')
        answered += s.recv(9) == b'x'
    except OSError: pass
    s.close(); time.sleep(0.1)
print(answered)
`

const python = (namespace: string, script: string, ...args: readonly string[]): readonly string[] => [
  ...['netns', 'exec', namespace, '/usr/bin/python3', '-c', script],
  ...args
]

async function start(t: Test, namespace: string, script: string, ...args: readonly string[]): Promise<() => string> {
  const child = spawn('ip', python(namespace, script, ...args), { stdio: ['ignore', 'pipe', 'inherit'] })
  t.teardown(() => child.kill('SIGKILL'))
  let text = ''
  child.stdout.on('data', (chunk: Buffer) => (text += chunk.toString()))
  await once(child.stdout, 'data')
  return () => text
}

async function answered(from: string, kind: 'tcp' | 'udp' | 'ping', to: string): Promise<number> {
  if (kind === 'ping') {
    const args = ['netns', 'exec', from, 'ping', '-n', '-q', '-c', String(TRIES), '-i', '0.1', '-W', '2', to]
    return Number(/(\d+) received/.exec((await run('ip', args, { timeoutMs: 60_000 })).stdout)?.[1])
  }
  return Number((await run('ip', python(from, ASK, kind, to), { timeoutMs: 60_000 })).stdout)
}

/** The remaining times of TCP connections to the silent address, in s, by their state. */
async function remaining(namespace: string): Promise<ReadonlyMap<string, number>> {
  const text = await must('ip', ['netns', 'exec', namespace, 'cat', '/proc/net/nf_conntrack'])
  const most = new Map<string, number>()
  for (const [, left, state = ''] of text.matchAll(/ tcp +6 (\d+) ([A-Z_]+) .*dst=203\.0\.113\.99 /g)) {
    most.set(state, Math.max(most.get(state) ?? 0, Number(left)))
  }
  return most
}

async function tracked(namespace: string): Promise<number> {
  return Number(await must('ip', ['netns', 'exec', namespace, 'sysctl', '-n', 'net.netfilter.nf_conntrack_count']))
}

const skip = cannotRun()

t.test('a flood of half-open connections harms nobody else', { skip, timeout: TEST_TIMEOUT_MS }, async t => {
  const g = await GatewayLab.open(2)
  t.teardown(() => g.close())
  for (const driver of g.drivers) await driver.setGuard(4789)
  const attacker = await g.attach(red, { container: 'evil', host: 1, address: '10.1.0.2' })
  const near = await g.attach(blue, { container: 'near', host: 1, address: '10.1.0.2' })
  const far = await g.attach(blue, { container: 'far', host: 2, address: '10.1.0.3' })
  const [h1, router] = [g.hostName(1), await g.router(red)]
  const names = [g.outside.namespace, h1, near.container.namespace, far.container.namespace]
  for (const name of names) await start(t, name, ECHO, name === g.outside.namespace ? SERVER : '')
  await ip(g.outside.namespace, `route add blackhole ${SILENT}/32`)
  const probes = probesOf(g, near, far)
  const all = async (): Promise<Record<string, number>> => {
    const found = probes.map(async ([what, ...probe]) => [what, await answered(...probe)] as const)
    return Object.fromEntries(await Promise.all(found))
  }
  const expected = Object.fromEntries(probes.map(([what]) => [what, TRIES]))
  t.same(await all(), expected, 'before')

  const own = (await attacker.container.link())?.mac ?? ''
  const gateway = macOf(red.vni, red.gateway)
  const sent = await start(t, attacker.container.namespace, FLOOD, '10.1.0.2', SILENT, gateway, own, '15')
  await waitFor('the flood has arrived', async () => (await tracked(router)) > 10_000)
  t.same(await all(), expected, 'during the flood')
  for (const name of [router, h1]) {
    const most = await remaining(name)
    t.ok((most.get('SYN_SENT') ?? 0) > 0, 'there are half-open connections')
    t.ok((most.get('SYN_SENT') ?? 0) <= HALF_OPEN_S, `the last of them ends in ${most.get('SYN_SENT')} s`)
    t.ok((most.get('ESTABLISHED') ?? 0) > 0, 'and connections without a beginning')
    t.ok((most.get('ESTABLISHED') ?? 0) <= UNSEEN_S, `a made-up one in ${most.get('ESTABLISHED')} s`)
  }
  const [ofRouter, ofHost] = [await tracked(router), await tracked(h1)]
  t.comment(`${ofRouter} in the router, ${ofHost} on the host, ${sent()}`)
  for (const count of [ofRouter, ofHost]) t.ok(count <= MOST, `${count} connections`)
  await waitFor('the flood is over', () => /^\d+$/m.test(sent()), { timeoutMs: 60_000 })
  t.same(await all(), expected, 'right after it')
  await waitFor(
    'nothing of it is left',
    async () => [...(await remaining(router)), ...(await remaining(h1))].length === 0,
    {
      timeoutMs: (UNSEEN_S + 5) * 1_000
    }
  )
})

type Probe = readonly [what: string, from: string, kind: 'tcp' | 'udp' | 'ping', to: string]

function probesOf(g: GatewayLab, near: Attached, far: Attached): readonly Probe[] {
  const [h1, outside] = [g.hostName(1), g.outside.namespace]
  const [n, f] = [near.container.namespace, far.container.namespace]
  return [
    ['another tenant to the outside, TCP', n, 'tcp', SERVER],
    ['another tenant to the outside, UDP', n, 'udp', SERVER],
    ['the host to the outside', h1, 'tcp', SERVER],
    ['the outside to the host', outside, 'tcp', '198.51.100.1'],
    ['another tenant across hosts, TCP', n, 'tcp', '10.1.0.3'],
    ['another tenant across hosts, UDP', n, 'udp', '10.1.0.3'],
    ['another tenant across hosts, ping', f, 'ping', '10.1.0.2']
  ]
}
