// Compares the BPF programs with their model on random packets: verdict and packet of each, and the counters now and then.

import type { Ipv4 } from '#model/ipv4.ts'
import { Draw } from './draw.ts'
import {
  FREE,
  fromContainer,
  fromOverlay,
  fromUnderlay,
  toHost,
  type ForwardedNetwork,
  type Given,
  type Outcome,
  type Station,
  type Tables
} from './model.ts'
import { onesSum } from './ones-sum.ts'
import { Packets } from './packets.ts'
import { withBench, type Bench } from './run.ts'
import type { ToldAddresses } from './told.ts'

const COUNTERS_EVERY = 1_000
const FAMILIES: Readonly<Record<number, string>> = { 0x0800: 'ipv4', 0x0806: 'arp', 0x86dd: 'ipv6' }
const ip = (last: number): Ipv4 => (0x0a010000 + last) as Ipv4
const ip6 = (last: number): string => `fd00000100000000000000000000${last.toString(16).padStart(4, '0')}`
const OTHER_LOCAL = 0xc0000263
const [VTEP, PEER, OTHER_PEER] = [0xc0000201 as Ipv4, 0xc0000202, 0xcb007103]
const UNDERLAY = 9
/** A network of IPv6 alone whose lowest octet is another's, and whose addresses are the last ones of their 32 bits. */
const SIX = 0x107
const TOLD_BY_SIX: ToldAddresses = { base: 'fd000003000000000000000affffff00', first: 0xffffff00, count: 0x100 }
/** Stations and what their MACs tell. */
const TELLERS: readonly (readonly [key: string, ...tells: ('ipv4' | 'ipv6')[]])[] = [
  // The first address, some within, which are noted, too, the last one, and those before and after them.
  ['7 02070a020000', 'ipv4', 'ipv6'],
  ['7 02070a020002', 'ipv4', 'ipv6'],
  ['7 02070a020003', 'ipv4', 'ipv6'],
  ['7 02070a020004', 'ipv4', 'ipv6'],
  ['7 02070a0200ff', 'ipv4', 'ipv6'],
  ['7 02070a01ffff', 'ipv4', 'ipv6'],
  ['7 02070a020100', 'ipv4', 'ipv6'],
  // One family alone, and nothing.
  ['7 02070a020010', 'ipv4'],
  ['7 02070a020011', 'ipv6'],
  ['7 02070a020012'],
  // Of another network, and none that tells an address.
  ['7 02080a020013', 'ipv4', 'ipv6'],
  ['7 0a070a020014', 'ipv4', 'ipv6'],
  ['8 02080a020002', 'ipv4', 'ipv6'],
  [`${SIX} 0207ffffff00`, 'ipv6'],
  [`${SIX} 0207ffffff20`, 'ipv6'],
  [`${SIX} 0207ffffff21`, 'ipv4'],
  [`${SIX} 0207ffffffff`, 'ipv6'],
  [`${SIX} 020700000000`, 'ipv6'],
  [`${SIX} 0207fffffeff`, 'ipv6']
]

