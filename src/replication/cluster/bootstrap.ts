// How a cluster is founded: `bootstrapExpect` servers that see exactly each other agree on the first configuration. A server
// founds only if all agree, because two overlapping groups that decided for themselves would found two clusters.

import { createHash } from 'node:crypto'
import { VxmeshError } from '#model/errors.ts'
import type { ClusterId, PeerId } from '#model/ids.ts'
import type { Member } from '#model/member.ts'
import { malformed } from '../codec/entry-codec.ts'
import type { Rpc } from '../transport/rpc.ts'
import type { Origin } from '../storage/wal-record.ts'

const TIMEOUT_MS = 1_000

export type BootstrapDecision =
  | { readonly kind: 'wait'; readonly why: string }
  /** Ask these servers whether they see exactly each other. `seed`: the restored backup that they would start from. */
  | { readonly kind: 'agree'; readonly voters: readonly PeerId[]; readonly seed: string | null }
  /** The others hold a restored backup: fetch it first. */
  | { readonly kind: 'fetch'; readonly seed: string; readonly from: readonly PeerId[] }
  /** A member belongs to an existing cluster: join that. */
  | { readonly kind: 'adopt'; readonly from: PeerId }

/** Pure. `expect` is 0 for a client, which only ever adopts. */
export function decideBootstrap(p: {
  readonly self: PeerId
  readonly expect: number
  readonly members: readonly Member[]
  /** The restored backup that this host holds. */
  readonly seed: string | null
}): BootstrapDecision {
  const servers = p.members.filter(m => m.role === 'server' && m.status !== 'left')
  const inCluster = servers.filter(m => m.clusterId !== undefined && m.status === 'alive' && m.peerId !== p.self)
  const [first] = inCluster
  const other = inCluster.find(m => m.clusterId !== first?.clusterId)
  if (first !== undefined && other !== undefined) {
    return { kind: 'wait', why: `${first.name} and ${other.name} are servers of two clusters; stop the agents of one` }
  }
  if (first !== undefined) return { kind: 'adopt', from: first.peerId }
  if (p.expect === 0) return { kind: 'wait', why: 'no server of a cluster is in sight' }
  if (servers.some(m => m.clusterId !== undefined)) return { kind: 'wait', why: 'the cluster’s servers are not alive' }
  const waiting = servers.filter(m => m.bootstrapExpect > 0)
  if (waiting.some(m => m.bootstrapExpect !== p.expect)) {
    return { kind: 'wait', why: 'servers disagree about bootstrapExpect' }
  }
  if (waiting.length !== p.expect || waiting.some(m => m.status !== 'alive')) {
    return { kind: 'wait', why: `${waiting.length} of ${p.expect} servers are in sight` }
  }
  if (!waiting.some(m => m.peerId === p.self)) return { kind: 'wait', why: 'this host does not see itself yet' }
  const holders = waiting.filter(m => m.seed !== undefined)
  const [seed = null, another] = new Set([...(p.seed === null ? [] : [p.seed]), ...holders.map(m => m.seed ?? '')])
  if (another !== undefined) {
    const names = holders.map(m => m.name).join(', ')
    return { kind: 'wait', why: `different backups were restored on ${names}: remove restore.snap from all but one` }
  }
  if (seed !== p.seed && seed !== null) return { kind: 'fetch', seed, from: holders.map(m => m.peerId) }
  return { kind: 'agree', voters: waiting.map(m => m.peerId).sort(), seed }
}

/**
 * The first configuration, and the cluster id derived from it and from the seed: the same on every server that decides
 * on the same founders.
 */
export function foundingOrigin(voters: readonly PeerId[], seed: string | null): Origin {
  const text = `vxmesh cluster\n${voters.join('\n')}`
  const hash = createHash('sha256')
    .update(seed === null ? text : `${text}\nfrom ${seed}`)
    .digest('hex')
  return { clusterId: hash.slice(0, 16) as ClusterId, configuration: { voters, learners: [] } }
}

/** Answers others: would this host found that cluster with them, and to which cluster does it belong? */
export function serveBootstrap(
  rpc: Rpc,
  p: {
    decision: () => BootstrapDecision
    origin: () => Origin | null
    /** Records the intent before this host agrees. False: its disk already belongs to a cluster. */
    recordIntent: (clusterId: ClusterId) => Promise<boolean>
  }
): void {
  rpc.register('bootstrap', async body => {
    const origin = p.origin()
    if (origin !== null) return origin.clusterId === body
    const decision = p.decision()
    if (decision.kind !== 'agree') return false
    const { clusterId } = foundingOrigin(decision.voters, decision.seed)
    return clusterId === body && (await p.recordIntent(clusterId))
  })
  rpc.register('origin', () => {
    const origin = p.origin()
    if (origin === null) return Promise.reject(new VxmeshError('ERR_PEER', 'this host belongs to no cluster yet'))
    return Promise.resolve([origin.clusterId, origin.configuration.voters, origin.configuration.learners])
  })
}

/** Do all other founders agree to found this cluster? */
export async function allAgree(rpc: Rpc, self: PeerId, { clusterId, configuration }: Origin): Promise<boolean> {
  const others = configuration.voters.filter(voter => voter !== self)
  const answers = await Promise.all(
    others.map(peer =>
      rpc.call({ peer, method: 'bootstrap', body: clusterId, timeoutMs: TIMEOUT_MS }).catch(() => false)
    )
  )
  return answers.every(answer => answer === true)
}

/** @throws ERR_PEER, ERR_TIMEOUT */
export async function askOrigin(rpc: Rpc, peer: PeerId): Promise<Origin> {
  const answer = await rpc.call({ peer, method: 'origin', body: null, timeoutMs: TIMEOUT_MS })
  const [clusterId, voters, learners] = Array.isArray(answer) ? (answer as unknown[]) : []
  if (typeof clusterId !== 'string' || !isStrings(voters) || !isStrings(learners)) throw malformed('origin')
  return {
    clusterId: clusterId as ClusterId,
    configuration: { voters: voters as PeerId[], learners: learners as PeerId[] }
  }
}

function isStrings(value: unknown): value is string[] {
  return Array.isArray(value) && value.every(item => typeof item === 'string')
}
