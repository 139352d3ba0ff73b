// What must hold on every plane, whatever carries the packets. Each scenario builds its own stage on the plane that it is
// given.

import type { Test } from 'tap'
import { setTimeout as pause } from 'node:timers/promises'
import type { Endpoint } from '#model/endpoint.ts'
import { ipv4Of, isIpv4, parseSubnet } from '#model/ip.ts'
import { parseIpv4 } from '#model/ipv4.ts'
import { parseIpv6, type Ipv6 } from '#model/ipv6.ts'
import type { Mac } from '#model/mac.ts'
import { vethName } from '#overlay/plan/network/names.ts'
import { ip, json } from '../kernel.ts'
import { peer } from '../../overlay/fixtures.ts'
import { Listener, Sender } from '../packets/raw-socket.ts'
import { arp, BROADCAST, ETHER, ether, mark } from '../packets/frames.ts'
import { ordinary, partyOf, type Attack } from '../packets/attacks.ts'
import { GROUP, ordinary6, solicitation6, type Target } from '../packets/craft6.ts'
import { addressBytes } from '../packets/frames6.ts'
import { SERVERS } from '../outside.ts'
import { FIRST_BYTES, startFlow, type FlowReport } from '../flow.ts'
import { countReplies, startPing, type ReplyOptions } from '../ping.ts'
import { blue, red, Stage, type Places, type Plane } from '../stage.ts'
import { waitFor } from '../wait.ts'

/** IPv4 and ICMP headers. */
const PING_HEADERS = 28
const NOBODY = '00:00:00:00:00:00' as Mac

export type Scenario = (t: Test, plane: Plane) => Promise<void>

const FOUR: Places = {
  r1: [red, 1, '10.1.0.2'],
  r2: [red, 2, '10.1.0.3'],
  b1: [blue, 1, '10.1.0.2'],
  b2: [blue, 2, '10.1.0.4']
}

/** Containers of one network reach each other from every host, up to the MTU and no further. */
export const mesh: Scenario = async (t, plane) => {
  const s = await Stage.open(t, plane, {
    hosts: 3,
    places: {
      r1: [red, 1, '10.1.0.2'],
      r2: [red, 2, '10.1.0.3'],
      r3: [red, 3, '10.1.0.4'],
      r4: [red, 1, '10.1.0.5']
    }
  })
  for (const from of s.containers.keys()) {
    for (const to of s.containers.keys()) {
      if (from !== to) t.equal(await ping(s, from, to, { count: 5 }), 5, `${from} reaches ${to}`)
    }
  }
  t.equal(await ping(s, 'r1', 'r2', { count: 2, size: s.lab.overlayMtu - PING_HEADERS }), 2, 'the MTU passes whole')
  for (const to of ['r2', 'r4']) {
    for (const address of s.addresses(to)) {
      const { sent, lost, tcpAlive, tcpBytes } = await flow(s, { from: 'r1', to, address })
      t.match({ lost, tcpAlive }, { lost: 0, tcpAlive: true }, `UDP and TCP from r1 to ${to}, ${address}`)
      t.ok(sent > 0 && tcpBytes > FIRST_BYTES, `${sent} packets, ${tcpBytes} bytes`)
    }
  }
  for (const host of s.members) t.same(await s.pass(host), [], `host ${host}: nothing is left to do`)
}

/** Half a second of packets, and one connection. */
async function flow(
  s: Stage,
  p: { readonly from: string; readonly to: string; readonly address: string }
): Promise<FlowReport> {
  const [a, b] = [s.container(p.from).namespace, s.container(p.to).namespace]
  const ends = { from: { namespace: a }, to: { namespace: b }, address: p.address }
  const { stop } = await startFlow({ ...ends, packetsPerSecond: 100 })
  await pause(500)
  return stop()
}