export const TABLES: Tables = {
  // An MTU that some packets do not fit.
  settings: { vtep: VTEP, vxlanPort: 4790, underlay: UNDERLAY, underlayMtu: 130, unwraps: true },
  ports: new Map([
    [2, { network: 7, address: ip(2), address6: ip6(2), mac: '020000000002', redirects: true, mtu: 1_500 }],
    [3, { network: 7, address: ip(3), address6: ip6(3), mac: '020000000003', redirects: true, mtu: 80 }],
    // The same addresses and MAC in another network.
    [4, { network: 8, address: ip(2), address6: ip6(2), mac: '020000000002', redirects: true, mtu: 1_500 }],
    [5, { network: 8, address: ip(5), mac: '020000000005', redirects: false, mtu: 1_500 }],
    // Of IPv4 alone, and of IPv6 alone.
    [6, { network: 7, address: ip(6), mac: '020000000006', redirects: true, mtu: 1_500 }],
    [7, { network: 8, address6: ip6(7), mac: '020000000007', redirects: true, mtu: 1_500 }],
    [
      10,
      {
        network: SIX,
        address6: `${TOLD_BY_SIX.base.slice(0, 28)}0010`,
        mac: '020700abff10',
        redirects: true,
        mtu: 1_500
      }
    ]
  ]),
  stations: new Map<string, Station>([
    ['7 020000000002', { to: 2, how: 'peer' }],
    ['7 020000000003', { to: 3, how: 'queue' }],
    ['7 020000000009', { to: PEER, how: 'tunnel' }],
    ['7 02000000000a', { to: OTHER_PEER, how: 'tunnel' }],
    // The VXLAN device knows the way.
    ['7 02000000000b', { to: 0, how: 'tunnel' }],
    ['8 020000000002', { to: 4, how: 'peer' }],
    ['8 020000000005', { to: 5, how: 'bridge' }],
    ['8 020000000009', { to: PEER, how: 'tunnel' }],
    ...TELLERS.map(([key, ...tells]): [string, Station] => [key, { to: PEER, how: 'tunnel', tells }])
  ]),
  neighbours: new Map([
    [`7 ${ip(2)}`, '020000000002'],
    [`7 ${ip(3)}`, '020000000003'],
    [`7 ${ip(9)}`, '020000000009'],
    [`8 ${ip(2)}`, '020000000002'],
    // 10.2.0.3, although a MAC tells it.
    ['7 167903235', '020000000009']
  ]),
  neighbours6: new Map([
    [`7 ${ip6(2)}`, '020000000002'],
    [`7 ${ip6(3)}`, '020000000003'],
    [`7 ${ip6(9)}`, '020000000009'],
    [`8 ${ip6(2)}`, '020000000002']
  ]),
  vteps: new Set([`7 ${PEER}`, `8 ${OTHER_PEER}`]),
  tunnels: new Map([
    [7, 7],
    [8, 8],
    [10, SIX]
  ]),
  // Another one has no VXLAN device.
  networks: new Map<number, ForwardedNetwork>([
    [7, { tunnel: 7, told: { base: ip6(0), first: 0x0a020000, count: 0x100 } }],
    [SIX, { tunnel: 10, told: TOLD_BY_SIX }]
  ]),
  underlays: new Map([[UNDERLAY, 14]]),
  locals: new Set([OTHER_LOCAL, 0xffffffff])
}

const withSettings = (settings: Partial<Tables['settings']>): Tables => ({
  ...TABLES,
  settings: { ...TABLES.settings, ...settings }
})

/** Hosts that wrap and unwrap, that wrap nothing, and that do neither. */
export const HOSTS: Readonly<Record<string, Tables>> = {
  'the programs wrap': TABLES,
  'several devices': withSettings({ underlay: 0 }),
  'IPsec policies': withSettings({ underlay: 0, unwraps: false })
}

export type Difference = {
  readonly program: string
  readonly ifindex: number
  readonly packet: string
  readonly model: unknown
  readonly kernel: unknown
}

export type Comparison = {
  readonly differences: readonly Difference[]
  /** How often each program came to each verdict, and what it did with packets of each family: `from_container wraps ipv6`. */
  readonly verdicts: Readonly<Record<string, number>>
}

/** Stops at the tenth difference. Takes some 10 us a packet. */
export function compare(count: number, seed: number, tables = TABLES): Comparison {
  return withBench(tables, bench => compareOn(bench, tables, { count, below: below(seed) }))
}

