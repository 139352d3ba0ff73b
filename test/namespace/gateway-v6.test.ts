// Routers with IPv6 on real kernels: the way out by NAT66 in networks of both families and of IPv6 alone, and every guard with a
// control that shows what it would be without. ip(8), nft(8), ping(8) and Python's sockets are the oracle.

import t from 'tap'
import { gatewayMacOf } from '#model/addresses.ts'
import { formatIp, ipv4Of, parseIp, parsePrefix } from '#model/ip.ts'
import { attachRequest } from '#overlay/driver.ts'
import { ip, must } from '../lab/kernel.ts'
import { SERVER, OUTSIDE_GATEWAY_V6, SERVER_V6 } from '../lab/outside.ts'
import { countReplies } from '../lab/ping.ts'
import { cannotRun } from '../lab/requirements.ts'
import { makeNetwork } from '../overlay/fixtures.ts'
import { MTU, settled, type Attached } from './gateway-lab.ts'
import {
  ALL,
  ask,
  dual,
  mirror,
  openV6,
  other,
  probe,
  python,
  serve,
  settingsV6,
  six,
  start
} from './gateway-v6-lab.ts'

const skip = cannotRun()

const nameOf = ({ container }: Attached): string => container.namespace

t.test(
  'three networks with one subnet, one of them without IPv4, reach a server outside from the first packet',
  { skip },
  async t => {
    const g = await openV6(t, 2, [dual, other, six])
    await serve(t, g.outside.namespace)
    const d1 = await g.attach(dual, { container: 'd1', host: 1, address: '10.1.0.2' })
    t.equal(
      await countReplies(d1.container, SERVER_V6, { count: 1, waitMs: 1_000 }),
      1,
      'the first packet after attach'
    )
    const o1 = await g.attach(other, { container: 'o1', host: 1, address: '10.1.0.2' })
    const s1 = await g.attach(six, { container: 's1', host: 1, address: 'fd00:1::2' })
    const d2 = await g.attach(dual, { container: 'd2', host: 2, address: '10.1.0.3' })
    for (const [one, host] of [
      [d1, 1],
      [o1, 1],
      [s1, 1],
      [d2, 2]
    ] as const) {
      t.equal(await probe(nameOf(one), SERVER_V6), ALL)
      t.equal(await ask(nameOf(one), 'tcp', SERVER_V6), `2001:db8:51::${host}`, 'the outside sees the host')
    }
    t.equal(await probe(nameOf(d1), SERVER), ALL, 'IPv4 as well')
    t.equal(await ask(nameOf(d1), 'tcp', SERVER), '198.51.100.1')
    t.equal(await probe(nameOf(s1), SERVER), '', 'a network without IPv4 has none')
    t.equal(await countReplies(d1.container, 'fd00:1::1'), 3, 'the gateway answers pings')
    t.equal(await countReplies(s1.container, 'fd00:1::1'), 3)
    t.equal(await countReplies(d1.container, mirror(3)), 3, 'the other host’s container is reached inside')
    t.match(await ip(nameOf(d1), '-6 route show default'), /^default via fd00:1::1 dev eth0/)
    t.match(await ip(nameOf(d1), '-4 route show default'), /^default via 10\.1\.0\.1 dev eth0/)
    t.equal(await ip(nameOf(s1), '-4 route show'), '', 'IPv6 alone has no route of IPv4')
    await settled(t, g)
    await settled(t, g, 2)
  }
)

