// What the programs wrap and unwrap themselves, and what they leave to the VXLAN device: one packet for each limit, in this kernel.

import t, { type Test } from 'tap'
import type { Ipv4 } from '#model/ipv4.ts'
import type { Mac } from '#model/mac.ts'
import { arp, ether, ETHER, ipv4, ipv6, udp, vxlan, UDP } from '../../lab/packets/frames.ts'
import { isAsWanted } from './compare.ts'
import { DEVICE_MAC, FREE, type Outcome, type Station, type Tables } from './model.ts'
import { onesSum } from './ones-sum.ts'
import { withBench, type Bench } from './run.ts'

const skip = process.getuid?.() === 0 ? false : 'needs root: BPF programs'
const [VTEP, PEER, STRANGER] = [0xc0000201 as Ipv4, 0xc0000202, 0xc0000203]
const [HERE, QUEUED, BRIDGED, AWAY, NO_WAY] = [2, 3, 4, 5, 6]
const [TUNNEL, UNDERLAY] = [7, 8]
const [NETWORK, PORT, UNDERLAY_MTU] = [0xfedcba, 4790, 1_450]
const HEADERS = 50
const ip = (last: number): Ipv4 => (0x0a010000 + last) as Ipv4
const ip6 = (last: number): string => `fd0000010000000000000000000000${last.toString(16).padStart(2, '0')}`
const mac = (last: number): string => `0200000000${last.toString(16).padStart(2, '0')}`
const macOf = (hex: string): Mac => (hex.match(/../g) ?? []).join(':') as Mac

const TABLES: Tables = {
  settings: { vtep: VTEP, vxlanPort: PORT, underlay: UNDERLAY, underlayMtu: UNDERLAY_MTU, unwraps: true },
  ports: new Map([
    [HERE, { network: NETWORK, address: ip(HERE), address6: ip6(HERE), mac: mac(HERE), redirects: true, mtu: 9_000 }]
  ]),
  stations: new Map<string, Station>([
    [`${NETWORK} ${mac(HERE)}`, { to: HERE, how: 'peer' }],
    [`${NETWORK} ${mac(QUEUED)}`, { to: QUEUED, how: 'queue' }],
    [`${NETWORK} ${mac(BRIDGED)}`, { to: BRIDGED, how: 'bridge' }],
    [`${NETWORK} ${mac(AWAY)}`, { to: PEER, how: 'tunnel' }],
    [`${NETWORK} ${mac(NO_WAY)}`, { to: 0, how: 'tunnel' }]
  ]),
  neighbours: new Map(),
  neighbours6: new Map(),
  vteps: new Set([`${NETWORK} ${PEER}`]),
  tunnels: new Map([[TUNNEL, NETWORK]]),
  networks: new Map([[NETWORK, { tunnel: TUNNEL }]]),
  underlays: new Map([[UNDERLAY, 14]]),
  locals: new Set()
}

function withSettings(settings: Partial<Tables['settings']>): Tables {
  return { ...TABLES, settings: { ...TABLES.settings, ...settings } }
}

/** A datagram between containers. */
function datagram(p: { from?: number; to?: number; tos?: number; bytes?: number; body?: Buffer } = {}): Buffer {
  const { from = AWAY, to = HERE, tos = 0, bytes = 40 } = p
  const body = p.body ?? udp(5_000, 5_001, Buffer.alloc(bytes, 0xab))
  const packet = ipv4({ from: ip(from), to: ip(to), protocol: UDP }, body)
  packet.writeUInt8(tos, 1)
  setChecksum(packet)
  return Buffer.concat([Buffer.from(`${mac(to)}${mac(from)}0800`, 'hex'), packet])
}

/** The same over IPv6, with a label that is the flow's. */
function datagram6(p: { from?: number; to?: number; tos?: number; bytes?: number; label?: number } = {}): Buffer {
  const { from = AWAY, to = HERE, tos = 0, bytes = 40, label = 0 } = p
  const body = udp(5_000, 5_001, Buffer.alloc(bytes, 0xab))
  const packet = ipv6({ from: Buffer.from(ip6(from), 'hex'), to: Buffer.from(ip6(to), 'hex'), next: UDP }, body)
  packet.writeUInt32BE(0x60000000 + tos * 0x100000 + label, 0)
  return Buffer.concat([Buffer.from(`${mac(to)}${mac(from)}86dd`, 'hex'), packet])
}

