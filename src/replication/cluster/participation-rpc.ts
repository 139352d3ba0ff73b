// How a server learns that it was removed. Nobody sends a removed server anything any more, and its own log may not say
// so either: while it knows no leader, it asks the other servers.

import { VxmeshError } from '#model/errors.ts'
import type { LogIndex, PeerId } from '#model/ids.ts'
import type { Logger } from '#platform/log.ts'
import { isCount, malformed } from '../codec/entry-codec.ts'
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
  const { index, member } = (typeof answer === 'object' && answer !== null ? answer : {}) as Record<string, unknown>
  if (!isCount(index) || typeof member !== 'boolean') throw malformed('answer about participation')
  return { index: index as LogIndex, member }
}

/** The committed index at which some server knows this host's disk to be removed; null when none does. */
export async function findRemoval(
  rpc: Rpc,
  p: {
    readonly servers: readonly PeerId[]
    readonly incarnation: number
    /** Of the configuration in this host's log. */
    readonly configurationIndex: () => LogIndex
    readonly logger: Logger
  }
): Promise<LogIndex | null> {
  for (const server of p.servers) {
    try {
      const { index, member } = await askParticipation(rpc, server, p.incarnation)
      // A server that is behind this host's log may not know yet that this host was added.
      if (!member && index >= p.configurationIndex()) return index
    } catch (err) {
      if (!(err instanceof VxmeshError)) throw err
      p.logger.debug({ server, err }, 'server did not say whether this host was removed')
    }
  }
  return null
}
