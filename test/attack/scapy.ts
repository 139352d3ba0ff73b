// The kinds of IPv6 packets that scapy6.py makes, from a container of both families and from one of IPv6 alone, to a neighbour
// on its host and to one on another: without the guard of the attacker's host, where each kind must arrive, then with it.

import { existsSync } from 'node:fs'
import { parseVni } from '#model/ids.ts'
import { parseIp } from '#model/ip.ts'
import { macOf } from '#model/mac.ts'
import type { LabHost } from '../lab/host.ts'
import { ip, must } from '../lab/kernel.ts'
import { Listener } from '../lab/packets/raw-socket.ts'
import { countReplies } from '../lab/ping.ts'
import { waitFor } from '../lab/wait.ts'
import { routers } from './floods.ts'
import { PROBES } from './probes.ts'
import { attacker, scapy6, startAttacker, type Running } from './python.ts'
import type { Outcome, Row } from './row.ts'
import { linkOf } from './senders.ts'
import { ECHO, type Name, type World } from './world.ts'

const PACKETS = 200
/** Enough to show that a kind arrives. */
const UNGUARDED_PACKETS = 10
/** Beyond those of kinds6.ts; each network has as many. */
const [FIRST_MARK, MARKS] = [60_000, 1_000]
/** Longer than any MTU of the networks. */
const IN_FRAGMENTS = 4_000
/** By the attacker: on its host, and on the other one. */
const VICTIMS = { me6: ['near6', 'far6'], six: ['near-six', 'far-six'] } as const
const ATTACKERS = ['me6', 'six'] as const
/** Who listens beside the victims. */
const TENANTS = ['tenant6', 'far-tenant6'] as const
/** Drops some malformed packets by itself, where the kernel has it. */
const BRIDGE_NETFILTER = ['net.bridge.bridge-nf-call-iptables', 'net.bridge.bridge-nf-call-ip6tables'] as const

/** In both networks together. */
const MIN_KINDS = 200

type Attacker = (typeof ATTACKERS)[number]
/** How many packets of each kind have arrived. */
type Arrived = ReadonlyMap<string, number>

export const SCAPY: Row<World> = { name: 'scapy: kinds of IPv6 packets', run }

async function run(world: World): Promise<Outcome> {
  const servers: Running[] = []
  const restore = [await noBridgeNetfilter(world.host(1)), await noBridgeNetfilter(world.host(2))]
  try {
    const open = await unguarded(world, () => attack(world, UNGUARDED_PACKETS))
    for (const name of everyone()) servers.push(await startAttacker(world.container(name), 'serve', '', ECHO))
    const before = await failures(world)
    const guarded = await attack(world, PACKETS)
    const after = await failures(world)
    const kinds = [...guarded.keys()]
    const missing = kinds.filter(kind => (open.get(kind) ?? 0) === 0)
    const leaked = kinds.filter(kind => guarded.get(kind) !== 0)
    const failed = [...before, ...after]
    const count = (some: readonly string[]): string => [`${some.length} of ${kinds.length}`, ...some].join('; ')
    return {
      control: {
        ok: kinds.length >= MIN_KINDS && missing.length === 0 && failed.length === 0,
        figure: `kinds that do not arrive without a guard: ${count(missing)}; probes that fail: ${[failed.length, ...failed].join('; ')}`
      },
      attack: {
        ok: leaked.length === 0,
        figure: `kinds that arrive, of ${PACKETS} packets to each of two victims: ${count(leaked)}`
      }
    }
  } finally {
    for (const server of servers) await server.stop()
    for (const again of restore) await again()
  }
}

function everyone(): readonly Name[] {
  return ATTACKERS.flatMap((name): readonly Name[] => [name, ...VICTIMS[name]])
}

/** Sends all kinds from each attacker. */
async function attack(world: World, packets: number): Promise<Arrived> {
  const arrived = new Map<string, number>()
  for (const [n, from] of ATTACKERS.entries()) {
    const { network } = world.endpoint(from)
    const counts = await sendAll(world, from, { first: FIRST_MARK + n * MARKS, packets })
    for (const [kind, count] of counts) arrived.set(`${network}: ${kind}`, count)
  }
  return arrived
}

