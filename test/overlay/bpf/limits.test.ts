// What a container may send in a second, in this kernel: a second's worth at once, and no more than its rate after that. How
// long the packets took is measured, for in that time the rate allows more of them.

import t, { type Test } from 'tap'
import type { Ipv4 } from '#model/ipv4.ts'
import { word } from '#overlay/plan/programs/entries.ts'
import type { Outcome, Station, Tables } from './model.ts'
import { withBench, type Bench, type Rates } from './run.ts'

const skip = process.getuid?.() === 0 ? false : 'needs root: BPF programs'
const ip = (last: number): Ipv4 => (0x0a010000 + last) as Ipv4
const ip6 = (last: number): string => `fd0000010000000000000000000000${last.toString(16).padStart(2, '0')}`
const mac = (last: number): string => `0200000000${last.toString(16).padStart(2, '0')}`
const [FIRST, SECOND, GUARDED] = [2, 3, 4]
const REMOTE = 9
const RATE = 5
const NO_LIMITS: Rates = { flowsRate: 0, broadcastsRate: 0 }
const FLOWS: Rates = { ...NO_LIMITS, flowsRate: RATE }
const BROADCASTS: Rates = { ...NO_LIMITS, broadcastsRate: RATE }
const SENT = 60

/** Two containers whose packets are redirected, one whose packets the bridge forwards, and one on another host. */
const TABLES: Tables = {
  settings: { vtep: 0xc0000201 as Ipv4, vxlanPort: 4789, underlay: 9, underlayMtu: 1_500, unwraps: true },
  ports: new Map(
    [FIRST, SECOND, GUARDED].map(n => {
      const addresses = { address: ip(n), address6: ip6(n) }
      return [n, { network: 7, ...addresses, mac: mac(n), redirects: n !== GUARDED, mtu: 1_500 }]
    })
  ),
  stations: new Map<string, Station>([
    [`7 ${mac(FIRST)}`, { to: FIRST, how: 'peer' }],
    [`7 ${mac(SECOND)}`, { to: SECOND, how: 'peer' }],
    [`7 ${mac(GUARDED)}`, { to: GUARDED, how: 'bridge' }],
    [`7 ${mac(REMOTE)}`, { to: 0xc0000202, how: 'tunnel' }]
  ]),
  neighbours: new Map([SECOND, REMOTE].map(n => [`7 ${ip(n)}`, mac(n)])),
  neighbours6: new Map([SECOND, REMOTE].map(n => [`7 ${ip6(n)}`, mac(n)])),
  vteps: new Set(),
  tunnels: new Map([[7, 7]]),
  networks: new Map([[7, { tunnel: 7 }]]),
  underlays: new Map(),
  locals: new Set()
}

const ALL = 'ffffffffffff'
const [SYN, RST, PSH, ACK] = [2, 4, 8, 16]
const [ICMP, TCP, UDP, ICMPV6] = [1, 6, 17, 58]

/** An IPv4 packet from the container at a port. */
function ipv4(from: number, p: { to?: string; protocol: number; body: Buffer; source?: Ipv4 }): Buffer {
  const { to = mac(REMOTE), protocol, body, source = ip(from) } = p
  const packet = Buffer.alloc(34)
  packet.write(to + mac(from) + '0800' + '45', 0, 'hex')
  packet.writeUInt16BE(20 + body.length, 16)
  packet.writeUInt8(64, 22)
  packet.writeUInt8(protocol, 23)
  packet.writeUInt32BE(source, 26)
  packet.writeUInt32BE(ip(REMOTE), 30)
  return Buffer.concat([packet, body])
}

function tcp(from: number, flags: number, p: { to?: string; source?: Ipv4 } = {}): Buffer {
  const body = Buffer.alloc(20)
  body.writeUInt16BE(40_000, 0)
  body.writeUInt16BE(80, 2)
  body.writeUInt8(5 << 4, 12)
  body.writeUInt8(flags, 13)
  return ipv4(from, { ...p, protocol: TCP, body })
}

