// How a server learns that it was removed. No server sends entries to a removed one, so its own log may never hold its
// removal. While it knows no leader, it asks the other servers. Their answers also name the present servers.

import { VxmeshError } from '#model/errors.ts'
import { parsePeerId, type ClusterId, type LogIndex, type PeerId } from '#model/ids.ts'
import type { Logger } from '#platform/log.ts'
import { isCount, malformed } from '../codec/entry-codec.ts'
import { MAX_NAMED_SERVERS } from '../consensus/authority.ts'
import type { Participation } from '../consensus/participation.ts'
import type { Rpc } from '../transport/rpc.ts'

const METHOD = 'participation'
const TIMEOUT_MS = 3_000

/** A participation in one cluster: log indices of different clusters say nothing about each other. */
type Answer = Participation & { readonly clusterId: ClusterId }

/** Answers others, once this host belongs to a cluster. */
export function serveParticipation(
  rpc: Rpc,
  p: {
    readonly clusterId: () => ClusterId | null
    /** What this host has applied about a peer's disk. */
    readonly participation: (peer: PeerId, incarnation: number) => Participation
  }
): void {
  rpc.register(METHOD, (body, from) => {
    if (!isCount(body)) throw malformed('question about participation')
    const clusterId = p.clusterId()
    if (clusterId === null) throw new VxmeshError('ERR_PEER', 'this host belongs to no cluster yet')
    const answer: Answer = { clusterId, ...p.participation(from, body) }
    return Promise.resolve(answer)
  })
}

/** What another host of this cluster has applied about this host's disk. @throws ERR_PEER, ERR_TIMEOUT */
export async function askParticipation(
  rpc: Rpc,
  p: { readonly peer: PeerId; readonly clusterId: ClusterId; readonly incarnation: number }
): Promise<Participation> {
  const answer = await rpc.call({ peer: p.peer, method: METHOD, body: p.incarnation, timeoutMs: TIMEOUT_MS })
  const {
    clusterId,
    index,
    member,
    servers = []
  } = (typeof answer === 'object' && answer !== null ? answer : {}) as Record<string, unknown>
  if (!isCount(index) || typeof member !== 'boolean' || !Array.isArray(servers) || servers.length > MAX_NAMED_SERVERS) {
    throw malformed('answer about participation')
  }
  if (clusterId !== p.clusterId) throw new VxmeshError('ERR_PEER', `${p.peer} belongs to another cluster`)
  return { index: index as LogIndex, member, servers: servers.map((peer: unknown) => parsePeerId(peer as string)) }
}

/** The committed index at which some server knows this host's disk to be removed; null when none does. */
export async function findRemoval(
  rpc: Rpc,
  p: {
    readonly servers: readonly PeerId[]
    readonly clusterId: ClusterId
    readonly incarnation: number
    /** Of what this host has applied. */
    readonly appliedIndex: () => LogIndex
    /** Of the configuration in this host's log. */
    readonly configurationIndex: () => LogIndex
    /** Called with each answer. */
    readonly answered: (server: PeerId, participation: Participation) => void
    readonly logger: Logger
  }
): Promise<LogIndex | null> {
  for (const server of p.servers) {
    try {
      const participation = await askParticipation(rpc, { ...p, peer: server })
      const { index, member } = participation
      p.answered(server, participation)
      // A server that is behind this host's log may not know yet that this host was added; one that has applied no more
      // than this host knows of no removal that this host has not applied itself.
      if (!member && index > p.appliedIndex() && index >= p.configurationIndex()) return index
    } catch (err) {
      if (!(err instanceof VxmeshError)) throw err
      p.logger.debug({ server, err }, 'server did not say whether this host was removed')
    }
  }
  return null
}
