// What a container may send of IPv6, and what the programs answer: one packet for each rule, in this kernel.

import t from 'tap'
import type { Ipv4 } from '#model/ipv4.ts'
import { ALL_NODES, icmp6, ipv6, mark, udp, u32 } from '../../lab/packets/frames.ts'
import type { Station, Tables } from './model.ts'
import { onesSum } from './ones-sum.ts'
import { withBench, type Bench } from './run.ts'

const skip = process.getuid?.() === 0 ? false : 'needs root: BPF programs'
const [DUAL, OTHER, ONLY4, ONLY6, GUARDED, UNKNOWN] = [2, 3, 4, 5, 6, 77]
const [TUNNEL, NETWORK, PORT] = [8, 7, 4790]
const ip4 = (last: number): Ipv4 => (0x0a010000 + last) as Ipv4
const ip6 = (last: number): string => `fd0000010000000000000000000000${last.toString(16).padStart(2, '0')}`
const mac = (last: number): string => `0200000000${last.toString(16).padStart(2, '0')}`
const bytes = (hex: string): Buffer => Buffer.from(hex.replaceAll(' ', ''), 'hex')

const TABLES: Tables = {
  settings: { vtep: 0xc0000201 as Ipv4, vxlanPort: PORT, underlay: 0, underlayMtu: 1_500, unwraps: true },
  ports: new Map(
    [DUAL, OTHER, ONLY4, ONLY6, GUARDED].map(n => [
      n,
      {
        ...{ network: NETWORK, mac: mac(n), redirects: n !== GUARDED, mtu: 1_450 },
        ...(n === ONLY6 ? {} : { address: ip4(n) }),
        ...(n === ONLY4 ? {} : { address6: ip6(n) })
      }
    ])
  ),
  stations: new Map<string, Station>([DUAL, OTHER].map(n => [`${NETWORK} ${mac(n)}`, { to: n, how: 'peer' }])),
  neighbours: new Map([[`${NETWORK} ${ip4(OTHER)}`, mac(OTHER)]]),
  neighbours6: new Map([DUAL, OTHER, GUARDED].map(n => [`${NETWORK} ${ip6(n)}`, mac(n)])),
  vteps: new Set(),
  tunnels: new Map([[TUNNEL, NETWORK]]),
  networks: new Map(),
  underlays: new Map(),
  locals: new Set()
}

const [HOP_BY_HOP, TCP, UDP, ROUTING, FRAGMENT, ESP] = [0, 6, 17, 43, 44, 50]
const [AUTHENTICATION, ICMPV6, NOTHING, DESTINATION, SCTP] = [51, 58, 59, 60, 132]
const [SOLICITATION, ADVERTISEMENT] = [135, 136]
const NONE = '0'.repeat(32)

/** A packet from the container with both families to the other one. */
function packet(p: { from?: string; to?: string; next: number; body: Buffer }): Buffer {
  return ipv6({ from: bytes(p.from ?? ip6(DUAL)), to: bytes(p.to ?? ip6(OTHER)), next: p.next }, p.body)
}

function frame(content: Buffer, { from = mac(DUAL), to = mac(OTHER) } = {}): Buffer {
  return Buffer.concat([bytes(`${to}${from}86dd`), content])
}

const datagram = (from = 5_000, to = 5_001): Buffer => udp(from, to, mark(1))
const segment = (flags = 16): Buffer =>
  bytes(`c350 0050 00000000 00000000 50 ${flags.toString(16).padStart(2, '0')} 0000 0000 0000`)
const message = (type: number, rest: Buffer = Buffer.alloc(4)): Buffer =>
  icmp6({ from: bytes(ip6(DUAL)), to: bytes(ip6(OTHER)) }, type, rest)

/** An error about a packet to this address. */
const error = (type: number, to = ip6(DUAL)): Buffer =>
  message(type, Buffer.concat([u32(1_280), packet({ from: ip6(OTHER), to, next: UDP, body: datagram() })]))

/** The shortest extension header, of padding. */
const extension = (next: number): Buffer => Buffer.from([next, 0, 1, 4, 0, 0, 0, 0])

function fragment(next: number, offset: number, more: boolean): Buffer {
  const header = Buffer.from([next, 0, 0, 0, 0, 0, 0, 9])
  header.writeUInt16BE((offset << 3) | Number(more), 2)
  return header
}

