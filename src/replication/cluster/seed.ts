// The seed of a cluster (docs/adr/0026): a backup restored into the data directory of a host that belongs to no cluster
// yet. All founders have it on their disks before the first one agrees to found; each starts its log after it, and then
// removes the file.

import { createHash } from 'node:crypto'
import { join } from 'node:path'
import { VxmeshError } from '#model/errors.ts'
import type { PeerId } from '#model/ids.ts'
import type { Clock } from '#platform/clock.ts'
import { readDurable, writeDurable } from '#platform/durable-file.ts'
import { isCount, malformed } from '../codec/entry-codec.ts'
import { MAX_SNAPSHOT_BYTES } from '../codec/limits.ts'
import type { Rpc } from '../transport/rpc.ts'
import { foundingOrigin } from './bootstrap.ts'
import type { HostDisk } from '../storage/host-disk.ts'
import { parseSnapshotFile, type ClusterSnapshot } from '../storage/snapshot-file.ts'
import { openStorage, type Storage } from '../storage/storage.ts'
import type { Origin } from '../storage/wal-record.ts'

export type Seed = {
  /** 16 hex digits derived from all bytes. */
  readonly id: string
  readonly bytes: Buffer
  readonly snapshot: ClusterSnapshot
}

const METHOD = 'seed'
const CHUNK_BYTES = 1024 * 1024
const TIMEOUT_MS = 5_000

/** The restored backup, until its cluster is founded. */
export function seedPath(dataDir: string): string {
  return join(dataDir, 'restore.snap')
}

/** Null when no backup was restored. @throws ERR_STORAGE when it is damaged */
export async function readSeed({ dataDir, files }: HostDisk): Promise<Seed | null> {
  const bytes = await readDurable(files, seedPath(dataDir))
  return bytes === null ? null : seedOf(seedPath(dataDir), bytes)
}

/** Durable when it resolves. @throws ERR_STORAGE */
export async function writeSeed({ dataDir, files }: HostDisk, bytes: Uint8Array): Promise<void> {
  await writeDurable(files, seedPath(dataDir), bytes)
}

/** Serves the seed to the other founders in chunks. */
export function serveSeed(rpc: Rpc, seed: () => Seed | null): void {
  rpc.register(METHOD, body => {
    const [id, offset] = Array.isArray(body) ? (body as unknown[]) : []
    const here = seed()
    if (here === null || here.id !== id || !isCount(offset))
      throw new VxmeshError('ERR_PEER', 'no such restored backup')
    return Promise.resolve([here.bytes.byteLength, here.bytes.subarray(offset, offset + CHUNK_BYTES)])
  })
}

/** Fetches the seed from another host; durable here when it resolves. @throws ERR_PEER, ERR_TIMEOUT, ERR_TOO_LARGE, ERR_STORAGE */
export async function downloadSeed(
  rpc: Rpc,
  { peer, id, disk }: { readonly peer: PeerId; readonly id: string; readonly disk: HostDisk }
): Promise<Seed> {
  const seed = await fetchSeed(rpc, peer, id)
  await writeSeed(disk, seed.bytes)
  return seed
}

/**
 * Starts a founder's log after the seed, and returns the storage that was opened again for it. Removes the file last, so
 * that the start after a crash repeats it. A host that joined the founders later gets the state from them.
 * @throws ERR_STORAGE, also when the cluster did not begin with this seed
 */
export async function installRestore(
  seed: Seed,
  p: {
    readonly clock: Clock
    readonly storage: Storage
    readonly origin: Origin
    readonly founder: boolean
    readonly disk: HostDisk
    readonly self: PeerId
  }
): Promise<Storage> {
  const { clock, origin, founder, disk, self } = p
  const path = seedPath(disk.dataDir)
  if (foundingOrigin(origin.configuration.voters, seed.id).clusterId !== origin.clusterId) {
    const what = `this host belongs to cluster ${origin.clusterId}, which did not start from it`
    throw new VxmeshError('ERR_STORAGE', `${path} cannot be used: ${what}; remove it`)
  }
  let { storage } = p
  const { commitIndex, entries, snapshot } = storage.recovered.durable
  if (founder && snapshot === null && commitIndex === 0 && entries.length === 0) {
    await storage.snapshots.save({ ...seed.snapshot.meta, configuration: origin.configuration }, seed.snapshot.data)
    await storage.wal.close()
    // Opening them finds the log behind the snapshot and starts it there.
    storage = await openStorage(disk.dataDir, self, { clock, files: disk.files })
  }
  await disk.files.remove(path)
  return storage
}

/** @throws ERR_PEER, ERR_TIMEOUT, ERR_TOO_LARGE; ERR_STORAGE when the answer is damaged */
async function fetchSeed(rpc: Rpc, peer: PeerId, id: string): Promise<Seed> {
  let bytes = Buffer.alloc(0)
  for (let received = 0; ;) {
    const answer = await rpc.call({ peer, method: METHOD, body: [id, received], timeoutMs: TIMEOUT_MS })
    const [size, chunk] = Array.isArray(answer) ? (answer as unknown[]) : []
    if (!isCount(size) || !(chunk instanceof Uint8Array)) throw malformed('chunk of a restored backup')
    if (size > MAX_SNAPSHOT_BYTES) throw new VxmeshError('ERR_TOO_LARGE', `a restored backup of ${size} bytes`)
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
  // A snapshot file ends with a digest of all bytes before it.
  const id = createHash('sha256').update(bytes.subarray(-32)).digest('hex').slice(0, 16)
  return { id, bytes, snapshot }
}