t.test(
  'with port security it is the same: neighbours are found, and routers work in both directions',
  { skip },
  async t => {
    const open = { ...dual, hostAccess: true }
    const g = await openV6(t, 2, [open, six])
    for (const driver of g.drivers) await driver.setGuard(4789)
    const d1 = await g.attach(open, { container: 'd1', host: 1, address: '10.1.0.2' })
    const d2 = await g.attach(open, { container: 'd2', host: 2, address: '10.1.0.3' })
    const s1 = await g.attach(six, { container: 's1', host: 1, address: 'fd00:1::2' })
    await serve(t, g.outside.namespace, nameOf(d1))
    for (const one of [d1, d2, s1]) t.equal(await probe(nameOf(one), SERVER_V6), ALL)
    t.equal(await probe(g.hostName(1), mirror(2)), ALL, 'the host reaches its container')
    t.equal(await countReplies(d2.container, mirror(2)), 3, 'and so does another container')
    t.equal(await probe(nameOf(d1), '2001:db8:a::1', 300), '')
    for (const { container } of [d1, s1]) await ip(container.namespace, '-6 neigh flush all')
    await ip(await g.router(dual), '-6 neigh flush dev inside')
    t.equal(await countReplies(d1.container, SERVER_V6), 3, 'after both have forgotten each other')
    await settled(t, g)
  }
)

t.test('hosts, the underlay, other networks and what stands for them are out of reach', { skip }, async t => {
  const inner = makeNetwork('inner', 0x321, { subnet6: parsePrefix('fd00:9::/64') })
  const g = await openV6(t, 2, [dual, inner, six])
  const d1 = await g.attach(dual, { container: 'd1', host: 1, address: '10.1.0.2' })
  const s1 = await g.attach(six, { container: 's1', host: 1, address: 'fd00:1::2' })
  const i1 = await g.attach(inner, { container: 'i1', host: 1, address: '10.1.0.9' })
  const i2 = await g.attach(inner, { container: 'i2', host: 2, address: '10.1.0.10' })
  const [h1, h2, outside] = [g.hostName(1), g.hostName(2), g.outside.namespace]
  // What a router of the outside would translate to IPv4: of a host on the underlay, and of the server.
  const [embeddedHost, embeddedServer] = ['64:ff9b::c000:202', '64:ff9b::cb00:710a']
  for (const address of [embeddedHost, '2002:c000:202::1', embeddedServer, '2002:cb00:710a::1'])
    await ip(outside, `addr add ${address}/128 dev lo nodad`)
  await serve(t, h1, h2, outside, nameOf(i1), nameOf(i2))
  const closed = [
    ['2001:db8:a::1', 'the host by its underlay address'],
    ['2001:db8:51::1', 'the host by its uplink address'],
    ['2001:db8:a::2', 'another host by its address on the underlay'],
    ['2001:db8:a::c8', 'a stranger on the underlay'],
    ['fd76:786d:6573:6800::100:0', 'the host’s end of the uplinks'],
    ['fd76:786d:6573:6800::321', 'the router of another network'],
    ['fd00:9::9', 'a container of another network here'],
    ['fd00:9::a', 'a container of another network there'],
    [embeddedHost, 'a host by NAT64'],
    ['2002:c000:202::1', 'a host by 6to4']
  ] as const
  for (const [address, what] of closed) {
    for (const one of [d1, s1]) t.equal(await probe(nameOf(one), address, 300), '', `${nameOf(one)}: ${what}`)
  }
  for (const control of ['2001:db8:a::1', '2001:db8:51::1', '2001:db8:a::2', embeddedHost, '2002:c000:202::1']) {
    t.equal(await probe(h1, control), ALL, `the host itself reaches ${control}`)
  }
  t.equal(await countReplies({ namespace: h1 }, '2001:db8:a::c8'), 3)
  t.equal(await probe(nameOf(i1), 'fd00:9::a'), ALL, 'the other network reaches its own')
  for (const open of [SERVER_V6, embeddedServer, '2002:cb00:710a::1', OUTSIDE_GATEWAY_V6])
    t.equal(await probe(nameOf(d1), open), ALL, `${open} is reached`)

  // Without the rules, and with the routes of an attacker's router, the same packets arrive.
  await g.exec(h1, 'nft', 'insert', 'rule', 'inet', 'vxmesh_nat6', 'forward', 'accept')
  await ip(h2, '-6 route add fd76:786d:6573:6800::/64 via 2001:db8:a::1')
  t.equal(await probe(nameOf(d1), '2001:db8:a::2'), ALL, 'by our rules and by nothing else')
  await g.pass(1)
  t.equal(await probe(nameOf(d1), '2001:db8:a::2', 300), '')
  await settled(t, g)
})

