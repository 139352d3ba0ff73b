// Chaos with a hostile member: three servers and a client, with containers that talk to each other, and one more client host
// that sends forged messages of Raft, requests, the feed and Serf for minutes, while the others make changes. Nothing that
// is not its own may change, no agent may end, and the state must be equal on all. Serf itself ends now and then, as Debian's
// 0.9.4 panics on some garbage that is encrypted with its key, and the agents start it again. Positive controls: what the
// host may do works, and a server that says the same is believed.

import { readFileSync } from 'node:fs'
import { join, resolve } from 'node:path'
import type { EndpointView, HostView, NetworkView } from '#model/views.ts'
import { systemClock } from '#platform/clock.ts'
import { quantile } from '../../demo/checks.ts'
import type { LabContainer } from '../../lab/container.ts'
import type { LabHost } from '../../lab/host.ts'
import { JsonProcess } from '../../lab/json-process.ts'
import { Lab } from '../../lab/lab.ts'
import { waitFor } from '../../lab/wait.ts'
import { figure, parseExposition } from '../../metrics/exposition.ts'
import { hostMs } from '../host-clock.ts'
import type { AttackReport } from './member.ts'

const SCRIPT = resolve(import.meta.dirname, 'member.ts')
const EVIL = 'h5'
const ROUND_MS = 2_000
const REFUSED = 'vxmesh_peer_messages_refused_total'

type Faults = string[]

/** @returns the faults and the figures of the run, and whether it proves anything */
export async function attackByMember(p: { readonly minutes: number; readonly seed: number }): Promise<boolean> {
  const lab = await Lab.create()
  try {
    const honest = await lab.addServers(3, { clients: 1 })
    const evil = await lab.addHost({ role: 'client', join: ['192.0.2.1'], logLevel: 'warn' })
    await lab.host(1).api.call('POST', '/v1/networks', { name: 'red', subnet: '10.1.0.0/24' })
    const containers = await lab.containers(honest.map((_, n) => `c${n + 1}`))
    const addresses: string[] = []
    for (const [n, host] of honest.entries()) {
      const view = await host.attach(nth(containers, n), 'red')
      addresses.push(view.address.split('/')[0] ?? '')
    }
    const member = await JsonProcess.start(evil.namespace, SCRIPT, [evil.configFile, `${p.seed}`])
    await waitFor('it is registered everywhere', async () =>
      (await hostsOf(honest)).every(names => names.includes(EVIL))
    )
    const faults: Faults = []
    const before = await contents(lab.host(1))
    const processes = honest.map(({ agentPid }) => agentPid)

    const ownBefore = (await member.ask('own')) as readonly string[]
    await member.ask('attack')
    const rounds = await observe({ honest, containers, addresses, faults, forMs: p.minutes * 60_000 })
    const ownDuring = (await member.ask('own')) as readonly string[]
    const attack = (await member.ask('stop')) as AttackReport
    await member.stop()

    for (const [n, host] of honest.entries()) {
      if (host.agentIsGone || host.agentPid !== processes[n]) faults.push(`the agent of ${host.name} ended`)
    }
    for (const request of attack.accepted) faults.push(`accepted: ${request}`)
    await compare(honest, before, faults)
    if (![...ownBefore, ...ownDuring].every(answer => answer === 'ok')) {
      faults.push(`what it may do: ${ownBefore.join(', ')}; while it attacks: ${ownDuring.join(', ')}`)
    }
    const refused = await refusedMessages(honest)
    if (refused === 0) faults.push('no message was refused: nothing arrived')
    const refuted = honest.filter(host =>
      readFileSync(join(host.dir, 'data/serf/serf.log'), 'utf8').includes('efuting')
    )
    if (refuted.length === 0) faults.push('control: no host contradicted the forged gossip')
    await speakAsAServer(lab, p.seed, faults).catch((err: unknown) => faults.push(`control: ${String(err)}`))

    for (const fault of faults.slice(0, 20)) console.log(`FAULT ${fault}`)
    const { changes, pings } = rounds
    const took = { changes: changes.length, p50Ms: quantile(changes, 0.5), p99Ms: quantile(changes, 0.99) }
    const figures = { minutes: p.minutes, sent: attack.sent, refused, ...took, pings, faults: faults.length }
    console.log(JSON.stringify({ seed: p.seed, hostile: true, ...figures }))
    return faults.length === 0
  } finally {
    await lab.destroy()
  }
}

/** By turns. */
function nth<T>(list: readonly T[], n: number): T {
  const item = list[n % list.length]
  if (item === undefined) throw new Error('the list is empty')
  return item
}