/** An ARP request for an address of the network is answered on the requester's host and crosses no tunnel. */
export const ownAnswers: Scenario = async (t, plane) => {
  const s = await Stage.open(t, plane, { hosts: 2, places: { r1: [red, 1, '10.1.0.2'], r2: [red, 2, '10.1.0.3'] } })
  t.equal(await ping(s, 'r1', 'r2', { count: 3 }), 3)
  const [asker, far] = [s.container('r1'), s.container('r2')]
  const wire = Listener.frames(s.lab.host(2).netns, await ifindexOf(s.lab.host(2).namespace))
  const inside = Listener.frames(far.netns, await ifindexOf(far.namespace))
  const sender = new Sender(asker.netns, await ifindexOf(asker.namespace))
  t.teardown(() => [wire, inside, sender].forEach(socket => socket.close()))
  const { mac, address } = s.endpoint('r1')
  const ask = (whose: string, id: number): void => {
    const question = {
      operation: 1,
      fromMac: mac,
      fromAddress: ipv4Of(address),
      toMac: NOBODY,
      toAddress: parseIpv4(whose)
    }
    const frame = ether({ to: BROADCAST, from: mac, type: ETHER.arp }, Buffer.concat([arp(question), mark(id)]))
    for (let n = 0; n < 5; n++) sender.send(frame)
  }
  ask('10.1.0.3', 1)
  ask('10.1.0.99', 2)
  await waitFor('a request that no host can answer is flooded', () => wire.count(2) === 5 && inside.count(2) === 5)
  t.same([wire.count(1), inside.count(1)], [0, 0], 'a request for a known address is not')
  await ip(asker.namespace, 'neigh flush dev eth0')
  t.equal(await ping(s, 'r1', 'r2', { count: 3 }), 3, 'and is answered')
  if (plane !== 'linux' && plane !== 'bpf') return
  const ports = await json<{ ifname: string; neigh_suppress?: boolean }>('bridge', s.lab.host(1).namespace, 'link show')
  t.strictSame(
    ports.map(({ ifname, neigh_suppress: suppresses }) => [ifname.slice(0, 2), suppresses]).sort(),
    [...ports].map(({ ifname }) => [ifname.slice(0, 2), ifname.startsWith('vx')]).sort(),
    'the tunnel has neigh_suppress, no other port has'
  )
  t.ok(ports.some(({ ifname }) => ifname.startsWith('vx')))
}

/** A solicitation for an address of the network is not flooded to other hosts, and is answered. */
export const ownAnswers6: Scenario = async (t, plane) => {
  const both = { ...red, egress: false, subnet6: parseSubnet('fd00:1::/64') }
  const s = await Stage.open(t, plane, {
    hosts: 2,
    networks: [both],
    places: { r1: [both, 1, '10.1.0.2'], r2: [both, 2, '10.1.0.3'], r3: [both, 2, '10.1.0.4'] }
  })
  t.equal(await ping6(s, 'r1', 'r2', { count: 3 }), 3)
  const [asker, other] = [s.container('r1'), s.container('r3')]
  const beside = Listener.frames(other.netns, await ifindexOf(other.namespace))
  const sender = new Sender(asker.netns, await ifindexOf(asker.namespace))
  t.teardown(() => [beside, sender].forEach(socket => socket.close()))
  const me = { mac: s.endpoint('r1').mac, address: addressBytes(parseIpv6(s.address6('r1'))) }
  const ask = (whose: string, id: number): void => {
    const [frame] = solicitation6(me, addressBytes(parseIpv6(whose)))(mark(id), 0)
    if (frame !== undefined) for (let n = 0; n < 5; n++) sender.send(frame)
  }
  ask(s.address6('r2'), 1)
  ask('fd00:1::99', 2)
  await waitFor('a solicitation that no host can answer is flooded', () => beside.count(2) === 5)
  t.equal(beside.count(1), 0, 'one for a known address is not')
  await ip(asker.namespace, '-6 neigh flush dev eth0')
  t.equal(await ping6(s, 'r1', 'r2', { count: 3 }), 3, 'and is answered')
}

/** No packet crosses between two networks with equal subnets and equal addresses. */
export const isolation: Scenario = async (t, plane) => {
  const s = await Stage.open(t, plane, { hosts: 2, places: { ...FOUR, r5: [red, 1, '10.1.0.5'] } })
  t.equal(await ping(s, 'r1', 'r2', { count: 3 }), 3)
  t.equal(await ping(s, 'b1', 'b2', { count: 3 }), 3)
  t.equal(await s.replies('b1', '10.1.0.3', { count: 2 }), 0, 'blue has no 10.1.0.3')
  t.equal(await s.replies('b1', '10.1.0.5', { count: 2 }), 0, 'nor 10.1.0.5, on the same host')
  t.equal(await s.replies('r1', '10.1.0.4', { count: 2 }), 0, 'red has no 10.1.0.4')
}

