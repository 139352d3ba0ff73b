// The attack matrix on any plane with its guard: every kind, from a container and from the underlay, is counted by packet
// sockets wherever it could arrive. guard-attacks.test.ts shows that each kind does arrive without a guard.

import type { Test } from 'tap'
import { parseMac } from '#model/mac.ts'
import { ip, json } from '../kernel.ts'
import { JUMBO_MTU } from '../packets/attacks.ts'
import { mark } from '../packets/frames.ts'
import { Listener, Sender } from '../packets/raw-socket.ts'
import { attackStand, HOST_PORT, settle } from '../packets/stand.ts'
import { blue, PORT, red, Stage, type Plane } from '../stage.ts'
import { ifindexOf, ping } from './plane.ts'

/** Fewer on a kernel with one slow processor. */
const PACKETS = Number(process.env['ATTACK_ATTEMPTS'] ?? 100)

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
  const { attacks: tried, controls } = attackStand({ party: name => s.endpoint(name), sender: by, ...stand })
  await ip(s.container('me').namespace, `link set eth0 mtu ${JUMBO_MTU}`)
  await ping(s, 'me', 'far', { count: 3 })
  await ping(s, 'tenant', 'far-tenant', { count: 3 })
  let next = 1
  const arrived: [string, number][] = []
  for (const { sender, attack } of tried) {
    const id = next++
    for (let n = 0; n < PACKETS; n++) for (const frame of attack.frames(mark(id), n)) sender.send(frame)
    // Each path keeps its packets in order: none can arrive after the last legitimate one.
    next = await settle(controls, listeners, { next, after: attack.kind })
    const where = [...listeners].filter(([name]) => attack.at === undefined || name === attack.at)
    arrived.push([attack.kind, where.reduce((sum, [, listener]) => sum + listener.count(id), 0)])
  }
  t.comment(`${tried.length} kinds, ${PACKETS} attempts each`)
  t.strictSame(
    arrived.filter(([kind, count]) => count > 0 && !UNGUARDED[plane].includes(kind)),
    [],
    `0 packets of ${tried.length} kinds arrive`
  )
}
