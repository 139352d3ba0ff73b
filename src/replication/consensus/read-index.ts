// How far the log is committed, as its leader knows when a majority has answered it after the question (Raft thesis 6.4):
// whoever has applied so far holds everything that was acknowledged before he asked.

import { asVxmeshError, VxmeshError } from '#model/errors.ts'
import type { LogIndex, PeerId } from '#model/ids.ts'
import { within } from '#platform/clock.ts'
import { isCount, malformed } from '../codec/entry-codec.ts'
import type { Rpc } from '../transport/rpc.ts'

const METHOD = 'read-index'
const TIMEOUT_MS = 2_000

/** The part of a server that answers; null where there is none. */
type Reader = { readonly read: () => Promise<LogIndex> } | null

export function serveReadIndex(rpc: Rpc, raft: () => Reader): void {
  rpc.register(METHOD, () => readHere(raft()))
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
    throw new VxmeshError('ERR_NO_QUORUM', `no leader with a majority answers for the state: ${why}`, { cause })
  }
}

/** @throws ERR_NOT_LEADER, ERR_TIMEOUT */
function readHere(raft: Reader): Promise<LogIndex> {
  if (raft === null) return Promise.reject(new VxmeshError('ERR_NOT_LEADER', 'this host is no server'))
  return within(raft.read(), TIMEOUT_MS, () => new VxmeshError('ERR_TIMEOUT', 'no majority has answered in time'))
}