function setChecksum(packet: Buffer): void {
  const header = packet.subarray(0, (packet.readUInt8(0) & 15) * 4)
  header.writeUInt16BE(0, 10)
  header.writeUInt16BE(0xffff - onesSum(header), 10)
}

/** A frame in VXLAN from the other host, as that host sends it. @param change what is wrong with it; the header's checksum is set after it */
function fromPeer(
  inner: Buffer,
  change: (packet: Buffer) => Buffer = packet => packet,
  { to = DEVICE_MAC, tos = 0 }: { readonly to?: string; readonly tos?: number } = {}
): Buffer {
  const packet = ipv4({ from: PEER, to: VTEP, protocol: UDP }, udp(0xc001, PORT, vxlan({ vni: NETWORK }, inner)))
  packet.writeUInt8(tos, 1)
  const changed = change(packet)
  setChecksum(changed)
  return ether({ to: macOf(to), from: macOf('02fe00000002'), type: ETHER.ipv4 }, changed)
}

const write = (at: number, value: number) => (packet: Buffer) => {
  packet.writeUInt16BE(value, at)
  return packet
}

/** It is unwrapped, and nothing but the inner frame is left. */
function isUnwrapped(t: Test, bench: Bench, packet: Buffer, title: string): void {
  bench.counted()
  const got = bench.run('from_underlay', packet, UNDERLAY)
  t.same([got.verdict, got.packet.toString('hex')], ['redirect', packet.toString('hex', HEADERS)], title)
  const counted = { [`redirected ${HERE}`]: 1, [`scope ${NETWORK} received`]: 1 }
  t.same(Object.fromEntries(bench.counted()), counted, title)
}

/** It goes on to the VXLAN device as it came. */
function isLeft(t: Test, bench: Bench, packet: Buffer, title: string, segments = 0): void {
  bench.counted()
  const got = bench.run('from_underlay', packet, UNDERLAY, segments)
  t.same([got.verdict, got.packet.equals(packet)], ['next', true], title)
  t.same(
    Object.fromEntries(bench.counted()),
    { [`scope ${NETWORK} received`]: 1 },
    `${title}: it is counted as received`
  )
}

t.test('a plain packet for a container of this host is unwrapped, whatever it holds', { skip }, async t => {
  withBench(TABLES, bench => {
    for (const bytes of [0, 1, 2, 3, 100, 1_362]) {
      isUnwrapped(t, bench, fromPeer(datagram({ bytes })), `${bytes} bytes in a datagram`)
    }
    for (let tos = 0; tos < 256; tos++) {
      isUnwrapped(t, bench, fromPeer(datagram({ tos })), `type of service ${tos}`)
      isUnwrapped(t, bench, fromPeer(datagram6({ tos, label: tos })), `traffic class ${tos}`)
    }
    for (const bytes of [0, 1, 2, 3, 100, 1_342]) {
      isUnwrapped(t, bench, fromPeer(datagram6({ bytes })), `${bytes} bytes in a datagram over IPv6`)
    }
    const bare = Buffer.concat([Buffer.from(`${mac(HERE)}${mac(AWAY)}86dd`, 'hex'), Buffer.alloc(40, 0x45)])
    isUnwrapped(t, bench, fromPeer(bare), 'a header of IPv6 alone')
    isUnwrapped(t, bench, fromPeer(datagram(), write(6, 0x4000)), 'a packet around it that must not be fragmented')
    isUnwrapped(t, bench, fromPeer(datagram(), write(8, 0x0111)), 'a packet around it at the end of its life')
    const empty = Buffer.concat([Buffer.from(`${mac(HERE)}${mac(AWAY)}0800`, 'hex'), Buffer.alloc(20, 0x45)])
    isUnwrapped(t, bench, fromPeer(empty), 'a header alone')
    const broken = datagram()
    broken.fill(0xff, 14)
    isUnwrapped(t, bench, fromPeer(broken), 'what the container’s stack has to judge')
  })
})

