// Gathers facts of the agent and of the other hosts, for judge-mesh.ts and judge-agent.ts. Hosts are probed in parallel and
// within the time that an operator waits for; those left over are counted.

import { verify } from '#allocator/consistency.ts'
import { digestOf } from '#allocator/digest.ts'
import type { ClusterState } from '#allocator/state-machine.ts'
import type { Config } from '#config/schema.ts'
import type { Membership } from '#membership/serf/membership.ts'
import { subnetsOf } from '#model/addresses.ts'
import { asVxmeshError } from '#model/errors.ts'
import type { PeerId } from '#model/ids.ts'
import { formatIp, isIpv4 } from '#model/ip.ts'
import type { Member } from '#model/member.ts'
import type { Network } from '#model/network.ts'
import { MTU_MIN_IPV6 } from '#model/quantity.ts'
import { vxlanUnderlay } from '#overlay/plan/underlay/underlay.ts'
import type { Clock } from '#platform/clock.ts'
import type { ClusterLife, PeerRpc, ReplicatedLog } from '#replication/ports.ts'
import type { DigestCheck } from '../observe/digest-check.ts'
import type { PeerDirectory } from '../observe/peer-directory.ts'
import type { SerfDrops } from '../observe/serf-drops.ts'
import type { Reconciler } from '../reconcile/reconciler.ts'
import type { MeshFacts, PeerFacts } from './facts.ts'
import { gatherPeer } from './gather-peer.ts'
import { probePort } from './probes.ts'

/** Hosts probed concurrently. */
const MAX_CONCURRENT = 16
/** No further host is probed after this; probing one takes at most 4 s. */
const BEGIN_MS = 5_000
/** An election usually ends within this time. */
const [ELECTION_MS, LOOK_MS] = [2_000, 50]
/** A larger state is not recounted: that would block the agent for a tenth of a second. */
const MAX_RECOUNTED = 50_000

export type MeshSources = {
  readonly self: PeerId
  readonly config: () => Config
  readonly state: ClusterState
  readonly directory: Pick<PeerDirectory, 'members' | 'nameOf'>
  readonly membership: Pick<Membership, 'stats'>
  readonly log: Pick<ReplicatedLog, 'current' | 'lag' | 'status'>
  readonly cluster: Pick<ClusterLife, 'clusterId' | 'obstacle' | 'peers'>
  readonly peerRpc: Pick<PeerRpc, 'ask'>
  readonly registrar: { readonly registered: boolean; readonly problem: Error | null }
  readonly reconciler: Pick<Reconciler, 'fullPassAgeMs' | 'status'>
  readonly digests: Pick<DigestCheck, 'differsAt'>
  readonly serfDrops: Pick<SerfDrops, 'latest' | 'agoMs'>
  readonly underlayMtu: () => number
  readonly clock: Clock
  /** Milliseconds since 1970: clocks of hosts are compared. */
  readonly wallMs: () => number
}

export async function gatherMesh(sources: MeshSources): Promise<MeshFacts> {
  const { state, log, cluster, registrar, reconciler, digests, membership, directory, self, serfDrops } = sources
  const config = sources.config()
  const { members } = directory
  const others = members.filter(member => member.peerId !== self && member.status !== 'left')
  const here = { address: config.bind }
  const [peers, ownPorts, serf, voters, leader] = await Promise.all([
    gatherPeers(sources, others),
    Promise.all([
      probePort('serf', config.bind, { ...here, port: config.serf.port }),
      probePort('libp2p', config.bind, { ...here, port: config.p2p.port })
    ]),
    membership.stats().then(
      stats => ({ running: true, encrypted: stats['serf']?.['encrypted'] === 'true', keyed: !config.insecure }),
      (err: unknown) => asVxmeshError(err).message
    ),
    cluster.peers().catch(() => []),
    findLeader(sources)
  ])
  const { drift, degraded, repaired } = reconciler.status()
  const { overheadBytes } = vxlanUnderlay(config.overlay.vtep)
  return {
    overheadBytes,
    tooNarrow: tooNarrow(sources, overheadBytes),
    self: { name: config.name, index: state.appliedIndex, digest: digestOf(state) },
    unseen: others.length - peers.length,
    peers,
    ownPorts,
    serf,
    serfDrops: { ...serfDrops.latest, agoMs: serfDrops.agoMs },
    cluster: cluster.clusterId,
    trouble: cluster.obstacle,
    leader: leader === null ? null : directory.nameOf(leader),
    voters: voters
      .filter(({ voter }) => voter)
      .map(({ peerId }) => ({
        name: directory.nameOf(peerId),
        alive: peerId === self || members.some(m => m.peerId === peerId && m.status === 'alive')
      })),
    lag: log.lag,
    current: log.current,
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

/** Waits for the end of an election; null if none ends in time. */
async function findLeader({ clock, log }: Pick<MeshSources, 'clock' | 'log'>): Promise<PeerId | null> {
  const untilMs = clock.nowMs() + ELECTION_MS
  while (log.status().leader === null && clock.nowMs() < untilMs) await clock.sleep(LOOK_MS)
  return log.status().leader
}

async function gatherPeers(sources: MeshSources, others: readonly Member[]): Promise<readonly PeerFacts[]> {
  const { clock } = sources
  const untilMs = clock.nowMs() + BEGIN_MS
  // Servers first: the cluster depends on them.
  const queue = [...others].sort((a, b) => Number(b.role === 'server') - Number(a.role === 'server'))
  const found: PeerFacts[] = []
  const work = async (): Promise<void> => {
    for (let member = queue.shift(); member !== undefined && clock.nowMs() < untilMs; member = queue.shift()) {
      found.push(await gatherPeer(sources, member))
    }
  }
  await Promise.all(Array.from({ length: MAX_CONCURRENT }, work))
  return found.sort((a, b) => (a.name < b.name ? -1 : 1))
}

/** See MeshFacts. */
function tooNarrow({ self, state, config, underlayMtu }: MeshSources, overheadBytes: number): readonly string[] {
  const { mtu } = config().overlay
  const ofHost = mtu === 'auto' ? underlayMtu() - overheadBytes : mtu
  const isNarrow = (network: Network): boolean => (network.mtu === 0 ? ofHost : network.mtu) < MTU_MIN_IPV6
  const hasIpv6 = (network: Network): boolean => subnetsOf(network).some(({ base }) => !isIpv4(base))
  return state.networksOnHost(self).flatMap(network => (hasIpv6(network) && isNarrow(network) ? [network.name] : []))
}

/** Names and VTEPs that several members have, as messages. */
function duplicates(members: readonly Member[]): readonly string[] {
  const claims = members.flatMap(({ name, vtep }) => [`name ${name}`, `VTEP ${formatIp(vtep)}`])
  return [...new Set(claims.filter((claim, at) => claims.indexOf(claim) !== at))].map(claim => `${claim} is used twice`)
}
