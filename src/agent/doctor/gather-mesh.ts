// Facts of the agent and of the other hosts, for judge-mesh.ts and judge-agent.ts. Hosts are looked at side by side, within
// a time that an operator waits for: who cannot be looked at in it is counted.

import { readFileSync } from 'node:fs'
import { verify } from '#allocator/consistency.ts'
import { digestOf } from '#allocator/digest.ts'
import { asVxmeshError } from '#model/errors.ts'
import type { Vni } from '#model/ids.ts'
import { formatIpv4 } from '#model/ipv4.ts'
import type { Member } from '#model/member.ts'
import { monotonicMs } from '#platform/clock.ts'
import type { Agent } from '../agent.ts'
import type { MeshFacts, PeerAnswer, PeerFacts, TunnelFacts } from './facts.ts'
import { DOCTOR_METHOD, peerAnswer, readLocalReport, readTunnels, type LocalReport } from './peer-answer.ts'
import { probePath, probePort, probeTunnel } from './probes.ts'

const AT_ONCE = 16
/** After it no other host is begun with; one takes 4 s at most. */
const BEGIN_MS = 5_000
/** More than so many endpoints are not recounted: some tenth of a second in which nothing else goes on. */
const MAX_RECOUNTED = 50_000

/** What other hosts' doctors are told of this one; to be called before the agent answers. */
export function serveDoctor(agent: Agent): void {
  agent.replicator.serve(DOCTOR_METHOD, (): LocalReport => ({
    timeMs: Date.now(),
    index: agent.state.appliedIndex,
    digest: digestOf(agent.state),
    underlayMtu: agent.underlayMtu,
    tunnels: readTunnels(readFileSync('/proc/thread-self/net/dev', 'utf8'))
  }))
}

export async function gatherMesh(agent: Agent): Promise<MeshFacts> {
  const { config, state, replicator, registrar, reconciler, digests, members, membership, self } = agent
  const others = members.filter(member => member.peerId !== self && member.status !== 'left')
  const here = { address: config.bind }
  const [peers, ownPorts, serf, voters] = await Promise.all([
    lookAt(agent, others),
    Promise.all([
      probePort('serf', config.bind, { ...here, port: config.serf.port }),
      probePort('libp2p', config.bind, { ...here, port: config.p2p.port })
    ]),
    membership.stats().then(
      stats => ({ running: true, encrypted: stats['serf']?.['encrypted'] === 'true', keyed: !config.insecure }),
      (err: unknown) => asVxmeshError(err).message
    ),
    replicator.peers().catch(() => [])
  ])
  const { leader } = replicator.status()
  const { drift, degraded, repaired } = reconciler.status()
  return {
    self: { name: config.name, index: state.appliedIndex, digest: digestOf(state) },
    unseen: others.length - peers.length,
    peers,
    ownPorts,
    serf,
    cluster: replicator.clusterId,
    trouble: replicator.trouble,
    leader: leader === null ? null : agent.nameOf(leader),
    voters: voters
      .filter(({ voter }) => voter)
      .map(({ peerId }) => ({
        name: agent.nameOf(peerId),
        alive: peerId === self || members.some(m => m.peerId === peerId && m.status === 'alive')
      })),
    lag: replicator.lag,
    current: replicator.current,
    registered: registrar.registered,
    registrarProblem: registrar.problem?.message ?? null,
    differsAt: digests.differsAt,
    contradictions: state.endpointCount > MAX_RECOUNTED ? null : verify(state),
    drift,
    degraded,
    repaired: Object.values(repaired).reduce((sum, n) => sum + n, 0),
    fullPassAgeMs: reconciler.fullPassAgeMs,
    duplicates: duplicates(members.filter(({ status }) => status === 'alive'))
  }
}

async function lookAt(agent: Agent, others: readonly Member[]): Promise<readonly PeerFacts[]> {
  const until = monotonicMs() + BEGIN_MS
  // Servers first: most depends on them.
  const queue = [...others].sort((a, b) => Number(b.role === 'server') - Number(a.role === 'server'))
  const found: PeerFacts[] = []
  const work = async (): Promise<void> => {
    for (let member = queue.shift(); member !== undefined && monotonicMs() < until; member = queue.shift()) {
      found.push(await lookAtOne(agent, member))
    }
  }
  await Promise.all(Array.from({ length: AT_ONCE }, work))
  return found.sort((a, b) => (a.name < b.name ? -1 : 1))
}

async function lookAtOne(agent: Agent, member: Member): Promise<PeerFacts> {
  const { name, status, address, port, p2pPort, vtep } = member
  const { bind, overlay } = agent.config
  if (status !== 'alive') return { name, status, ports: [], path: null, tunnel: null, answer: status }
  const [serf, libp2p, path, told] = await Promise.all([
    probePort('serf', bind, { address, port }),
    probePort('libp2p', bind, { address, port: p2pPort }),
    probePath(overlay.vtep, vtep, agent.underlayMtu),
    ask(agent, member)
  ])
  const tunnel = typeof told === 'string' ? null : await lookAtTunnel(agent, member, told.told)
  return { name, status, ports: [serf, libp2p], path, tunnel, answer: typeof told === 'string' ? told : told.answer }
}

async function ask(agent: Agent, { peerId }: Member): Promise<{ told: LocalReport; answer: PeerAnswer } | string> {
  const sent = Date.now()
  try {
    const told = readLocalReport(await agent.replicator.ask(peerId, DOCTOR_METHOD))
    return { told, answer: peerAnswer(told, sent, Date.now()) }
  } catch (err) {
    return asVxmeshError(err).message
  }
}

/** Through a network that both have. What else comes out of it meanwhile is counted with it. */
async function lookAtTunnel(agent: Agent, member: Member, before: LocalReport): Promise<TunnelFacts> {
  const { state, self, config } = agent
  const shared = before.tunnels.find(([vni]) => state.isOnHost(vni as Vni, self))
  if (shared === undefined) return null
  const [vni, received] = shared
  const { vtep: from, port } = config.overlay
  const sent = await probeTunnel({ from, to: member.vtep, port, vni: vni as Vni })
  const after = await ask(agent, member)
  const now = typeof after === 'string' ? undefined : after.told.tunnels.find(tunnel => tunnel[0] === vni)?.[1]
  return sent === 0 || now === undefined ? null : { sent, came: Math.min(sent, Math.max(0, now - received)) }
}

/** Names and VTEPs that more than one has, in words. */
function duplicates(members: readonly Member[]): readonly string[] {
  const words = members.flatMap(({ name, vtep }) => [`name ${name}`, `VTEP ${formatIpv4(vtep)}`])
  return [...new Set(words.filter((word, at) => words.indexOf(word) !== at))].map(word => `${word} is used twice`)
}
