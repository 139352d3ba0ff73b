// By which device the kernel routes VXLAN to other hosts: ip(8) sets the routes.

import t, { type Test } from 'tap'
import { parseIpv4 } from '#model/ipv4.ts'
import { Ways } from '#overlay/linux/ways.ts'
import { NetlinkSocket } from '#platform/netlink-socket.ts'
import { ip, ipBatch } from '../../lab/kernel.ts'
import { Lab } from '../../lab/lab.ts'
import { cannotRun } from '../../lab/requirements.ts'
import { ifindexOf } from '../../lab/scenarios/plane.ts'

const skip = cannotRun()
const PORT = 4_789

type World = {
  readonly namespace: string
  readonly ways: Ways
  /** The name of the device by which VXLAN to an address leaves. */
  readonly to: (address: string) => string | null
}

async function world(t: Test): Promise<World> {
  const lab = await Lab.create()
  t.teardown(() => lab.destroy())
  const { namespace, netns } = await lab.container('host')
  await ipBatch(
    [
      ...['eth0', 'eth1'].flatMap(name => [`link add ${name} type veth peer name p-${name}`, `link set p-${name} up`]),
      'addr add 192.0.2.1/24 dev eth0',
      'addr add 198.51.100.1/24 dev eth1',
      'link set eth0 up',
      'link set eth1 up'
    ],
    namespace
  )
  const socket = NetlinkSocket.open(netns)
  t.teardown(() => socket.close())
  const names = new Map<number, string>()
  for (const name of ['eth0', 'eth1']) names.set(await ifindexOf(namespace, name), name)
  const ways = new Ways(socket, { vtep: parseIpv4('192.0.2.1'), port: PORT })
  const to = (address: string): string | null => {
    const ifindex = ways.deviceTo(parseIpv4(address))
    return ifindex === null ? null : (names.get(ifindex) ?? `${ifindex}`)
  }
  return { namespace, ways, to }
}

t.test('VXLAN leaves by the device of the best route, and without one by none', { skip }, async t => {
  const w = await world(t)
  await ipBatch(
    [
      'route add 203.0.113.0/24 via 192.0.2.254',
      'route add 203.0.113.7/32 via 198.51.100.254',
      'route add 192.0.2.7/32 via 198.51.100.254',
      'route add blackhole 203.0.113.8/32',
      'route add unreachable 203.0.113.9/32',
      'route add prohibit 203.0.113.10/32',
      'route add throw 203.0.113.11/32'
    ],
    w.namespace
  )
  for (const [address, device] of [
    ['192.0.2.2', 'eth0'],
    ['192.0.2.7', 'eth1'],
    ['198.51.100.2', 'eth1'],
    ['203.0.113.1', 'eth0'],
    ['203.0.113.7', 'eth1'],
    ['203.0.113.8', null],
    ['203.0.113.9', null],
    ['203.0.113.10', null],
    ['203.0.113.11', null],
    ['10.0.0.1', null]
  ] as const) {
    t.equal(w.to(address), device, address)
  }
})

t.test('rules for VXLAN itself count', { skip }, async t => {
  const w = await world(t)
  await ip(w.namespace, 'route add 192.0.2.0/24 dev eth1 table 100')
  for (const rule of ['ipproto udp dport 4789', 'from 192.0.2.1 to 192.0.2.2/32']) {
    await ip(w.namespace, `rule add ${rule} lookup 100`)
    w.ways.forget()
    t.equal(w.to('192.0.2.2'), 'eth1', rule)
    await ip(w.namespace, `rule del ${rule} lookup 100`)
  }
  for (const rule of ['ipproto udp dport 4790', 'ipproto tcp dport 4789', 'from 192.0.2.3']) {
    await ip(w.namespace, `rule add ${rule} lookup 100`)
    w.ways.forget()
    t.equal(w.to('192.0.2.2'), 'eth0', rule)
  }
})

t.test('the kernel is asked once, until it is to be asked anew', { skip }, async t => {
  const w = await world(t)
  t.equal(w.to('192.0.2.2'), 'eth0')
  t.equal(w.to('10.0.0.1'), null)
  await ipBatch(['route add 192.0.2.2/32 via 198.51.100.254', 'route add 10.0.0.1/32 via 198.51.100.254'], w.namespace)
  t.equal(w.to('192.0.2.2'), 'eth0')
  t.equal(w.to('10.0.0.1'), null, 'also that there is no way')
  w.ways.forget()
  t.equal(w.to('192.0.2.2'), 'eth1')
  t.equal(w.to('10.0.0.1'), 'eth1')
})

t.test('an address that this host does not have as its own leads nowhere', { skip }, async t => {
  const w = await world(t)
  await ip(w.namespace, 'addr del 192.0.2.1/24 dev eth0')
  t.equal(w.to('198.51.100.2'), null)
})