/** A broadcast reaches each host of the network exactly once, and no failed host. */
export const floodScope: Scenario = async (t, plane) => {
  const s = await Stage.open(t, plane, {
    hosts: 3,
    places: {
      r1: [red, 1, '10.1.0.2'],
      r2: [red, 2, '10.1.0.3'],
      r4: [red, 1, '10.1.0.5'],
      b1: [blue, 1, '10.1.0.6'],
      b3: [blue, 3, '10.1.0.7']
    }
  })
  const listeners = new Map<string, Listener>()
  for (const [name, container] of s.containers) {
    listeners.set(name, Listener.frames(container.netns, await ifindexOf(container.namespace)))
  }
  const sender = new Sender(s.container('r1').netns, await ifindexOf(s.container('r1').namespace))
  t.teardown(() => [...listeners.values(), sender].forEach(socket => socket.close()))
  const shout = async (id: number): Promise<Record<string, number>> => {
    const frames = packetsTo(s.endpoint('r1'), null)
    for (let n = 0; n < 20; n++) for (const frame of frames(mark(id), n)) sender.send(frame)
    await waitFor('the broadcasts', () => listeners.get('r4')?.count(id) === 20)
    // Later packets have arrived, so no earlier one is still in flight.
    await ping(s, 'r1', 'r2', { count: 3 })
    await ping(s, 'b1', 'b3', { count: 3 })
    return Object.fromEntries(
      [...listeners].filter(([name]) => name !== 'r1').map(([name, listener]) => [name, listener.count(id)])
    )
  }
  await ping(s, 'r1', 'r2', { count: 3 })
  t.same(await shout(1), { r2: 20, r4: 20, b1: 0, b3: 0 })
  s.statuses = new Map([
    [peer(1), 'alive'],
    [peer(2), 'failed'],
    [peer(3), 'alive']
  ])
  await s.pass(1)
  // Open vSwitch revalidates the flows that its datapath has cached after it has answered the pass.
  let id = 2
  await waitFor('the datapath to follow the pass', async () => (await shout(id++))['r2'] === 0)
  t.same(await shout(id), { r2: 0, r4: 20, b1: 0, b3: 0 }, 'a failed host is not flooded')
  t.equal(await ping(s, 'r1', 'r2', { count: 3 }), 3, 'but still reached by unicast')
}

/** A released address works elsewhere at once: no table entry has to age out first. */
export const reuse: Scenario = async (t, plane) => {
  const s = await Stage.open(t, plane, { hosts: 2, places: { r1: [red, 1, '10.1.0.2'], r2: [red, 2, '10.1.0.3'] } })
  t.equal(await ping(s, 'r1', 'r2', { count: 3 }), 3)
  await s.remove('r2')
  t.equal(await s.replies('r1', '10.1.0.3', { count: 1 }), 0)
  await s.add('again', red, 1, '10.1.0.3')
  t.equal(await ping(s, 'r1', 'again', { count: 3 }), 3, 'on the same host')
  await s.remove('again')
  await s.add('third', red, 2, '10.1.0.3')
  t.equal(await ping(s, 'r1', 'third', { count: 3 }), 3, 'and back')
  for (const host of s.members) t.same(await s.pass(host), [])
}

/** A restart of the agent loses no packet, and the new agent has nothing to do. */
export const restart: Scenario = async (t, plane) => {
  const s = await Stage.open(t, plane, { hosts: 2, places: FOUR })
  t.equal(await ping(s, 'r1', 'r2', { count: 3 }), 3)
  const running = s
    .addresses('r2')
    .map(address => startPing(s.container('r1').namespace, address, { count: 2_000, intervalMs: 5 }))
  for (const host of [1, 2]) {
    await s.restart(host)
    // A router's rules do not record who wrote them: they are replaced, in one transaction.
    const done = (await s.pass(host)).filter(what => !what.includes('rules'))
    t.same(done, [], `host ${host} is adopted as it is`)
  }
  for (const { stop, result } of running) {
    stop()
    const { sent, gaps, complaints } = await result
    t.ok(sent > 0, 'there is traffic')
    t.same(gaps, [], `0 of ${sent} packets are lost`)
    if (complaints !== '') t.comment(complaints)
  }
  t.equal(await ping(s, 'r1', 'r2', { count: 3 }), 3, 'and none later')
}

/** Each network's router answers its own tenant and leads to no other. */
export const gateway: Scenario = async (t, plane) => {
  const s = await Stage.open(t, plane, { hosts: 2, places: FOUR })
  for (const name of s.containers.keys()) {
    t.equal(await s.replies(name, '10.1.0.1', { count: 2 }), 2, `${name} reaches its router`)
  }
  t.equal(
    await countReplies(s.container('r1'), s.lab.host(2).address, { count: 1, waitMs: 1_000 }),
    0,
    'not the underlay'
  )
  for (const host of s.members) t.same(await s.pass(host), [])
}

