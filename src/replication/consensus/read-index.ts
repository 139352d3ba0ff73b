// ReadIndex (Raft thesis 6.4): the leader's commit index, confirmed by a majority after the request. A host that has
// applied up to it holds every change that was acknowledged before it asked.

import { asVxmeshError, VxmeshError } from '#model/errors.ts'
import type { LogIndex, PeerId } from '#model/ids.ts'
import type { Clock } from '#platform/clock.ts'
import { isCount, malformed } from '../codec/entry-codec.ts'
import type { Rpc } from '../transport/rpc.ts'

const METHOD = 'read-index'
const TIMEOUT_MS = 2_000

/** The consensus of a voter. */
type Reader = { readonly read: () => Promise<LogIndex> }

/** Answers others; `reader` is null while this host is not a voter. */
export function serveReadIndex(rpc: Rpc, p: { readonly reader: () => Reader | null; readonly clock: Clock }): void {
  rpc.register(METHOD, () => {
    const reader = p.reader()
    if (reader === null) return Promise.reject(new VxmeshError('ERR_NOT_LEADER', 'this host is not a server'))
    const late = (): VxmeshError => new VxmeshError('ERR_TIMEOUT', 'no majority answered in time')
    return p.clock.within(reader.read(), TIMEOUT_MS, late)
  })
}

/** @throws ERR_NO_QUORUM */
export async function askReadIndex(rpc: Rpc, leader: PeerId | null): Promise<LogIndex> {
  if (leader === null) throw new VxmeshError('ERR_NO_QUORUM', 'no leader is known')
  try {
    const answer = await rpc.call({ peer: leader, method: METHOD, body: null, timeoutMs: 2 * TIMEOUT_MS })
    if (!isCount(answer)) throw malformed('read index')
    return answer as LogIndex
  } catch (cause) {
    const why = asVxmeshError(cause).message
    throw new VxmeshError('ERR_NO_QUORUM', `no leader with a majority confirms the state: ${why}`, { cause })
  }
}
