// Catch-up over the RPC channel: a server gives any host of its cluster pages of committed entries, or, where they are
// compacted away, its snapshot in chunks.

import { VxmeshError } from '#model/errors.ts'
import type { ClusterId, LogIndex, PeerId } from '#model/ids.ts'
import type { Clock } from '#platform/clock.ts'
import type { Entry, Snapshot } from '#raft/types.ts'
import { committedEntries, entryToTuple, isCount, malformed } from '../codec/entry-codec.ts'
import { MAX_SNAPSHOT_BYTES } from '../codec/limits.ts'
import { metaFromTuple, metaToTuple } from '../codec/meta-codec.ts'
import type { Rpc } from '../transport/rpc.ts'

const METHOD = 'fetch'
const SNAPSHOT_METHOD = 'fetch-snapshot'
const IMAGE_METHOD = 'fetch-image'
/** How long an image is kept for the next chunk; one is kept at a time, since it is as large as the state. */
const IMAGE_KEPT_MS = 10_000
/** Bytes of entries in one page, and of a snapshot in one chunk. */
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
  readonly snapshot: () => Snapshot | null
  /** A snapshot of the state as it is now; null when it cannot be had at the moment. O(state) */
  readonly image: () => Promise<Snapshot | null>
}

/** Serves pages and chunks; `source` is null while this host is not a server. */
export function serveFetch(rpc: Rpc, clock: Clock, source: () => PageSource | null): void {
  rpc.register(METHOD, async body => {
    const [clusterId, from] = Array.isArray(body) ? (body as unknown[]) : []
    const here = sourceOf(source, clusterId)
    if (!isCount(from) || from < 1) throw malformed('fetch request')
    const entries = here.committedEntries(from as LogIndex, PAGE_BYTES)
    return Promise.resolve([here.commitIndex(), entries.map(entryToTuple), here.firstIndex()])
  })
  const chunks = (method: string, snapshotOf: (here: PageSource) => Promise<Snapshot | null>): void => {
    rpc.register(method, async body => {
      const [clusterId, lastIndex, offset] = Array.isArray(body) ? (body as unknown[]) : []
      const here = sourceOf(source, clusterId)
      if (!isCount(lastIndex) || !isCount(offset)) throw malformed('snapshot request')
      const snapshot = await snapshotOf(here)
      if (snapshot === null) throw new VxmeshError('ERR_PEER', 'there is no snapshot')
      // The caller asked about an older snapshot: it starts over with this one.
      const at = snapshot.meta.lastIndex === lastIndex ? offset : 0
      const chunk = snapshot.data.subarray(at, at + PAGE_BYTES)
      return [metaToTuple(snapshot.meta), snapshot.data.byteLength, at, chunk]
    })
  }
  let image: { readonly taken: Promise<Snapshot | null>; readonly atMs: number } | null = null
  chunks(SNAPSHOT_METHOD, here => Promise.resolve(here.snapshot()))
  chunks(IMAGE_METHOD, here => {
    const nowMs = clock.nowMs()
    if (image === null || nowMs - image.atMs >= IMAGE_KEPT_MS) {
      const mine = { taken: here.image(), atMs: nowMs }
      image = mine
      clock.after(IMAGE_KEPT_MS, () => {
        if (image === mine) image = null
      })
    }
    return image.taken
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

/** Fetches a server's whole snapshot. @throws ERR_PEER, ERR_TIMEOUT, ERR_TOO_LARGE */
export function fetchSnapshot(rpc: Rpc, peer: PeerId, clusterId: ClusterId): Promise<Snapshot> {
  return fetchChunks(rpc, { peer, method: SNAPSHOT_METHOD, clusterId })
}

/** Fetches a server's state as it is now. @throws as fetchSnapshot */
export function fetchImage(rpc: Rpc, peer: PeerId, clusterId: ClusterId): Promise<Snapshot> {
  return fetchChunks(rpc, { peer, method: IMAGE_METHOD, clusterId })
}

async function fetchChunks(
  rpc: Rpc,
  { peer, method, clusterId }: { readonly peer: PeerId; readonly method: string; readonly clusterId: ClusterId }
): Promise<Snapshot> {
  let [lastIndex, received] = [0, 0]
  let data = new Uint8Array()
  for (;;) {
    const body = [clusterId, lastIndex, received]
    const answer = await rpc.call({ peer, method, body, timeoutMs: TIMEOUT_MS })
    const [tuple, size, offset, chunk] = Array.isArray(answer) ? (answer as unknown[]) : []
    const meta = metaFromTuple(tuple)
    if (!isCount(size) || !isCount(offset) || !(chunk instanceof Uint8Array)) throw malformed('snapshot chunk')
    if (size > MAX_SNAPSHOT_BYTES) throw new VxmeshError('ERR_TOO_LARGE', `a snapshot of ${size} bytes`)
    if (meta.lastIndex !== lastIndex) {
      lastIndex = meta.lastIndex
      received = 0
      data = new Uint8Array(size)
    }
    if (offset !== received || size !== data.byteLength || received + chunk.byteLength > size) {
      throw malformed('snapshot chunk')
    }
    data.set(chunk, received)
    received += chunk.byteLength
    if (received === size) return { meta, data }
    if (chunk.byteLength === 0) throw malformed('snapshot chunk')
  }
}

function sourceOf(source: () => PageSource | null, clusterId: unknown): PageSource {
  const here = source()
  if (here === null) throw new VxmeshError('ERR_PEER', 'this host is not a server')
  if (clusterId !== here.clusterId) throw new VxmeshError('ERR_PEER', 'another cluster')
  return here
}
