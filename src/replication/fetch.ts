// Catch-up: pages of committed entries that a server gives to any host of its cluster, over the RPC channel.

import { VxmeshError } from '#model/errors.ts'
import type { ClusterId, LogIndex, PeerId } from '#model/ids.ts'
import type { Entry } from '#raft/types.ts'
import { committedEntries, entryToTuple, isCount, malformed } from './entry-codec.ts'
import type { Rpc } from './rpc.ts'

const METHOD = 'fetch'
/** Bytes of entries in one page. */
const PAGE_BYTES = 1024 * 1024
const TIMEOUT_MS = 2_000

export type Page = { readonly entries: readonly Entry[]; readonly commitIndex: LogIndex }

/** What a server reads pages from. */
export type PageSource = {
  readonly clusterId: ClusterId
  readonly committedEntries: (from: LogIndex, maxBytes: number) => readonly Entry[]
  readonly commitIndex: () => LogIndex
}

/** Serves pages; `source` is null while this host is no server. */
export function serveFetch(rpc: Rpc, source: () => PageSource | null): void {
  rpc.register(METHOD, body => {
    const [clusterId, from] = Array.isArray(body) ? (body as unknown[]) : []
    const here = source()
    if (here === null) return Promise.reject(new VxmeshError('ERR_PEER', 'this host is no server'))
    if (clusterId !== here.clusterId) return Promise.reject(new VxmeshError('ERR_PEER', 'another cluster'))
    if (!isCount(from) || from < 1) return Promise.reject(malformed('fetch request'))
    const entries = here.committedEntries(from as LogIndex, PAGE_BYTES)
    return Promise.resolve([here.commitIndex(), entries.map(entryToTuple)])
  })
}

/** @throws ERR_PEER, ERR_TIMEOUT */
export async function fetchEntries(
  rpc: Rpc,
  peer: PeerId,
  p: { readonly clusterId: ClusterId; readonly from: LogIndex }
): Promise<Page> {
  const answer = await rpc.call({ peer, method: METHOD, body: [p.clusterId, p.from], timeoutMs: TIMEOUT_MS })
  const [commitIndex, entries] = Array.isArray(answer) ? (answer as unknown[]) : []
  if (!isCount(commitIndex) || !Array.isArray(entries)) throw malformed('fetch answer')
  return { commitIndex: commitIndex as LogIndex, entries: committedEntries(entries, commitIndex) }
}
