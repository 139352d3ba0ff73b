// The programs' services in this kernel against their model: random packets of clients and backends, and the bounds of flows.

import t from 'tap'
import type { Ipv4 } from '#model/ipv4.ts'
import { word } from '#overlay/plan/programs/entries.ts'
import { FLOWS_OF_HOST } from '#overlay/plan/programs/flows.ts'
import { below, isAsWanted } from './compare.ts'
import { Draw } from './draw.ts'
import { SERVICE_MAC, type Backend, type Service } from './model-services.ts'
import {
  connectionsOf,
  fromContainer,
  fromOverlay,
  fromUnderlay,
  toContainer,
  type Outcome,
  type Port,
  type Station,
  type Tables
} from './model.ts'
import { ServicePackets } from './packets-services.ts'
import { withBench, type Bench } from './run.ts'

const skip = process.getuid?.() === 0 ? false : 'needs root: BPF programs'
const [NETWORK, TUNNEL, UNDERLAY, PEER] = [7, 8, 9, 0xc0000202]
const [TCP, UDP, SCTP] = [6, 17, 132]
const PACKETS = 20_000
const FLOWS_OF_PORT = 32_768
const hex4 = (last: number): string => `0a0100${last.toString(16).padStart(2, '0')}`
const hex6 = (last: number): string => `fd0000010000000000000000000000${last.toString(16).padStart(2, '0')}`
const mac = (last: number): string => `0200000000${last.toString(16).padStart(2, '0')}`

function port(last: number, services?: 'inside' | 'beyond'): Port {
  return {
    ...{ network: NETWORK, address: (0x0a010000 + last) as Ipv4, address6: hex6(last), mac: mac(last) },
    ...{ redirects: true, mtu: 1_500 },
    ...(services === undefined ? {} : { services })
  }
}

/** At both families' addresses. The first backend is client 2 itself, the second a port of this host, the third on another host. */
function services(last: number, servicePort: number, p: Partial<Service> & { target?: number } = {}): Service[] {
  const { target = 8_080, slots = [0, 1, 2, 1, 2], ...rest } = p
  return [TCP, UDP, SCTP].flatMap(protocol =>
    [hex4, hex6].map(hex => {
      const at = protocol === SCTP ? servicePort : target
      const backends: Backend[] = [2, 5, 9].map(n => ({ address: hex(n), port: at, mac: mac(n) }))
      return { network: NETWORK, address: hex(last), port: servicePort, protocol, backends, slots, ...rest }
    })
  )
}

const TABLES: Tables = {
  settings: { vtep: 0xc0000201 as Ipv4, vxlanPort: 4789, underlay: UNDERLAY, underlayMtu: 1_500, unwraps: true },
  ports: new Map([
    [2, port(2, 'inside')],
    [3, port(3, 'beyond')],
    [4, { ...port(4, 'beyond'), redirects: false }],
    [5, port(5)]
  ]),
  stations: new Map<string, Station>([
    [`${NETWORK} ${mac(2)}`, { to: 2, how: 'peer', awaits: true }],
    [`${NETWORK} ${mac(3)}`, { to: 3, how: 'peer', awaits: true }],
    [`${NETWORK} ${mac(4)}`, { to: 4, how: 'queue', awaits: true }],
    [`${NETWORK} ${mac(5)}`, { to: 5, how: 'peer' }],
    [`${NETWORK} ${mac(9)}`, { to: PEER, how: 'tunnel' }]
  ]),
  neighbours: new Map([[`${NETWORK} 167837896`, SERVICE_MAC]]),
  neighbours6: new Map([[`${NETWORK} ${hex6(200)}`, SERVICE_MAC]]),
  vteps: new Set([`${NETWORK} ${PEER}`]),
  tunnels: new Map([[TUNNEL, NETWORK]]),
  networks: new Map([[NETWORK, { tunnel: TUNNEL }]]),
  underlays: new Map([[UNDERLAY, 14]]),
  locals: new Set(),
  services: [
    ...services(200, 80),
    // With the same backends: their answers must be told apart.
    ...services(200, 81, { slots: [1, 2] }),
    ...services(200, 82, { slots: [], backends: [] }),
    ...services(201, 80, { byClient: true, target: 80 }),
    // Of two parts, of which the second leads elsewhere.
    ...services(202, 80, { slots: Array.from({ length: 1_500 }, (_, slot) => (slot < 1_024 ? 1 : 2)) })
  ]
}

