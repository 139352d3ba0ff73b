// A cluster whose hosts speak IPv6 alone among themselves: founded, joined, examined, cut, killed and healed.

import t from 'tap'
import { numberOfIpv6, parseIpv6 } from '#model/ipv6.ts'
import type { DoctorView, FindingView } from '#model/views.ts'
import { bare } from '../lab/container.ts'
import { startFlow } from '../lab/flow.ts'
import { VXMESH, type LabHost } from '../lab/host.ts'
import { ip, ipBatch, readFdb } from '../lab/kernel.ts'
import { expectOracle } from '../lab/oracle.ts'
import { cannotRun } from '../lab/requirements.ts'
import { TEST_TIMEOUT_MS, waitFor } from '../lab/wait.ts'
import { meshLab, nth } from './mesh-lab.ts'

t.setTimeout(TEST_TIMEOUT_MS)
/** VXLAN, UDP, IPv6 and the inner Ethernet header. */
const OVERHEAD = 70
/** IPv4 and ICMP headers. */
const PING_HEADERS = 28

t.test('an underlay of IPv6', { skip: cannotRun() }, async t => {
  const { lab, containers, endpoints } = await meshLab(t, { servers: 3, attached: 3, family: 'ipv6' })
  const [h1, h2, h3] = [lab.host(1), lab.host(2), lab.host(3)]
  const [one, two] = [nth(containers, 1), nth(containers, 2)]
  const addressOf = (n: number): string => bare(nth(endpoints, n).address)
  const reaches = async (to: string, count = 5): Promise<number> =>
    (await one.ping(to, { count, intervalMs: 50 })).received
  const doctor = async (host: LabHost): Promise<readonly FindingView[]> => {
    const { stdout } = await host.cli('doctor', '--config', host.configFile, '-o', 'json')
    return (JSON.parse(stdout) as DoctorView).findings
  }
  const says = (id: string, level: FindingView['level'], found: RegExp): Promise<FindingView> =>
    waitFor(
      `${id} ${level}`,
      async () => (await doctor(h1)).find(one => one.id === id && one.level === level && found.test(one.found)),
      { timeoutMs: 60_000, explain: () => h1.logTail() }
    )

  await t.test('three servers found a cluster without an IPv4 address on the underlay', async t => {
    for (const host of lab.hosts) {
      t.notMatch(await ip(host.namespace, '-4 addr show dev eth0'), /inet/)
      const members = await host.members()
      t.strictSame(
        members.map(({ address, vtep }) => [address, vtep]).sort(),
        [1, 2, 3].map(n => [`2001:db8::${n}`, `2001:db8::${n}`])
      )
    }
    const peers = await h1.cliJson<{ address: string }[]>('raft', 'peers')
    t.ok(peers.every(({ address }) => /^\[2001:db8::[123]\]:7947$/.test(address)))
    await expectOracle(lab)
  })

  await t.test('tunnels, their entries and the guard are of IPv6', async t => {
    const [tunnel] = JSON.parse(await ip(h1.namespace, '-j -d link show type vxlan')) as {
      readonly linkinfo: { readonly info_data: Readonly<Record<string, unknown>> }
    }[]
    t.match(tunnel?.linkinfo.info_data, { local6: '2001:db8::1', ttl: 64, udp_zero_csum6_tx: false })
    const flood = (await readFdb(h1.namespace)).filter(({ mac }) => mac === '00:00:00:00:00:00')
    t.strictSame(flood.map(({ dst }) => dst).sort(), ['2001:db8::2', '2001:db8::3'])
    const { stdout } = await h1.exec('nft', 'list', 'set', 'inet', 'vxmesh_underlay', 'vteps')
    for (const vtep of ['2001:db8::2', '2001:db8::3']) t.match(stdout, numberOfIpv6(parseIpv6(vtep)).toString(16))
  })

  await t.test('containers get 70 bytes less than the underlay takes, and exactly that passes', async t => {
    const whole = async (size: number): Promise<number> =>
      (await one.ping(addressOf(2), { count: 3, size: size - PING_HEADERS, dontFragment: true, waitMs: 300 })).received
    for (const underlayMtu of [1500, 9000, 1400]) {
      const mtu = underlayMtu - OVERHEAD
      await lab.setUnderlayMtu(underlayMtu)
      for (const container of containers) {
        await waitFor(`${container.name} follows to ${mtu}`, async () => (await container.link())?.mtu === mtu)
      }
      t.equal(await whole(mtu), 3, `exactly ${mtu} bytes pass`)
      t.equal(await whole(mtu + 1), 0, 'one more byte does not')
    }
    await lab.setUnderlayMtu(1500)
    await expectOracle(lab)
  })

  await t.test('no eBPF programs run, and status and doctor say why', async t => {
    const { overlay } = await h1.status()
    t.match(overlay, { driver: 'linux', guard: 'nft', noPrograms: /an underlay of IPv4/ })
    t.match((await h1.cli('status')).stdout, /^no eBPF +the eBPF programs take an underlay of IPv4/m)
    await says('kernel.programs', 'warning', /an underlay of IPv4/)
  })

  await t.test('doctor probes ports, path and tunnel', async t => {
    await says('mtu', 'ok', /full size passes to 2 hosts/)
    await says('tunnel', 'ok', /VXLAN reaches 2 hosts/)
    await says('ports', 'ok', /2 hosts/)
    await ipBatch(['link set eth0 mtu 1400'], h3.namespace)
    const { found, todo } = await says('mtu', 'failed', /to h3 1[34]\d\d of 1500 bytes pass/)
    const passes = Number(/h3 (\d+) of/.exec(found)?.[1])
    t.match(todo, `overlay.mtu: ${passes - OVERHEAD} on all hosts`)
    await ipBatch(['link set eth0 mtu 1500'], h3.namespace)
    await says('mtu', 'ok', /./)
    await h2.dropFrom(h1, [7946])
    await says('ports', 'failed', /h2 serf \[2001:db8::2\]:7946: no answer/)
    await h2.heal()
    await says('ports', 'ok', /./)
  })

  await t.test('a client joins by the plain `serf join`', async t => {
    const client = await lab.addHost({ role: 'client' })
    await client.startAgent()
    await waitFor('its API answers', async () => (await client.status()).host === client.name)
    const join = await client.exec('serf', 'join', `[${h1.address}]`)
    t.equal(join.exitCode, 0, join.stderr)
    await client.waitReady()
    const container = await lab.container('c4')
    const view = await client.attach(container, 'red')
    t.equal(await reaches(view.address), 5)
    await expectOracle(lab)
  })

  await t.test('a host with an IPv4 address is refused in words', async t => {
    const other = await lab.addHost({ role: 'client', bind: '192.0.2.9' })
    lab.hosts.pop()
    await ipBatch(['addr add 192.0.2.9/24 dev eth0'], other.namespace)
    await other.startAgent()
    await waitFor('its API answers', async () => (await other.status()).host === other.name)
    const { exitCode, stderr } = await other.cli('join', h1.address)
    t.equal(exitCode, 2)
    t.match(stderr, /2001:db8::1\]? and bind, 192.0.2.9, must be of one family/)
    await other.stopAgent()
    for (const [settings, what] of [
      [{ join: [h1.address] }, /join: 2001:db8::1 and bind, 192.0.2.9/],
      [{ overlay: { vtep: other.address } }, /overlay.vtep: 2001:db8::5 and bind, 192.0.2.9/],
      [{ overlay: { driver: 'bpf' }, bind: other.address }, /overlay.driver: must not be bpf/],
      [{ bind: 'fe80::1' }, /bind: must be a unicast address that is valid beyond one link/]
    ] as const) {
      await other.configure({ clusterKeyFile: lab.keyFile, role: 'client', bind: '192.0.2.9', settings })
      const ended = await other.exec('timeout', '20', VXMESH, 'agent', '--config', other.configFile)
      t.equal(ended.exitCode, 2, ended.stderr)
      t.match(ended.stderr, what)
    }
  })

  await t.test('a killed host is missed, its traffic is back with it, and no other packet is lost', async t => {
    const ends = { from: { namespace: one.namespace }, to: { namespace: two.namespace }, address: addressOf(2) }
    const flow = await startFlow({ ...ends, packetsPerSecond: 500 })
    await h3.killHost()
    await waitFor('it is failed', async () => (await h1.members()).some(({ status }) => status === 'failed'), {
      timeoutMs: 30_000
    })
    await h1.api.call('POST', '/v1/networks', { name: 'meanwhile', subnet: '10.7.0.0/24' })
    await h3.linkUp()
    await h3.startAgent()
    await h3.waitReady(60_000)
    t.equal(await reaches(addressOf(3)), 5)
    const { sent, lost, tcpAlive } = await flow.stop()
    t.match({ lost, tcpAlive }, { lost: 0, tcpAlive: true }, `${sent} packets`)
    await expectOracle(lab, { timeoutMs: 60_000 })
  })
})