t.test('what is more than a plain packet in plain wrapping is left to the VXLAN device', { skip }, async t => {
  const inner = datagram()
  const longer = (bytes: number) => (packet: Buffer) => Buffer.concat([packet, Buffer.alloc(bytes)])
  /** With the type of an inner IPv4 frame where it would be without the options. */
  const withOptions = (packet: Buffer): Buffer => {
    const lured = Buffer.from(packet)
    lured.writeUInt16BE(0x0800, 20 + 8 + 8 + 12 - 4)
    const all = Buffer.concat([lured.subarray(0, 20), Buffer.alloc(4, 1), lured.subarray(20)])
    all.writeUInt8(0x46, 0)
    all.writeUInt16BE(all.length, 2)
    // As long as the rest would be if there were none.
    all.writeUInt16BE(all.length - 20, 24 + 4)
    return all
  }
  const ask = { fromMac: macOf(mac(AWAY)), fromAddress: ip(AWAY), toMac: macOf(mac(HERE)), toAddress: ip(HERE) }
  const question = ether(
    { to: macOf(mac(HERE)), from: macOf(mac(AWAY)), type: ETHER.arp },
    arp({ operation: 1, ...ask })
  )
  const tagged = Buffer.concat([inner.subarray(0, 12), Buffer.from('81000001', 'hex'), inner.subarray(12)])
  const outer: readonly [title: string, packet: Buffer][] = [
    ['options', fromPeer(inner, withOptions)],
    ['a first fragment', fromPeer(inner, write(6, 0x2000))],
    ['a first fragment that must not be one', fromPeer(inner, write(6, 0x6000))],
    ['another version', fromPeer(inner, packet => Buffer.concat([Buffer.from([0x55]), packet.subarray(1)]))],
    ['a UDP checksum', fromPeer(inner, write(26, 1))],
    ['padding', fromPeer(inner, longer(1))],
    ['much padding', fromPeer(inner, longer(40))],
    ['a length beyond its end', fromPeer(inner, packet => write(2, packet.length + 1)(packet))],
    ['a shorter datagram', fromPeer(inner, packet => write(24, packet.length - 21)(packet))],
    ['a longer datagram', fromPeer(inner, packet => write(24, packet.length - 19)(packet))],
    ['another host’s MAC', fromPeer(inner, undefined, { to: '02fe00000003' })],
    ['congestion', fromPeer(inner, undefined, { tos: 3 })],
    ['congestion and a class of service', fromPeer(inner, undefined, { tos: 0xbb })],
    ['congestion of a packet that is marked already', fromPeer(datagram({ tos: 3 }), undefined, { tos: 3 })],
    ['the beginning of congestion', fromPeer(datagram({ tos: 2 }), undefined, { tos: 1 })],
    ['congestion around IPv6', fromPeer(datagram6({ tos: 2 }), undefined, { tos: 3 })],
    ['the beginning of congestion around IPv6', fromPeer(datagram6({ tos: 2 }), undefined, { tos: 1 })]
  ]
  const within: readonly [title: string, packet: Buffer][] = [
    ['ARP', fromPeer(question)],
    ['a VLAN tag', fromPeer(tagged)],
    ['less than a header of IPv6', fromPeer(datagram6().subarray(0, 53))],
    ['IPv6 to a container that is reached by its queue', fromPeer(datagram6({ to: QUEUED }))],
    [
      'another protocol',
      fromPeer(Buffer.concat([inner.subarray(0, 12), Buffer.from('88cc', 'hex'), Buffer.alloc(40)]))
    ],
    ['less than a header', fromPeer(inner.subarray(0, 33))],
    ['an Ethernet header alone', fromPeer(inner.subarray(0, 14))],
    ['less than that', fromPeer(inner.subarray(0, 13))],
    ['nothing', fromPeer(Buffer.alloc(0))],
    ['a container that is reached by its queue', fromPeer(datagram({ to: QUEUED }))],
    ['a container that the bridge leads to', fromPeer(datagram({ to: BRIDGED }))],
    ['a container of another host', fromPeer(datagram({ to: AWAY }))],
    ['a MAC that nobody has', fromPeer(datagram({ to: 99 }))],
    ['broadcast', fromPeer(Buffer.concat([Buffer.alloc(6, 0xff), inner.subarray(6)]))]
  ]
  withBench(TABLES, bench => {
    for (const [title, packet] of [...outer, ...within]) isLeft(t, bench, packet, title)
    isLeft(t, bench, fromPeer(inner), 'one that a network card has put together', 1_000)
    const wrong = fromPeer(inner)
    wrong.writeUInt16BE(wrong.readUInt16BE(24) ^ 0x0100, 24)
    isLeft(t, bench, wrong, 'a wrong checksum of the header')
    isUnwrapped(t, bench, fromPeer(inner), 'and in between them all, a plain one')
  })
  withBench(withSettings({ unwraps: false }), bench => {
    isLeft(t, bench, fromPeer(inner), 'a host whose packets others have to judge')
  })
  withBench(withSettings({ underlay: 0 }), bench => {
    isUnwrapped(t, bench, fromPeer(inner), 'a host that wraps nothing')
  })
})