/** The protocol of a header, and its bytes before the next one. */
type Header = readonly [protocol: number, make: (next: number) => Buffer]

/** A packet with headers, each with the protocol of the next one. */
function chain(headers: readonly Header[], last: number, body: Buffer): Buffer {
  const kinds = [...headers.map(([kind]) => kind), last]
  const parts = headers.map(([, make], i) => make(kinds[i + 1] ?? last))
  return packet({ next: kinds[0] ?? last, body: Buffer.concat([...parts, body]) })
}

const first: Header = [FRAGMENT, next => fragment(next, 0, true)]
const later: Header = [FRAGMENT, next => fragment(next, 2, false)]
const alone: Header = [FRAGMENT, next => fragment(next, 0, false)]

type Ask = {
  from?: string
  to?: string
  target?: string
  option?: string
  hopLimit?: number
  code?: number
  flags?: number
}

/** A message about neighbours as a kernel sends it, but for what is changed. */
function discovery(type: number, p: Ask = {}): Buffer {
  const { from = ip6(DUAL), to = ip6(OTHER), code = 0, hopLimit = 255, flags = 0 } = p
  const { target = type === SOLICITATION ? ip6(OTHER) : ip6(DUAL) } = p
  const { option = type === SOLICITATION ? `0101${mac(DUAL)}` : `0201${mac(DUAL)}` } = p
  const all = icmp6(
    { from: bytes(from), to: bytes(to) },
    type,
    Buffer.concat([u32(flags), bytes(target), bytes(option)])
  )
  all.writeUInt8(hopLimit, 7)
  all.writeUInt8(code, 41)
  return all
}

const change = (of: Buffer, at: number, value: number): Buffer => {
  const changed = Buffer.from(of)
  changed.writeUInt8(value, at)
  return changed
}

type Case = readonly [title: string, frame: Buffer, segments?: number]
const ofPacket = (title: string, content: Buffer): Case => [title, frame(content)]
const ofUdp = (title: string, from: number, to: number): Case => [
  title,
  frame(packet({ next: UDP, body: datagram(from, to) }))
]

const ALLOWED: readonly Case[] = [
  ofUdp('a datagram', 5_000, 5_001),
  ofUdp('ports that are those of DHCP in IPv4', 67, 68),
  ofPacket('a segment', packet({ next: TCP, body: segment() })),
  ofPacket('SCTP', packet({ next: SCTP, body: Buffer.alloc(20) })),
  ofPacket('ESP', packet({ next: ESP, body: Buffer.alloc(20) })),
  ...[128, 129].map((type): Case => ofPacket(`ICMPv6 of type ${type}`, message(type))),
  ...[1, 2, 3, 4].map((type): Case => ofPacket(`an error of type ${type}`, error(type))),
  ofPacket(
    'an error about a header alone',
    message(2, Buffer.concat([u32(1_280), packet({ to: ip6(DUAL), next: UDP, body: datagram() }).subarray(0, 40)]))
  ),
  ofPacket('to all nodes', packet({ to: ALL_NODES.toString('hex'), next: UDP, body: datagram() })),
  ofPacket('a hop limit of 0', change(packet({ next: UDP, body: datagram() }), 7, 0)),
  ofPacket('a class and a label', change(change(packet({ next: UDP, body: datagram() }), 0, 0x6f), 2, 0x77)),
  ofPacket('a first fragment', chain([first], UDP, datagram())),
  ofPacket('a first fragment of TCP', chain([first], TCP, segment())),
  ofPacket('a first fragment of echo', chain([first], ICMPV6, bytes('80000000 00000000'))),
  ofPacket('a first fragment of SCTP', chain([first], SCTP, Buffer.alloc(8))),
  ofPacket('the only fragment', chain([alone], TCP, segment())),
  ofPacket('a later fragment', chain([later], UDP, Buffer.alloc(3))),
  ofPacket('a later fragment that looks like a DHCP server’s', chain([later], UDP, datagram(547, 546))),
  [
    'more in the frame than in the packet',
    Buffer.concat([frame(packet({ next: UDP, body: datagram() })), Buffer.alloc(9)])
  ],
  [
    'a jumbogram that a network card is to cut',
    frame(Buffer.concat([change(packet({ next: TCP, body: segment() }), 5, 0), Buffer.alloc(900)])),
    400
  ],
  ofPacket('a solicitation', discovery(SOLICITATION, { target: ip6(UNKNOWN) })),
  ofPacket('one for its own address', discovery(SOLICITATION, { target: ip6(DUAL) })),
  ofPacket('an advertisement', discovery(ADVERTISEMENT, { flags: 0x60000000 })),
  ofPacket('one without its MAC', discovery(ADVERTISEMENT, { option: '' })),
  ofPacket('one to all', discovery(ADVERTISEMENT, { to: ALL_NODES.toString('hex') }))
]

