// IPv6 between containers whose hosts wrap and unwrap by programs or by VXLAN devices, in this kernel: packets are whole,
// neighbours are known without a question on the wire, and a container without IPv4 needs none.

import t from 'tap'
import { parseIp, parseSubnet } from '#model/ip.ts'
import { parseMac, type Mac } from '#model/mac.ts'
import { json, must } from '../../lab/kernel.ts'
import { ETHER, UDP } from '../../lab/packets/frames.ts'
import { countReplies } from '../../lab/ping.ts'
import { cannotRun } from '../../lab/requirements.ts'
import { Stage, type Places } from '../../lab/stage.ts'
import { TEST_TIMEOUT_MS, waitFor } from '../../lab/wait.ts'
import { makeNetwork } from '../fixtures.ts'
import { onesSum } from './ones-sum.ts'
import { address6, exchange, frameOf6, listen, noOffloads, python, tunnelPackets, transfer } from './wire.ts'

t.setTimeout(TEST_TIMEOUT_MS)
const skip = cannotRun()
const FRAMES = 1_024
const HEADERS = 50
const DATAGRAMS = 500
const dual = makeNetwork('dual', 0x6d6, { subnet6: parseSubnet('fd00:1::/64'), egress: false })
const six = makeNetwork('six', 0x666, {
  subnet: parseSubnet('fd00:2::/64'),
  gateway: parseIp('fd00:2::1'),
  egress: false
})
const PLACES: Places = {
  d1: [dual, 1, '10.1.0.2'],
  d2: [dual, 2, '10.1.0.3'],
  d3: [dual, 1, '10.1.0.4'],
  s1: [six, 1, 'fd00:2::2'],
  s2: [six, 2, 'fd00:2::3']
}

async function open(t: Parameters<typeof Stage.open>[0], linux: readonly number[] = []): Promise<Stage> {
  const stage = await Stage.open(t, 'bpf', { hosts: 2, places: {}, linux })
  stage.networks.push(dual, six)
  for (const [name, [network, host, address]] of Object.entries(PLACES)) await stage.add(name, network, host, address)
  for (const host of [1, 2]) await stage.pass(host)
  return stage
}

async function macOf(s: Stage, host: number): Promise<Mac> {
  const [row] = await json<{ address: string }>('ip', s.lab.host(host).namespace, 'link show dev eth0')
  return parseMac(row?.address ?? '')
}

/** A solicitation or an advertisement. */
const isDiscovery = (frame: Buffer): boolean =>
  frame.readUInt16BE(12) === ETHER.ipv6 && frame[20] === 58 && [135, 136].includes(frame[54] ?? 0)

const text = (all: readonly Buffer[]): string[] => all.map(frame => frame.toString('hex'))

t.test('frames arrive as they were sent, in order, whoever wraps and unwraps them', { skip }, async t => {
  for (const [title, linux] of [
    ['both by their programs', []],
    ['one of them by its VXLAN device', [2]]
  ] as const) {
    await t.test(title, async t => {
      const s = await open(t, linux)
      for (const [first, second] of [
        ['d1', 'd2'],
        ['s1', 's2']
      ] as const) {
        t.equal(await countReplies(s.container(first), address6(s, second)), 3, 'they reach each other')
        for (const [from, to] of [
          [first, second],
          [second, first]
        ] as const) {
          const { vni } = s.endpoint(from)
          const hosts = [from, to].map(name => s.hostOf(s.endpoint(name))) as [number, number]
          const packets = async (): Promise<number[]> => [
            (await tunnelPackets(s, hosts[0], vni)).sent,
            (await tunnelPackets(s, hosts[1], vni)).received
          ]
          const before = await packets()
          const sent = Array.from({ length: FRAMES }, (_, n) => frameOf6(s, { from, to, n }))
          t.same(text(await exchange(t, s, { from, to, frames: sent })), text(sent), `from ${from} to ${to}`)
          const after = await packets()
          const wrapped = (linux as readonly number[]).includes(hosts[0]) ? FRAMES : 0
          t.same(
            [(after[0] ?? 0) - (before[0] ?? 0), (after[1] ?? 0) - (before[1] ?? 0)],
            [wrapped, linux.length > 0 ? FRAMES : 0]
          )
        }
      }
    })
  }
})

