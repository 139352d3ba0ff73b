// What routers with IPv6 make of their host on real kernels: it forwards for them alone, keeps the default route that it learned
// from a router, routes IPv6 that is not translated, and reaches its containers. ip(8), nft(8), ping(8) and Python's sockets are
// the oracle.

import t from 'tap'
import { cannotRun } from '../lab/requirements.ts'
import { ip } from '../lab/kernel.ts'
import { SERVER, SERVER_V6 } from '../lab/outside.ts'
import { countReplies } from '../lab/ping.ts'
import { waitFor } from '../lab/wait.ts'
import { makeEndpoint, makeNetwork } from '../overlay/fixtures.ts'
import { parsePrefix } from '#model/ip.ts'
import { red, settled } from './gateway-lab.ts'
import {
  ALL,
  ask,
  dual,
  mirror,
  openV6,
  other,
  probe,
  python,
  routed,
  serve,
  settingsV6,
  six
} from './gateway-v6-lab.ts'
import { run } from '../lab/run.ts'

const skip = cannotRun()

/** Sends one router advertisement (RFC 4861 section 4.2) with a lifetime of so many seconds. */
const ADVERTISE = `
import socket, struct, sys
s = socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6)
s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, 255)
index = socket.if_nametoindex('br0'); s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_IF, index)
s.bind(('fe80::fe', 0, 0, index))
s.sendto(struct.pack('!BBHBBHII', 134, 0, 0, 64, 0, int(sys.argv[1]), 0, 0), ('ff02::1', 0, 0, index))
`

t.test(
  'a default route from router advertisements stays, and is renewed, while the host forwards',
  { skip },
  async t => {
    const g = await openV6(t, 1, [dual])
    const [h1, outside] = [g.hostName(1), g.outside.namespace]
    await ip(outside, 'addr add fe80::fe/64 dev br0 nodad')
    // Or else it would answer that it is no router.
    await g.exec(outside, 'sysctl', '-qw', 'net.ipv6.conf.all.forwarding=1')
    await ip(h1, '-6 route del default')
    const advertise = (seconds: number): Promise<unknown> => run('ip', python(outside, ADVERTISE, String(seconds)))
    const learned = async (): Promise<number> =>
      Number(/proto ra .*expires (\d+)sec/.exec(await ip(h1, '-6 route show default dev eth1'))?.[1] ?? 0)
    await waitFor('the host has learned its default route', async () => {
      await advertise(1_000)
      return (await learned()) > 900
    })
    await waitFor(
      'the host uses it',
      async () => (await countReplies({ namespace: h1 }, SERVER_V6, { waitMs: 500 })) === 3
    )
    const before = await settingsV6(g, 1)
    const d1 = await g.attach(dual, { container: 'd1', host: 1, address: '10.1.0.2' })
    t.ok((await learned()) > 900, 'the route has stayed')
    t.equal(await countReplies(d1.container, SERVER_V6), 3, 'and leads containers out')
    t.equal(await settingsV6(g, 1), before.replace('all.forwarding = 0', 'all.forwarding = 1'))
    await waitFor('it is renewed', async () => {
      await advertise(1_800)
      return (await learned()) > 1_500
    })
    await g.detach(d1)
    t.ok((await learned()) > 1_500, 'it stays when forwarding ends')
    t.equal(await settingsV6(g, 1), before)
    await waitFor('it is withdrawn', async () => {
      await advertise(0)
      return (await learned()) === 0
    })
  }
)

