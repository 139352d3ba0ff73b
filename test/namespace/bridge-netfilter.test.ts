// Hosts on which Kubernetes has set bridge-nf-call-iptables to 1, and another program translates addresses: what containers
// send each other is neither translated nor tracked. ping(8) and the kernel's count of connections are the oracle.

import { existsSync } from 'node:fs'
import t from 'tap'
import { countReplies } from '../lab/ping.ts'
import { cannotRun } from '../lab/requirements.ts'
import { blue, containerOf, openGuardLab, nft, PORT, red, setGuard } from './guard-lab.ts'
import { must } from '../lab/kernel.ts'
import { run } from '#platform/process.ts'
import { SERVER } from '../lab/outside.ts'
import { makeNetwork } from '../overlay/fixtures.ts'
import { GatewayLab, shut } from './gateway-lab.ts'

const SWITCH = 'net.bridge.bridge-nf-call-iptables'
/** The switch exists once br_netfilter is loaded, which these tests do not do. */
const skip = cannotRun() || (existsSync('/proc/sys/net/bridge') ? false : 'the kernel has no br_netfilter')

/** As kube-proxy does for a ClusterIP, but for an address of a container. */
const FOREIGN = `table ip others {
  chain prerouting {
    type nat hook prerouting priority dstnat; policy accept;
    icmp type echo-request ip daddr { 10.1.0.3, 10.1.0.4 } dnat to 10.1.0.77
  }
}`

t.test('containers reach each other whatever bridge-nf-call-iptables is, and are not tracked', { skip }, async t => {
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
  const replies = async (): Promise<readonly number[]> => [
    await countReplies(containerOf(w, 'a'), '10.1.0.3', { count: 5, waitMs: 300 }),
    await countReplies(containerOf(w, 'a'), '10.1.0.4', { count: 5, waitMs: 300 })
  ]

  // 1 in a new namespace, unless the administrator changed the default.
  await sysctl(`${SWITCH}=0`)
  await nft(h1, FOREIGN)
  t.same(await replies(), [5, 5], 'switched off')
  await sysctl(`${SWITCH}=1`)
  t.same(await replies(), [0, 0], 'without our filters the other program’s rule applies')
  t.ok((await tracked()) > 0, 'and connections are tracked')
  await setGuard(w, PORT)
  const before = await tracked()
  t.same(await replies(), [5, 5], 'with them it does not')
  t.ok((await tracked()) <= before, 'and nothing more is tracked')
  t.equal(await countReplies(containerOf(w, 'd'), '10.1.0.4', { count: 3, waitMs: 300 }), 0, 'networks stay apart')
})

t.test('routers work whatever bridge-nf-call-iptables is: egress, host access, and across hosts', { skip }, async t => {
  const g = await GatewayLab.open(2)
  t.teardown(() => g.close())
  const reachable = makeNetwork('open', 0x222, { hostAccess: true })
  g.networks = [reachable, shut]
  for (const driver of g.drivers) await driver.setGuard(PORT)
  const one = await g.attach(reachable, { container: 'o1', host: 1, address: '10.1.0.2' })
  const two = await g.attach(reachable, { container: 'o2', host: 2, address: '10.1.0.3' })
  const sealed = await g.attach(shut, { container: 's1', host: 1, address: '10.1.0.2' })
  const h1 = g.hostName(1)
  for (const value of [0, 1]) {
    for (const n of [1, 2]) await g.exec(g.hostName(n), 'sysctl', '-q', '-w', `${SWITCH}=${value}`)
    if (value === 1) for (const n of [1, 2]) await nft(g.lab.host(n), FOREIGN)
    t.equal(await countReplies(one.container, SERVER, { count: 3 }), 3, `${value}: to the outside`)
    t.equal(await countReplies(two.container, '10.1.0.2', { count: 3 }), 3, `${value}: across hosts`)
    t.equal(await countReplies(one.container, '10.1.0.3', { count: 3 }), 3, `${value}: and back`)
    t.equal(await countReplies(one.container, '10.1.0.1', { count: 3 }), 3, `${value}: the gateway`)
    const probe = await run('ip', ['netns', 'exec', h1, 'ping', '-n', '-c', '3', '-i', '0.2', '-W', '1', '10.1.0.2'])
    t.match(probe.stdout, '3 received', `${value}: a probe of the host`)
    t.equal(await countReplies(sealed.container, SERVER, { waitMs: 300 }), 0, `${value}: no egress`)
    t.equal(await countReplies(one.container, '192.0.2.2', { waitMs: 300 }), 0, `${value}: not the underlay`)
  }
})
