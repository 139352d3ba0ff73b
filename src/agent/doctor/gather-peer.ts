// Gathers facts of one other host: its ports, the path MTU, the tunnel, and what its agent reports of itself.

import { readFileSync } from 'node:fs'
import { digestOf } from '#allocator/digest.ts'
import type { ClusterState } from '#allocator/state-machine.ts'
import type { Config } from '#config/schema.ts'
import { asVxmeshError } from '#model/errors.ts'
import type { PeerId, Vni } from '#model/ids.ts'
import type { Member } from '#model/member.ts'
import type { Clock } from '#platform/clock.ts'
import type { PeerRpc } from '#replication/ports.ts'
import type { PeerAnswer, PeerFacts, TunnelFacts } from './facts.ts'
import { DOCTOR_METHOD, peerAnswer, readLocalReport, readTunnels, type LocalReport } from './peer-answer.ts'
import { probePath, probePort, probeTunnel } from './probes.ts'

export type PeerSources = {
  readonly self: PeerId
  readonly config: () => Config
  readonly state: ClusterState
  readonly peerRpc: Pick<PeerRpc, 'ask'>
  readonly underlayMtu: () => number
  readonly clock: Clock
  readonly wallMs: () => number
}

/** Answers the doctors of other hosts. Must be called before replication starts. */
export function serveDoctor(
  sources: Pick<PeerSources, 'state' | 'underlayMtu' | 'wallMs'> & { readonly peerRpc: Pick<PeerRpc, 'serve'> }
): void {
  const { state, underlayMtu, wallMs, peerRpc } = sources
  peerRpc.serve(DOCTOR_METHOD, (): LocalReport => ({
    timeMs: wallMs(),
    index: state.appliedIndex,
    digest: digestOf(state),
    underlayMtu: underlayMtu(),
    tunnels: readTunnels(readFileSync('/proc/thread-self/net/dev', 'utf8'))
  }))
}

/** Takes 4 s at most. */
export async function gatherPeer(sources: PeerSources, member: Member): Promise<PeerFacts> {
  const { name, status, address, port, p2pPort, vtep } = member
  const { bind, overlay } = sources.config()
  if (status !== 'alive') return { name, status, ports: [], path: null, tunnel: null, answer: status }
  const [serf, libp2p, path, reply] = await Promise.all([
    probePort('serf', bind, { address, port }),
    probePort('libp2p', bind, { address, port: p2pPort }),
    probePath(overlay.vtep, vtep, sources.underlayMtu()),
    ask(sources, member)
  ])
  const tunnel = typeof reply === 'string' ? null : await gatherTunnel(sources, member, reply.report)
  return { name, status, ports: [serf, libp2p], path, tunnel, answer: typeof reply === 'string' ? reply : reply.answer }
}

async function ask(
  { peerRpc, wallMs }: PeerSources,
  { peerId }: Member
): Promise<{ report: LocalReport; answer: PeerAnswer } | string> {
  const sentMs = wallMs()
  try {
    const report = readLocalReport(await peerRpc.ask(peerId, DOCTOR_METHOD))
    return { report, answer: peerAnswer(report, sentMs, wallMs()) }
  } catch (err) {
    return asVxmeshError(err).message
  }
}

/** Probes the tunnel of a network that both hosts have. Packets of others that arrive meanwhile are counted, too. */
async function gatherTunnel(sources: PeerSources, member: Member, before: LocalReport): Promise<TunnelFacts> {
  const { state, self, clock } = sources
  const shared = before.tunnels.find(([vni]) => state.isOnHost(vni as Vni, self))
  if (shared === undefined) return null
  const [vni, received] = shared
  const { vtep: from, port } = sources.config().overlay
  const sent = await probeTunnel({ from, to: member.vtep, port, vni: vni as Vni, clock })
  const after = await ask(sources, member)
  const now = typeof after === 'string' ? undefined : after.report.tunnels.find(tunnel => tunnel[0] === vni)?.[1]
  return sent === 0 || now === undefined ? null : { sent, came: Math.min(sent, Math.max(0, now - received)) }
}
