// A host of the mesh that an attacker has taken over: the control plane of a real agent, over whose connections it sends
// forged messages as fast as the others take them.
//   node member.ts CONFIG SEED    commands on stdin, one JSON value each:
//     "attack" | "own" | ["speak-as-a-server", HOST] | ["detach", CONTAINER] | "stop"

import { readClusterKeys } from '#config/cluster-key.ts'
import { loadConfig } from '#config/load.ts'
import type { Command } from '#model/command.ts'
import { asVxmeshError } from '#model/errors.ts'
import { parseContainerId, parseIfName, parseNetworkName, type LogIndex, type PeerId, type Term } from '#model/ids.ts'
import { formatIp } from '#model/ip.ts'
import { systemClock } from '#platform/clock.ts'
import { startClientAgent } from '../../lab/client-agent.ts'
import { answerLines } from '../../lab/json-process.ts'
import { waitFor } from '../../lab/wait.ts'
import { HostilePeer } from '../../replication/hostile-peer.ts'
import { Random } from '../../sim/random.ts'
import { Forgery } from './forgery.ts'
import { SerfForger, type Target } from './serf-forger.ts'

/** `accepted`: forged requests that were carried out, with the request. */
export type AttackReport = { readonly sent: Readonly<Record<string, number>>; readonly accepted: readonly string[] }

const PAUSE_MS = 3
const SLOW_MS = 500
const NETWORK = parseNetworkName('red')

const [file = '', seed = '1'] = process.argv.slice(2)
const random = new Random(Number(seed))
const agent = await startClientAgent(file)
const { clusterId } = agent.control.cluster
if (clusterId === null) throw new Error('the host belongs to no cluster')
const hostile = new HostilePeer({ mesh: agent.mesh, clock: systemClock, clusterId })
const log = agent.control.log
const term = (): number => log.status().term
const known = { self: agent.self, state: agent.state, term, index: () => agent.state.appliedIndex }
const forgery = new Forgery(known, random)
const forger = new SerfForger(await serfKeyOf(file), random)
const sent: Record<string, number> = {}
const accepted: string[] = []
let attacking: Promise<unknown>[] = []
let stopping = false

await answerLines(async question => {
  const [verb, argument] = (Array.isArray(question) ? question : [question]) as [string, string?]
  switch (verb) {
    case 'attack':
      await ask({ kind: 'session-open' })
      attacking = [raft, requests, feed, gossip].map(act => repeat(act, PAUSE_MS))
      attacking.push(repeat(serfCommands, SLOW_MS))
      return 'attacking'
    case 'own':
      return own()
    case 'speak-as-a-server':
      return speakAsAServer(argument ?? '')
    case 'detach':
      return ask({ kind: 'session-open' }).then(() => ask(detach(argument ?? '')))
    default:
      stopping = true
      await Promise.all(attacking)
      return { sent, accepted } satisfies AttackReport
  }
})
forger.close()
await agent.stop()
process.exit(0)

async function repeat(act: () => Promise<void>, pauseMs: number): Promise<void> {
  while (!stopping) {
    // Most attacks are refused, and channels are closed.
    await act().catch(() => undefined)
    sent[act.name] = (sent[act.name] ?? 0) + 1
    await systemClock.sleep(pauseMs)
  }
}

async function raft(): Promise<void> {
  const to = random.pick(others()).peerId
  if (random.chance(0.1)) await hostile.raftFrame(to, forgery.garbage())
  else await hostile.raft(to, forgery.raft())
}

async function requests(): Promise<void> {
  const { method, body } = forgery.request()
  const to = random.pick(others()).peerId
  const answer = await (method === 'propose' ? hostile.propose(to, body) : hostile.request(to, method, body))
  const { applied } = (answer ?? {}) as { applied?: { outcome?: { ok?: boolean } } }
  const done = method === 'raft-change' || (method === 'propose' && applied?.outcome?.ok === true)
  if (done) accepted.push(JSON.stringify({ method, body }))
}

async function feed(): Promise<void> {
  await hostile.gossip(forgery.feed())
}

function gossip(): Promise<void> {
  forger.send(random.pick(others()), random.pick(others()))
  return Promise.resolve()
}

async function serfCommands(): Promise<void> {
  const act = random.below(3)
  if (act === 0) await forger.setTags()
  else if (act === 1) await forger.event()
  else await forger.forceLeave(random.pick(others()))
}

/** What a host may do: attach a container to itself, and detach it again. @returns the outcomes */
async function own(): Promise<readonly string[]> {
  await ask({ kind: 'session-open' })
  const [containerId, ifname] = [parseContainerId('own'), parseIfName('eth0')]
  const facts = { ifname, name: '', ingressRate: 0, egressRate: 0, delayUs: 0 }
  const attached = await ask({ kind: 'endpoint-attach', network: NETWORK, containerId, host: agent.self, ...facts })
  const changed = await ask({ kind: 'endpoint-update', containerId, ifname, ingressRate: 1_000_000 })
  return [attached, changed, await ask(detach('own'))]
}

/** Claims to lead a later term, as a hostile member does. @returns that term */
async function speakAsAServer(name: string): Promise<number> {
  const later = (term() + 5) as Term
  const last = { lastIndex: (known.index() + 1_000) as LogIndex, lastTerm: later }
  const to = others().find(host => host.name === name)?.peerId ?? ('' as PeerId)
  const sent = async (): Promise<true> => {
    await hostile.raft(to, { kind: 'vote-request', term: later, ...last, transfer: true })
    return true
  }
  // Its Serf has only just been started, and may not list that host yet.
  await waitFor('the message is sent', sent, { timeoutMs: 30_000 })
  return later
}

/** Proposes to whichever server leads. @returns `ok`, or the code of the refusal */
async function ask(command: Command): Promise<string> {
  const body = forgery.proposal(command)
  const leader = log.status().leader
  if (leader === null) return 'no leader'
  // A server whose identity was stolen may be elected.
  if (leader === agent.self)
    return log.propose(command).then(
      () => 'ok',
      (err: unknown) => asVxmeshError(err).code
    )
  const answer = hostile.propose(leader, { ...body, session: 'evil' })
  return answer.then(
    (found: unknown) => {
      const { applied } = found as { applied?: { outcome: { ok: boolean; error?: { code: string } } } }
      return applied?.outcome.ok === true ? 'ok' : (applied?.outcome.error?.code ?? 'not the leader')
    },
    (err: unknown) => asVxmeshError(err).code
  )
}

function detach(containerId: string): Command {
  return { kind: 'endpoint-detach', containerId: parseContainerId(containerId), ifname: parseIfName('eth0') }
}

function others(): readonly Target[] {
  const hosts = [...agent.state.hosts()].filter(({ peerId }) => peerId !== agent.self)
  return hosts.map(({ name, vtep, peerId }) => ({ name, peerId, address: formatIp(vtep) }))
}

async function serfKeyOf(path: string): Promise<Uint8Array> {
  const { clusterKeyFile } = await loadConfig({ file: path, env: {}, flags: {} })
  return (await readClusterKeys(clusterKeyFile)).serf
}