function udp(from: number, to?: string): Buffer {
  const body = Buffer.alloc(30)
  body.writeUInt16BE(5_000, 0)
  body.writeUInt16BE(53, 2)
  return ipv4(from, { ...(to === undefined ? {} : { to }), protocol: UDP, body })
}

function arp(from: number, asked: number, to = ALL): Buffer {
  const packet = Buffer.alloc(42)
  packet.write(`${to}${mac(from)}08060001080006040001${mac(from)}`, 0, 'hex')
  packet.writeUInt32BE(ip(from), 28)
  packet.writeUInt32BE(ip(asked), 38)
  return packet
}

/** An IPv6 packet from the container at a port. */
function ipv6(from: number, p: { to?: string; protocol: number; body: Buffer }): Buffer {
  const { to = mac(REMOTE), protocol, body } = p
  const packet = Buffer.alloc(54)
  packet.write(`${to}${mac(from)}86dd60`, 0, 'hex')
  packet.writeUInt16BE(body.length, 18)
  packet.writeUInt8(protocol, 20)
  packet.writeUInt8(255, 21)
  packet.write(ip6(from) + ip6(REMOTE), 22, 'hex')
  return Buffer.concat([packet, body])
}

const tcp6 = (from: number, flags: number, to?: string): Buffer =>
  ipv6(from, { ...(to === undefined ? {} : { to }), protocol: TCP, body: tcp(from, flags).subarray(34) })

const udp6 = (from: number, to?: string): Buffer =>
  ipv6(from, { ...(to === undefined ? {} : { to }), protocol: UDP, body: udp(from).subarray(34) })

/** Asks for a neighbour's MAC. */
function solicit(from: number, asked: number, to = '3333ff000001'): Buffer {
  return ipv6(from, { to, protocol: ICMPV6, body: Buffer.from(`8700000000000000${ip6(asked)}0101${mac(from)}`, 'hex') })
}

type Tally = { readonly passed: number; readonly dropped: number; readonly seconds: number }

/** Sends packets in turn, and counts what became of them. */
function send(bench: Bench, ifindex: number, packets: readonly Buffer[], times = SENT): Tally {
  const since = performance.now()
  const verdicts: Outcome['verdict'][] = []
  for (let i = 0; i < times; i++) {
    verdicts.push(bench.run('from_container', packets[i % packets.length] ?? Buffer.alloc(0), ifindex).verdict)
  }
  const dropped = verdicts.filter(verdict => verdict === 'drop').length
  return { passed: times - dropped, dropped, seconds: (performance.now() - since) / 1_000 }
}

/** Did those pass that the rate allows, after this many were saved? */
function isLimited(t: Test, { passed, seconds }: Tally, what: string, saved = RATE): void {
  t.ok(passed >= saved && passed <= saved + seconds * RATE, `${what}: ${passed} in ${seconds.toFixed(3)} s`)
}

/** As if so much time had passed without a packet: its bucket was last used so long ago. */
function rest(bench: Bench, ifindex: number, seconds: number): void {
  const buckets = bench.map('vxm_buckets')
  const value = buckets.get(word(ifindex))
  if (value === null) throw new Error('no buckets')
  const view = new DataView(value.buffer)
  // Not before the machine was started.
  const since = (at: number): bigint => view.getBigUint64(at, true) - BigInt(seconds * 1e9)
  for (const at of [0, 16]) view.setBigUint64(at, since(at) > 0n ? since(at) : 0n, true)
  buckets.set([{ key: word(ifindex), value }])
}

t.test('of new connections a second’s worth passes at once, and the rest is dropped and counted', { skip }, async t => {
  for (const [port, syn] of [FIRST, GUARDED].flatMap(port => [
    [port, tcp(port, SYN)] as const,
    [port, tcp6(port, SYN)] as const
  ])) {
    withBench(
      TABLES,
      bench => {
        const tally = send(bench, port, [syn])
        isLimited(t, tally, 'connections')
        const counted = bench.counted()
        t.same(
          Object.fromEntries(counted),
          {
            [`sent ${port}`]: tally.passed,
            [`limited ${port}`]: tally.dropped,
            'drop limited': tally.dropped,
            'scope 7 sent': tally.passed
          },
          'nothing else is counted'
        )
      },
      FLOWS
    )
  }
})

