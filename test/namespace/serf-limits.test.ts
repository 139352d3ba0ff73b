// The limits of Serf's port against a real kernel: floods by a stranger, by forged sources and by a member; joins through them.

import t, { type Test } from 'tap'
import { parseIp, type Family } from '#model/ip.ts'
import { LinuxDriver } from '#overlay/linux/driver.ts'
import type { DoctorView } from '#model/views.ts'
import { runPass, type Look } from '#overlay/pass.ts'
import { vxlanUnderlay } from '#overlay/plan/underlay/underlay.ts'
import { systemClock } from '#platform/clock.ts'
import type { LabHost } from '../lab/host.ts'
import { ipBatch } from '../lab/kernel.ts'
import { Lab } from '../lab/lab.ts'
import { passDone } from '../lab/pass-done.ts'
import { cannotRun } from '../lab/requirements.ts'
import { waitFor } from '../lab/wait.ts'
import { figure, parseExposition } from '../metrics/exposition.ts'
import { run } from '../lab/run.ts'

const skip = cannotRun()
const PORT = 7946
const FLOOD = 20_000

/** Sends datagrams of garbage as fast as it can: with a range, from forged sources; or from the listed ones in turn. Prints how many. */
const SEND = `
import socket, struct, sys
to, count, size, forged, own = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]), sys.argv[5:]
if forged:
    s = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
    for n in range(count):
        source = struct.pack('!I', 0x0a640000 + n % forged)
        udp = struct.pack('!HHHH', 7946, ${PORT}, 8 + size, 0) + bytes(size)
        s.sendto(struct.pack('!BBHHHBBH', 0x45, 0, 20 + len(udp), 0, 0, 64, 17, 0) + source + socket.inet_aton(to) + udp, (to, 0))
else:
    ss = [socket.socket(socket.AF_INET6 if ':' in to else socket.AF_INET, socket.SOCK_DGRAM) for _ in own or ['']]
    for s, address in zip(ss, own): s.bind((address, 0))
    for n in range(count): ss[n % len(ss)].sendto(bytes(size), (to, ${PORT}))
print(count)
`
/** Counts the datagrams that a socket receives until none has come for a second. */
const COUNT = `
import socket, sys
s = socket.socket(socket.AF_INET6 if ':' in sys.argv[1] else socket.AF_INET, socket.SOCK_DGRAM)
s.setsockopt(socket.SOL_SOCKET, 33, 64 << 20)
s.bind((sys.argv[1], ${PORT})); print('up', flush=True); s.settimeout(20); n = 0
try:
    while True:
        s.recv(65536); n += 1; s.settimeout(1)
except TimeoutError: print(n)
`
const CONNECT = `
import socket, sys
to, count = sys.argv[1], int(sys.argv[2])
ss = []
for n in range(count):
    s = socket.socket(); s.setblocking(False); s.connect_ex((to, ${PORT})); ss.append(s)
import time; time.sleep(0.5)
n = 0
for s in ss:
    try: s.getpeername(); n += 1
    except OSError: pass
print(n)
`

const python = async (
  { namespace }: LabHost,
  script: string,
  ...args: readonly (string | number)[]
): Promise<number> => {
  const argv = ['netns', 'exec', namespace, '/usr/bin/python3', '-c', script, ...args.map(String)]
  const { stdout, stderr, exitCode } = await run('ip', argv, { timeoutMs: 60_000 })
  if (exitCode !== 0) throw new Error(stderr)
  return Number(stdout.split('\n').findLast(line => line !== ''))
}

/** How many of the datagrams that `send` causes arrive at the host's Serf port. */
async function arrivals(host: LabHost, send: () => Promise<unknown>): Promise<number> {
  const counting = python(host, COUNT, host.address)
  await waitFor('the port is bound', async () => (await host.exec('ss', '-Hlun', `sport = ${PORT}`)).stdout !== '')
  await send()
  return counting
}

const lookWith = (members: readonly string[], mayRemove = true): Look => ({
  scope: null,
  trust: false,
  mayRemove,
  desired: {
    host: () => ({ networks: new Map(), peers: new Map(), memberAddresses: members.map(member => parseIp(member)) }),
    gateways: () => {
      throw new Error('not asked for')
    }
  }
})

