// How a server learns that it was removed. Nobody sends a removed server anything any more, and its own log may not say
// so either: while it knows no leader, it asks the other servers. Their answers also name the servers that followed them.

import { VxmeshError } from '#model/errors.ts'
import { parsePeerId, type LogIndex, type PeerId } from '#model/ids.ts'
import type { Logger } from '#platform/log.ts'
import { isCount, malformed } from '../codec/entry-codec.ts'
import { MAX_NAMED_SERVERS } from '../consensus/authority.ts'
import type { Participation } from '../consensus/participation.ts'
import type { Rpc } from '../transport/rpc.ts'

const METHOD = 'participation'
const TIMEOUT_MS = 3_000

/** Answers others; `participation` is what this host has applied about a peer's disk. */
export function serveParticipation(
  rpc: Rpc,
  participation: (peer: PeerId, incarnation: number) => Participation
): void {
  rpc.register(METHOD, (body, from) => {
    if (!isCount(body)) throw malformed('question about participation')
    return Promise.resolve(participation(from, body))
  })
}

/** What another host has applied about this host's disk. @throws ERR_PEER, ERR_TIMEOUT */
export async function askParticipation(rpc: Rpc, peer: PeerId, incarnation: number): Promise<Participation> {
  const answer = await rpc.call({ peer, method: METHOD, body: incarnation, timeoutMs: TIMEOUT_MS })
  const {
    index,
    member,
    servers = []
  } = (typeof answer === 'object' && answer !== null ? answer : {}) as Record<string, unknown>
  if (!isCount(index) || typeof member !== 'boolean' || !Array.isArray(servers) || servers.length > MAX_NAMED_SERVERS) {
    throw malformed('answer about participation')
  }
  return { index: index as LogIndex, member, servers: servers.map((peer: unknown) => parsePeerId(peer as string)) }
}

/** The committed index at which some server knows this host's disk to be removed; null when none does. */
export async function findRemoval(
  rpc: Rpc,
  p: {
    readonly servers: readonly PeerId[]
    readonly incarnation: number
    /** Of the configuration in this host's log. */
    readonly configurationIndex: () => LogIndex
    /** Told of each answer. */
    readonly answered: (server: PeerId, participation: Participation) => void
    readonly logger: Logger
  }
): Promise<LogIndex | null> {
  for (const server of p.servers) {
    try {
      const participation = await askParticipation(rpc, server, p.incarnation)
      const { index, member } = participation
      p.answered(server, participation)
      // A server that is behind this host's log may not know yet that this host was added.
      if (!member && index >= p.configurationIndex()) return index
    } catch (err) {
      if (!(err instanceof VxmeshError)) throw err
      p.logger.debug({ server, err }, 'server did not say whether this host was removed')
    }
  }
  return null
}