const REFUSED: readonly Case[] = [
  ...(
    [
      ['another’s address', ip6(OTHER)],
      ['nobody’s address', ip6(UNKNOWN)],
      ['no address', NONE],
      ['a link-local address', 'fe800000000000000000000000000002'],
      ['all nodes', ALL_NODES.toString('hex')],
      ['an IPv4 address', `00000000000000000000ffff${ip4(DUAL).toString(16).padStart(8, '0')}`],
      ['an address that differs in its first bit', change(bytes(ip6(DUAL)), 0, 0x7d).toString('hex')],
      ['in its ninth byte', change(bytes(ip6(DUAL)), 8, 1).toString('hex')],
      ['in its last bit', change(bytes(ip6(DUAL)), 15, 3).toString('hex')]
    ] as const
  ).map(([title, from]): Case => ofPacket(title, packet({ from, next: UDP, body: datagram() }))),
  ['another’s MAC', frame(packet({ next: UDP, body: datagram() }), { from: mac(OTHER) })],
  ofPacket('another version', change(packet({ next: UDP, body: datagram() }), 0, 0x40)),
  ofPacket('a packet that is longer than its frame', packet({ next: UDP, body: datagram() }).subarray(0, -1)),
  ofPacket('a packet without a payload', packet({ next: SCTP, body: Buffer.alloc(0) })),
  ofPacket('a jumbogram', change(packet({ next: UDP, body: datagram() }), 5, 0)),
  ...[0, 1, 41, 43, 47, 51, 59, 60, 135, 139, 255].map((next): Case =>
    ofPacket(`protocol ${next}`, packet({ next, body: Buffer.alloc(60) }))
  ),
  ...[546, 547].map((port): Case => ofUdp(`from port ${port}`, port, 5_000)),
  ...[546, 547, 4_789, PORT].map((port): Case => ofUdp(`to port ${port}`, 5_000, port)),
  ...[0, 5, 100, 127, 130, 131, 132, 133, 134, 137, 138, 139, 140, 141, 142, 143, 151, 200, 255].map((type): Case =>
    ofPacket(`ICMPv6 of type ${type}`, error(type))
  ),
  ...[1, 2, 3, 4].map((type): Case =>
    ofPacket(`an error of type ${type} about another’s packet`, error(type, ip6(OTHER)))
  ),
  ofPacket('an error about nothing', message(2)),
  ofPacket(
    'an error about half a header',
    message(2, Buffer.concat([u32(1_280), packet({ to: ip6(DUAL), next: UDP, body: datagram() }).subarray(0, 39)]))
  ),
  [
    'an error about a header that ends behind the packet',
    frame(
      change(message(2, Buffer.concat([u32(1_280), packet({ to: ip6(DUAL), next: UDP, body: datagram() })])), 5, 47)
    )
  ],
  ofPacket('half a header of UDP', packet({ next: UDP, body: datagram().subarray(0, 7) })),
  ofPacket('half a header of TCP', packet({ next: TCP, body: segment().subarray(0, 19) })),
  ofPacket('half a header of ICMPv6', packet({ next: ICMPV6, body: Buffer.from([128, 0, 0, 0, 0, 0, 0]) })),
  ...(
    [
      [UDP, datagram()],
      [TCP, segment()],
      [ICMPV6, bytes('80000000 00000000')],
      [FRAGMENT, Buffer.concat([fragment(UDP, 0, false), datagram()])]
    ] as const
  ).map(([next, body]): Case => [
    `a header of protocol ${next} that ends behind the packet`,
    frame(change(packet({ next, body }), 5, 4))
  ]),
  ofPacket('hop-by-hop options', chain([[HOP_BY_HOP, extension]], UDP, datagram())),
  ofPacket('destination options', chain([[DESTINATION, extension]], TCP, segment())),
  ofPacket('authentication', chain([[AUTHENTICATION, extension]], UDP, datagram())),
  ofPacket('a routing header of type 0', chain([[ROUTING, extension]], UDP, datagram())),
  ofPacket('one of type 4', chain([[ROUTING, next => change(extension(next), 2, 4)]], UDP, datagram())),
  ofPacket('options in a fragment', chain([first, [DESTINATION, extension]], UDP, datagram())),
  ofPacket('a fragment behind options', chain([[DESTINATION, extension], first], UDP, datagram())),
  ofPacket('a fragment of a fragment', chain([first, later], UDP, datagram())),
  ofPacket('a fragment of nothing', chain([first], NOTHING, Buffer.alloc(8))),
  ofPacket('a later fragment of nothing', chain([later], NOTHING, Buffer.alloc(8))),
  ofPacket('a later fragment of options', chain([later], DESTINATION, Buffer.alloc(8))),
  ofPacket('VXLAN in a first fragment', chain([first], UDP, datagram(5_000, 4_789))),
  ofPacket('VXLAN in the only fragment', chain([alone], UDP, datagram(5_000, 4_789))),
  ofPacket('a first fragment without its ports', chain([first], UDP, Buffer.alloc(0))),
  ofPacket(
    'a router advertisement behind options',
    chain([[DESTINATION, extension]], ICMPV6, bytes(`8600${'00'.repeat(14)}`))
  ),
  ofPacket('a multicast report', chain([[HOP_BY_HOP, extension]], ICMPV6, bytes('8f000000 00000000'))),
  ofPacket('an error in a fragment', chain([alone], ICMPV6, error(2).subarray(40))),
  ...(
    [
      ['behind options', [DESTINATION, extension]],
      ['behind hop-by-hop options', [HOP_BY_HOP, extension]],
      ['in a first fragment', first],
      ['in the only fragment', alone]
    ] as const
  ).flatMap(([title, header]): Case[] =>
    [SOLICITATION, ADVERTISEMENT].map(type =>
      ofPacket(`type ${type} ${title}`, chain([header], ICMPV6, discovery(type).subarray(40)))
    )
  ),
  ofPacket('a solicitation in another’s name', discovery(SOLICITATION, { from: ip6(OTHER) })),
  ofPacket('a solicitation without a MAC', discovery(SOLICITATION, { option: '' })),
  ofPacket('a probe for duplicates', discovery(SOLICITATION, { from: NONE, option: '', target: ip6(DUAL) })),
  ofPacket('an advertisement of another’s address', discovery(ADVERTISEMENT, { target: ip6(OTHER) })),
  ofPacket('an advertisement of nobody’s address', discovery(ADVERTISEMENT, { target: ip6(UNKNOWN) })),
  ...[SOLICITATION, ADVERTISEMENT].flatMap((type): Case[] => {
    const [own, wrong] = type === SOLICITATION ? ['01', '02'] : ['02', '01']
    return [
      ofPacket(`type ${type} with another’s MAC`, discovery(type, { option: `${own}01${mac(OTHER)}` })),
      ofPacket(`type ${type} with a MAC as what it is not`, discovery(type, { option: `${wrong}01${mac(DUAL)}` })),
      ofPacket(`type ${type} with an option of no length`, discovery(type, { option: `${own}00${mac(DUAL)}` })),
      ofPacket(
        `type ${type} with two options`,
        discovery(type, { option: `${own}01${mac(DUAL)}${own}01${mac(OTHER)}` })
      ),
      ofPacket(`type ${type} with half an option`, discovery(type, { option: `${own}01${mac(DUAL).slice(0, 8)}` })),
      ofPacket(`type ${type} from afar`, discovery(type, { hopLimit: 254 })),
      ofPacket(`type ${type} with a code`, discovery(type, { code: 1 })),
      ofPacket(`half of type ${type}`, packet({ next: ICMPV6, body: discovery(type).subarray(40, 60) }))
    ]
  })
]