t.test('a host does not become a router for other machines, nor for what bypasses a router', { skip }, async t => {
  const g = await openV6(t, 2, [dual])
  const [h1, h2, outside] = [g.hostName(1), g.hostName(2), g.outside.namespace]
  const d1 = await g.attach(dual, { container: 'd1', host: 1, address: '10.1.0.2' })
  await ip(outside, '-6 route add 2001:db8:a::/64 via 2001:db8:51::1')
  await ip(h2, '-6 route del default')
  await ip(h2, '-6 route add default via 2001:db8:a::1')
  await ip(h2, '-6 addr del 2001:db8:51::2/64 dev eth1')
  t.equal(await countReplies({ namespace: h2 }, SERVER_V6, { waitMs: 300 }), 0, 'from the underlay through the host')
  // Past the router: to the bridge's own MAC address.
  const [row] = JSON.parse(await ip(h1, '-j link show vb000abc')) as { address: string }[]
  await ip(d1.container.namespace, `neigh replace fd00:1::1 lladdr ${row?.address} dev eth0 nud permanent`)
  const rule = 'type filter hook prerouting priority -400; ip6 saddr fd00:1::2 counter'
  await g.exec(outside, 'nft', `table inet seen { chain c { ${rule}; }; }`)
  const arrived = async (): Promise<number> => {
    await countReplies(d1.container, SERVER_V6, { waitMs: 300 })
    return Number(/packets (\d+)/.exec(await g.exec(outside, 'nft', 'list', 'table', 'inet', 'seen'))?.[1])
  }
  t.equal(await arrived(), 0, 'from a bridge of ours')
  await g.exec(h1, 'nft', 'flush', 'chain', 'inet', 'vxmesh_nat6', 'forward')
  t.equal(await arrived(), 3, 'by our rules and by nothing else')
  await g.pass(1)
  t.equal(await arrived(), 3, 'which a pass restores')
  await ip(d1.container.namespace, 'neigh del fd00:1::1 dev eth0')

  await g.exec(h1, 'sysctl', '-qw', 'net.ipv6.conf.all.forwarding=1')
  await g.pass(1)
  t.equal(await countReplies({ namespace: h2 }, SERVER_V6), 3, 'unless its administrator makes it one')
  t.equal(await countReplies(d1.container, SERVER_V6), 3)
  await settled(t, g)
  await g.detach(d1)
  t.match(await settingsV6(g, 1), /all\.forwarding = 1/, 'then it stays one')
})

t.test('what a bridge of the host forwards goes on with bridge-nf-call-ip6tables', { skip }, async t => {
  const g = await openV6(t, 1, [dual])
  const h1 = g.hostName(1)
  const setting = 'net.bridge.bridge-nf-call-ip6tables=1'
  if ((await run('ip', ['netns', 'exec', h1, 'sysctl', '-qw', setting])).exitCode !== 0) {
    t.comment('the kernel has no br_netfilter: nothing bridged is filtered')
  }
  await ip(h1, 'link add br1 type bridge')
  await ip(h1, 'link set br1 up')
  const [one, two] = await g.lab.containers(['one', 'two'])
  if (one === undefined || two === undefined) throw new Error('no containers')
  for (const [n, { namespace }] of [one, two].entries()) {
    await ip(h1, `link add p${n} type veth peer name eth0 netns ${namespace}`)
    await ip(h1, `link set p${n} master br1 up`)
    await ip(namespace, `addr add fd00:b::${n + 1}/64 dev eth0 nodad`)
    await ip(namespace, 'link set eth0 up')
  }
  const d1 = await g.attach(dual, { container: 'd1', host: 1, address: '10.1.0.2' })
  await g.attach(dual, { container: 'd2', host: 1, address: '10.1.0.3' })
  t.equal(await countReplies(one, 'fd00:b::2'), 3, 'on a bridge of others')
  t.equal(await countReplies(d1.container, mirror(3)), 3, 'on ours')
  t.equal(await countReplies(d1.container, SERVER_V6), 3, 'and through a router')
})

t.test('routed IPv6 leaves with the container’s address, and only answers come back', { skip }, async t => {
  const g = await openV6(t, 2, [routed, dual])
  const [h1, outside] = [g.hostName(1), g.outside.namespace]
  await serve(t, outside)
  const r1 = await g.attach(routed, { container: 'r1', host: 1, address: '10.7.0.2' })
  const r2 = await g.attach(routed, { container: 'r2', host: 2, address: '10.7.0.3' })
  const d1 = await g.attach(dual, { container: 'd1', host: 1, address: '10.1.0.2' })
  const [own, far] = ['2001:db8:77::2', '2001:db8:77::3']
  t.equal(await ask(r1.container.namespace, 'tcp', SERVER_V6), null, 'the outside has no route yet')
  await ip(outside, `-6 route add ${own}/128 via 2001:db8:51::1`)
  await ip(outside, `-6 route add ${far}/128 via 2001:db8:51::2`)
  t.equal(await probe(r1.container.namespace, SERVER_V6), ALL)
  t.equal(await ask(r1.container.namespace, 'tcp', SERVER_V6), own)
  t.equal(await ask(r2.container.namespace, 'tcp', SERVER_V6), far, 'each by its own host')
  t.equal(await ask(r1.container.namespace, 'tcp', SERVER), '198.51.100.1', 'IPv4 is translated')
  t.equal(await ask(d1.container.namespace, 'tcp', SERVER_V6), '2001:db8:51::1', 'another network is translated')
  await serve(t, r1.container.namespace)
  for (const from of [outside, h1, d1.container.namespace]) {
    t.equal(await probe(from, own, 300), '', `nothing new comes in from ${from}`)
  }
  for (const guarded of ['2001:db8:a::1', '2001:db8:a::2', '2001:db8:51::1', 'fd76:786d:6573:6800::abc']) {
    t.equal(await probe(r1.container.namespace, guarded, 300), '', `${guarded} is closed`)
  }
  // A delegated prefix is best unreachable where no container has it.
  await ip(h1, '-6 route add unreachable 2001:db8:77::/64')
  await settled(t, g)
  t.match(await ip(h1, `-6 route get ${own}`), /dev vo000777/)
  await ip(h1, `-6 route del ${own}/128`)
  t.match((await g.pass(1)).done, [`add routes to ${own} by vo000777 (vni 1911)`])
  await settled(t, g)

  g.networks = g.networks.map(network => {
    const { egressV6: _, ...translated } = network
    return translated
  })
  t.strictSame((await g.pass(1)).problems, [])
  t.equal(await ask(r1.container.namespace, 'tcp', SERVER_V6), '2001:db8:51::1', 'changed live')
  t.equal(await ip(h1, `-6 route show ${own}/128`), '')
  await settled(t, g)
})