function compareOn(
  bench: Bench,
  tables: Tables,
  { count, below }: { readonly count: number; readonly below: (bound: number) => number }
): Comparison {
  const packets = new Packets(tables, new Draw(below))
  const differences: Difference[] = []
  const verdicts: Record<string, number> = {}
  const expected = new Map<string, number>()
  const container = {
    program: 'from_container',
    devices: [2, 2, 3, 3, 4, 5, 6, 7, 8, 10],
    make: (i: number) => packets.ofContainer(i),
    model: fromContainer
  }
  const others = [
    { program: 'from_overlay', devices: [6, 7, 8], make: () => packets.ofOverlay(), model: fromOverlay },
    { program: 'from_underlay', devices: [8, 9, 9, 9], make: () => packets.ofUnderlay(), model: fromUnderlay },
    { program: 'to_host', devices: [8], make: () => packets.ofOverlay(), model: toHost }
  ]
  for (let n = 1; n <= count && differences.length < 10; n++) {
    const way = below(10) < 6 ? container : (others[below(others.length)] ?? container)
    const { program, devices, make, model } = way
    const ifindex = devices[below(devices.length)] ?? 0
    const given: Given = { packet: make(ifindex), ifindex, segmentBytes: packets.segmentBytes() }
    const wanted: Outcome = model(tables, given)
    const got = bench.run(program, given.packet, ifindex, given.segmentBytes)
    for (const key of kindsOf(given.packet, got)) {
      verdicts[`${program} ${key}`] = (verdicts[`${program} ${key}`] ?? 0) + 1
    }
    for (const name of wanted.counted) expected.set(name, (expected.get(name) ?? 0) + 1)
    if (!isAsWanted(got, wanted)) {
      const { verdict, packet: after } = wanted
      differences.push({
        ...{ program, ifindex, packet: `${given.packet.toString('hex')} in segments of ${given.segmentBytes}` },
        model: { verdict, after: after.toString('hex') },
        kernel: { verdict: got.verdict, after: got.packet.toString('hex') }
      })
    }
    if (n % COUNTERS_EVERY === 0 || n === count) {
      const counted = bench.counted()
      const names = [...new Set([...expected.keys(), ...counted.keys()])]
      const wrong = names.filter(name => (expected.get(name) ?? 0) !== (counted.get(name) ?? 0))
      for (const name of wrong) {
        const [model, kernel] = [expected.get(name) ?? 0, counted.get(name) ?? 0]
        differences.push({ program: `counter ${name}`, ifindex: 0, packet: `up to ${n}`, model, kernel })
      }
      expected.clear()
    }
  }
  return { differences, verdicts }
}

function kindsOf(given: Buffer, { verdict, packet }: Pick<Outcome, 'verdict' | 'packet'>): string[] {
  const change = packet.length - given.length
  const done = change > 0 ? 'wraps' : change < 0 ? 'unwraps' : packet.equals(given) ? verdict : 'answers'
  // Of what is wrapped or unwrapped, the packet inside.
  const inner = change > 0 ? packet.subarray(change) : packet
  const family = inner.length < 14 ? null : FAMILIES[inner.readUInt16BE(12)]
  return [verdict, `${done} ${family ?? 'of another family'}`]
}

/** The same, but for the fields that the sender of a wrapped packet may choose: those are within their rules. */
export function isAsWanted(got: Pick<Outcome, 'verdict' | 'packet'>, wanted: Omit<Outcome, 'counted'>): boolean {
  if (got.verdict !== wanted.verdict || got.packet.length !== wanted.packet.length) return false
  if (wanted.isWrapped !== true) return got.packet.equals(wanted.packet)
  // RFC 1071: the sum over a header with its own checksum. RFC 7348, section 5: a port of the dynamic range.
  const isSummed = onesSum(got.packet.subarray(14, 34)) === 0xffff
  const isPort = got.packet.readUInt16BE(FREE.sourcePort) >= 0xc000
  const rest = Buffer.from(got.packet)
  for (const at of Object.values(FREE)) rest.writeUInt16BE(0, at)
  return isSummed && isPort && rest.equals(wanted.packet)
}

/** A small generator (xorshift32), the same on every machine. */
export function below(seed: number): (bound: number) => number {
  let state = seed >>> 0 || 1
  return bound => {
    state ^= state << 13
    state >>>= 0
    state ^= state >>> 17
    state ^= state << 5
    state >>>= 0
    return state % bound
  }
}