t.test('on the wire is the packet in what RFC 7348 says, with its sign of congestion outside', { skip }, async t => {
  const s = await open(t, [2])
  for (const [from, to, host] of [
    ['d1', 'd2', 1],
    ['d2', 'd1', 2]
  ] as const) {
    const wire = await listen(t, s.lab.underlay, `p${host}`)
    const sent = Array.from({ length: 256 }, (_, n) => frameOf6(s, { from, to, n }))
    await exchange(t, s, { from, to, frames: sent })
    const mac = await macOf(s, host)
    const wrapped = wire.heard(mac).filter(frame => frame.length > HEADERS && frame.readUInt16BE(36) === 4789)
    const inside = text(wrapped.map(frame => frame.subarray(HEADERS)))
    t.same(
      inside.filter(frame => text(sent).includes(frame)),
      text(sent),
      `of host ${host}`
    )
    for (const frame of wrapped) {
      if (frame.readUInt16BE(HEADERS + 12) !== ETHER.ipv6) continue
      const before = (frame.readUInt16BE(HEADERS + 14) >> 4) & 3
      const congestion = [0, 1, 2, 2][before]
      if (frame.readUInt8(15) !== congestion) t.fail(`${frame.readUInt8(15)} around ${before}`)
      if (frame.toString('hex', 12, 15) !== '080045') t.fail(`in ${frame.toString('hex', 12, 15)}`)
      if (onesSum(frame.subarray(14, 34)) !== 0xffff) t.fail('the checksum of the header')
    }
  }
})

t.test('a checksum that a container leaves to its device is right on the wire', { skip }, async t => {
  const s = await open(t)
  await noOffloads(s.lab.host(1), 'eth0')
  const wire = await listen(t, s.lab.underlay, 'p1')
  const script = [
    'import socket, sys',
    's = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)',
    'for n in range(1, 1400, 7): s.sendto(bytes((n * i) & 255 for i in range(n)), (sys.argv[1], 5400))'
  ].join('\n')
  await python(s.container('d1'), script, address6(s, 'd2'))
  const mac = await macOf(s, 1)
  const inner = (): Buffer[] =>
    wire
      .heard(mac)
      .filter(frame => frame.length > HEADERS + 62 && frame.readUInt16BE(HEADERS + 12) === ETHER.ipv6)
      .map(frame => frame.subarray(HEADERS + 14))
      .filter(packet => packet[6] === UDP && packet.readUInt16BE(42) === 5_400)
  await waitFor('all datagrams are on the wire', () => inner().length === 200)
  for (const packet of inner()) {
    const datagram = packet.subarray(40)
    const pseudo = Buffer.alloc(40 + datagram.length + (datagram.length & 1))
    packet.copy(pseudo, 0, 8, 40)
    pseudo.writeUInt32BE(datagram.length, 32)
    pseudo.writeUInt8(UDP, 39)
    datagram.copy(pseudo, 40)
    if (onesSum(pseudo) !== 0xffff || datagram.readUInt16BE(6) === 0) t.fail(`of ${datagram.length} bytes`)
  }
  t.equal(inner().length, 200)
})

t.test('TCP passes whole, in large and in small writes, between hosts and on one', { skip }, async t => {
  for (const [title, linux] of [
    ['between programs', []],
    ['with a host that has none', [2]]
  ] as const) {
    await t.test(title, async t => {
      const s = await open(t, linux)
      for (const [from, to] of [
        ['d1', 'd2'],
        ['d2', 'd1'],
        ['s1', 's2'],
        ['d1', 'd3']
      ] as const) {
        const ends = { from: s.container(from), to: s.container(to), address: address6(s, to) }
        t.ok(await transfer({ ...ends, bytes: 16 << 20, writeBytes: 1 << 20 }), `large writes from ${from} to ${to}`)
        t.ok(await transfer({ ...ends, bytes: 1 << 20, writeBytes: 700 }), `small writes from ${from} to ${to}`)
      }
      await noOffloads(s.lab.host(1), 'eth0')
      const ends = { from: s.container('d1'), to: s.container('d2'), address: address6(s, 'd2') }
      t.ok(await transfer({ ...ends, bytes: 8 << 20, writeBytes: 1 << 20 }), 'by a device that cuts nothing')
    })
  }
})

