// The figures of measure.ts, by name, in one lab: what disturbs it most comes last. What needs no longer flood than the
// suite's is a row of the suite, whose figures are words. Rows of stolen hosts speak to agents of this version alone.

import type { NetworkView } from '#model/views.ts'
import { encodeMessage, encodeNetwork } from '#zmq/message.ts'
import { ip } from '../lab/kernel.ts'
import { SERVER } from '../lab/outside.ts'
import { startTraffic } from '../lab/traffic.ts'
import { post } from '../zmq/http-post.ts'
import {
  deafClient,
  garbageStreams,
  gatewayMac,
  halfOpen,
  killedAttaches,
  pathRaces,
  serfLogBytes,
  tracked
} from './floods.ts'
import { DOORS } from './doors.ts'
import { MEMBERS } from './members.ts'
import { probe } from './probes.ts'
import { attacker, attackerAs, scene } from './python.ts'
import type { Row } from './row.ts'
import { IPV4 } from './side.ts'
import { STRANGERS } from './strangers.ts'
import { TENANTS } from './tenants.ts'
import type { World } from './world.ts'

type Figure = (world: World) => Promise<Readonly<Record<string, unknown>>>

const MIB = 1024 * 1024
const [P2P, SERF, RPC] = [7_947, 7_946, 30_029]
const NOBODY = 65_534
const GARBAGE_SECONDS = 20
const DATAGRAMS = 300_000
const KILLED = 60
const SWITCHES = 500
const TRAFFIC = { protocol: 'tcp', seconds: 4, offered: 0 } as const
const whole = (value: number): number => Math.round(value)

/** Rows of the suite whose names begin with one of these. */
function rows(all: readonly Row<World>[], ...which: readonly string[]): Readonly<Record<string, Figure>> {
  const chosen = all.filter(({ name }) => which.some(start => name.startsWith(`${start} `)))
  const figure = ({ run }: Row<World>): Figure => {
    return async world => {
      const { control, attack } = await run(world)
      return { control: control.figure, attack: attack.figure }
    }
  }
  return Object.fromEntries(chosen.map(row => [row.name, figure(row)]))
}

export const FIGURES: Readonly<Record<string, Figure>> = {
  'loopback as another user': async world => {
    const answers: Record<string, string> = {}
    for (const port of [7_373, 30_027, 30_028, RPC]) {
      answers[port] = await attackerAs<string>(NOBODY, world.host(1), 'reach', '127.0.0.1', port)
    }
    return answers
  },

  'HTTP to ZeroMQ': async world => {
    const host = world.host(1)
    for (const [n, port] of [30_027, RPC].entries()) {
      const network = { name: `evil-${n}`, subnet: '10.66.0.0/24', gateway: '', vni: 0, egressBandwidth: 0 }
      await attacker(host, 'raw', port, post(encodeMessage(11, encodeNetwork(network))).toString('hex'))
    }
    const all = (await host.api.call('GET', '/v1/networks')) as NetworkView[]
    return { networksCreated: all.filter(({ name }) => name.startsWith('evil')).length }
  },

  ...rows(STRANGERS, '4'),
  ...rows(TENANTS, '7', '9', 'F1', 'F2'),

  'attaches killed in flight': async world =>
    killedAttaches(world.lab, world.host(4), { network: 'red', count: KILLED, prefix: 'dying' }),

  'path races': async world => {
    const host = world.host(1)
    const container = await world.lab.container('raced')
    const other = world.host(2).namespace
    const link = `${container.netns}-link`
    const r = await pathRaces(host, { container, network: 'red', other, link, switches: SWITCHES })
    return { switches: SWITCHES, ...r }
  },

  'ICMP fragmentation needed': async world => {
    const [h1, h2, me] = [world.host(1), world.host(2), world.container('probed')]
    const rate = async (): Promise<number> => {
      const ends = { from: world.container('me'), to: world.container('far'), address: world.address('far') }
      const { end } = await (await startTraffic({ ...ends, ...TRAFFIC })).result
      return Number((((end.sum_received?.bytes ?? 0) * 8) / TRAFFIC.seconds / 1e9).toFixed(2))
    }
    const before = await rate()
    const gateway = await gatewayMac(me, world.endpoint('probed').gateway)
    const more = [SERVER, world.endpoint('probed').gateway].join(',')
    await scene(me, 'too_big', gateway, world.address('probed'), h1.address, h2.address, more, IPV4.smallMtu, 300)
    const learned = /mtu (\d+)/.exec(await ip(h1.namespace, `route get ${h2.address}`))?.[1] ?? null
    return { gbitBefore: before, pathMtu: learned, gbitAfter: await rate() }
  },

  'client that does not read': async world => {
    const { asked, answered, grownByReader, grown } = await deafClient(world.host(2), {
      port: RPC,
      count: 12_000,
      bytes: 8_000
    })
    return { asked, answered, readerMiB: whole(grownByReader / MIB), deafMiB: whole(grown / MIB) }
  },

  'garbage to 7946': async world => {
    const host = world.host(3)
    const before = serfLogBytes(host)
    let most = before
    const timer = setInterval(() => (most = Math.max(most, serfLogBytes(host))), 50)
    const since = performance.now()
    await attacker(world.stranger, 'gossip', host.address, SERF, DATAGRAMS, 2_000).finally(() => clearInterval(timer))
    const seconds = (performance.now() - since) / 1_000
    return { datagrams: DATAGRAMS, seconds: whole(seconds), logGrownBytes: most - before }
  },

  'garbage streams to 7947': async world => {
    const leader = await world.leader()
    const { stream, readings } = await garbageStreams({
      from: world.stranger,
      to: leader,
      port: P2P,
      seconds: GARBAGE_SECONDS
    })
    return {
      connections: stream.connections,
      mib: whole(stream.bytes / MIB),
      statusP50Ms: whole(readings.p50Ms),
      statusP99Ms: whole(readings.p99Ms),
      termBefore: readings.termBefore,
      termAfter: readings.termAfter,
      grownMiB: whole(readings.grownMiB)
    }
  },

  'half-open connections': async world => {
    const before = await probe(world)
    const packets = await halfOpen(world)
    const after = await probe(world)
    const of10 = (all: typeof before): Record<string, number> =>
      Object.fromEntries(all.map(({ what, answered }) => [what, answered]))
    return { packets, tracked: await tracked(world.host(1).namespace), before: of10(before), after: of10(after) }
  },

  ...rows(STRANGERS, '3'),
  ...rows(DOORS, '13'),
  ...rows(MEMBERS, '14', '15', '16', '17', '18', '19', '14-19')
}