t.test('who may send is checked before anything is unwrapped', { skip }, async t => {
  withBench(TABLES, bench => {
    const refused: readonly [title: string, packet: Buffer, why: string][] = [
      ['a stranger', fromPeer(datagram(), packet => write(14, STRANGER & 0xffff)(packet)), 'stranger'],
      ['another network', fromPeer(datagram(), packet => write(20 + 8 + 5, 0x0102)(packet)), 'stranger'],
      ['all hosts', fromPeer(datagram(), undefined, { to: 'ffffffffffff' }), 'stranger'],
      ['reserved bits', fromPeer(datagram(), packet => write(20 + 8 + 6, 0xba01)(packet)), 'malformed']
    ]
    for (const [title, packet, why] of refused) {
      bench.counted()
      const { verdict, packet: after } = bench.run('from_underlay', packet, UNDERLAY)
      t.same([verdict, after.equals(packet)], ['drop', true], title)
      t.same(Object.fromEntries(bench.counted()), { [`drop ${why}`]: 1 }, title)
    }
  })
})

/** The outer headers of what the container sends to the other host. */
function wrapped(frame: Buffer, { tos = 0 }: { readonly tos?: number } = {}): Omit<Outcome, 'counted'> {
  const packet = fromPeer(frame, undefined, { tos })
  packet.fill(0, 0, 12)
  packet.writeUInt32BE(VTEP, 26)
  packet.writeUInt32BE(PEER, 30)
  for (const at of Object.values(FREE)) packet.writeUInt16BE(0, at)
  return { verdict: 'redirect', packet, isWrapped: true }
}

function send(bench: Bench, frame: Buffer, segments = 0): Pick<Outcome, 'verdict' | 'packet'> {
  return bench.run('from_container', frame, HERE, segments)
}

t.test(
  'a packet for another host is wrapped: all of it, and its sign of congestion as RFC 3168 has it',
  { skip },
  async t => {
    withBench(TABLES, bench => {
      for (const bytes of [0, 1, 100, UNDERLAY_MTU - HEADERS - 28]) {
        const frame = datagram({ from: HERE, to: AWAY, bytes })
        t.ok(isAsWanted(send(bench, frame), wrapped(frame)), `${bytes} bytes in a datagram`)
      }
      for (const bytes of [0, 1, 100, UNDERLAY_MTU - HEADERS - 48]) {
        const frame = datagram6({ from: HERE, to: AWAY, bytes })
        t.ok(isAsWanted(send(bench, frame), wrapped(frame)), `${bytes} bytes in a datagram over IPv6`)
      }
      for (let tos = 0; tos < 256; tos++) {
        const frame = datagram({ from: HERE, to: AWAY, tos })
        // A packet that has met congestion before meets none on this way: it can.
        const outer = [0, 1, 2, 2][tos & 3] ?? 0
        t.ok(isAsWanted(send(bench, frame), wrapped(frame, { tos: outer })), `type of service ${tos}`)
        const frame6 = datagram6({ from: HERE, to: AWAY, tos, label: 0xfffff })
        t.ok(isAsWanted(send(bench, frame6), wrapped(frame6, { tos: outer })), `traffic class ${tos}`)
      }
    })
  }
)