t.test('nobody gets in: neither from outside, nor from the underlay, nor as a made-up source', { skip }, async t => {
  const g = await openV6(t, 2, [dual])
  const d1 = await g.attach(dual, { container: 'd1', host: 1, address: '10.1.0.2' })
  const [outside, h2] = [g.outside.namespace, g.hostName(2)]
  await serve(t, nameOf(d1), outside)
  for (const [from, way] of [
    [outside, '2001:db8:51::1'],
    [h2, '2001:db8:a::1']
  ] as const) {
    for (const to of [mirror(2), 'fd76:786d:6573:6800::abc', 'fd00:1::1']) {
      await ip(from, `-6 route add ${to}/128 via ${way}`)
      t.equal(await probe(from, to, 300), '', `${to} from ${from}`)
    }
  }
  t.equal(await probe(nameOf(d1), SERVER_V6), ALL, 'while the container reaches the outside')

  const arrived = async (): Promise<string> => g.exec(outside, 'nft', 'list', 'set', 'inet', 'seen', 'from')
  const rule = 'type filter hook prerouting priority -400; meta l4proto udp udp dport 7 add @from { ip6 saddr }'
  await g.exec(outside, 'nft', `table inet seen { set from { type ipv6_addr; flags dynamic; }; chain c { ${rule}; }; }`)
  const spoof = `
import socket, sys
s = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM); s.setsockopt(socket.IPPROTO_IPV6, 78, 1)  # IPV6_FREEBIND
s.bind((sys.argv[1], 0)); s.sendto(b'x', ('${SERVER_V6}', 7))
`
  for (const source of ['2001:db8:bad::1', '2001:db8:cb::99', 'fd76:786d:6573:6800::abc', 'fd00:2::2']) {
    await must('ip', python(nameOf(d1), spoof, source))
  }
  await countReplies(d1.container, SERVER_V6)
  t.notMatch(await arrived(), /elements/, 'no made-up source')
  await must('ip', python(nameOf(d1), spoof, mirror(2)))
  await countReplies(d1.container, SERVER_V6)
  t.match(await arrived(), /elements = \{ 2001:db8:51::1 \}/, 'its own, translated')
  await g.exec(await g.router(dual), 'nft', 'flush chain inet vxmesh_router6 forward')
  await must('ip', python(nameOf(d1), spoof, '2001:db8:bad::1'))
  await countReplies(d1.container, SERVER_V6)
  t.match(await arrived(), /elements = \{ 2001:db8:51::1 \}/, 'a router that lets it pass translates it')
})

t.test('a network of the host itself is closed until it is opened', { skip }, async t => {
  const g = await openV6(t, 1, [dual])
  const [h1, { container }] = [g.hostName(1), await g.attach(dual, { container: 'd1', host: 1, address: '10.1.0.2' })]
  const { namespace } = await g.lab.container('docker')
  await ip(h1, 'link add docker0 type bridge')
  await ip(h1, `link add p-docker type veth peer name eth0 netns ${namespace}`)
  await ip(h1, 'link set p-docker master docker0 up')
  await ip(h1, 'link set docker0 up')
  await ip(h1, 'addr add fd00:d0c::1/64 dev docker0 nodad')
  await ip(namespace, 'addr add fd00:d0c::2/64 dev eth0 nodad')
  await ip(namespace, 'link set eth0 up')
  await ip(namespace, '-6 route add default via fd00:d0c::1')
  await serve(t, namespace)
  const reached = (): Promise<string> => probe(container.namespace, 'fd00:d0c::2', 300)
  t.equal(await reached(), '', 'closed from its first packet, before any pass')
  g.opened = [parsePrefix('fd00:d0c::2/128'), parsePrefix('172.17.0.0/16')]
  await g.pass(1)
  t.equal(await reached(), ALL, 'opened by configuration')
  await settled(t, g)
  g.opened = []
  await g.pass(1)
  t.equal(await reached(), '', 'closed again')
  t.equal(await countReplies(container, SERVER_V6), 3)
})

