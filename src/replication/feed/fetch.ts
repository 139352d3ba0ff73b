// Catch-up over the RPC channel: a server gives any host of its cluster pages of committed entries. Where they are
// compacted away, it gives its snapshot (snapshot-transfer.ts).

import { VxmeshError } from '#model/errors.ts'
import type { ClusterId, LogIndex, PeerId } from '#model/ids.ts'
import type { Entry } from '#raft/types.ts'
import { committedEntries, entryToTuple, isCount, malformed } from '../codec/entry-codec.ts'
import type { Rpc } from '../transport/rpc.ts'

const METHOD = 'fetch'
/** Bytes of entries in one page. */
const PAGE_BYTES = 1024 * 1024
const TIMEOUT_MS = 2_000

export type Page = {
  readonly entries: readonly Entry[]
  readonly commitIndex: LogIndex
  /** Entries before this index are compacted into a snapshot. */
  readonly firstIndex: LogIndex
}

/** Where a server reads pages from. */
export type PageSource = {
  readonly clusterId: ClusterId
  readonly committedEntries: (from: LogIndex, maxBytes: number) => readonly Entry[]
  readonly commitIndex: () => LogIndex
  /** The first entry that is not compacted away. */
  readonly firstIndex: () => LogIndex
}

/** Serves pages; `source` is null while this host is not a server. */
export function serveFetch(rpc: Rpc, source: () => PageSource | null): void {
  rpc.register(METHOD, async body => {
    const [clusterId, from] = Array.isArray(body) ? (body as unknown[]) : []
    const here = sourceOf(source, clusterId)
    if (!isCount(from) || from < 1) throw malformed('fetch request')
    const entries = here.committedEntries(from as LogIndex, PAGE_BYTES)
    return Promise.resolve([here.commitIndex(), entries.map(entryToTuple), here.firstIndex()])
  })
}

/** @throws ERR_PEER, ERR_TIMEOUT */
export async function fetchEntries(
  rpc: Rpc,
  peer: PeerId,
  p: { readonly clusterId: ClusterId; readonly from: LogIndex }
): Promise<Page> {
  const answer = await rpc.call({ peer, method: METHOD, body: [p.clusterId, p.from], timeoutMs: TIMEOUT_MS })
  const [commitIndex, entries, firstIndex] = Array.isArray(answer) ? (answer as unknown[]) : []
  if (!isCount(commitIndex) || !Array.isArray(entries) || !isCount(firstIndex)) throw malformed('fetch answer')
  return {
    commitIndex: commitIndex as LogIndex,
    entries: committedEntries(entries, commitIndex),
    firstIndex: firstIndex as LogIndex
  }
}

function sourceOf(source: () => PageSource | null, clusterId: unknown): PageSource {
  const here = source()
  if (here === null) throw new VxmeshError('ERR_PEER', 'this host is not a server')
  if (clusterId !== here.clusterId) throw new VxmeshError('ERR_PEER', 'another cluster')
  return here
}