t.test(
  'the host’s probes reach its own containers by IPv6, from the gateway’s address, and nobody else’s do',
  { skip },
  async t => {
    const open = makeNetwork('open', 0x111, { subnet6: parsePrefix('fd00:1::/64'), hostAccess: true })
    const inner = {
      ...six,
      hostAccess: true,
      egress: false,
      subnet: parsePrefix('fd00:2::/64'),
      gateway: 'fd00:2::1' as never
    }
    const g = await openV6(t, 2, [open, inner, other])
    const [h1, h2] = [g.hostName(1), g.hostName(2)]
    const one = await g.attach(open, { container: 'o1', host: 1, address: '10.1.0.2' })
    const two = await g.attach(inner, { container: 'i1', host: 1, address: 'fd00:2::2' })
    const shut = await g.attach(other, { container: 'c1', host: 1, address: '10.1.0.4' })
    const far = await g.attach(open, { container: 'o2', host: 2, address: '10.1.0.5' })
    await serve(t, h1, h2, ...[one, two, shut, far].map(({ container }) => container.namespace))
    for (const [address, gateway] of [
      [mirror(2), 'fd00:1::1'],
      ['fd00:2::2', 'fd00:2::1'],
      ['10.1.0.2', '10.1.0.1']
    ] as const) {
      t.equal(await probe(h1, address), ALL, address)
      t.equal(await ask(h1, 'tcp', address), gateway, 'the container sees its host as the gateway')
    }
    t.equal(await probe(h1, mirror(4), 300), '', 'not without hostAccess')
    t.equal(await probe(h1, mirror(5), 300), '', 'not another host’s container')
    await ip(h2, `-6 route add ${mirror(2)}/128 via 2001:db8:a::1`)
    t.equal(await probe(h2, mirror(2), 300), '', 'not from another host')
    for (const { container } of [one, two]) {
      for (const address of ['2001:db8:a::1', '2001:db8:51::1', 'fd76:786d:6573:6800::100:0'])
        t.equal(await probe(container.namespace, address, 300), '', `${container.name} does not reach ${address}`)
    }
    t.equal(await countReplies(one.container, SERVER_V6), 3)
    t.equal(await countReplies(two.container, SERVER_V6, { waitMs: 300 }), 0)

    // Also where the host has no address of IPv6 but link-local ones.
    for (const device of ['eth0', 'eth1']) await ip(h1, `-6 addr flush dev ${device} scope global`)
    await g.pass(1)
    t.equal(await probe(h1, mirror(2)), ALL)

    const added = makeEndpoint(open, { container: 'o3', host: 1, address: '10.1.0.9' })
    g.endpoints.push(added)
    const scoped = { host: 1, scope: open.vni, mayRemove: true, trust: true } as const
    t.strictSame((await g.settle(g.driver(1), scoped)).done, [
      'add routes to 10.1.0.9 by vo000111 (vni 273)',
      'add routes to fd00:1::9 by vo000111 (vni 273)'
    ])
    await ip(h1, '-6 route add fd00:1::77/128 via fd76:786d:6573:6800::111 dev vo000111 onlink')
    t.match((await g.pass(1)).done, ['delete routes to fd00:1::77 by vo000111 (vni 273)'])
    await settled(t, g)
  }
)

t.test('a network with hostAccess alone enables no forwarding of IPv6', { skip }, async t => {
  const inner = { ...dual, hostAccess: true, egress: false }
  const g = await openV6(t, 1, [inner, red])
  const before = await settingsV6(g, 1)
  await g.attach(inner, { container: 'i1', host: 1, address: '10.1.0.2' })
  t.equal(await settingsV6(g, 1), before)
  await settled(t, g)
})
