// Whether this host is ready and healthy, as checks, as one line and as the status document. Pure.

import type { OverlayDriver } from '#overlay/driver.ts'
import { digestOf } from '#allocator/digest.ts'
import type { ClusterState } from '#allocator/state-machine.ts'
import type { Membership } from '#membership/serf/membership.ts'
import type { Check } from '#metrics/figures.ts'
import type { PeerId } from '#model/ids.ts'
import type { StatusView } from '#model/views.ts'
import type { ClusterLife, ReplicatedLog } from '#replication/ports.ts'
import type { Reconciler } from '../reconcile/reconciler.ts'
import type { DigestCheck } from './digest-check.ts'
import { whyNoServices } from './no-services.ts'
import type { PeerDirectory } from './peer-directory.ts'

export type HealthSources = {
  readonly self: PeerId
  readonly directory: Pick<PeerDirectory, 'members' | 'nameOf'>
  readonly membership: Pick<Membership, 'view'>
  readonly log: Pick<ReplicatedLog, 'status'>
  readonly cluster: Pick<ClusterLife, 'clusterId' | 'obstacle'>
  /** This host's record in the committed state. */
  readonly registrar: { readonly registered: boolean; readonly problem: Error | null }
  readonly reconciler: Pick<Reconciler, 'status'>
  readonly digests: Pick<DigestCheck, 'differsAt'>
}

/** What makes this host ready (`forReady`), and what else makes it healthy. */
export function checksOf(sources: HealthSources): readonly Check[] {
  const { log, cluster, membership, registrar, reconciler, digests } = sources
  const check = (name: string, forReady: boolean, healthy: boolean, trouble: string): Check => {
    return { name, forReady, trouble: healthy ? null : trouble }
  }
  const { degraded } = reconciler.status()
  const at = digests.differsAt
  const refused = registrar.problem === null ? '' : `: ${registrar.problem.message}`
  return [
    check('membership', true, membership.view() !== null, 'Serf has not answered yet'),
    check('cluster', true, cluster.clusterId !== null, 'this host belongs to no cluster yet'),
    check('registered', true, registrar.registered, `the committed state does not hold this host${refused}`),
    check('leader', false, log.status().leader !== null, 'no leader is known: nothing can be changed'),
    check('overlay', false, degraded.length === 0, degraded.join('; ')),
    check('state', false, at === null, `differs from the leader’s at index ${at ?? 0}`)
  ]
}

export function isReady(sources: HealthSources): boolean {
  return checksOf(sources).every(({ forReady, trouble }) => !forReady || trouble === null)
}

/** One line for `systemctl status`. */
export function statusLine(sources: HealthSources): string {
  const { leader } = sources.log.status()
  const alive = sources.directory.members.filter(member => member.status === 'alive').length
  const led = leader === null ? 'no leader is known' : `leader ${sources.directory.nameOf(leader)}`
  return `${isReady(sources) ? 'ready' : 'not ready'}, ${led}, ${alive} ${alive === 1 ? 'member' : 'members'} alive`
}

/** The document behind `vxmesh status`. O(networks) for the digest, and O(members). */
export function statusView(
  sources: HealthSources & { readonly state: ClusterState },
  facts: {
    readonly host: string
    readonly driver: Pick<OverlayDriver, 'name' | 'guard' | 'noPrograms'>
    readonly version: string
  }
): StatusView {
  const { log, cluster, state, self, directory, digests, reconciler } = sources
  const { driver } = facts
  const { role, term, leader, commitIndex } = log.status()
  const count = (status: string): number => directory.members.filter(member => member.status === status).length
  return {
    host: facts.host,
    peerId: self,
    cluster: cluster.clusterId,
    version: facts.version,
    ready: isReady(sources),
    trouble: cluster.obstacle,
    raft: {
      role: role === 'pre-candidate' ? 'candidate' : role,
      term,
      leader: leader === null ? null : directory.nameOf(leader),
      commitIndex,
      appliedIndex: state.appliedIndex
    },
    members: { alive: count('alive'), failed: count('failed') },
    networks: state.networkCount,
    endpoints: state.endpointCount,
    digest: digestOf(state),
    differsAt: digests.differsAt,
    overlay: {
      driver: driver.name,
      guard: driver.guard,
      noPrograms: driver.noPrograms,
      noServices: whyNoServices(driver),
      ...reconciler.status()
    }
  }
}