t.test('neighbours are known by the program, and forgetting them again and again loses nothing', { skip }, async t => {
  const s = await open(t)
  const wire = await listen(t, s.lab.underlay, 'p1')
  const script = [
    'import socket, sys, time',
    's = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)',
    `for n in range(${DATAGRAMS}): s.sendto(b'x', (sys.argv[1], 5400)); time.sleep(0.01)`
  ].join('\n')
  for (const [from, to] of [
    ['d1', 'd2'],
    ['d1', 'd3'],
    ['s1', 's2']
  ] as const) {
    const { namespace } = s.container(from)
    // A neighbour is doubted after a third of a second and forgotten after one more: to ask it, there is no link-local address.
    for (const [name, value] of Object.entries({
      base_reachable_time_ms: 300,
      delay_first_probe_time: 1,
      retrans_time_ms: 100
    })) {
      await must('ip', ['netns', 'exec', namespace, 'sysctl', '-qw', `net.ipv6.neigh.eth0.${name}=${value}`])
    }
    const [here, there] = [await listen(t, namespace), await listen(t, s.container(to).namespace)]
    await python(s.container(from), script, address6(s, to))
    const arrived = there.heard(s.endpoint(from).mac, ETHER.ipv6).filter(frame => frame[20] === UDP)
    t.equal(arrived.length, DATAGRAMS, `from ${from} to ${to}`)
    const answers = here.heard(s.endpoint(to).mac, ETHER.ipv6).filter(frame => isDiscovery(frame))
    t.ok(answers.length >= 2, `${answers.length} answers`)
  }
  const questions = wire
    .heard(await macOf(s, 1))
    .filter(frame => frame.length > HEADERS + 54 && isDiscovery(frame.subarray(HEADERS)))
  t.same(text(questions), [], 'no host asks another')
})

t.test('packets as large as the MTU pass, larger ones are told, and fragments arrive', { skip }, async t => {
  const s = await open(t)
  const ping = async (bytes: number, ...more: string[]): Promise<string> => {
    const flags = ['-n', '-c', '3', '-i', '0.05', '-W', '1', ...more, '-s', `${bytes - 48}`]
    const { stdout } = await s.container('d1').exec('ping', ...flags, address6(s, 'd2'))
    return stdout
  }
  for (const bytes of [60, 1_280, 1_449, 1_450]) t.match(await ping(bytes, '-M', 'do'), / 3 received/, `${bytes} bytes`)
  t.notMatch(await ping(1_451, '-M', 'do'), / [1-3] received/)
  for (const bytes of [1_451, 4_000, 20_000])
    t.match(await ping(bytes, '-M', 'dont'), / 3 received/, `${bytes} bytes in fragments`)
})

t.test('a container sends nothing of a family that its network does not have', { skip }, async t => {
  const s = await open(t)
  const exec = (name: string, ...command: string[]): Promise<string> =>
    must('ip', ['netns', 'exec', s.container(name).namespace, ...command])
  for (const name of ['s1', 's2'])
    await exec(name, 'ip', 'addr', 'add', `10.1.0.${name === 's1' ? 77 : 78}/24`, 'dev', 'eth0')
  t.equal(await countReplies(s.container('s1'), '10.1.0.78', { waitMs: 200 }), 0, 'IPv4 in a network of IPv6 alone')
  await exec('d1', 'ip', '-6', 'addr', 'add', 'fd00:1::77/64', 'dev', 'eth0', 'nodad')
  await exec('d1', 'ip', '-6', 'route', 'add', `${address6(s, 'd2')}/128`, 'dev', 'eth0', 'src', 'fd00:1::77')
  t.equal(await countReplies(s.container('d1'), address6(s, 'd2'), { waitMs: 200 }), 0, 'another address')
  await exec('d1', 'ip', '-6', 'route', 'del', `${address6(s, 'd2')}/128`, 'dev', 'eth0')
  t.equal(await countReplies(s.container('d1'), s.address('d2')), 3, 'the other family')
  t.equal(await countReplies(s.container('s1'), address6(s, 's2')), 3)
})
