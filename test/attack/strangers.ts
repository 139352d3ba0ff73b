// What a host without the cluster key may try on the underlay: garbage and floods at the agents' ports, forged VXLAN.

import { appendFileSync, readFileSync, truncateSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { MAX_LOG_BYTES } from '#membership/serf/serf-log.ts'
import { parseIp, type Ip } from '#model/ip.ts'
import { parseMac } from '#model/mac.ts'
import { prefixOf } from '#replication/transport/preamble.ts'
import { UNDERLAY_FAMILY } from '../lab/family.ts'
import { ip } from '../lab/kernel.ts'
import { countReplies } from '../lab/ping.ts'
import { ordinary, underlayAttacks, type Attack } from '../lab/packets/attacks.ts'
import { mark } from '../lab/packets/frames.ts'
import { Listener, Sender } from '../lab/packets/raw-socket.ts'
import { waitFor } from '../lab/wait.ts'
import { garbageStreams, serfLogBytes, watchSerfLog } from './floods.ts'
import { mib } from './gauge.ts'
import { attacker, scene, startAttacker } from './python.ts'
import type { Outcome, Row } from './row.ts'
import { linkOf, partyOf } from './senders.ts'
import type { World } from './world.ts'

const P2P = 7_947
const SERF = 7_946
const GARBAGE_SECONDS = 8
const GARBAGE_TRIES = 3
/** Beyond what the kernel buffers of one connection, and above any growth that garbage collection explains. */
const MAX_TAKEN_BYTES = 16 * 1024 * 1024
const MAX_GROWTH_MIB = 32
const COMMITS = 5
/** Ends by itself, far beyond a restart. */
const FLOOD_SECONDS = 90
const DATAGRAMS = 40_000
/** How much longer servers may take to restart in a flood of which this machine makes both ends. */
const [SLOWER, BUSY_MS] = [3, 5_000]
/** Half of them datagrams. Each adds a line or two to Serf's log. */
const GARBAGE_CONTROL = 40
/** Twice what one stranger's limits let through (serf-limits.ts), for lines differ in length. */
const [PACKETS_AT_ONCE, PACKETS_PER_SECOND] = [1_056, 232]
/** Right as far as a stranger can make it. */
const DIRECT_HELLO = Buffer.concat([prefixOf('direct'), Buffer.alloc(32)])
const RANDOM_SHAPES = 300
const USABLE_MTU = 1_350
/** No host of the underlay. */
const BEYOND = '2001:db8:ff::1'
const SECURITY = resolve(import.meta.dirname, '../../docs/security.md')

export const STRANGERS: readonly Row<World>[] = [
  { name: '1 stranger: streams of garbage to TCP 7947', run: world => garbage(world, new Uint8Array()) },
  { name: '1 stranger: the same behind the hello of a direct stream', run: world => garbage(world, DIRECT_HELLO) },
  { name: '2 stranger: garbage to Serf’s port', run: gossipGarbage },
  { name: '3 stranger: a flood of connections while the servers restart', run: restartInFlood },
  { name: '4 stranger: VXLAN from its own address', run: world => vxlan(world, 'own') },
  { name: '4 stranger: VXLAN from the address of no host', run: world => vxlan(world, 'nobody') },
  { name: '4 stranger: VXLAN from a member’s address (documented)', run: world => vxlan(world, 'member') },
  ...(UNDERLAY_FAMILY === 'ipv6'
    ? [{ name: '4 stranger: packet too big about the path between hosts', run: paths }]
    : [])
]

/** A busy machine may cost a leader its term without any attack, but not again and again. */
async function garbage(world: World, opening: Uint8Array): Promise<Outcome> {
  let outcome = await garbageOnce(world, opening)
  for (let tries = 1; tries < GARBAGE_TRIES && !outcome.attack.ok; tries++) outcome = await garbageOnce(world, opening)
  return outcome
}

async function garbageOnce(world: World, opening: Uint8Array): Promise<Outcome> {
  const leader = await world.leader()
  const calm = await world.commits(COMMITS)
  let during = 0
  const [r] = await Promise.all([
    garbageStreams({ from: world.stranger, to: leader, port: P2P, seconds: GARBAGE_SECONDS, opening }),
    world.commits(COMMITS).then(done => (during = done))
  ])
  const { stream, readings } = r
  const steady = readings.termBefore === readings.termAfter
  const ok = steady && readings.unanswered === 0 && during === COMMITS
  return {
    control: { ok: calm === COMMITS, figure: `${calm} of ${COMMITS} commits before it` },
    attack: {
      ok: ok && stream.most <= MAX_TAKEN_BYTES && readings.grownMiB <= MAX_GROWTH_MIB,
      figure: [
        `${stream.connections} connections`,
        `${mib(stream.bytes)}, at most ${mib(stream.most)} each`,
        `term ${readings.termBefore} to ${readings.termAfter}`,
        `RSS +${readings.grownMiB.toFixed(0)} MiB`,
        `status p99 ${readings.p99Ms.toFixed(0)} ms`,
        `${during} of ${COMMITS} commits`
      ].join(', ')
    }
  }
}

/** The log is brought to its bound first, so that a short flood shows whether it is one. */
async function gossipGarbage(world: World): Promise<Outcome> {
  const host = world.host(3)
  const path = join(host.dir, 'data/serf/serf.log')
  const before = serfLogBytes(host)
  await attacker(world.stranger, 'gossip', host.address, SERF, GARBAGE_CONTROL / 2, GARBAGE_CONTROL / 2)
  const noticed = await waitFor('garbage is logged', () => serfLogBytes(host) > before).then(
    () => true,
    () => false
  )
  const few = serfLogBytes(host) - before
  appendFileSync(path, `${'earlier garbage '.repeat(63)}\n`.repeat(Math.ceil(MAX_LOG_BYTES / 1_009)))
  const since = performance.now()
  const { most, logged } = await watchSerfLog(host, () =>
    attacker(world.stranger, 'gossip', host.address, SERF, DATAGRAMS, 100)
  )
  const seconds = (performance.now() - since) / 1_000
  const bounded = await waitFor('the log is within its bound', () => serfLogBytes(host) < MAX_LOG_BYTES / 2).then(
    () => true,
    () => false
  )
  const after = serfLogBytes(host)
  if (!bounded) truncateSync(path, 0)
  const alive = (await host.members()).filter(({ status }) => status === 'alive').length
  const read = Math.round((logged * GARBAGE_CONTROL) / few)
  return {
    control: { ok: noticed, figure: `${GARBAGE_CONTROL} packets log ${few} bytes` },
    attack: {
      ok: bounded && read <= PACKETS_AT_ONCE + seconds * PACKETS_PER_SECOND && alive === world.members.length,
      figure: [
        `${DATAGRAMS} packets in ${seconds.toFixed(1)} s: Serf reads about ${read}`,
        `a full log has at most ${mib(most)}, then ${mib(after)}`,
        `${alive} members alive`
      ].join(', ')
    }
  }
}

/** All servers at once: one alone connects to the others, which do not hear the flood. */
async function restartInFlood(world: World): Promise<Outcome> {
  const restart = async (): Promise<void> => {
    await Promise.all(world.servers.map(host => host.stopAgent()))
    await Promise.all(world.servers.map(host => host.startAgent()))
    await Promise.all(world.servers.map(host => host.waitReady()))
  }
  const timed = async (): Promise<{ ready: boolean; tookMs: number }> => {
    const since = performance.now()
    const ready = await restart().then(
      () => true,
      () => false
    )
    return { ready, tookMs: performance.now() - since }
  }
  const calm = await timed()
  const targets = world.servers.map(({ address }) => address).join(',')
  const flood = await startAttacker(world.stranger, 'flood', targets, P2P, FLOOD_SECONDS)
  const { ready, tookMs } = await timed()
  const { connections, ended } = (await flood.stop()) as { connections: number; ended: boolean }
  if (!ready) await Promise.all(world.servers.map(host => host.waitReady(60_000)))
  await world.settled()
  const rate = (connections / tookMs) * 1_000
  return {
    control: { ok: calm.ready, figure: `ready after ${(calm.tookMs / 1_000).toFixed(1)} s without it` },
    attack: {
      ok: ready && !ended && tookMs <= SLOWER * calm.tookMs + BUSY_MS,
      figure: `${ready ? 'ready' : 'not ready'} after ${(tookMs / 1_000).toFixed(1)} s, ${rate.toFixed(0)} connections/s all along`
    }
  }
}

async function vxlan(world: World, source: 'own' | 'nobody' | 'member'): Promise<Outcome> {
  const [h1, h2] = [world.host(1), world.host(2)]
  const [own, target, member, near] = await Promise.all([
    linkOf(world.stranger),
    linkOf(h1),
    linkOf(h2),
    linkOf(world.container('near'))
  ])
  const address = { own: world.stranger.vtep, nobody: parseIp(world.lab.addressOf(200)), member: h2.vtep }[source]
  const build = (sender: { mac: string; address: Ip }): Attack['frames'] =>
    underlayAttacks({
      stranger: { mac: parseMac(sender.mac), address: sender.address },
      member: { mac: parseMac(sender.mac), address: sender.address },
      host: { mac: target.mac, address: h1.vtep },
      port: 4_789,
      vni: world.endpoint('near').vni,
      inner: m => ordinary(partyOf(world, 'far'), partyOf(world, 'near'))(m, 0)[0] ?? m,
      foreign: { vni: 1, inner: m => m }
    }).ordinary
  const listener = Listener.frames(world.container('near').netns, near.ifindex)
  const [honest, forger] = [new Sender(h2.netns, member.ifindex), new Sender(world.stranger.netns, own.ifindex)]
  try {
    const [legitimate, forged, last] = [mark(1), mark(2), mark(3)]
    const send = (by: Sender, frames: readonly Buffer[]): void => frames.forEach(frame => by.send(frame))
    for (let n = 0; n < 10; n++) send(honest, build({ mac: member.mac, address: h2.vtep })(legitimate, n))
    for (let n = 0; n < 10; n++) send(forger, build({ mac: own.mac, address })(forged, n))
    send(honest, build({ mac: member.mac, address: h2.vtep })(last, 0))
    await waitFor('the member’s last packet arrives', () => listener.count(3) === 1)
    const [good, bad] = [listener.count(1), listener.count(2)]
    const documented = readFileSync(SECURITY, 'utf8').includes("forge a host's address in VXLAN")
    return {
      control: { ok: good === 10, figure: `${good} of 10 of a member arrive` },
      attack: {
        ok: bad === 0 || (source === 'member' && documented),
        figure: `${bad} of 10 arrive${source === 'member' && documented ? ', as docs/security.md says' : ''}`
      }
    }
  } finally {
    for (const socket of [listener, honest, forger]) socket.close()
  }
}

/** Between hosts of one link there is no router that could send it. About a host beyond one it is believed: the control. */
async function paths(world: World): Promise<Outcome> {
  const [h1, h2, { stranger }] = [world.host(1), world.host(2), world]
  const { mac } = await linkOf(h1)
  const learned = async (to: string): Promise<string | null> =>
    /mtu (\d+)/.exec(await ip(h1.namespace, `route get ${to}`))?.[1] ?? null
  const large = (): Promise<number> =>
    countReplies(world.container('me6'), world.address6('far6'), { count: 5, size: 1_350, inFragments: true })
  let sent = 0
  for (const mtu of [1_280, 1_349, 1_450]) {
    const ends = [mac, stranger.address, h1.address, h2.address]
    sent += await scene(stranger, 'too_big', ...ends, stranger.address, mtu, RANDOM_SHAPES)
    sent += await scene(stranger, 'too_big_in_fragments', ...ends, mtu)
  }
  await countReplies(stranger, h1.address)
  const [poisoned, answered] = [await learned(h2.address), await large()]
  await ip(h1.namespace, `-6 route add ${BEYOND}/128 via ${h2.address}`)
  await scene(stranger, 'too_big', mac, stranger.address, h1.address, BEYOND, stranger.address, USABLE_MTU, 0)
  const believed = await waitFor('the host believes it', () => learned(BEYOND)).catch(() => null)
  await ip(h1.namespace, `-6 route del ${BEYOND}/128`)
  return {
    control: {
      ok: believed === String(USABLE_MTU),
      figure: `about a host beyond a router: MTU ${believed ?? 'not learned'}`
    },
    attack: {
      ok: poisoned === null && answered === 5,
      figure: `${sent} packets: MTU ${poisoned ?? 'not learned'}, ${answered} of 5 large pings pass`
    }
  }
}
