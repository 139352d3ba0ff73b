// The attack matrix on any plane with its guard: every kind from a container and from the underlay, counted by packet
// sockets wherever it could arrive. That each kind does arrive where nothing guards, guard-attacks.test.ts shows.

import type { Test } from 'tap'
import { bridgeMac } from '#overlay/plan/names.ts'
import { parseMac } from '#model/mac.ts'
import { containerAttacks, ordinary, underlayAttacks, type Attack, type Party } from '../packets/attacks.ts'
import { mark } from '../packets/frames.ts'
import { Listener, Sender } from '../packets/raw-socket.ts'
import { blue, PORT, red, Stage, type Plane } from '../stage.ts'
import { waitFor } from '../wait.ts'
import { ifindexOf, ping } from './plane.ts'

/** Fewer where one slow processor must send them all. */
const PACKETS = Number(process.env['VXMESH_TEST_ATTEMPTS'] ?? 100)
const HOST_PORT = 9_999

/**
 * The userspace datapath takes VXLAN out of its packets itself, before any rule of ours and out of nftables' sight; these
 * it takes although the header is not as RFC 7348 says. From a member's address alone, and into its networks alone.
 */
const UNGUARDED: Readonly<Record<Plane, readonly string[]>> = {
  linux: [],
  'ovs-system': [],
  'ovs-netdev': ['member: GPE flags', 'member: shorter than UDP says']
}

type Control = { readonly name: string; readonly sender: Sender; readonly frames: Attack['frames'] }

/** Nothing that a container or a stranger forges arrives anywhere; ordinary traffic does meanwhile. */
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
  for (const [name, { netns, name: namespace }] of s.containers) {
    const ifindex = await ifindexOf(s, namespace)
    senders.set(name, new Sender(netns, ifindex))
    if (name !== 'me') listeners.set(name, Listener.frames(netns, ifindex))
  }
  const wires = await Promise.all(
    s.lab.hosts.map(async ({ name, netns, vtep }) => {
      const [holder] = await s.lab.json<{ address: string }>('ip', name, `link show dev ${s.underlay}`)
      const sender = new Sender(netns, await ifindexOf(s, name))
      senders.set(name, sender)
      return { sender, mac: parseMac(holder?.address ?? ''), address: vtep, netns }
    })
  )
  const [h1, h2, h3] = wires
  if (h1 === undefined || h2 === undefined || h3 === undefined) throw new Error('three hosts')
  listeners.set('host', Listener.datagrams(h1.netns, HOST_PORT))
  t.teardown(() => [...senders.values(), ...listeners.values()].forEach(socket => socket.close()))
  const by = (name: string): Sender => senders.get(name) ?? h1.sender
  const party = (name: string): Party => s.endpoint(name)
  const wire = underlayAttacks({
    stranger: h3,
    member: h2,
    host: h1,
    port: PORT,
    vni: red.vni,
    inner: m => ordinary(party('far'), party('near'))(m, 0)[0] ?? m,
    foreign: { vni: blue.vni, inner: m => ordinary(party('far-tenant'), party('tenant'))(m, 0)[0] ?? m }
  })
  const local = containerAttacks({
    me: party('me'),
    victim: party('near'),
    other: party('far'),
    gateway: red.gateway,
    bridge: bridgeMac(red.vni),
    host: { mac: h1.mac, address: h1.address, port: HOST_PORT },
    vni: red.vni,
    foreign: { vni: blue.vni, victim: party('tenant') }
  })
  const tried = [
    ...local.map(attack => ({ sender: by('me'), attack })),
    ...wire.stranger.map(attack => ({ sender: h3.sender, attack })),
    ...wire.member.map(attack => ({ sender: h2.sender, attack }))
  ]
  const controls: Control[] = [
    { name: 'near', sender: by('me'), frames: ordinary(party('me'), party('near')) },
    { name: 'far', sender: by('me'), frames: ordinary(party('me'), party('far')) },
    { name: 'near', sender: by('far'), frames: ordinary(party('far'), party('near')) },
    { name: 'far-tenant', sender: by('tenant'), frames: ordinary(party('tenant'), party('far-tenant')) },
    { name: 'near', sender: h2.sender, frames: wire.ordinary }
  ]
  await ping(s, 'me', 'far', { count: 3 })
  await ping(s, 'tenant', 'far-tenant', { count: 3 })
  let next = 1
  const arrived: [string, number][] = []
  for (const { sender, attack } of tried) {
    const id = next++
    for (let n = 0; n < PACKETS; n++) for (const frame of attack.frames(mark(id), n)) sender.send(frame)
    // Packets keep their order on each way: what has not come before the last ordinary one never will.
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

async function settle(
  controls: readonly Control[],
  listeners: ReadonlyMap<string, Listener>,
  p: { readonly next: number; readonly after: string }
): Promise<number> {
  let id = p.next
  for (const [i, { name, sender, frames }] of controls.entries()) {
    const own = id++
    for (const frame of frames(mark(own), 0)) sender.send(frame)
    await waitFor(`ordinary traffic ${i} at ${name} after ${p.after}`, () => listeners.get(name)?.count(own) === 1, {
      everyMs: 1
    })
  }
  return id
}