t.test('the programs do with the packets of services what the model says', { skip }, async t => {
  const verdicts: Record<string, number> = {}
  for (const seed of [1, 2, 3]) {
    withBench(TABLES, bench => {
      const draw = new Draw(below(seed))
      const packets = new ServicePackets(TABLES, draw)
      const connections = connectionsOf(TABLES)
      const ways = [
        ...Array.from({ length: 4 }, () => ({
          program: 'from_container',
          model: fromContainer,
          make: (client: number) => ({ ifindex: client, packet: packets.toService(client) })
        })),
        {
          program: 'from_container',
          model: fromContainer,
          make: (client: number) => ({ ifindex: 5, packet: packets.fromBackend(client, mac(5)) })
        },
        {
          program: 'from_overlay',
          model: fromOverlay,
          make: (client: number) => ({ ifindex: TUNNEL, packet: packets.fromBackend(client) })
        },
        {
          program: 'from_underlay',
          model: fromUnderlay,
          make: (client: number) => ({ ifindex: UNDERLAY, packet: packets.wrapped(client) })
        },
        {
          program: 'to_container',
          model: toContainer,
          make: (client: number) => ({ ifindex: client, packet: packets.fromBackend(client) })
        }
      ]
      const expected = new Map<string, number>()
      for (let n = 0; n < PACKETS; n++) {
        const { program, model, make } = draw.one(ways)
        const given = { ...make(packets.client()), segmentBytes: 0 }
        const wanted: Outcome = model(TABLES, given, connections)
        const got = bench.run(program, given.packet, given.ifindex)
        const isChanged = !got.packet.equals(given.packet)
        const what = `${program} ${got.verdict} ${isChanged ? 'changed' : 'as it was'}`
        verdicts[what] = (verdicts[what] ?? 0) + 1
        for (const name of wanted.counted) expected.set(name, (expected.get(name) ?? 0) + 1)
        if (isAsWanted(got, wanted)) continue
        t.same(
          [got.verdict, got.packet.toString('hex')],
          [wanted.verdict, wanted.packet.toString('hex')],
          `packet ${n} of seed ${seed}: ${program} at ${given.ifindex}: ${given.packet.toString('hex')}`
        )
        return
      }
      t.same(Object.fromEntries([...bench.counted()].sort()), Object.fromEntries([...expected].sort()), 'counted')
    })
  }
  t.comment(JSON.stringify(verdicts))
  for (const what of [
    ...['from_container redirect changed', 'from_container next changed', 'from_container drop as it was'],
    ...['from_overlay redirect changed', 'from_overlay redirect as it was', 'from_underlay redirect changed'],
    ...['to_container next changed', 'to_container next as it was']
  ]) {
    t.ok((verdicts[what] ?? 0) > 200, `${what}: ${verdicts[what] ?? 0}`)
  }
})

/** The first packet of a connection to the service. */
function opening(from: number, ownPort: number): Buffer {
  const frame = Buffer.from(`${SERVICE_MAC}${mac(from)}0800450000280000400040060000${hex4(from)}${hex4(200)}`, 'hex')
  const tcp = Buffer.alloc(20)
  tcp.writeUInt16BE(ownPort, 0)
  tcp.writeUInt16BE(80, 2)
  tcp.writeUInt8(0x50, 12)
  tcp.writeUInt8(2, 13)
  return Buffer.concat([frame, tcp])
}

function setCounts(bench: Bench, p: { port: number; host: number; share: number }): void {
  const count = Buffer.alloc(8)
  count.writeUInt32LE(p.port, 0)
  bench.map('vxm_flow_counts').set([{ key: word(3), value: count }])
  const state = Buffer.alloc(16)
  state.writeUInt32LE(p.host, 0)
  state.writeUInt32LE(p.share, 12)
  bench.map('vxm_flow_state').set([{ key: word(0), value: state }])
}

t.test(
  'a port has its share of flows, more while half of the host are free, and never more than its bound',
  { skip },
  async t => {
    withBench(TABLES, bench => {
      const half = FLOWS_OF_HOST / 2
      const cases: readonly [string, { port: number; host: number; share: number }, boolean][] = [
        ['the last one', { port: FLOWS_OF_PORT - 2, host: 0, share: 0 }, true],
        ['one too many', { port: FLOWS_OF_PORT - 1, host: 0, share: 0 }, false],
        ['beyond its share, of free ones', { port: 1_000, host: half - 2, share: 10 }, true],
        ['beyond its share, of others', { port: 1_000, host: half - 1, share: 10 }, false],
        ['of its share', { port: 8, host: half, share: 10 }, true],
        ['the first beyond its share', { port: 9, host: half, share: 10 }, false]
      ]
      for (const [i, [title, counts, passes]] of cases.entries()) {
        setCounts(bench, counts)
        bench.counted()
        const { verdict } = bench.run('from_container', opening(3, 50_000 + i), 3)
        t.equal(verdict !== 'drop', passes, title)
        const { 'limited 3': limited = 0, 'drop limited': dropped = 0 } = Object.fromEntries(bench.counted())
        t.same([limited, dropped], passes ? [0, 0] : [1, 1], `${title}: counted`)
        const now = bench.map('vxm_flow_counts').get(word(3)) ?? new Uint8Array(8)
        t.equal(Buffer.from(now).readUInt32LE(0), counts.port + (passes ? 2 : 0), `${title}: two more flows`)
      }
    })
  }
)