/** Makes changes and pings between hosts for a while. */
async function observe(p: {
  readonly honest: readonly LabHost[]
  readonly containers: readonly LabContainer[]
  readonly addresses: readonly string[]
  readonly faults: Faults
  readonly forMs: number
}): Promise<{ readonly changes: readonly number[]; readonly pings: { sent: number; received: number } }> {
  const changes: number[] = []
  const pings = { sent: 0, received: 0 }
  const beganMs = hostMs()
  for (let n = 0; hostMs() - beganMs < p.forMs; n++) {
    const host = nth(p.honest, n)
    const since = hostMs()
    try {
      await host.api.call('POST', '/v1/networks', { name: `live-${n}`, subnet: '10.9.0.0/24' })
      await host.api.call('DELETE', `/v1/networks/live-${n}`)
      changes.push((hostMs() - since) / 2)
    } catch (err) {
      p.faults.push(`change ${n} on ${host.name}: ${String(err)}`)
    }
    const [from, to] = [nth(p.containers, n), nth(p.addresses, n + 1)]
    const { sent, received } = await from.ping(to, { count: 5 })
    pings.sent += sent
    pings.received += received
    if (received < sent) {
      const isFirst = pings.sent - pings.received === sent - received
      const seconds = Math.round((hostMs() - beganMs) / 1_000)
      console.log(`after ${seconds} s ${sent - received} of ${sent} pings from ${from.name} to ${to} were lost`)
      if (isFirst) for (const one of p.honest) console.log(`${one.name} then:\n${one.logTail(8)}`)
    }
    await systemClock.sleep(Math.max(0, ROUND_MS - (hostMs() - since)))
  }
  if (pings.received < pings.sent) p.faults.push(`${pings.sent - pings.received} of ${pings.sent} pings were lost`)
  return { changes, pings }
}

/** Everything but the hostile host's own, as a host shows it. */
async function contents(host: LabHost): Promise<string> {
  const networks = (await host.api.list<NetworkView>('/v1/networks')).map(n => [
    n.name,
    n.vni,
    n.subnet,
    n.egressRate,
    n.egress
  ])
  const endpoints = (await host.api.list<EndpointView>('/v1/endpoints')).filter(one => one.host !== EVIL)
  const rows = endpoints.map(e => [e.containerId, e.host, e.address, e.mac, e.ingressRate, e.egressRate])
  const hosts = (await host.api.list<HostView>('/v1/hosts')).map(h => [h.name, h.peerId, h.vtep])
  const voters = ((await host.api.call('GET', '/v1/raft/peers')) as { name: string; voter: boolean }[]).map(peer => [
    peer.name,
    peer.voter
  ])
  return JSON.stringify([networks, rows, hosts, voters].map(each => each.map(row => JSON.stringify(row)).sort()))
}

/** All honest hosts have the state of before, and the same digest. */
async function compare(honest: readonly LabHost[], before: string, faults: Faults): Promise<void> {
  await Promise.all(honest.map(host => host.waitReady(30_000)))
  await waitFor('all have applied the same index', async () => {
    const indexes = await Promise.all(honest.map(async host => (await host.status()).raft.appliedIndex))
    return new Set(indexes).size === 1
  })
  const statuses = await Promise.all(honest.map(host => host.status()))
  if (new Set(statuses.map(({ digest }) => digest)).size !== 1) faults.push('the digests differ')
  for (const { host, differsAt } of statuses) if (differsAt !== null) faults.push(`${host} differs at ${differsAt}`)
  for (const host of honest) {
    const after = await contents(host)
    if (after !== before) faults.push(`${host.name} has ${after}, and before ${before}`)
  }
}

/** The control: the same forger with a server's identity moves the term, and detaches a container of another host. */
async function speakAsAServer(lab: Lab, seed: number, faults: Faults): Promise<void> {
  const [witness, server] = [lab.host(1), lab.host(3)]
  await server.stopAgent()
  const forger = await JsonProcess.start(server.namespace, SCRIPT, [server.configFile, `${seed}`])
  const term = (await forger.ask(['speak-as-a-server', witness.name])) as number
  const moved = waitFor('a server is believed', async () => (await witness.status()).raft.term >= term)
  await moved.catch(() => faults.push('control: a forged message of a server changed nothing'))
  // An earlier attempt may have been carried out although its answer was lost with the leader: then there is no endpoint left.
  const carriedOut = ['ok', 'ERR_ENDPOINT_NOT_FOUND']
  const detached = waitFor('a server detaches it', async () =>
    carriedOut.includes((await forger.ask(['detach', 'c1'])) as string)
  )
  await detached.catch(() => faults.push('control: a server cannot detach a container of another host'))
  await forger.ask('stop')
  await forger.stop()
}

async function hostsOf(honest: readonly LabHost[]): Promise<string[][]> {
  return Promise.all(honest.map(async host => (await host.api.list<HostView>('/v1/hosts')).map(({ name }) => name)))
}

async function refusedMessages(honest: readonly LabHost[]): Promise<number> {
  let total = 0
  for (const host of honest) {
    const fetched = `process.stdout.write(await (await fetch('http://127.0.0.1:7380/metrics')).text())`
    const { stdout } = await host.exec(process.execPath, '--input-type=module', '-e', fetched)
    total += figure(parseExposition(`${stdout}\n`), REFUSED)
  }
  return total
}
