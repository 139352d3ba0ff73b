// The attack matrix on any plane with its guard: every kind, from a container and from the underlay, is counted by packet
// sockets wherever it could arrive. guard-attacks.test.ts shows that each kind does arrive without a guard.

import type { Test } from 'tap'
import { parseMac } from '#model/mac.ts'
import { ip, json } from '../kernel.ts'
import { JUMBO_MTU, partyOf } from '../packets/attacks.ts'
import { Listener, Sender } from '../packets/raw-socket.ts'
import { attackStand, attempt, HOST_PORT, type AttackStand } from '../packets/stand.ts'
import { HOST_ADDRESS, makeStand6, NETWORKS6, PLACES6 } from '../packets/stand6.ts'
import { blue, PORT, red, Stage, type Plane } from '../stage.ts'
import { ifindexOf, ping, ping6 } from './plane.ts'

/** Fewer on a kernel with one slow processor. */
const PACKETS = Number(process.env['ATTACK_ATTEMPTS'] ?? 200)

/** Open vSwitch checks neither: it compares the source address wherever the header says it is, and that is the sender's own. */
const MALFORMED = ['IP version 5', 'IP packet longer than its frame'] as const
/**
 * The userspace datapath decapsulates VXLAN itself, before our rules and invisibly to nftables. It accepts these although
 * their headers violate RFC 7348, but only from a member's address and into that member's networks.
 */
const OUTSIDE_RFC_7348 = ['member: GPE flags', 'member: shorter than UDP says'] as const
const UNGUARDED: Readonly<Record<Plane, readonly string[]>> = {
  bpf: [],
  linux: [],
  'ovs-system': MALFORMED,
  'ovs-netdev': [...OUTSIDE_RFC_7348, ...MALFORMED]
}

/**
 * The switch reads what is behind extension headers and SNAP as if nothing were before it, and checks that. It knows no option
 * of an advertisement but the target's MAC, and compares no address that an error quotes.
 */
const SEEN_THROUGH: readonly string[] = [
  ...['hop-by-hop options', 'routing header 0', 'destination options', 'authentication header'].flatMap(header => [
    `6: ${header}`,
    `6: ${header}, then an echo request`
  ]),
  '6: routing header 0 with a hop to go',
  '6: advertisement with the option of a solicitation',
  '6: LLC and SNAP',
  '6: unreachable, about a flow of others',
  '6: time exceeded, about a flow of others',
  '6: version 4',
  '6: version 7'
]
const UNGUARDED6: Readonly<Record<Plane, readonly string[]>> = {
  bpf: [],
  linux: [],
  'ovs-system': [...SEEN_THROUGH, '6: longer than its frame', '6: jumbogram'],
  'ovs-netdev': SEEN_THROUGH
}

/** No forged packet of a container or a stranger arrives anywhere, while legitimate traffic does. */
export async function attacks(t: Test, plane: Plane): Promise<void> {
  const s = await Stage.open(t, plane, {
    hosts: 3,
    members: [1, 2],
    places: {
      me: [red, 1, '10.1.0.2'],
      near: [red, 1, '10.1.0.3'],
      far: [red, 2, '10.1.0.4'],
      tenant: [blue, 1, '10.1.0.5'],
      'far-tenant': [blue, 2, '10.1.0.6']
    }
  })
  const senders = new Map<string, Sender>()
  const listeners = new Map<string, Listener>()
  for (const [name, { netns, namespace: namespace }] of s.containers) {
    const ifindex = await ifindexOf(namespace)
    senders.set(name, new Sender(netns, ifindex))
    if (name !== 'me') listeners.set(name, Listener.frames(netns, ifindex))
  }
  const wires = await Promise.all(
    s.lab.hosts.map(async ({ namespace: name, netns, vtep }) => {
      const [holder] = await json<{ address: string }>('ip', name, `link show dev ${s.underlay}`)
      const sender = new Sender(netns, await ifindexOf(name))
      senders.set(name, sender)
      return { sender, mac: parseMac(holder?.address ?? ''), address: vtep, netns }
    })
  )
  const [h1, h2, h3] = wires
  if (h1 === undefined || h2 === undefined || h3 === undefined) throw new Error('three hosts')
  listeners.set('host', Listener.datagrams(h1.netns, HOST_PORT))
  t.teardown(() => [...senders.values(), ...listeners.values()].forEach(socket => socket.close()))
  const by = (name: string): Sender => senders.get(name) ?? h1.sender
  const stand = { host: h1, member: h2, stranger: h3, port: PORT, red, blue }
  const tried = attackStand({ party: name => partyOf(s.endpoint(name)), sender: by, ...stand })
  await ip(s.container('me').namespace, `link set eth0 mtu ${JUMBO_MTU}`)
  await ping(s, 'me', 'far', { count: 3 })
  await ping(s, 'tenant', 'far-tenant', { count: 3 })
  const { arrived } = await attempt(tried, listeners, { packets: PACKETS, first: 1 })
  holds(t, arrived, UNGUARDED[plane])
}

