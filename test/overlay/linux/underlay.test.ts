// By which devices VXLAN arrives and leaves: one, several, and those without a link-layer header.

import { spawn } from 'node:child_process'
import { once } from 'node:events'
import t, { type Test } from 'tap'
import { formatSubnet, parseIp } from '#model/ip.ts'
import { parseIpv4 } from '#model/ipv4.ts'
import { exitOf, linkPrefix, readUnderlay, underlayDevices } from '#overlay/linux/underlay.ts'
import type { UnderlayDevice } from '#overlay/plan/programs/desired-programs.ts'
import { vxlanUnderlay, type Underlay } from '#overlay/plan/underlay/underlay.ts'
import { NetlinkSocket } from '#platform/netlink-socket.ts'
import type { LabContainer } from '../../lab/container.ts'
import { ip, ipBatch } from '../../lab/kernel.ts'
import { Lab } from '../../lab/lab.ts'
import { cannotRun } from '../../lab/requirements.ts'
import { waitFor } from '../../lab/wait.ts'

const skip = cannotRun()

t.test('VXLAN leaves by the device that it arrives by, if that is the only one and an Ethernet device', t => {
  const [eth0, eth1]: UnderlayDevice[] = [
    { name: 'eth0', ifindex: 2, linkBytes: 14 },
    { name: 'eth1', ifindex: 3, linkBytes: 14 }
  ]
  const tun0 = { name: 'tun0', ifindex: 4, linkBytes: 0 }
  if (eth0 === undefined || eth1 === undefined) throw new Error('no devices')
  const cases: readonly [title: string, devices: readonly UnderlayDevice[], exit: number][] = [
    ['one Ethernet device', [eth0], 2],
    ['another one', [eth1], 3],
    ['none', [], 0],
    ['two', [eth0, eth1], 0],
    ['three', [eth0, eth1, tun0], 0],
    ['one without a link-layer header', [tun0], 0],
    ['one of each', [eth0, tun0], 0],
    ['one of each, the other way round', [tun0, eth0], 0]
  ]
  for (const [title, devices, exit] of cases) t.equal(exitOf(devices), exit, title)
  t.end()
})

/** A namespace with these devices and addresses. */
async function host(
  t: Test,
  lines: readonly string[]
): Promise<{ readonly namespace: string; readonly socket: NetlinkSocket }> {
  const lab = await Lab.create()
  t.teardown(() => lab.destroy())
  const { namespace, netns } = await lab.container('host')
  await ipBatch(lines, namespace)
  const socket = NetlinkSocket.open(netns)
  t.teardown(() => socket.close())
  return { namespace, socket }
}

/** By name, the devices by which VXLAN to an address arrives, and the one by which it leaves. */
function read(socket: NetlinkSocket, address = '192.0.2.1'): { readonly arrives: string[]; readonly leaves: string } {
  const devices = underlayDevices(socket, readUnderlay(socket, vxlanUnderlay(parseIpv4(address))))
  const exit = exitOf(devices)
  const leaves = devices.find(({ ifindex }) => ifindex === exit)?.name ?? ''
  return { arrives: devices.map(({ name, linkBytes }) => `${name} ${linkBytes}`).sort(), leaves }
}

const pair = (name: string): string[] => [`link add ${name} type veth peer name peer-${name}`, `link set ${name} up`]

t.test('the device that has the tunnel address is the only one, whatever else there is', { skip }, async t => {
  const { namespace, socket } = await host(t, [...pair('eth0'), ...pair('eth1'), 'addr add 192.0.2.1/24 dev eth0'])
  t.same(read(socket), { arrives: ['eth0 14'], leaves: 'eth0' })
  await ip(namespace, 'addr add 192.0.2.2/24 dev eth0')
  t.same(read(socket, '192.0.2.2'), { arrives: ['eth0 14'], leaves: 'eth0' }, 'also by its second address')
  await ipBatch(
    ['link add br0 type bridge', 'link set br0 up', 'addr del 192.0.2.1/24 dev eth0', 'addr add 192.0.2.1/24 dev br0'],
    namespace
  )
  t.same(read(socket), { arrives: ['br0 14'], leaves: 'br0' }, 'a bridge')
})

t.test(
  'with the tunnel address on the loopback device VXLAN leaves by the one that there is, or by several',
  { skip },
  async t => {
    const { namespace, socket } = await host(t, ['link set lo up', 'addr add 192.0.2.1/32 dev lo', ...pair('eth0')])
    t.same(read(socket), { arrives: ['eth0 14'], leaves: 'eth0' }, 'one way into the host')
    await ipBatch(pair('eth1'), namespace)
    t.same(read(socket), { arrives: ['eth0 14', 'eth1 14'], leaves: '' }, 'two')
    await ip(namespace, 'link set eth1 down')
    t.same(read(socket), { arrives: ['eth0 14'], leaves: 'eth0' }, 'and one again')
  }
)

