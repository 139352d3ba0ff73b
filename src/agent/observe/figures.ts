// The agent's figures behind `http.listen`, read from memory alone: a scrape costs no system call. Pure.

import type { ClusterState } from '#allocator/state-machine.ts'
import type { Membership } from '#membership/serf/membership.ts'
import type { AddressUse, Figures } from '#metrics/figures.ts'
import type { NetworkName } from '#model/ids.ts'
import type { MemberStatus } from '#model/member.ts'
import type { ReplicatedLog } from '#replication/ports.ts'
import type { CounterWindow } from './counters.ts'
import { isReady, type HealthSources } from './health.ts'
import type { GuardDrops } from './guard-drops.ts'
import type { SerfDrops } from './serf-drops.ts'
import { trafficOf, type TrafficSources } from './traffic.ts'

/** Networks with series of their own: a cluster may hold thousands, and a scrape must stay small. */
const MAX_NETWORKS = 256

export type FigureSources = HealthSources &
  TrafficSources & {
    readonly version: string
    readonly state: ClusterState
    readonly counters: Pick<CounterWindow, 'latest'>
    readonly log: Pick<ReplicatedLog, 'lag' | 'leaderChanges' | 'refusedMessages' | 'retries'>
    /** Connections to the mesh port that were refused before or in the handshake, by reason. */
    readonly refusedConnections: () => Readonly<Record<string, number>>
    readonly serfDrops: Pick<SerfDrops, 'latest'>
    readonly guardDrops: GuardDrops
    readonly names: () => Figures['names']
    readonly membership: Pick<Membership, 'logDroppedBytes'>
  }

export function figuresOf(sources: FigureSources): Figures {
  const { log, state, self, directory, reconciler, digests } = sources
  const { role, term, leader, commitIndex } = log.status()
  const count = (status: MemberStatus): number => directory.members.filter(m => m.status === status).length
  const { drift, degraded, repaired } = reconciler.status()
  const listed = [...state.networks()].sort((a, b) => a.vni - b.vni).slice(0, MAX_NETWORKS)
  return {
    version: sources.version,
    members: {
      alive: count('alive'),
      leaving: count('leaving'),
      left: count('left'),
      failed: count('failed')
    },
    raft: {
      term,
      isLeader: role === 'leader' && leader === self,
      hasLeader: leader !== null,
      commitIndex,
      appliedIndex: state.appliedIndex,
      leaderChanges: log.leaderChanges,
      refusedMessages: log.refusedMessages,
      proposalRetries: log.retries
    },
    feedLag: log.lag,
    ready: isReady(sources),
    hosts: state.presentHosts().length,
    networks: state.networkCount,
    endpoints: state.endpointCount,
    services: state.serviceCount,
    addresses: listed.map(({ name }) => addressUse(state, name)),
    traffic: trafficOf(sources, new Set(listed.map(({ name }) => name))),
    unlisted: state.networkCount - listed.length,
    overlay: { drift, degraded: degraded.length, repaired },
    diverged: digests.differsAt !== null,
    refused: sources.refusedConnections(),
    names: sources.names(),
    guardDrops: sources.guardDrops.latest ?? {},
    serf: { droppedPackets: sources.serfDrops.latest, logDroppedBytes: sources.membership.logDroppedBytes }
  }
}

function addressUse(state: ClusterState, network: NetworkName): AddressUse {
  const use = state.addressUse(network)
  return use === undefined
    ? { network, used: 0, free: 0 }
    : { network, used: state.endpointCountOf(network), free: use.size - use.used - use.reserved }
}