t.test('ways between two hosts are shared by flows: one has one source port, and many have many', { skip }, async t => {
  withBench(TABLES, bench => {
    const portOf = (from: number): number => {
      const body = udp(from, 5_001, Buffer.alloc(20))
      return send(bench, datagram({ from: HERE, to: AWAY, body })).packet.readUInt16BE(FREE.sourcePort)
    }
    t.same(new Set(Array.from({ length: 20 }, () => portOf(5_000))).size, 1)
    const ports = new Set(Array.from({ length: 200 }, (_, n) => portOf(5_000 + n)))
    t.ok(ports.size > 150, `${ports.size} ports of 200 flows`)
    t.ok([...ports].every(port => port >= 0xc000))
    const portOf6 = (label: number): number =>
      send(bench, datagram6({ from: HERE, to: AWAY, label })).packet.readUInt16BE(FREE.sourcePort)
    t.same(new Set(Array.from({ length: 20 }, () => portOf6(1))).size, 1)
    const labelled = new Set(Array.from({ length: 200 }, (_, n) => portOf6(n + 1)))
    t.ok(labelled.size > 150, `${labelled.size} ports of 200 flows over IPv6`)
  })
})

t.test('what the programs do not wrap goes to the VXLAN device as it is', { skip }, async t => {
  const frame = datagram({ from: HERE, to: AWAY })
  const tell = { fromMac: macOf(mac(HERE)), fromAddress: ip(HERE), toMac: macOf(mac(AWAY)), toAddress: ip(AWAY) }
  const answer = ether(
    { to: macOf(mac(AWAY)), from: macOf(mac(HERE)), type: ETHER.arp },
    arp({ operation: 2, ...tell })
  )
  const cases: readonly [title: string, tables: Tables, frame: Buffer, segments?: number][] = [
    ['several devices', withSettings({ underlay: 0 }), frame],
    ['one byte more than the underlay takes', TABLES, datagram({ from: HERE, to: AWAY, bytes: 1_373 })],
    ['far more', TABLES, datagram({ from: HERE, to: AWAY, bytes: 3_000 })],
    ['one byte more over IPv6', TABLES, datagram6({ from: HERE, to: AWAY, bytes: 1_353 })],
    ['IPv6 that a network card is to cut', TABLES, datagram6({ from: HERE, to: AWAY }), 20],
    ['an underlay whose MTU is not known', withSettings({ underlayMtu: 0 }), frame],
    ['a host by another device', TABLES, datagram({ from: HERE, to: NO_WAY })],
    ['what a network card is to cut', TABLES, frame, 20],
    ['ARP', TABLES, answer]
  ]
  for (const [title, tables, sent, segments] of cases) {
    withBench(tables, bench => {
      const { verdict, packet } = send(bench, sent, segments)
      t.same([verdict, packet.equals(sent)], ['redirect', true], title)
      t.equal(bench.counted().get(`scope ${NETWORK} sent`), 1, `${title}: it is counted as sent`)
    })
  }
  const lacking = { ...TABLES, networks: new Map() }
  withBench({ ...lacking, settings: { ...TABLES.settings, underlay: 0 } }, bench => {
    t.same(send(bench, frame).verdict, 'next', 'without that device the bridge decides')
  })
  withBench(lacking, bench => {
    t.ok(isAsWanted(send(bench, frame), wrapped(frame)), 'but it is not needed for what is wrapped')
  })
})

t.test('what one host wraps is what another unwraps', { skip }, async t => {
  withBench(TABLES, bench => {
    for (let tos = 0; tos < 512; tos++) {
      const facts = { from: HERE, to: AWAY, tos: tos & 255, bytes: (tos & 255) * 5 }
      const frame = tos < 256 ? datagram(facts) : datagram6(facts)
      const { packet } = send(bench, frame)
      // On its way the MACs are filled in; the other host has the addresses the other way round, and the container.
      packet.write(DEVICE_MAC, 0, 'hex')
      packet.writeUInt32BE(PEER, 26)
      packet.writeUInt32BE(VTEP, 30)
      packet.write(mac(HERE), HEADERS, 'hex')
      const { verdict, packet: after } = bench.run('from_underlay', packet, UNDERLAY)
      after.write(mac(AWAY), 0, 'hex')
      t.same([verdict, after.equals(frame)], ['redirect', true], `type of service ${tos}`)
    }
  })
})
