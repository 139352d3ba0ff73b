// The agent's figures and checks behind `http.listen`, read from what it holds in memory: a scrape costs no system call.

import type { AddressUse, Check, Figures, NetworkTraffic } from '#metrics/figures.ts'
import { startMetricsServer } from '#metrics/server.ts'
import type { NetworkName } from '#model/ids.ts'
import type { MemberStatus } from '#model/member.ts'
import type { Counters } from '#overlay/driver.ts'
import { vethName } from '#overlay/plan/network/names.ts'
import { VERSION } from '#platform/version.ts'
import type { Agent } from '../agent.ts'

/** Networks that have series of their own: a cluster may hold thousands, a scrape must stay small. */
const MAX_NETWORKS = 256

export function figuresOf(agent: Agent): Figures {
  const { replicator, state, self, members, reconciler, digests } = agent
  const { role, term, leader, commitIndex } = replicator.status()
  const count = (status: MemberStatus): number => members.filter(m => m.status === status).length
  const { drift, degraded, repaired } = reconciler.status()
  const listed = [...state.networks()].sort((a, b) => a.vni - b.vni).slice(0, MAX_NETWORKS)
  return {
    version: VERSION,
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
      leaderChanges: replicator.leaderChanges,
      proposalRetries: replicator.retries
    },
    feedLag: replicator.lag,
    ready: isReady(agent),
    hosts: state.presentHosts().length,
    networks: state.networkCount,
    endpoints: state.endpointCount,
    addresses: listed.map(({ name }) => addressUse(agent, name)),
    traffic: trafficOf(agent, new Set(listed.map(({ name }) => name))),
    unlisted: state.networkCount - listed.length,
    overlay: { drift, degraded: degraded.length, repaired },
    diverged: digests.differsAt !== null
  }
}

/** What makes this host ready, and what makes it well. */
function checksOf(agent: Agent): readonly Check[] {
  const { replicator, membership, registrar, reconciler, digests } = agent
  const check = (name: string, forReady: boolean, well: boolean, trouble: string): Check => {
    return { name, forReady, trouble: well ? null : trouble }
  }
  const { degraded } = reconciler.status()
  const at = digests.differsAt
  const refused = registrar.problem === null ? '' : `: ${registrar.problem.message}`
  return [
    check('membership', true, membership.view() !== null, 'Serf has not been heard yet'),
    check('cluster', true, replicator.clusterId !== null, 'this host belongs to no cluster yet'),
    check('registered', true, registrar.registered, `the committed state does not hold this host${refused}`),
    check('leader', false, replicator.status().leader !== null, 'no leader is known: nothing can be changed'),
    check('overlay', false, degraded.length === 0, degraded.join('; ')),
    check('state', false, at === null, `differs from the leader’s at index ${at ?? 0}`)
  ]
}

export function isReady(agent: Agent): boolean {
  return checksOf(agent).every(({ forReady, trouble }) => !forReady || trouble === null)
}

/** Takes a sample of this host's counters into the networks' totals. */
export function countTraffic(agent: Agent, counters: ReadonlyMap<string, Counters>): void {
  const networks = networksByInterface(agent)
  agent.totals.add(counters, hostInterface => networks.get(hostInterface))
  agent.totals.keep(network => agent.state.network(network) !== undefined)
}

/** @throws ERR_CONFIG naming http.listen */
export function openMetricsDoor(agent: Agent, listen: string): Promise<{ close(): Promise<void> }> {
  return startMetricsServer({
    listen,
    checks: () => checksOf(agent),
    metrics: agent.metrics,
    logger: agent.logger.child({ room: 'metrics' })
  })
}

/** The networks of this host's endpoints by their host interfaces. */
function networksByInterface({ state, self }: Agent): ReadonlyMap<string, NetworkName> {
  return new Map(state.endpointsOnHost(self).map(e => [vethName(e.containerId, e.ifname), e.network]))
}

function addressUse({ state }: Agent, network: NetworkName): AddressUse {
  const use = state.addressUse(network)
  return use === undefined
    ? { network, used: 0, free: 0 }
    : { network, used: use.used, free: use.size - use.used - use.reserved }
}

function trafficOf(agent: Agent, listed: ReadonlySet<NetworkName>): readonly NetworkTraffic[] {
  const { counters, totals } = agent
  const latest = counters.latest()
  const byNetwork = new Map<NetworkName, { endpoints: number; rxRate: number; txRate: number }>()
  for (const [hostInterface, network] of networksByInterface(agent)) {
    if (!listed.has(network)) continue
    const { rxRate, txRate } = latest.rates(hostInterface)
    const sum = byNetwork.get(network) ?? { endpoints: 0, rxRate: 0, txRate: 0 }
    byNetwork.set(network, {
      endpoints: sum.endpoints + 1,
      rxRate: sum.rxRate + (rxRate ?? 0),
      txRate: sum.txRate + (txRate ?? 0)
    })
  }
  return [...byNetwork].map(([network, sum]) => ({ network, ...sum, ...totals.of(network) }))
}

/** One line for `systemctl status`. */
export function statusLine(agent: Agent): string {
  const { leader } = agent.replicator.status()
  const alive = agent.members.filter(member => member.status === 'alive').length
  const led = leader === null ? 'no leader is known' : `leader ${agent.nameOf(leader)}`
  return `${isReady(agent) ? 'ready' : 'not ready'}, ${led}, ${alive} ${alive === 1 ? 'member' : 'members'} alive`
}