async function limited(
  t: Test,
  family: Family = 'ipv4'
): Promise<{ lab: Lab; host: LabHost; other: LabHost; driver: LinuxDriver }> {
  const lab = await Lab.create({ hosts: 2, family })
  t.teardown(() => lab.destroy())
  const [host, other] = [lab.host(1), lab.host(2)]
  const driver = LinuxDriver.open({ underlay: vxlanUnderlay(host.vtep), hostNetns: host.netns, clock: systemClock })
  t.teardown(() => driver.close())
  t.equal(await driver.setSerfLimits({ bind: host.vtep, port: PORT }), null)
  return { lab, host, other, driver }
}

const keep = async (driver: LinuxDriver, look: Look): Promise<readonly string[]> =>
  passDone(
    await runPass(
      driver.parts.filter(({ concern }) => concern === 'filter'),
      look
    )
  )

t.test('a stranger’s flood of datagrams reaches Serf’s port at its limit alone, and is counted', { skip }, async t => {
  const { host, other, driver } = await limited(t)
  t.strictSame(driver.serfDrops(), { stranger: 0, member: 0 })
  const came = await arrivals(host, () => python(other, SEND, host.address, FLOOD, 100, 0))
  t.ok(came >= 400 && came < 2_000, `${came} of ${FLOOD} arrived`)
  t.equal(driver.serfDrops()?.stranger, FLOOD - came)
  t.comment(`stranger: ${came} of ${FLOOD}`)
})

t.test('forged sources share one limit, however many they are', { skip }, async t => {
  const { host, other, driver } = await limited(t)
  await other.exec('sysctl', '-qw', 'net.ipv4.ip_forward=1')
  for (const key of ['all', 'default', 'eth0']) await host.exec('sysctl', '-qw', `net.ipv4.conf.${key}.rp_filter=0`)
  await host.exec('ip', 'route', 'add', '10.100.0.0/16', 'via', other.address)
  const came = await arrivals(host, () => python(other, SEND, host.address, FLOOD, 100, 60_000))
  t.ok(came >= 4_000 && came < 10_000, `${came} of ${FLOOD} arrived`)
  t.equal(driver.serfDrops()?.stranger, FLOOD - came)
  t.comment(`forged: ${came} of ${FLOOD}`)
})

t.test('a member meets no limit at a thousand datagrams at once, and has one of its own', { skip }, async t => {
  const { host, other, driver } = await limited(t)
  t.strictSame(await keep(driver, lookWith([other.address])), [
    `add ${other.address} to set members of inet vxmesh_serf`
  ])
  t.equal(await arrivals(host, () => python(other, SEND, host.address, 1_000, 1_400, 0)), 1_000)
  t.strictSame(driver.serfDrops(), { stranger: 0, member: 0 })
  const many = 100_000
  const came = await arrivals(host, () => python(other, SEND, host.address, many, 10, 0))
  t.equal(driver.serfDrops()?.member, many - came)
  t.comment(`member: ${came} of ${many}`)
})

t.test('over IPv6 a /64 of strangers has one limit, and a member in it its own', { skip }, async t => {
  const { host, other, driver } = await limited(t, 'ipv6')
  const inLink = Array.from({ length: 32 }, (_, n) => `2001:db8::ff:${n + 1}`)
  const apart = '2001:db8:0:1::1'
  await ipBatch(
    [...inLink, apart].map(address => `addr add ${address}/128 dev eth0 nodad`),
    other.namespace
  )
  const came = await arrivals(host, () => python(other, SEND, host.address, FLOOD, 100, 0, ...inLink))
  t.ok(came >= 400 && came < 2_000, `${came} of ${FLOOD} from ${inLink.length} addresses arrived`)
  t.equal(driver.serfDrops()?.stranger, FLOOD - came)
  await python(other, SEND, host.address, FLOOD, 100, 0, ...inLink)
  const fromApart = await arrivals(host, () => python(other, SEND, host.address, 390, 100, 0, apart))
  t.equal(fromApart, 390, 'another /64 is another stranger')
  await keep(driver, lookWith([other.address]))
  const before = driver.serfDrops()
  const ofMember = await arrivals(host, () => python(other, SEND, host.address, 1_000, 1_200, 0, other.address))
  t.equal(ofMember, 1_000)
  t.strictSame(driver.serfDrops(), before)
  t.match((await host.exec('nft', 'list', 'set', 'inet', 'vxmesh_serf', 'members')).stdout, other.address)
})

