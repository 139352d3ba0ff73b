// IPv6 egress with real agents, with each guard and with Open vSwitch: a second subnet that comes live, a kill under traffic, a change from translated
// to routed and back, and what is left when the network is empty.

import { join } from 'node:path'
import t from 'tap'
import { ip, must } from '../lab/kernel.ts'
import { Lab } from '../lab/lab.ts'
import { OpenVSwitch } from '../lab/open-vswitch.ts'
import { addOutside, addOutsideV6, SERVER, SERVER_V6 } from '../lab/outside.ts'
import { expectOracle } from '../lab/oracle.ts'
import { countReplies } from '../lab/ping.ts'
import { routersOf } from '../lab/routers.ts'
import { cannotRun } from '../lab/requirements.ts'
import { TEST_TIMEOUT_MS, waitFor, waitForState } from '../lab/wait.ts'
import { ask, serve } from './gateway-v6-lab.ts'

/** A neighbour is doubted after a third of a second, and forgotten after one more. */
async function doubtSoon(namespace: string, device: string): Promise<void> {
  const times = { base_reachable_time_ms: 300, delay_first_probe_time: 1, retrans_time_ms: 100 }
  for (const [name, value] of Object.entries(times))
    await must('ip', ['netns', 'exec', namespace, 'sysctl', '-qw', `net.ipv6.neigh.${device}.${name}=${value}`])
}

const noSwitch = await OpenVSwitch.cannotRun()

for (const guard of ['bpf', 'nft', 'Open vSwitch'] as const) {
  t.test(
    `guarded by ${guard}: IPv6 comes live, survives its agent, and leaves nothing`,
    {
      ...{ skip: cannotRun() || (guard === 'Open vSwitch' && noSwitch), timeout: TEST_TIMEOUT_MS }
    },
    async t => {
      const lab = await Lab.create()
      t.teardown(() => lab.destroy())
      const dir = join(lab.dir, 'ovs')
      const overlay =
        guard === 'Open vSwitch'
          ? { driver: 'ovs', ovs: { socket: join(dir, 'db.sock'), datapath: 'netdev' } }
          : { driver: guard === 'bpf' ? 'bpf' : 'linux', guard }
      const h1 = await lab.addHost({ bootstrapExpect: 1, join: [], settings: { overlay } })
      if (guard === 'Open vSwitch') {
        const ovs = await OpenVSwitch.start(h1.namespace, dir)
        t.teardown(() => ovs.stop())
        await ovs.takeUnderlay('eth0', `${h1.address}/24`)
      }
      const server = await addOutside(lab)
      await addOutsideV6(lab, server)
      const { namespace: outside } = server
      await serve(t, outside)
      const settings = (): Promise<string> =>
        must('ip', [
          'netns',
          'exec',
          h1.namespace,
          'sysctl',
          '-a',
          '-r',
          'ipv6.conf.(all|default|eth.).(forwarding|accept_ra)$'
        ])
      const before = await settings()
      await h1.startAgent()
      await h1.waitReady()
      if (guard !== 'Open vSwitch') t.match(await h1.status(), { overlay: { guard } })

      await h1.cliJson('network', 'create', 'red', '--subnet', '10.1.0.0/24')
      const [one] = await lab.containers(['one'])
      if (one === undefined) throw new Error('no container')
      await h1.attach(one, 'red')
      t.equal(await settings(), before, 'IPv4 alone touches nothing of IPv6')
      const ping = one.startPing(SERVER, { count: 2_000, intervalMs: 10 })
      t.match(await h1.cliJson('network', 'update', 'red', '--add-subnet', '2001:db8:77::/64'), { egressV6: 'nat' })
      await waitFor(
        'the container has its way out',
        async () => (await ask(one.namespace, 'tcp', SERVER_V6)) !== null,
        {
          timeoutMs: 10_000
        }
      )
      t.equal(await ask(one.namespace, 'tcp', SERVER_V6), '2001:db8:51::1')
      t.equal(await countReplies(one, SERVER), 3, 'IPv4 goes on')
      ping.stop()
      const kept4 = await ping.result
      t.same(kept4.gaps, [], `no packet of IPv4 is lost (${kept4.received} of ${kept4.sent} answered)`)
      t.equal(await settings(), before.replace('all.forwarding = 0', 'all.forwarding = 1'))
      if (guard !== 'Open vSwitch') await expectOracle(lab)

      const through = one.startPing(SERVER_V6, { count: 2_000, intervalMs: 10 })
      for (let kill = 0; kill < 2; kill++) {
        await h1.killAgent()
        await h1.startAgent()
        await h1.waitReady()
      }
      t.equal(await countReplies(one, SERVER_V6), 3, 'IPv6 goes on')
      through.stop()
      const killed = await through.result
      t.same(killed.gaps, [], `no packet of IPv6 is lost by a kill (${killed.received} of ${killed.sent} answered)`)

      // The container forgets the router's link-local address, from which it is asked, and each forgets the other's own.
      const [router = ''] = await routersOf([h1.namespace])
      for (const [namespace, device] of [
        [one.namespace, 'eth0'],
        [router, 'inside']
      ] as const)
        await doubtSoon(namespace, device)
      const doubting = one.startPing(SERVER_V6, { count: 300, intervalMs: 10 })
      const doubted = await doubting.result
      t.equal(doubted.received, doubted.sent, 'no packet is lost while neighbours are doubted and forgotten')
      t.match(await ip(router, '-6 neigh show dev inside'), /^2001:db8:77::2 /m)

      await ip(outside, '-6 route add 2001:db8:77::/64 via 2001:db8:51::1')
      for (const [mode, source] of [
        ['routed', '2001:db8:77::2'],
        ['nat', '2001:db8:51::1']
      ] as const) {
        t.match(await h1.cliJson('network', 'update', 'red', '--egress-v6', mode), { egressV6: mode })
        await waitFor(mode, async () => (await ask(one.namespace, 'tcp', SERVER_V6)) === source)
      }
      t.equal(await countReplies(one, SERVER), 3)

      await h1.cliJson('network', 'create', 'blue', '--subnet', 'fd00:b::/64')
      const [two] = await lab.containers(['two'])
      if (two === undefined) throw new Error('no container')
      await h1.attach(two, 'blue')
      await waitFor('IPv6 alone has its way out', async () => (await countReplies(two, SERVER_V6, { waitMs: 500 })) > 0)
      const across = two.startPing(SERVER_V6, { count: 2_000, intervalMs: 5 })
      await h1.cliJson('network', 'update', 'blue', '--add-subnet', '10.2.0.0/24')
      await waitFor('it has IPv4, too', async () => (await countReplies(two, SERVER, { waitMs: 500 })) > 0)
      t.equal(await countReplies(two, SERVER_V6), 3, 'IPv6 goes on')
      across.stop()
      const kept6 = await across.result
      t.same(kept6.gaps, [], `no packet of IPv6 is lost (${kept6.received} of ${kept6.sent} answered)`)
      await h1.detach(two)
      await waitForState('no drift', () => h1.status(), { overlay: { drift: 0, degraded: [] } })
      await h1.detach(one)
      await waitFor('nothing is left', async () => (await settings()) === before)
      t.notMatch((await h1.exec('nft', 'list', 'ruleset')).stdout, 'vxmesh_nat')
    }
  )
}