const verdictOf = (bench: Bench, port: number, [, packet, segments = 0]: Case): string =>
  bench.run('from_container', packet, port, segments).verdict

t.test('what a container may send reaches the other one', { skip }, async t => {
  withBench(TABLES, bench => {
    for (const each of ALLOWED) {
      const [title, packet, segments = 0] = each
      bench.counted()
      const got = bench.run('from_container', packet, DUAL, segments)
      t.same([got.verdict, got.packet.equals(packet)], ['redirect', true], title)
      const counted = { [`sent ${DUAL}`]: 1, [`scope ${NETWORK} host`]: 1, [`redirected ${OTHER}`]: 1 }
      t.same(Object.fromEntries(bench.counted()), counted, title)
    }
  })
})

t.test('what it must not send is dropped and counted', { skip }, async t => {
  withBench(TABLES, bench => {
    for (const each of REFUSED) {
      bench.counted()
      t.equal(verdictOf(bench, DUAL, each), 'drop', each[0])
      t.same(Object.fromEntries(bench.counted()), { [`dropped ${DUAL}`]: 1, 'drop forged': 1 }, each[0])
    }
  })
})

t.test('a container without a family sends nothing of it, whatever it claims', { skip }, async t => {
  const as = (n: number, content: Buffer, to = mac(OTHER)): Buffer => frame(content, { from: mac(n), to })
  const body = datagram()
  const withFour = (n: number, source: number): Buffer => {
    const four = Buffer.concat([
      bytes(`${mac(OTHER)}${mac(n)}0800 4500 0000 0000 0000 4011 0000`),
      u32(source),
      u32(ip4(OTHER)),
      body
    ])
    four.writeUInt16BE(20 + body.length, 16)
    return four
  }
  const arp = (n: number, source: number, operation = 1): Buffer =>
    Buffer.concat([
      bytes(`ffffffffffff${mac(n)}0806 0001080006040001${mac(n)}`),
      u32(source),
      bytes('000000000000'),
      u32(ip4(OTHER))
    ]).map((byte, at) => (at === 21 ? operation : byte)) as Buffer
  const refused: readonly [title: string, port: number, packet: Buffer][] = [
    ['IPv6 in a network of IPv4', ONLY4, as(ONLY4, packet({ from: ip6(ONLY4), next: UDP, body }))],
    ['from nobody', ONLY4, as(ONLY4, packet({ from: NONE, next: UDP, body }))],
    ['a probe for duplicates', ONLY4, as(ONLY4, discovery(SOLICITATION, { from: NONE, option: '' }))],
    [
      'an advertisement of no address',
      ONLY4,
      as(ONLY4, discovery(ADVERTISEMENT, { from: NONE, target: NONE, option: '' }))
    ],
    ['IPv4 in a network of IPv6', ONLY6, withFour(ONLY6, ip4(ONLY6))],
    ['from 0.0.0.0', ONLY6, withFour(ONLY6, 0)],
    ['ARP', ONLY6, arp(ONLY6, ip4(ONLY6))],
    ['ARP from 0.0.0.0', ONLY6, arp(ONLY6, 0)],
    ['an ARP answer from 0.0.0.0', ONLY6, arp(ONLY6, 0, 2)]
  ]
  withBench(TABLES, bench => {
    for (const [title, port, sent] of refused) t.equal(verdictOf(bench, port, [title, sent]), 'drop', title)
    t.equal(bench.counted().get('drop forged'), refused.length)
    const own = frame(packet({ from: ip6(ONLY6), next: UDP, body }), { from: mac(ONLY6) })
    t.equal(verdictOf(bench, ONLY6, ['its own', own]), 'redirect')
    t.equal(verdictOf(bench, ONLY4, ['its own', withFour(ONLY4, ip4(ONLY4))]), 'redirect')
  })
})

