// Attacks that are measured as well as judged: the suite's rows and measure.ts read the same figures.

import { rmSync, statSync, symlinkSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import type { EndpointView } from '#model/views.ts'
import type { LabContainer } from '../lab/container.ts'
import type { LabHost } from '../lab/host.ts'
import { must } from '../lab/kernel.ts'
import type { Lab } from '../lab/lab.ts'
import { startProcessContainer } from '../lab/process-container.ts'
import { routersOf } from '../lab/routers.ts'
import { waitFor } from '../lab/wait.ts'
import { gauge, residentBytes, type Readings } from './gauge.ts'
import { attacker, startAttacker } from './python.ts'
import { IPV4, type Side } from './side.ts'
import type { World } from './world.ts'

const MIB = 1024 * 1024
/** Of one connection; beyond any buffer of the kernel. */
const STREAM_BYTES = 64 * MIB
/** Together more connections than the machine's table of 262,144 holds. */
const [FLOODED_PORTS, SOURCE_PORTS] = [5, 60_000]
/** An idle machine sends 600,000 packets in half of it. */
const FLOOD_SECONDS = 15
/** Between two looks at a log, and for Serf to read what its socket holds. */
const [LOOK_MS, SERF_READS_MS] = [20, 1_000]
/** Of the usual duration of an attach, from its start to its answer. */
const ATTACH_POINTS = 7

export type Stream = {
  readonly connections: number
  readonly bytes: number
  /** The most that one connection took. */
  readonly most: number
  readonly refused: number
}

export async function garbageStreams(p: {
  readonly from: LabHost
  readonly to: LabHost
  readonly port: number
  readonly seconds: number
  /** What each stream begins with; nothing by default. */
  readonly opening?: Uint8Array
}): Promise<{ readonly stream: Stream; readonly readings: Readings }> {
  const streams: Stream[] = []
  const opening = Buffer.from(p.opening ?? []).toString('hex')
  const readings = await gauge(p.to, async () => {
    streams.push(await attacker<Stream>(p.from, 'garbage', p.to.address, p.port, p.seconds, STREAM_BYTES, opening))
  })
  const [stream] = streams
  if (stream === undefined) throw new Error('no stream')
  return { stream, readings }
}

export function serfLogBytes(host: LabHost): number {
  return statSync(join(host.dir, 'data/serf/serf.log')).size
}

export type SerfLogReadings = {
  /** The largest size of the log. */
  readonly most: number
  /** Bytes that were logged, also those that the agent has truncated since. */
  readonly logged: number
}

/** Reads the size of Serf's log while `work` runs. */
export async function watchSerfLog(host: LabHost, work: () => Promise<unknown>): Promise<SerfLogReadings> {
  let [last, logged] = [serfLogBytes(host), 0]
  let most = last
  const look = (): void => {
    const now = serfLogBytes(host)
    logged += now < last ? now : now - last
    most = Math.max(most, now)
    last = now
  }
  const timer = setInterval(look, LOOK_MS)
  try {
    await work()
    // What Serf's socket holds is logged within moments.
    await sleep(SERF_READS_MS)
  } finally {
    clearInterval(timer)
  }
  look()
  return { most, logged }
}

/** Connections that a namespace tracks. */
export async function tracked(namespace: string): Promise<number> {
  return Number(await must('ip', ['netns', 'exec', namespace, 'sysctl', '-n', 'net.netfilter.nf_conntrack_count']))
}

/** Half-open connections of `me` by its gateway to an address that answers nothing; resolves with the count of packets. */
export async function halfOpen(world: World, side: Side = IPV4): Promise<number> {
  const me = world.container(side.me)
  const link = await gatewayMac(me, side.gateway(world, side.me))
  const flood = [side.address(world, side.me), side.nobody, FLOODED_PORTS, SOURCE_PORTS, FLOOD_SECONDS]
  return attacker<number>(me, 'half_open', 'eth0', link, ...flood)
}

/** The MAC at which a container reaches its gateway. */
export async function gatewayMac(container: LabContainer, gateway: string): Promise<string> {
  await container.exec('ping', '-c', '1', '-W', '1', gateway)
  const { stdout } = await container.exec('ip', 'neigh', 'show', gateway)
  const mac = /lladdr (\S+)/.exec(stdout)?.[1]
  if (mac === undefined) throw new Error(`no neighbour entry of ${gateway}: ${stdout}`)
  return mac
}

export type DeafReadings = {
  /** Questions that were sent, none of whose answers was read. */
  readonly asked: number
  /** Questions answered to a client that asks as much and reads. */
  readonly answered: number
  /** How much resident memory grew by either, bytes: by the deaf client, beyond what it was with the other. */
  readonly grownByReader: number
  readonly grown: number
}

/** A client that asks on the paper's RPC socket and reads no answer, after one that reads. */
export async function deafClient(
  host: LabHost,
  p: { readonly port: number; readonly count: number; readonly bytes: number }
): Promise<DeafReadings> {
  const before = residentBytes(host.agentPid)
  let most = before
  const timer = setInterval(() => (most = Math.max(most, residentBytes(host.agentPid))), 50)
  try {
    const answered = await attacker<number>(host, 'chat', p.port, p.count, p.bytes)
    const withReader = most
    const running = await startAttacker(host, 'deaf', p.port, p.count, p.bytes)
    // What was asked is answered by and by: until the agent's memory stays as it is.
    let [last, same] = [-1, 0]
    await waitFor(
      'the answers are made',
      () => {
        const now = residentBytes(host.agentPid)
        same = Math.abs(now - last) < MIB ? same + 1 : 0
        last = now
        return same >= 6
      },
      { everyMs: 250, timeoutMs: 30_000 }
    )
    await running.stop()
    return { asked: Number(running.first), answered, grownByReader: withReader - before, grown: most - withReader }
  } finally {
    clearInterval(timer)
  }
}

export type KilledAttaches = {
  readonly attached: number
  readonly refused: number
  /** Attached although they had ended before half the time of the attach had passed. */
  readonly unnoticed: number
  /** Endpoints of these that are still listed when the agent had AT_ONCE_MS for them. */
  readonly left: number
  /** The most that was seen at any time. */
  readonly drift: number
  readonly degraded: number
}

/** Less than the agent waits before it collects what is left of any other container (`collectAfter`). */
const AT_ONCE_MS = 5_000

/** How long an attach takes, in ms, of a container that is not the first of its network on the host. */
async function attachTakesMs(lab: Lab, host: LabHost, p: { network: string; prefix: string }): Promise<number> {
  const living = await lab.container(`${p.prefix}-living`)
  let tookMs = 0
  for (let n = 0; n < 3; n++) {
    const since = performance.now()
    await host.attach(living, p.network)
    tookMs = performance.now() - since
    await host.detach(living)
  }
  await living.remove()
  return tookMs
}

/** Containers that end at another point of their attach each time, with a named namespace and as a process in turn. */
export async function killedAttaches(
  lab: Lab,
  host: LabHost,
  p: { readonly network: string; readonly count: number; readonly prefix: string }
): Promise<KilledAttaches> {
  let [attached, refused, unnoticed, degraded] = [0, 0, 0, 0]
  let tookMs = await attachTakesMs(lab, host, p)
  for (let n = 0; n < p.count; n++) {
    const named = n % 2 === 0 ? await lab.container(`${p.prefix}${n}`) : null
    const one =
      named === null ? await startProcessContainer() : { netns: named.netns, end: (): Promise<void> => named.remove() }
    const since = performance.now()
    const body = { network: p.network, containerId: `${p.prefix}${n}`, netns: one.netns }
    const answer = host.api.call('POST', '/v1/endpoints', body).then(
      () => true,
      () => false
    )
    await sleep((tookMs * (n % ATTACH_POINTS)) / (ATTACH_POINTS - 1))
    await one.end()
    const endedMs = performance.now() - since
    if (await answer) {
      const answeredMs = performance.now() - since
      attached += 1
      if (endedMs < answeredMs / 2) unnoticed += 1
      tookMs = (tookMs * 3 + answeredMs) / 4
    } else {
      refused += 1
    }
    const { overlay } = await host.status()
    degraded = Math.max(degraded, overlay.degraded.length)
  }
  const listed = async (): Promise<string[]> =>
    ((await host.api.call('GET', '/v1/endpoints')) as EndpointView[])
      .map(({ containerId }) => containerId)
      .filter(containerId => containerId.startsWith(p.prefix))
  await waitFor('nothing is left', async () => (await listed()).length === 0, { timeoutMs: AT_ONCE_MS }).catch(
    () => undefined
  )
  const left = await listed()
  // A pass may see that an interface has gone before its endpoint is released.
  await waitFor('no drift', async () => (await host.status()).overlay.drift === 0).catch(() => undefined)
  const { drift } = (await host.status()).overlay
  for (const containerId of left) await host.api.call('DELETE', `/v1/endpoints/${containerId}`)
  return { attached, refused, unnoticed, left: left.length, drift, degraded }
}

export type Races = {
  readonly attached: number
  readonly refused: number
  /** Interfaces that were put into the other namespace. */
  readonly leaked: number
}

/** Attaches by a symlink that is switched between a container and another namespace while they run. */
export async function pathRaces(
  host: LabHost,
  p: {
    readonly container: LabContainer
    readonly network: string
    readonly other: string
    readonly link: string
    readonly switches: number
  }
): Promise<Races> {
  rmSync(p.link, { force: true })
  symlinkSync(p.container.netns, p.link)
  const running = await startAttacker(host, 'switch', p.link, p.container.netns, `/run/netns/${p.other}`, p.switches)
  const race = { over: false }
  const done = running.next().then(() => (race.over = true))
  let [attached, refused, leaked] = [0, 0, 0]
  const ifname = 'race0'
  while (!race.over) {
    try {
      await host.api.call('POST', '/v1/endpoints', { network: p.network, containerId: 'race', netns: p.link, ifname })
      attached += 1
    } catch {
      refused += 1
    }
    if ((await must('ip', ['-n', p.other, '-o', 'link', 'show'])).includes(ifname)) leaked += 1
    await host.api.call('DELETE', '/v1/endpoints/race').catch(() => undefined)
  }
  await done
  await running.stop()
  rmSync(p.link)
  return { attached, refused, leaked }
}

/** The router of a network on a host, by its container's gateway; there is one where the network has egress or hostAccess. */
export function routers(host: LabHost): Promise<string[]> {
  return routersOf([host.namespace])
}