async function sendAll(
  world: World,
  from: Attacker,
  p: { readonly first: number; readonly packets: number }
): Promise<Arrived> {
  const victims = VICTIMS[from]
  const where = await Promise.all(
    [...victims, ...TENANTS].map(async name => {
      const container = world.container(name)
      return { netns: container.netns, ifindex: (await linkOf(container)).ifindex }
    })
  )
  // A veth filters no MAC: they see all that its other end sends.
  const listeners = where.map(({ netns, ifindex }) => Listener.frames(netns, ifindex))
  try {
    const marks = await scapy6(world.container(from), {
      me: party(world, from),
      gateway: gateway(world, from),
      victims: victims.map(name => party(world, name)),
      tenant: { vni: parseVni(world.endpoint('tenant6').vni), link: party(world, 'tenant6') },
      ...p
    })
    // Each path keeps its packets in order: these come after all of the attack.
    for (const name of victims) await countReplies(world.container(from), world.address6(name))
    return new Map(
      Object.entries(marks).map(([kind, mark]) => [
        kind,
        listeners.reduce((sum, listener) => sum + listener.count(mark), 0)
      ])
    )
  } finally {
    for (const listener of listeners) listener.close()
  }
}

type Party = { readonly mac: string; readonly address: string }

function party(world: World, name: Name): Party {
  return { mac: world.endpoint(name).mac, address: world.address6(name) }
}

function gateway(world: World, name: Name): Party {
  const { vni, gateway: first } = world.endpoint(name)
  return { mac: macOf(parseVni(vni), parseIp(first)), address: world.gateway6(name) }
}

/** What does not work between attackers and victims, in each direction. */
async function failures(world: World): Promise<string[]> {
  const pairs = ATTACKERS.flatMap(me => VICTIMS[me].map(victim => [me, victim] as const))
  const ways = pairs.flatMap(([me, victim]): (readonly [Name, Name])[] => [
    [me, victim],
    [victim, me]
  ])
  const failed = await Promise.all(ways.map(([from, to]) => failuresBetween(world, from, to)))
  return failed.flat()
}

async function failuresBetween(world: World, from: Name, to: Name): Promise<string[]> {
  const [container, address] = [world.container(from), world.address6(to)]
  const ask = (what: string, ...more: readonly number[]): Promise<number> =>
    attacker<number>(container, what, address, ECHO, PROBES, ...more)
  const probes = {
    ping: await countReplies(container, address, { count: PROBES }),
    'ping in fragments': await countReplies(container, address, {
      count: PROBES,
      size: IN_FRAGMENTS,
      inFragments: true
    }),
    TCP: await ask('connect'),
    UDP: await ask('datagrams'),
    'UDP in fragments': await ask('datagrams', IN_FRAGMENTS)
  }
  return Object.entries(probes).flatMap(([what, answered]) =>
    answered === PROBES ? [] : [`${what} from ${from} to ${to}: ${answered} of ${PROBES}`]
  )
}

/** Runs something while the attackers' host guards nothing. What was believed meanwhile is forgotten after it. */
async function unguarded<T>(world: World, work: () => Promise<T>): Promise<T> {
  const host = world.host(1)
  await restart(host, { driver: 'linux', guard: 'off' })
  try {
    const attached = (): Promise<string> => must('ip', ['netns', 'exec', host.namespace, 'bpftool', 'net', 'show'])
    await waitFor('no program guards anything', async () => !(await attached()).includes('from_container'))
    return await work()
  } finally {
    await restart(host, { driver: 'auto', guard: 'auto' })
    const containers = [...everyone(), ...TENANTS].map(name => world.container(name).namespace)
    const gateways = await Promise.all([1, 2].map(n => routers(world.host(n))))
    for (const namespace of [...containers, ...gateways.flat()]) {
      await ip(namespace, '-6 neigh flush all')
      await ip(namespace, '-6 route flush cache')
    }
  }
}

async function restart(host: LabHost, overlay: { readonly driver: string; readonly guard: string }): Promise<void> {
  await host.stopAgent()
  await host.changeOverlay(overlay)
  await host.startAgent()
  await host.waitReady(60_000)
}

/** @returns what sets it again as it was */
async function noBridgeNetfilter({ namespace }: LabHost): Promise<() => Promise<void>> {
  if (!existsSync('/proc/sys/net/bridge')) return () => Promise.resolve()
  const sysctl = (...args: readonly string[]): Promise<string> =>
    must('ip', ['netns', 'exec', namespace, 'sysctl', ...args])
  const was = await sysctl(...BRIDGE_NETFILTER)
  await sysctl('-qw', ...BRIDGE_NETFILTER.map(name => `${name}=0`))
  return async () => {
    await sysctl(
      '-qw',
      ...was
        .trim()
        .split('\n')
        .map(line => line.replaceAll(' ', ''))
    )
  }
}