/** Each deletes or changes something of IPv6; the next pass must report a repair, and everything must work again. */
const DAMAGE: readonly [what: string, where: 'host' | 'router', command: string][] = [
  ['the gateway address', 'router', 'ip -6 addr flush dev inside'],
  ['a second address', 'router', 'ip addr add fd00:1::fa/64 dev inside nodad'],
  ['the link-local address', 'router', 'ip addr del fe80::1/64 dev inside'],
  ['the transit address', 'router', 'ip -6 addr flush dev outside'],
  ['the default route', 'router', 'ip -6 route del default'],
  ['the routes to the subnet', 'router', 'ip -6 route flush fd00:1::/64'],
  ['the inside, down', 'router', 'ip link set inside down'],
  ['the outside, down', 'router', 'ip link set outside down'],
  ['the neighbour entry of the next hop', 'router', 'ip -6 neigh flush all nud permanent'],
  ['the router’s rules', 'router', 'nft delete table inet vxmesh_router6'],
  ['one of the router’s rules', 'router', 'nft flush chain inet vxmesh_router6 forward'],
  ['the router’s forwarding', 'router', 'sysctl -qw net.ipv6.conf.inside.forwarding=0'],
  ['the router’s IPv6', 'router', 'sysctl -qw net.ipv6.conf.all.disable_ipv6=1'],
  ['router advertisements', 'router', 'sysctl -qw net.ipv6.conf.inside.accept_ra=1'],
  ['the uplink, down', 'host', 'ip link set vo000abc down'],
  ['the uplink', 'host', 'ip link del vo000abc'],
  ['the host’s address on the uplink', 'host', 'ip -6 addr flush dev vo000abc'],
  ['the uplink’s IPv6', 'host', 'sysctl -qw net.ipv6.conf.vo000abc.disable_ipv6=1'],
  ['router advertisements on the uplink', 'host', 'sysctl -qw net.ipv6.conf.vo000abc.accept_ra=2'],
  ['the route to the router', 'host', 'ip -6 route del fd76:786d:6573:6800::abc/128'],
  ['the host’s rules', 'host', 'nft delete table inet vxmesh_nat6'],
  ['one of the host’s rules', 'host', 'nft flush chain inet vxmesh_nat6 input'],
  ['forwarding on the host', 'host', 'sysctl -qw net.ipv6.conf.all.forwarding=0']
]

t.test('whatever is deleted or changed is repaired by one pass, and the next has nothing to do', { skip }, async t => {
  const g = await openV6(t, 1, [dual, six])
  const d1 = await g.attach(dual, { container: 'd1', host: 1, address: '10.1.0.2' })
  const s1 = await g.attach(six, { container: 's1', host: 1, address: 'fd00:1::2' })
  await settled(t, g)
  for (const [what, where, command] of DAMAGE) {
    const router = await g.router(dual)
    await g.exec(where === 'host' ? g.hostName(1) : router, ...command.split(' '))
    const { done, problems } = await g.pass(1)
    t.ok(done.length > 0, `${what}: ${done.join('; ')}`)
    t.strictSame(problems, [], what)
    await settled(t, g)
    const [v6, v4, host] = await Promise.all([
      countReplies(d1.container, SERVER_V6),
      countReplies(d1.container, SERVER),
      countReplies(d1.container, '2001:db8:a::1', { waitMs: 300 })
    ])
    t.strictSame({ v6, v4, host }, { v6: 3, v4: 3, host: 0 }, `${what}: the outside is reached, the host is not`)
  }
  t.equal(await countReplies(s1.container, SERVER_V6), 3)
})

