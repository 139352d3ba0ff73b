// Compares the BPF programs with their model on random packets: verdict and packet of each, and the counters now and then.

import type { Ipv4 } from '#model/ipv4.ts'
import { fromContainer, fromOverlay, fromUnderlay, toHost, type Outcome, type Tables } from './model.ts'
import { Packets } from './packets.ts'
import { withBench, type Bench } from './run.ts'

const COUNTERS_EVERY = 1_000
const ip = (last: number): Ipv4 => (0x0a010000 + last) as Ipv4
const OTHER_LOCAL = 0xc0000263
const [VTEP, PEER, OTHER_PEER] = [0xc0000201 as Ipv4, 0xc0000202, 0xc0000203]

export const TABLES: Tables = {
  settings: { vtep: VTEP, vxlanPort: 4790 },
  ports: new Map([
    [2, { network: 7, address: ip(2), mac: '020000000002', redirects: true, mtu: 1_500 }],
    [3, { network: 7, address: ip(3), mac: '020000000003', redirects: true, mtu: 80 }],
    // The same address and MAC in another network.
    [4, { network: 8, address: ip(2), mac: '020000000002', redirects: true, mtu: 1_500 }],
    [5, { network: 8, address: ip(5), mac: '020000000005', redirects: false, mtu: 1_500 }]
  ]),
  stations: new Map([
    ['7 020000000002', { ifindex: 2, how: 'peer' }],
    ['7 020000000003', { ifindex: 3, how: 'queue' }],
    ['7 020000000009', { ifindex: 7, how: 'tunnel' }],
    ['8 020000000002', { ifindex: 4, how: 'peer' }],
    ['8 020000000005', { ifindex: 5, how: 'bridge' }]
  ]),
  neighbours: new Map([
    [`7 ${ip(2)}`, '020000000002'],
    [`7 ${ip(3)}`, '020000000003'],
    [`7 ${ip(9)}`, '020000000009'],
    [`8 ${ip(2)}`, '020000000002']
  ]),
  vteps: new Set([`7 ${PEER}`, `8 ${OTHER_PEER}`]),
  tunnels: new Map([
    [7, 7],
    [8, 8]
  ]),
  underlays: new Map([[9, 14]]),
  locals: new Set([OTHER_LOCAL, 0xffffffff])
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
  /** How often each program came to each verdict. */
  readonly verdicts: Readonly<Record<string, number>>
}

/** Stops at the tenth difference. Takes some 10 us a packet. */
export function compare(count: number, seed: number): Comparison {
  return withBench(TABLES, bench => compareOn(bench, count, below(seed)))
}

function compareOn(bench: Bench, count: number, below: (bound: number) => number): Comparison {
  const packets = new Packets(TABLES, below)
  const differences: Difference[] = []
  const verdicts: Record<string, number> = {}
  const expected = new Map<string, number>()
  const container = {
    program: 'from_container',
    devices: [2, 2, 3, 3, 4, 5, 6],
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
    const packet = make(ifindex)
    const wanted: Outcome = model(TABLES, packet, ifindex)
    const got = bench.run(program, packet, ifindex)
    const key = `${program} ${got.verdict}`
    verdicts[key] = (verdicts[key] ?? 0) + 1
    for (const name of wanted.counted) expected.set(name, (expected.get(name) ?? 0) + 1)
    if (got.verdict !== wanted.verdict || !got.packet.equals(wanted.packet)) {
      const { verdict, packet: after } = wanted
      const shown = { program, ifindex, packet: packet.toString('hex') }
      differences.push({
        ...shown,
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

/** A small generator (xorshift32), the same on every machine. */
function below(seed: number): (bound: number) => number {
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