/** What the answer to a solicitation must be, byte for byte. */
function isAnswer(got: Buffer, asked: Buffer, of: number, to = DUAL): boolean {
  const pseudo = Buffer.concat([got.subarray(22, 54), bytes('00000020 0000003a')])
  const want = Buffer.concat([
    bytes(`${mac(to)}${mac(of)}86dd`),
    asked.subarray(14, 22),
    bytes(`${ip6(of)}${ip6(to)}8800`),
    got.subarray(56, 58),
    bytes(`60000000${ip6(of)}0201${mac(of)}`),
    asked.subarray(86)
  ])
  return got.equals(want) && onesSum(Buffer.concat([pseudo, got.subarray(54, 86)])) === 0xffff
}

t.test('a solicitation for a known address is answered, with a right checksum', { skip }, async t => {
  withBench(TABLES, bench => {
    const group = (n: number): string => `ff0200000000000000000001ff0000${n.toString(16).padStart(2, '0')}`
    for (const [title, asked] of [
      [
        'to its group',
        frame(discovery(SOLICITATION, { to: group(OTHER) }), { to: `3333ff0000${mac(OTHER).slice(10)}` })
      ],
      ['to itself', frame(discovery(SOLICITATION))],
      ['with a wrong checksum', change(frame(discovery(SOLICITATION)), 57, 0xaa)],
      ['with flags', frame(discovery(SOLICITATION, { flags: 0xffffffff }))],
      ['in a longer frame', Buffer.concat([frame(discovery(SOLICITATION)), Buffer.alloc(9, 7)])]
    ] as const) {
      bench.counted()
      const { verdict, packet } = bench.run('from_container', asked, DUAL)
      t.equal(verdict, 'redirect', title)
      t.ok(isAnswer(packet, asked, OTHER), `${title}: ${packet.toString('hex')}`)
      t.same(Object.fromEntries(bench.counted()), { [`sent ${DUAL}`]: 1 }, title)
    }
    const fromOther = frame(
      discovery(SOLICITATION, { from: ip6(OTHER), target: ip6(DUAL), option: `0101${mac(OTHER)}` }),
      { from: mac(OTHER) }
    )
    t.ok(isAnswer(bench.run('from_container', fromOther, OTHER).packet, fromOther, DUAL, OTHER), 'the other way')
  })
})