t.test('a new agent adopts a router of both families without disturbing it', { skip }, async t => {
  const g = await openV6(t, 1, [dual])
  const d1 = await g.attach(dual, { container: 'd1', host: 1, address: '10.1.0.2' })
  const router = await g.router(dual)
  await g.quiet(g.hostName(1), router)
  const pings = [SERVER, SERVER_V6].map(server => countReplies(d1.container, server, { count: 60 }))
  await g.driver(1).close()
  g.drivers[0] = g.open(g.lab.host(1).netns, g.lab.host(1).vtep)
  const within = g.changesDuring(router, async () => {
    const changes = await g.changesDuring(g.hostName(1), async () => {
      const { done, problems } = await g.pass(1)
      t.strictSame(problems, [])
      t.notMatch(done, [/create/])
    })
    t.strictSame(changes, [], 'no device, address, route or neighbour of the host is touched')
  })
  t.strictSame(await within, [], 'none of the router')
  t.strictSame(await Promise.all(pings), [60, 60], 'no packet is lost')
  await settled(t, g)
})

t.test('a second subnet comes live: nothing of IPv4 is lost, and IPv6 is there', { skip }, async t => {
  const alone = makeNetwork('dual', 0xabc)
  const g = await openV6(t, 1, [alone])
  const d1 = await g.attach(alone, { container: 'd1', host: 1, address: '10.1.0.2' })
  await serve(t, g.outside.namespace)
  t.equal(await probe(nameOf(d1), SERVER_V6, 300), '', 'no IPv6 before')
  const talk = `
import socket, sys, time
s = socket.create_connection(('${SERVER}', 9)); s.settimeout(2); n = 0
print('up', flush=True)
while True:
    s.sendall(b'x'); assert s.recv(1) == b'x'; n += 1; print(n, flush=True); time.sleep(0.01)
`
  const repeat = `
import socket
s = socket.create_server(('', 9)); print('up', flush=True); c, _ = s.accept()
while True: c.sendall(c.recv(1))
`
  await start(t, g.outside.namespace, repeat)
  const said = await start(t, nameOf(d1), talk)
  const last = (): number => Number(said().trim().split('\n').at(-1))
  const ping = countReplies(d1.container, SERVER, { count: 60 })
  g.networks = [dual]
  const { problems } = await g.pass(1)
  t.strictSame(problems, [])
  const request = attachRequest({
    ...{ endpoint: d1.endpoint, network: dual, overlayMtu: MTU, netns: d1.container.netns, withRoute: true }
  })
  await t.rejects(g.driver(1).devices.check(request), /does not have its address/)
  await g.driver(1).devices.updateContainer(request)
  await g.driver(1).devices.updateContainer(request)
  await g.driver(1).devices.check(request)
  t.equal(await ping, 60, 'no packet of IPv4 is lost')
  const before = last()
  t.equal(await probe(nameOf(d1), SERVER_V6), ALL, 'the outside by IPv6')
  t.ok(last() > before, 'the connection goes on')
  await settled(t, g)
  g.networks = [alone]
  const restarted = g.open(g.lab.host(1).netns, g.lab.host(1).vtep)
  t.teardown(() => restarted.close())
  await g.settle(restarted, { host: 1, mayRemove: false })
  t.equal(await probe(nameOf(d1), SERVER_V6), ALL, 'a state that may be stale takes no IPv6 away')
  t.match((await g.pass(1)).done.join('; '), /router families.*forwarding off for IPv6; delete the rules .*IPv6/)
  t.notMatch(
    await g.exec(await g.router(dual), 'nft', 'list', 'tables'),
    /inet/,
    'a router without IPv6 has no rules for it'
  )
  t.equal(await countReplies(d1.container, SERVER), 3)
  await settled(t, g)
})