t.test('a stranger’s connections are limited, those of the host itself are not', { skip }, async t => {
  const { host, other, driver } = await limited(t)
  const served = await python(other, CONNECT, host.address, 5)
  t.equal(served, 0, 'nothing listens')
  const serve = host.exec('timeout', '20', '/usr/bin/python3', '-c', LISTEN, host.address)
  await waitFor('the port listens', async () => (await host.exec('ss', '-Hltn', `sport = ${PORT}`)).stdout !== '')
  const came = await python(other, CONNECT, host.address, 400)
  t.ok(came >= 100 && came <= 160, `${came} of 400 connected`)
  t.ok((driver.serfDrops()?.stranger ?? 0) >= 240)
  t.equal(await python(host, CONNECT, host.address, 200), 200)
  await serve
})

t.test('an agent that starts again keeps the members, and a pass repairs the table and its sets', { skip }, async t => {
  const { host, other, driver } = await limited(t)
  await keep(driver, lookWith([other.address]))
  await python(other, SEND, host.address, 100, 10, 0)
  t.strictSame(await keep(driver, lookWith([other.address])), [], 'the kernel’s own elements are no difference')

  const next = LinuxDriver.open({ underlay: vxlanUnderlay(host.vtep), hostNetns: host.netns, clock: systemClock })
  t.teardown(() => next.close())
  await next.setSerfLimits({ bind: host.vtep, port: PORT })
  t.match((await host.exec('nft', 'list', 'set', 'inet', 'vxmesh_serf', 'members')).stdout, other.address)
  t.strictSame(await keep(next, lookWith([], false)), [], 'while the state may be stale')
  t.strictSame(await keep(next, lookWith([])), [`delete ${other.address} from set members of inet vxmesh_serf`])
  await host.nft(['flush chain inet vxmesh_serf stranger'])
  t.strictSame(await keep(next, lookWith([other.address])), ['install inet vxmesh_serf with 1 elements'])
  t.strictSame(await keep(next, lookWith([other.address])), [])
})

t.test('a host joins while strangers flood the port; metrics and doctor count the flood', { skip }, async t => {
  const lab = await Lab.create()
  t.teardown(() => lab.destroy())
  const [server] = await lab.addServers(1)
  if (server === undefined) throw new Error('no server')
  const stranger = await lab.addHost()
  const floods = [0, 60_000].map(forged => python(stranger, SEND, server.address, 150_000, 100, forged))
  const joining = await lab.addClient()
  await joining.waitReady()
  const finding = await waitFor('doctor names the flood', async () => {
    const { stdout } = await server.cli('doctor', '--config', server.configFile, '-o', 'json')
    const { findings } = JSON.parse(stdout) as DoctorView
    return findings.find(({ id, level }) => id === 'serf.flood' && level === 'warning')
  })
  t.match(finding.found, /^\d+ packets of strangers and 0 of members dropped/)
  await Promise.all(floods)
  const script = `fetch('http://127.0.0.1:7380/metrics').then(async r => console.log(await r.text()))`
  const { stdout } = await server.exec(process.execPath, '-e', script)
  const dropped = (sender: string): number =>
    figure(parseExposition(stdout), 'vxmesh_serf_dropped_packets_total', { sender })
  t.ok(dropped('stranger') > 50_000)
  t.equal(dropped('member'), 0)
  t.match(await server.members(), [{ status: 'alive' }, { status: 'alive' }])
})

/** Accepts until nobody has connected for five seconds. */
const LISTEN = `
import socket, sys, time, threading
s = socket.socket(); s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1); s.bind((sys.argv[1], ${PORT})); s.listen(1024)
s.settimeout(5); kept = []
try:
    while True: kept.append(s.accept()[0])
except TimeoutError: pass
`