/** One pass restores what another program deleted. */
export const drift: Scenario = async (t, plane) => {
  const s = await Stage.open(t, plane, { hosts: 2, places: FOUR })
  t.equal(await ping(s, 'r1', 'r2', { count: 3 }), 3)
  const host = s.lab.host(1).namespace
  const veth = vethName(s.endpoint('r1').containerId, s.endpoint('r1').ifname)
  await ip(host, `link set ${veth} down`)
  t.equal(await ping(s, 'r1', 'r2', { count: 1, waitMs: 1_000 }), 0)
  t.not((await s.pass(1)).length, 0)
  // A container that asked for its neighbour in vain first drops what waits for the answer.
  await waitFor('r1 reaches r2', async () => (await ping(s, 'r1', 'r2', { count: 3, waitMs: 500 })) === 3)
  t.same(await s.pass(1), [])
}

/** A container reaches the outside through its router, although another tenant uses the same address. */
export const egress: Scenario = async (t, plane) => {
  const s = await Stage.open(t, plane, { hosts: 2, places: FOUR, outside: true })
  for (const name of s.containers.keys()) {
    t.equal(await s.repliesOf(name, SERVERS, { count: 3 }), 3, `${name} reaches the outside`)
  }
  t.equal(await ping(s, 'r1', 'r2', { count: 3 }), 3, 'and its own network')
  for (const host of s.members) t.same(await s.pass(host), [])
}

/** A dead host returns with its endpoints, except those that were assigned elsewhere meanwhile. */
export const hostReturns: Scenario = async (t, plane) => {
  const places: Places = { r1: [red, 1, '10.1.0.2'], r2: [red, 2, '10.1.0.3'], gone: [red, 2, '10.1.0.4'] }
  const s = await Stage.open(t, plane, { hosts: 2, places })
  for (const name of ['r2', 'gone']) t.equal(await ping(s, 'r1', name, { count: 3 }), 3)
  await s.killHost(2)
  t.equal(await s.replies('r1', '10.1.0.3', { count: 1 }), 0, 'a dead host does not answer')
  await s.remove('gone')
  await s.add('heir', red, 1, '10.1.0.4')
  t.equal(await ping(s, 'r1', 'heir', { count: 3 }), 3, 'its address is used elsewhere')
  await s.returnHost(2)
  t.equal(await ping(s, 'r2', 'heir', { count: 3 }), 3, 'also from the returned host')
  t.equal(await ping(s, 'r1', 'r2', { count: 3 }), 3)
  for (const host of s.members) t.same(await s.pass(host), [])
}

export const PLANE_SCENARIOS = {
  mesh,
  ownAnswers,
  ownAnswers6,
  isolation,
  floodScope,
  reuse,
  restart,
  hostReturns,
  gateway,
  egress,
  drift
} as const

export function ping(s: Stage, from: string, to: string, options: ReplyOptions = {}): Promise<number> {
  return pingAt(s, { from, to, addresses: s.addresses(to) }, options)
}

/** By its IPv6 address. */
export function ping6(s: Stage, from: string, to: string, options: ReplyOptions = {}): Promise<number> {
  return pingAt(s, { from, to, addresses: [s.address6(to)] }, options)
}

async function pingAt(
  s: Stage,
  { from, to, addresses }: { readonly from: string; readonly to: string; readonly addresses: readonly string[] },
  options: ReplyOptions
): Promise<number> {
  await s.warm(from, to)
  const replies = (): Promise<number> => s.repliesOf(from, addresses, options)
  const first = await replies()
  // The userspace datapath may lose a packet while it takes new interfaces in (docs/openvswitch.md).
  return first > 0 && s.plane === 'ovs-netdev' ? Math.max(first, await replies()) : first
}

/** A container's ordinary packets to another one, or (null) to all, in the first family of its network. */
export function packetsTo(me: Endpoint, to: Endpoint | null): Attack['frames'] {
  if (isIpv4(me.address)) {
    return ordinary(partyOf(me), to === null ? { mac: BROADCAST, address: parseIpv4('10.1.255.255') } : partyOf(to))
  }
  const party = ({ mac, address }: Endpoint): Target => ({ mac, address: addressBytes(address as Ipv6) })
  return ordinary6(party(me), to === null ? GROUP : party(to))
}

export async function ifindexOf(namespace: string, device = 'eth0'): Promise<number> {
  const [row] = await json<{ ifindex: number }>('ip', namespace, `link show dev ${device}`)
  if (row === undefined) throw new Error(`no ${device}`)
  return row.ifindex
}