t.test('a network of IPv6 alone gets IPv4 live, and no packet of IPv6 is lost', { skip }, async t => {
  const g = await openV6(t, 1, [six])
  const s1 = await g.attach(six, { container: 's1', host: 1, address: 'fd00:1::2' })
  t.equal(await countReplies(s1.container, SERVER_V6), 3)
  const both = { ...dual, name: six.name, vni: six.vni, wasIpv6: true } as const
  const endpoint = { ...s1.endpoint, address: parseIp('10.1.0.2') }
  t.equal(gatewayMacOf(both), gatewayMacOf(six), 'containers know it')
  const ping = countReplies(s1.container, SERVER_V6, { count: 60 })
  g.networks = [both]
  g.endpoints = [endpoint]
  t.strictSame((await g.pass(1)).problems, [])
  await g
    .driver(1)
    .devices.updateContainer(
      attachRequest({ endpoint, network: both, overlayMtu: MTU, netns: s1.container.netns, withRoute: true })
    )
  t.equal(await ping, 60)
  t.equal(await countReplies(s1.container, SERVER), 3, 'IPv4 is there')
  t.equal(await countReplies(s1.container, SERVER_V6), 3)
  await settled(t, g)
})

t.test('an interface that was down has its addresses again, and an attach again completes it', { skip }, async t => {
  const g = await openV6(t, 1, [dual])
  const d1 = await g.attach(dual, { container: 'd1', host: 1, address: '10.1.0.2' })
  const request = attachRequest({
    ...{ endpoint: d1.endpoint, network: dual, overlayMtu: MTU, netns: d1.container.netns, withRoute: true }
  })
  const index = await ip(nameOf(d1), '-o link show eth0')
  for (const harm of ['link set eth0 down', 'link set eth0 mtu 1000', '-6 addr flush dev eth0']) {
    await ip(nameOf(d1), harm)
    if (harm === 'link set eth0 down') {
      await ip(nameOf(d1), 'link set eth0 up')
      t.match(await ip(nameOf(d1), '-6 addr show dev eth0'), /fd00:1::2\/64/, 'kept by the kernel')
    }
    const { created } = await g.driver(1).devices.attach(request)
    t.notOk(created, 'it is the same interface')
    await g.driver(1).devices.check(request)
    const found = await Promise.all([SERVER, SERVER_V6].map(server => countReplies(d1.container, server)))
    t.strictSame(found, [3, 3], harm)
  }
  t.equal(index.split(':')[0], (await ip(nameOf(d1), '-o link show eth0')).split(':')[0])
  t.equal(formatIp(ipv4Of(d1.endpoint.address)), '10.1.0.2')
  const kept = await ip(nameOf(d1), '-6 addr show dev eth0')
  t.notMatch(kept, /tentative|fe80/, 'usable at once, and no address but its own')
})

t.test('the last router of IPv6 leaves every setting as it was, while IPv4 goes on', { skip }, async t => {
  const plain = makeNetwork('plain', 0x123)
  const g = await openV6(t, 1, [dual, plain])
  const h1 = g.hostName(1)
  await g.attach(plain, { container: 'p1', host: 1, address: '10.1.0.2' })
  await g.exec(h1, 'sysctl', '-qw', 'net.ipv6.conf.eth0.forwarding=1')
  const before = await settingsV6(g, 1)
  const d1 = await g.attach(dual, { container: 'd1', host: 1, address: '10.1.0.2' })
  const during = await settingsV6(g, 1)
  t.equal(during, before.replace('all.forwarding = 0', 'all.forwarding = 1'), 'only the switch for all is another')
  await g.detach(d1)
  t.equal(await settingsV6(g, 1), before)
  t.notMatch(await g.exec(h1, 'nft', 'list', 'ruleset'), /vxmesh_nat6/)
  t.match(await g.exec(h1, 'nft', 'list', 'ruleset'), /vxmesh_nat /)
  t.equal(await ip(h1, '-6 addr show dev vo000123'), '')
  await settled(t, g)
})