t.test('a device without a link-layer header is no Ethernet device', { skip }, async t => {
  const { namespace, socket } = await host(t, ['tuntap add dev tun0 mode tun', 'addr add 192.0.2.1/24 dev tun0'])
  t.same(read(socket), { arrives: ['tun0 0'], leaves: '' })
  await ipBatch(['tuntap add dev tap0 mode tap', 'addr add 192.0.2.2/24 dev tap0'], namespace)
  t.same(read(socket, '192.0.2.2'), { arrives: ['tap0 14'], leaves: 'tap0' }, 'one that has none of its own')
  await ipBatch(['link set lo up', 'addr add 192.0.2.3/32 dev lo'], namespace)
  // A tun device is up once somebody holds it.
  const script = [
    'import fcntl, struct, sys, time',
    'f = open("/dev/net/tun", "r+b", buffering=0)',
    'fcntl.ioctl(f, 0x400454ca, struct.pack("16sH", b"tun0", 0x1001))',
    'print("up", flush=True)',
    'time.sleep(600)'
  ].join('\n')
  const child = spawn('ip', ['netns', 'exec', namespace, '/usr/bin/python3', '-c', script], {
    stdio: ['ignore', 'pipe', 'inherit']
  })
  t.teardown(() => child.kill('SIGKILL'))
  await once(child.stdout, 'data')
  await ip(namespace, 'link set tun0 up')
  t.same(read(socket, '192.0.2.3'), { arrives: ['tun0 0'], leaves: '' }, 'the only way into a host')
})

t.test(
  'an IPv6 address is the underlay’s once nobody else can have it, and 70 bytes are left out',
  { skip },
  async t => {
    const lab = await Lab.create()
    t.teardown(() => lab.destroy())
    const [one, other] = (await lab.containers(['one', 'other'])) as [LabContainer, LabContainer]
    await ip(one.namespace, `link add eth0 type veth peer name eth0 netns ${other.namespace}`)
    for (const { namespace } of [one, other]) await ip(namespace, 'link set eth0 up')
    await ip(other.namespace, 'addr add fd00::2/64 dev eth0 nodad')
    const socket = NetlinkSocket.open(one.netns)
    t.teardown(() => socket.close())
    const readOf = (address: string): Underlay => readUnderlay(socket, vxlanUnderlay(parseIp(address)))
    const refused = (address: string, message: RegExp): unknown =>
      t.throws(() => readOf(address), { code: 'ERR_CONFIG', field: 'bind', message })
    refused('fd00::1', /^bind: no device of this host has the address fd00::1$/)
    await ip(one.namespace, 'addr add fd00::1/64 dev eth0')
    refused('fd00::1', /^bind: fd00::1 of eth0 cannot be used: it is still being checked for duplicates$/)
    const found = await waitFor('the kernel has checked it', () => {
      try {
        return readOf('fd00::1')
      } catch {
        return null
      }
    })
    t.match(found, { device: 'eth0', mtu: 1500, overheadBytes: 70, overlayMtu: 1430 })
    t.same(
      underlayDevices(socket, found).map(({ name }) => name),
      ['eth0']
    )
    await ip(one.namespace, 'addr add fd00::2/64 dev eth0')
    await waitFor('the kernel has found the other one', async () =>
      (await ip(one.namespace, '-6 addr show dev eth0')).includes('dadfailed')
    )
    refused('fd00::2', /^bind: fd00::2 of eth0 cannot be used: another host on the link has it$/)
    await ip(one.namespace, 'link set eth0 mtu 1280')
    t.equal(readOf('fd00::1').overlayMtu, 1210)
  }
)

t.test('what is on the link of an IPv6 tunnel address is what a route without a gateway covers', { skip }, async t => {
  const { namespace, socket } = await host(t, [
    ...pair('eth0'),
    ...pair('eth1'),
    ...['peer-eth0', 'peer-eth1'].map(name => `link set ${name} up`),
    'addr add 2001:db8::1/64 dev eth0 nodad',
    'addr add 192.0.2.1/24 dev eth0',
    'addr add 2001:db8:1::1/128 dev eth0 nodad',
    'addr add 2001:db8:2::1/64 dev eth0 nodad noprefixroute',
    'route add 2001:db8:1::/48 via 2001:db8::2',
    'route add 2001:db8:2::/64 dev eth1',
    'route add default via 2001:db8::2'
  ])
  const prefixOf = (address: string): string => {
    const found = linkPrefix(socket, parseIp(address))
    return found === null ? 'none' : formatSubnet(found)
  }
  t.equal(prefixOf('2001:db8::1'), '2001:db8::/64')
  t.equal(prefixOf('192.0.2.1'), 'none', 'over IPv4 the path is as it was')
  t.match(prefixOf('2001:db8:1::1'), /^none$|\/128$/, 'a single address, all others behind a router')
  t.equal(prefixOf('2001:db8:2::1'), 'none', 'of another device')
  t.equal(prefixOf('2001:db8::9'), 'none', 'an address that the host does not have')
  await ip(namespace, '-6 route add 2001:db8:2::/64 dev eth0 metric 10')
  t.equal(prefixOf('2001:db8:2::1'), '2001:db8:2::/64', 'a route that was added by hand')
})
