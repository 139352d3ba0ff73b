// The attack matrix: every kind, from a container and from the underlay, counted by packet sockets where it would arrive.
// Three runs in the same lab: without the guard (a kind that arrives nowhere even then proves nothing), with it, and with
// it behind foreign rules that accept everything. Legitimate traffic must arrive in each of them.

import t, { type Test } from 'tap'
import { ipv4Of, formatIp, type Family } from '#model/ip.ts'
import { JUMBO_MTU, partyOf } from '../lab/packets/attacks.ts'
import { arp, BROADCAST, ether, ETHER, mark } from '../lab/packets/frames.ts'
import { Listener, Sender } from '../lab/packets/raw-socket.ts'
import { attackStand, HOST_PORT, settle, type AttackStand } from '../lab/packets/stand.ts'
import {
  ACCEPT_ALL,
  blue,
  containerOf,
  endpointOf,
  openGuardLab,
  link,
  nft,
  PORT,
  red,
  setGuard,
  type GuardLab
} from './guard-lab.ts'
import { ip, json } from '../lab/kernel.ts'
import { countReplies } from '../lab/ping.ts'
import { cannotRun } from '../lab/requirements.ts'

const PACKETS = 200
const FLOOD = 100_000
/** Kinds that arrive without a guard: fewer would mean that the test's own packets are wrong. */
const EFFECTIVE_MIN = 40

type Stand = AttackStand & {
  readonly w: GuardLab
  readonly listeners: ReadonlyMap<string, Listener>
  nextMark: number
}

t.test('no forged packet of a container or a stranger arrives anywhere', { skip: cannotRun() }, t =>
  allKinds(t, 'ipv4')
)

t.test('nor does one over an underlay of IPv6', { skip: cannotRun() }, t => allKinds(t, 'ipv6'))

async function allKinds(t: Test, family: Family): Promise<void> {
  const stand = await build(t, family)
  const open = await attackAll(t, stand, 'without a guard')
  t.not((await wrongNeighbours(stand.w)).length, 0, 'without a guard caches are poisoned')
  // Entries that the unguarded run has poisoned must not affect the later runs.
  for (const name of stand.w.containers.keys()) await ip(containerOf(stand.w, name).namespace, 'neigh flush all')
  await setGuard(stand.w, PORT)
  const before = await tables(stand.w)
  const guarded = await attackAll(t, stand, 'guarded')
  t.strictSame(await tables(stand.w), before, 'no route of a container and no FDB of a host has changed')
  t.strictSame(await wrongNeighbours(stand.w), [], 'no container has learned a wrong MAC')
  await setGuard(stand.w, null)
  for (const host of [1, 2]) await nft(stand.w.lab.host(host), ACCEPT_ALL)
  await setGuard(stand.w, PORT)
  const behind = await attackAll(t, stand, 'behind rules that accept all')

  t.comment(
    `${PACKETS} attempts each; arrived without the guard, with it, with it behind foreign rules that accept all:`
  )
  for (const [kind, count] of open) {
    t.comment(`${kind.padEnd(48)} ${String(count).padStart(6)} ${guarded.get(kind)} ${behind.get(kind)}`)
  }
  const effective = [...open.values()].filter(count => count > 0).length
  t.ok(effective >= EFFECTIVE_MIN, `${effective} of ${open.size} kinds arrive without a guard`)
  for (const [name, run] of Object.entries({ guarded, behind })) {
    t.strictSame(
      [...run].filter(([, count]) => count > 0),
      [],
      `${name}: 0 packets of ${run.size} kinds arrive`
    )
  }
}

t.test('a flood of source MACs leaves nothing in any table', { skip: cannotRun() }, async t => {
  const stand = await build(t)
  await setGuard(stand.w, PORT)
  const before = await tables(stand.w)
  const flood = stand.attacks.find(({ attack }) => attack.kind === 'MAC flood')
  if (flood === undefined) throw new Error('no flood')
  const id = stand.nextMark++
  for (let n = 0; n < FLOOD; n++) for (const frame of flood.attack.frames(mark(id), n)) flood.sender.send(frame)
  await settleAll(stand)
  t.equal(arrived(stand, id), 0, `0 of ${FLOOD} arrive`)
  t.strictSame(await tables(stand.w), before, 'routes and FDBs are unchanged')
})

t.test('the host does not answer ARP requests of a container for its own addresses', { skip: cannotRun() }, async t => {
  const { w } = await build(t)
  const me = endpointOf(w, 'me')
  const container = containerOf(w, 'me')
  const { ifindex } = await link(container)
  const sender = new Sender(container.netns, ifindex)
  const listener = Listener.frames(container.netns, ifindex)
  t.teardown(() => [sender, listener].forEach(socket => socket.close()))
  const host = ipv4Of(w.lab.host(1).vtep)
  const ask = async (): Promise<number> => {
    const question = {
      operation: 1,
      fromMac: me.mac,
      fromAddress: ipv4Of(me.address),
      toMac: BROADCAST,
      toAddress: host
    }
    for (let n = 0; n < PACKETS; n++) {
      sender.send(ether({ to: BROADCAST, from: me.mac, type: ETHER.arp }, arp(question)))
    }
    let answers = 0
    await countReplies(container, '10.1.0.3', { count: 1 })
    listener.drain(
      frame => (answers += frame.readUInt16BE(12) === ETHER.arp && frame.readUInt32BE(28) === host ? 1 : 0)
    )
    return answers
  }
  t.ok((await ask()) > 0, 'without a guard it does')
  await setGuard(w, PORT)
  t.equal(await ask(), 0)
})