t.test('of broadcast and multicast a second’s worth passes at once', { skip }, async t => {
  const packets: readonly [title: string, packets: readonly Buffer[]][] = [
    ['ARP for an address that nobody has', [arp(FIRST, 77)]],
    ['ARP for its own address', [arp(FIRST, FIRST)]],
    ['broadcast', [udp(FIRST, ALL)]],
    ['multicast', [udp(FIRST, '01005e0000fb')]],
    ['a solicitation for an address that nobody has', [solicit(FIRST, 77)]],
    ['one for its own address', [solicit(FIRST, FIRST)]],
    ['multicast of IPv6', [udp6(FIRST, '333300000001')]],
    [
      'all of them, of one bucket',
      [arp(FIRST, 77), udp(FIRST, ALL), udp(FIRST, '01005e0000fb'), solicit(FIRST, 77), udp6(FIRST, '333300000001')]
    ],
    ['a connection of IPv6 to all', [tcp6(FIRST, SYN, '333300000001')]],
    ['a connection to all', [tcp(FIRST, SYN, { to: ALL })]]
  ]
  for (const [title, sent] of packets) {
    withBench(
      TABLES,
      bench => {
        const tally = send(bench, FIRST, sent)
        isLimited(t, tally, title)
        t.equal(bench.counted().get(`limited ${FIRST}`), tally.dropped, title)
      },
      BROADCASTS
    )
  }
})

t.test('data to one station is never limited', { skip }, async t => {
  const icmp = ipv4(FIRST, { protocol: ICMP, body: Buffer.from('0800000000010001', 'hex') })
  const packets: readonly [title: string, packet: Buffer][] = [
    ['a segment', tcp(FIRST, ACK | PSH)],
    ['the answer to a new connection', tcp(FIRST, SYN | ACK)],
    ['a reset', tcp(FIRST, RST)],
    ['UDP', udp(FIRST)],
    ['UDP to a station that nobody knows', udp(FIRST, mac(99))],
    ['ICMP', icmp],
    ['another protocol', ipv4(FIRST, { protocol: 132, body: Buffer.alloc(20) })],
    ['ARP to one station', arp(FIRST, 77, mac(REMOTE))],
    ['ARP that is answered here', arp(FIRST, SECOND)],
    ['a segment over IPv6', tcp6(FIRST, ACK | PSH)],
    ['the answer to a new connection over IPv6', tcp6(FIRST, SYN | ACK)],
    ['UDP over IPv6', udp6(FIRST)],
    ['a solicitation to one station', solicit(FIRST, 77, mac(REMOTE))],
    ['a solicitation that is answered here', solicit(FIRST, SECOND)]
  ]
  withBench(
    TABLES,
    bench => {
      const spent = [tcp(FIRST, SYN), udp(FIRST, ALL)]
      t.ok(send(bench, FIRST, spent).dropped > 0, 'both buckets are empty')
      bench.counted()
      for (const [title, packet] of packets) {
        t.equal(send(bench, FIRST, [packet], 200).dropped, 0, title)
        const counted = bench.counted()
        t.same([counted.get(`sent ${FIRST}`), counted.get(`limited ${FIRST}`)], [200, undefined], title)
      }
    },
    { flowsRate: RATE, broadcastsRate: RATE }
  )
})

t.test('a container that has spent its own leaves the others theirs', { skip }, async t => {
  withBench(
    TABLES,
    bench => {
      isLimited(t, send(bench, FIRST, [tcp(FIRST, SYN), tcp6(FIRST, SYN)]), 'the first, of both families together')
      bench.counted()
      isLimited(t, send(bench, SECOND, [tcp(SECOND, SYN)]), 'the second')
      t.equal(bench.counted().get(`limited ${FIRST}`), undefined)
    },
    FLOWS
  )
})

