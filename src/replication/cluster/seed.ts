// The seed of a cluster (docs/adr/0026): a backup that was restored into the data directory of a host that belongs to no
// cluster yet. Servers that found a cluster together all have it on their disks before the first one agrees; each begins
// its log after it, and then the file goes.

import { createHash } from 'node:crypto'
import { join } from 'node:path'
import { VxmeshError } from '#model/errors.ts'
import type { PeerId } from '#model/ids.ts'
import type { Clock } from '#platform/clock.ts'
import { readIfExists, removeFile, writeDurably } from '#platform/files.ts'
import { isCount, malformed } from '../codec/entry-codec.ts'
import type { Rpc } from '../transport/rpc.ts'
import { foundingOrigin } from './bootstrap.ts'
import { parseSnapshotFile, type ClusterSnapshot } from '../storage/snapshot-file.ts'
import { openStorage, type Storage } from '../storage/storage.ts'
import type { Origin } from '../storage/wal-record.ts'

export type Seed = {
  /** 16 hex digits that follow from every byte of it. */
  readonly id: string
  readonly bytes: Buffer
  readonly snapshot: ClusterSnapshot
}

const METHOD = 'seed'
const CHUNK_BYTES = 1024 * 1024
/** What a server can make this host allocate, as for any snapshot. */
const MAX_BYTES = 1024 * 1024 * 1024
const TIMEOUT_MS = 5_000

/** Where a restored backup waits for its cluster. */
export function seedPath(dataDir: string): string {
  return join(dataDir, 'restore.snap')
}

/** @throws ERR_STORAGE when it is damaged */
export async function readSeed(dataDir: string): Promise<Seed | null> {
  const bytes = await readIfExists(seedPath(dataDir))
  return bytes === null ? null : seedOf(seedPath(dataDir), bytes)
}

/** Durable when it resolves. @throws ERR_STORAGE */
export async function writeSeed(dataDir: string, bytes: Uint8Array): Promise<void> {
  await writeDurably(seedPath(dataDir), bytes)
}

/** Gives it to the other founders, chunk by chunk. */
export function serveSeed(rpc: Rpc, seed: () => Seed | null): void {
  rpc.register(METHOD, body => {
    const [id, offset] = Array.isArray(body) ? (body as unknown[]) : []
    const here = seed()
    if (here === null || here.id !== id || !isCount(offset))
      throw new VxmeshError('ERR_PEER', 'no such restored backup')
    return Promise.resolve([here.bytes.byteLength, here.bytes.subarray(offset, offset + CHUNK_BYTES)])
  })
}

/** Gets it from another host; on this one's disk when it resolves. @throws ERR_PEER, ERR_TIMEOUT, ERR_TOO_LARGE, ERR_STORAGE */
export async function takeSeed(
  rpc: Rpc,
  { peer, id, dataDir }: { readonly peer: PeerId; readonly id: string; readonly dataDir: string }
): Promise<Seed> {
  const seed = await fetchSeed(rpc, peer, id)
  await writeSeed(dataDir, seed.bytes)
  return seed
}

/**
 * Makes a founder's log begin after the seed; returns the storage opened anew then. The file goes when that is done, so
 * that a crash on the way repeats it. A host that joined the founders later gets the state from them.
 * @throws ERR_STORAGE, also when the cluster did not begin with this seed
 */
export async function installRestore(
  seed: Seed,
  p: {
    readonly clock: Clock
    readonly storage: Storage
    readonly origin: Origin
    readonly founder: boolean
    readonly dataDir: string
    readonly self: PeerId
  }
): Promise<Storage> {
  const { clock, origin, founder, dataDir, self } = p
  if (foundingOrigin(origin.configuration.voters, seed.id).clusterId !== origin.clusterId) {
    const what = `this host belongs to cluster ${origin.clusterId}, which did not begin with it`
    throw new VxmeshError('ERR_STORAGE', `${seedPath(dataDir)} cannot be used: ${what}; remove it`)
  }
  let { storage } = p
  const { commitIndex, entries, snapshot } = storage.recovered.durable
  if (founder && snapshot === null && commitIndex === 0 && entries.length === 0) {
    await storage.snapshots.save({ ...seed.snapshot.meta, configuration: origin.configuration }, seed.snapshot.data)
    await storage.wal.close()
    // The log is behind the snapshot: opening them makes it begin there.
    storage = await openStorage(dataDir, self, { clock })
  }
  await removeFile(seedPath(dataDir))
  return storage
}

/** @throws ERR_PEER, ERR_TIMEOUT, ERR_TOO_LARGE; ERR_STORAGE when what came is not what was asked for */
async function fetchSeed(rpc: Rpc, peer: PeerId, id: string): Promise<Seed> {
  let bytes = Buffer.alloc(0)
  for (let received = 0; ;) {
    const answer = await rpc.call({ peer, method: METHOD, body: [id, received], timeoutMs: TIMEOUT_MS })
    const [size, chunk] = Array.isArray(answer) ? (answer as unknown[]) : []
    if (!isCount(size) || !(chunk instanceof Uint8Array)) throw malformed('chunk of a restored backup')
    if (size > MAX_BYTES) throw new VxmeshError('ERR_TOO_LARGE', `a restored backup of ${size} bytes`)
    if (received === 0) bytes = Buffer.alloc(size)
    if (size !== bytes.byteLength || chunk.byteLength === 0 || received + chunk.byteLength > size) {
      throw malformed('chunk of a restored backup')
    }
    bytes.set(chunk, received)
    received += chunk.byteLength
    if (received < size) continue
    const seed = await seedOf(`the restored backup of ${peer}`, bytes)
    if (seed.id === id) return seed
    throw malformed('restored backup')
  }
}

async function seedOf(what: string, bytes: Buffer): Promise<Seed> {
  const snapshot = await parseSnapshotFile(what, bytes)
  // The file ends with a digest of all before.
  const id = createHash('sha256').update(bytes.subarray(-32)).digest('hex').slice(0, 16)
  return { id, bytes, snapshot }
}