async function build(t: Test, family: Family = 'ipv4'): Promise<Stand> {
  const places = {
    me: [red, 1, '10.1.0.2'],
    near: [red, 1, '10.1.0.3'],
    far: [red, 2, '10.1.0.4'],
    tenant: [blue, 1, '10.1.0.5'],
    'far-tenant': [blue, 2, '10.1.0.6']
  } as const
  const w = await openGuardLab(t, places, family)
  const [h1, h2, h3] = [w.lab.host(1), w.lab.host(2), w.lab.host(3)]
  const listeners = new Map<string, Listener>()
  const senders = new Map<string, Sender>()
  for (const [name, container] of w.containers) {
    const { ifindex } = await link(container)
    if (name !== 'me') listeners.set(name, Listener.frames(container.netns, ifindex))
    senders.set(name, new Sender(container.netns, ifindex))
  }
  listeners.set('host', Listener.datagrams(h1.netns, HOST_PORT))
  await ip(containerOf(w, 'me').namespace, `link set eth0 mtu ${JUMBO_MTU}`)
  const [l1, l2, l3] = [await link(h1), await link(h2), await link(h3)]
  const member = new Sender(h2.netns, l2.ifindex)
  const stranger = new Sender(h3.netns, l3.ifindex)
  t.teardown(() => [...listeners.values(), ...senders.values(), member, stranger].forEach(socket => socket.close()))
  return {
    w,
    ...attackStand({
      party: name => partyOf(endpointOf(w, name)),
      sender: name => senders.get(name) ?? member,
      host: { mac: l1.mac, address: h1.vtep },
      member: { sender: member, mac: l2.mac, address: h2.vtep },
      stranger: { sender: stranger, mac: l3.mac, address: h3.vtep },
      port: PORT,
      red,
      blue
    }),
    listeners,
    nextMark: 1
  }
}

/** Sends every kind, then legitimate traffic. @returns how many of each kind have arrived, wherever */
async function attackAll(t: Test, stand: Stand, title: string): Promise<Map<string, number>> {
  const ids = new Map<string, number>()
  const controls = stand.controls.map(control => ({ ...control, id: stand.nextMark++ }))
  for (const { attack } of stand.attacks) ids.set(attack.kind, stand.nextMark++)
  for (const { sender, attack } of stand.attacks) {
    const id = mark(ids.get(attack.kind) ?? 0)
    for (let n = 0; n < PACKETS; n++) for (const frame of attack.frames(id, n)) sender.send(frame)
    for (const listener of stand.listeners.values()) listener.drain()
  }
  for (const { sender, frames, id } of controls) {
    for (let n = 0; n < PACKETS; n++) for (const frame of frames(mark(id), n)) sender.send(frame)
  }
  await settleAll(stand)
  for (const { name, id } of controls) {
    t.equal(stand.listeners.get(name)?.count(id), PACKETS, `${title}: legitimate traffic ${id} arrives at ${name}`)
  }
  return new Map(stand.attacks.map(({ attack: { kind, at } }) => [kind, arrived(stand, ids.get(kind) ?? 0, at)]))
}

async function settleAll(stand: Stand): Promise<void> {
  stand.nextMark = await settle(stand.controls, stand.listeners, { next: stand.nextMark, after: 'all' })
}

function arrived(stand: Stand, id: number, at?: string): number {
  const where = [...stand.listeners].filter(([name]) => at === undefined || name === at)
  return where.reduce((sum, [, listener]) => sum + listener.count(id), 0)
}

/** Routes of the containers and FDBs of the hosts. */
async function tables(w: GuardLab): Promise<readonly string[]> {
  const found: string[] = []
  for (const { namespace: name } of w.containers.values()) found.push(await ip(name, 'route show'))
  for (const host of [1, 2]) {
    const fdb = await json<{ mac: string; ifname: string }>('bridge', w.lab.host(host).namespace, 'fdb show')
    found.push(...fdb.map(entry => `host ${host} ${entry.ifname} ${entry.mac}`).sort())
  }
  return found
}

/** Neighbour entries of containers with a wrong MAC. */
async function wrongNeighbours(w: GuardLab): Promise<readonly string[]> {
  const right = new Map(w.endpoints.map(endpoint => [formatIp(endpoint.address), endpoint.mac]))
  const found: string[] = []
  for (const { namespace: name } of w.containers.values()) {
    for (const { dst, lladdr } of await json<{ dst: string; lladdr?: string }>('ip', name, 'neigh show')) {
      if (lladdr !== undefined && lladdr !== right.get(dst)) found.push(`${name}: ${dst} is at ${lladdr}`)
    }
  }
  return found
}