t.test('connections and broadcasts have a bucket each', { skip }, async t => {
  withBench(
    TABLES,
    bench => {
      isLimited(t, send(bench, FIRST, [tcp(FIRST, SYN)]), 'connections')
      isLimited(t, send(bench, FIRST, [udp(FIRST, ALL)]), 'broadcasts')
    },
    { flowsRate: RATE, broadcastsRate: RATE }
  )
  for (const [rates, limited, free] of [
    [FLOWS, tcp(FIRST, SYN), udp(FIRST, ALL)],
    [BROADCASTS, udp(FIRST, ALL), tcp(FIRST, SYN)]
  ] as const) {
    withBench(
      TABLES,
      bench => {
        t.ok(send(bench, FIRST, [limited]).dropped > 0)
        t.equal(send(bench, FIRST, [free], 300).dropped, 0, 'a rate of 0 is no limit')
      },
      rates
    )
  }
})

t.test('what is saved grows by the rate, and to a second’s worth at most', { skip }, async t => {
  withBench(
    TABLES,
    bench => {
      send(bench, FIRST, [tcp(FIRST, SYN)])
      for (const [seconds, saved] of [
        [0, 0],
        [0.2, 1],
        [0.4, 2],
        [0.9, 4],
        [1, RATE],
        [5, RATE],
        [100_000, RATE]
      ] as const) {
        const since = performance.now()
        rest(bench, FIRST, seconds)
        const { passed } = send(bench, FIRST, [tcp(FIRST, SYN)])
        // Since the bucket was last looked at, by the packet before the rest.
        const most = Math.min(RATE, seconds * RATE + 1) + ((performance.now() - since) / 1_000) * RATE
        t.ok(passed >= saved && passed <= most, `${passed} after ${seconds} s`)
      }
    },
    FLOWS
  )
})

t.test('a container that never rests gets its rate, no less and no more', { skip }, async t => {
  withBench(
    TABLES,
    bench => {
      send(bench, FIRST, [tcp(FIRST, SYN)])
      const since = performance.now()
      let passed = 0
      for (let i = 0; i < 200; i++) {
        rest(bench, FIRST, 0.02)
        passed += send(bench, FIRST, [tcp(FIRST, SYN)], 1).passed
      }
      const most = 4 * RATE + 1 + ((performance.now() - since) / 1_000) * RATE
      t.ok(passed >= 4 * RATE && passed <= most, `${passed} of 200 in 4 s`)
    },
    FLOWS
  )
})

t.test(
  'a bucket that another processor used later than this one looked at the clock is not refilled',
  { skip },
  async t => {
    withBench(
      TABLES,
      bench => {
        send(bench, FIRST, [tcp(FIRST, SYN)])
        for (const ahead of [0.5, 10]) {
          const since = performance.now()
          rest(bench, FIRST, -ahead)
          const { passed } = send(bench, FIRST, [tcp(FIRST, SYN)])
          t.ok(passed <= 1 + ((performance.now() - since) / 1_000) * RATE, `${passed} passed, ${ahead} s ahead`)
        }
      },
      FLOWS
    )
  }
)

t.test('a packet that may not be sent costs nothing', { skip }, async t => {
  withBench(
    TABLES,
    bench => {
      const forged = send(bench, FIRST, [tcp(FIRST, SYN, { source: ip(77) })])
      t.equal(forged.dropped, SENT)
      const counted = bench.counted()
      t.same([counted.get(`dropped ${FIRST}`), counted.get(`limited ${FIRST}`)], [SENT, undefined])
      isLimited(t, send(bench, FIRST, [tcp(FIRST, SYN)]), 'connections after it')
    },
    FLOWS
  )
})

t.test('a limit holds from the moment that it is set, and until it is lifted', { skip }, async t => {
  withBench(TABLES, bench => {
    t.equal(send(bench, FIRST, [tcp(FIRST, SYN)], 300).dropped, 0)
    bench.setRates(FLOWS)
    t.ok(send(bench, FIRST, [tcp(FIRST, SYN)]).dropped > 0)
    bench.setRates({ ...NO_LIMITS, flowsRate: 1_000_000 })
    rest(bench, FIRST, 1)
    t.equal(send(bench, FIRST, [tcp(FIRST, SYN)], 300).dropped, 0, 'a higher one')
    bench.setRates(NO_LIMITS)
    t.equal(send(bench, FIRST, [tcp(FIRST, SYN)], 300).dropped, 0)
  })
})