t.test('a solicitation that is not answered goes on as it is', { skip }, async t => {
  const to = '3333ff000000'
  const cases: readonly [title: string, port: number, asked: Buffer][] = [
    ['an address that nobody has', DUAL, frame(discovery(SOLICITATION, { target: ip6(UNKNOWN) }), { to })],
    ['its own address', DUAL, frame(discovery(SOLICITATION, { target: ip6(DUAL) }), { to })],
    ['an advertisement', DUAL, frame(discovery(ADVERTISEMENT), { to })],
    [
      'of a container whose packets the bridge forwards',
      GUARDED,
      frame(discovery(SOLICITATION, { from: ip6(GUARDED), option: `0101${mac(GUARDED)}` }), { from: mac(GUARDED), to })
    ]
  ]
  withBench(TABLES, bench => {
    for (const [title, port, asked] of cases) {
      bench.counted()
      const { verdict, packet } = bench.run('from_container', asked, port)
      t.same([verdict, packet.equals(asked)], ['next', true], title)
      t.same(Object.fromEntries(bench.counted()), { [`sent ${port}`]: 1, [`scope ${NETWORK} bridged`]: 1 }, title)
    }
  })
})

t.test(
  'a packet above the MTU goes by the bridge, a large one that is to be cut only if its pieces are',
  { skip },
  async t => {
    const tcp = (bytes: number): Buffer =>
      frame(packet({ next: TCP, body: Buffer.concat([segment(), Buffer.alloc(bytes - 60)]) }))
    const behind = (bytes: number): Buffer =>
      frame(chain([alone], TCP, Buffer.concat([segment(), Buffer.alloc(bytes - 68)])))
    withBench(TABLES, bench => {
      for (const [title, sent, segments, verdict] of [
        ['as much as fits', tcp(1_450), 0, 'redirect'],
        ['one byte more', tcp(1_451), 0, 'next'],
        ['pieces that fit', tcp(3_000), 1_390, 'redirect'],
        ['pieces that do not', tcp(3_000), 1_391, 'next'],
        [
          'pieces of a datagram that fit',
          frame(packet({ next: UDP, body: udp(1, 2, Buffer.alloc(2_900)) })),
          1_402,
          'redirect'
        ],
        [
          'pieces of a datagram that do not',
          frame(packet({ next: UDP, body: udp(1, 2, Buffer.alloc(2_900)) })),
          1_403,
          'next'
        ],
        ['pieces that fit behind a fragment’s header', behind(3_000), 1_382, 'redirect'],
        ['pieces that do not fit behind a fragment’s header', behind(3_000), 1_383, 'next']
      ] as const) {
        t.equal(bench.run('from_container', sent, DUAL, segments).verdict, verdict, title)
      }
    })
  }
)