/**
 * The same over IPv6, from containers of networks with both families and with either. guard-attacks6.test.ts shows that each
 * kind arrives without a guard.
 */
export async function attacks6(t: Test, plane: Plane): Promise<void> {
  const { s, stand, listeners } = await stage6(t, plane)
  for (const [from, to] of [
    ['me', 'near'],
    ['me', 'far'],
    ['six', 'far-six']
  ] as const) {
    t.equal(await ping6(s, from, to, { count: 3 }), 3, `${from} reaches ${to}`)
    t.equal(await ping6(s, from, to, { count: 2, size: 4_000, inFragments: true }), 2, 'in fragments, too')
  }
  await ip(s.container('me').namespace, `link set eth0 mtu ${JUMBO_MTU}`)
  const { arrived } = await attempt(stand, listeners, { packets: PACKETS, first: 1 })
  holds(t, arrived, UNGUARDED6[plane])
  await ip(s.container('me').namespace, '-6 neigh flush dev eth0')
  t.equal(await ping6(s, 'me', 'far', { count: 3 }), 3, 'and neighbours are found after that')
}

/** Containers in place, and sockets where packets leave and arrive. */
export async function stage6(
  t: Test,
  plane: Plane
): Promise<{ readonly s: Stage; readonly stand: AttackStand; readonly listeners: ReadonlyMap<string, Listener> }> {
  const s = await Stage.open(t, plane, { hosts: 2, places: PLACES6, networks: NETWORKS6 })
  const senders = new Map<string, Sender>()
  const listeners = new Map<string, Listener>()
  t.teardown(() => [...senders.values(), ...listeners.values()].forEach(socket => socket.close()))
  const { namespace, netns } = s.lab.host(1)
  await ip(namespace, `-6 addr add ${HOST_ADDRESS}/64 dev ${s.underlay} nodad`)
  listeners.set('host', Listener.datagrams(netns, HOST_PORT, 'ipv6'))
  for (const [name, container] of s.containers) {
    const ifindex = await ifindexOf(container.namespace)
    senders.set(name, new Sender(container.netns, ifindex))
    if (!SENDERS6.includes(name)) listeners.set(name, Listener.frames(container.netns, ifindex))
  }
  const sender = (name: string): Sender => {
    const found = senders.get(name)
    if (found === undefined) throw new Error(`no sender ${name}`)
    return found
  }
  return { s, stand: makeStand6({ endpoint: name => s.endpoint(name), sender }), listeners }
}

const SENDERS6: readonly string[] = ['me', 'plain', 'six']

function holds(t: Test, arrived: ReadonlyMap<string, number>, unguarded: readonly string[]): void {
  t.comment(`${arrived.size} kinds, ${PACKETS} attempts each`)
  t.strictSame(
    [...arrived].filter(([kind, count]) => count > 0 && !unguarded.includes(kind)),
    [],
    `0 packets of ${arrived.size} kinds arrive`
  )
}
