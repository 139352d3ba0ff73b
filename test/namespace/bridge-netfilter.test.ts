// Hosts on which Kubernetes has set bridge-nf-call-iptables and bridge-nf-call-ip6tables to 1, and another program translates
// addresses: what containers send each other is neither translated nor tracked, in either family. ping(8) and the kernel's count
// of connections are the oracle.

import { existsSync } from 'node:fs'
import t from 'tap'
import { countReplies, type ReplyOptions } from '../lab/ping.ts'
import { cannotRun } from '../lab/requirements.ts'
import { blue, containerOf, openGuardLab, nft, PORT, red, setGuard } from './guard-lab.ts'
import { ip, must } from '../lab/kernel.ts'
import { parseSubnet } from '#model/ip.ts'
import { SERVER, SERVER_V6 } from '../lab/outside.ts'
import { makeNetwork } from '../overlay/fixtures.ts'
import { shut } from './gateway-lab.ts'
import { mirror, openV6 } from './gateway-v6-lab.ts'
import { run } from '../lab/run.ts'

const SWITCHES = ['net.bridge.bridge-nf-call-iptables', 'net.bridge.bridge-nf-call-ip6tables']
/** The switch exists once br_netfilter is loaded, which these tests do not do. */
const skip = cannotRun() || (existsSync('/proc/sys/net/bridge') ? false : 'the kernel has no br_netfilter')

/** As kube-proxy does for a ClusterIP, but for an address of a container. */
const FOREIGN = `table inet others {
  chain prerouting {
    type nat hook prerouting priority dstnat; policy accept;
    icmp type echo-request ip daddr { 10.1.0.3, 10.1.0.4 } dnat ip to 10.1.0.77
    icmpv6 type echo-request ip6 daddr { fd00:1::3, fd00:1::4 } dnat ip6 to fd00:1::77
  }
}`

t.test('containers reach each other whatever the switches are, and are not tracked', { skip }, async t => {
  const w = await openGuardLab(t, {
    a: [red, 1, '10.1.0.2'],
    b: [red, 1, '10.1.0.3'],
    c: [red, 2, '10.1.0.4'],
    d: [blue, 1, '10.1.0.3']
  })
  const h1 = w.lab.host(1)
  const sysctl = (setting: string): Promise<string> =>
    must('ip', ['netns', 'exec', h1.namespace, 'sysctl', '-n', ...(setting.includes('=') ? ['-w'] : []), setting])
  const tracked = async (): Promise<number> => Number(await sysctl('net.netfilter.nf_conntrack_count'))
  const replies = async (options: ReplyOptions = {}): Promise<readonly number[]> => {
    const counts: number[] = []
    for (const address of ['10.1.0.3', 'fd00:1::3', '10.1.0.4', 'fd00:1::4'])
      counts.push(await countReplies(containerOf(w, 'a'), address, { count: 5, waitMs: 300, ...options }))
    return counts
  }

  // 1 in a new namespace, unless the administrator changed the default.
  for (const name of SWITCHES) await sysctl(`${name}=0`)
  await nft(h1, FOREIGN)
  t.same(await replies(), [5, 5, 5, 5], 'switched off')
  for (const name of SWITCHES) await sysctl(`${name}=1`)
  t.same(await replies(), [0, 0, 0, 0], 'without our filters the other program’s rules apply')
  t.ok((await tracked()) > 0, 'and connections are tracked')
  await setGuard(w, PORT)
  const before = await tracked()
  t.same(await replies(), [5, 5, 5, 5], 'with them they do not')
  t.same(await replies({ size: 4_000, inFragments: true }), [5, 5, 5, 5], 'nor to fragments')
  t.ok((await tracked()) <= before, 'and nothing more is tracked')
  await ip(containerOf(w, 'a').namespace, '-6 neigh flush all')
  t.same(await replies(), [5, 5, 5, 5], 'neighbours are found')
  t.equal(await countReplies(containerOf(w, 'd'), '10.1.0.4', { count: 3, waitMs: 300 }), 0, 'networks stay apart')
})

t.test('routers work whatever the switches are: egress, host access, and across hosts', { skip }, async t => {
  const reachable = makeNetwork('open', 0x222, { hostAccess: true, subnet6: parseSubnet('fd00:1::/64') })
  const closed = { ...shut, subnet6: parseSubnet('fd00:1::/64') }
  const g = await openV6(t, 2, [reachable, closed])
  for (const driver of g.drivers) await driver.setGuard(PORT)
  const one = await g.attach(reachable, { container: 'o1', host: 1, address: '10.1.0.2' })
  const two = await g.attach(reachable, { container: 'o2', host: 2, address: '10.1.0.3' })
  const sealed = await g.attach(closed, { container: 's1', host: 1, address: '10.1.0.2' })
  const h1 = g.hostName(1)
  for (const value of [0, 1]) {
    for (const name of SWITCHES)
      for (const n of [1, 2]) await g.exec(g.hostName(n), 'sysctl', '-q', '-w', `${name}=${value}`)
    if (value === 1) for (const n of [1, 2]) await nft(g.lab.host(n), FOREIGN)
    for (const [server, first, second, gateway, underlay] of [
      [SERVER, '10.1.0.2', '10.1.0.3', '10.1.0.1', '192.0.2.2'],
      [SERVER_V6, mirror(2), mirror(3), mirror(1), '2001:db8:a::2']
    ] as const) {
      t.equal(await countReplies(one.container, server, { count: 3 }), 3, `${value}: to the outside, ${server}`)
      t.equal(await countReplies(two.container, first, { count: 3 }), 3, `${value}: across hosts`)
      t.equal(await countReplies(one.container, second, { count: 3 }), 3, `${value}: and back`)
      t.equal(await countReplies(one.container, gateway, { count: 3 }), 3, `${value}: the gateway`)
      const probe = await run('ip', ['netns', 'exec', h1, 'ping', '-n', '-c', '3', '-i', '0.2', '-W', '1', first])
      t.match(probe.stdout, '3 received', `${value}: a probe of the host`)
      t.equal(await countReplies(sealed.container, server, { waitMs: 300 }), 0, `${value}: no egress`)
      t.equal(await countReplies(one.container, underlay, { waitMs: 300 }), 0, `${value}: not the underlay`)
    }
  }
})
