// The seed of a cluster (docs/adr/0026): a backup restored into the data directory of a host that belongs to no cluster
// yet. All founders have it on their disks before the first one agrees to found; each starts its log after it, and then
// removes the file.

import { join } from 'node:path'
import { VxmeshError } from '#model/errors.ts'
import type { LogIndex, PeerId } from '#model/ids.ts'
import type { Clock } from '#platform/clock.ts'
import { isErrno, storageError } from '#platform/storage-error.ts'
import { fetchSnapshot } from '../feed/snapshot-transfer.ts'
import type { Rpc } from '../transport/rpc.ts'
import { foundingOrigin } from './bootstrap.ts'
import type { HostDisk } from '../storage/host-disk.ts'
import { IncomingSnapshot } from '../storage/incoming-snapshot.ts'
import { SNAPSHOT_FILE_VERSION, type SnapshotHead } from '../storage/snapshot-file.ts'
import { checkSnapshotFile, sectionsOf, writeSnapshotFile, type SavedSnapshot } from '../storage/snapshot-reading.ts'
import { openStorage, type Storage } from '../storage/storage.ts'
import type { Origin } from '../storage/wal-record.ts'

export type Seed = {
  /** The content id of its file. */
  readonly id: string
  readonly snapshot: SavedSnapshot
}

const TEMPORARY = '.new'

/** The restored backup, until its cluster is founded. */
export function seedPath(dataDir: string): string {
  return join(dataDir, 'restore.snap')
}

/** Null when no backup was restored. @throws ERR_STORAGE when it is damaged */
export async function readSeed({ dataDir, files }: HostDisk): Promise<Seed | null> {
  const path = seedPath(dataDir)
  try {
    const snapshot = await checkSnapshotFile(files, path)
    if (snapshot.version === SNAPSHOT_FILE_VERSION) return { id: snapshot.id, snapshot }
  } catch (err) {
    if (isErrno(err, 'ENOENT')) return null
    throw storageError(`cannot read ${path}`, err)
  }
  const what = 'was written by an earlier version; remove it and run "vxmesh snapshot restore" again'
  throw new VxmeshError('ERR_STORAGE', `${path} ${what}`)
}

/** Durable when it resolves. @throws ERR_STORAGE */
export async function writeSeed(
  { dataDir, files }: HostDisk,
  snapshot: SnapshotHead & { readonly sections: AsyncIterable<Uint8Array> }
): Promise<Seed> {
  const path = seedPath(dataDir)
  try {
    await files.remove(`${path}${TEMPORARY}`)
    return await publish({ dataDir, files }, await writeSnapshotFile(files, `${path}${TEMPORARY}`, snapshot))
  } catch (err) {
    throw storageError(`cannot write ${path}`, err)
  }
}

/** Fetches the seed from other hosts; durable here when it resolves. @throws ERR_PEER, ERR_TIMEOUT, ERR_TOO_LARGE, ERR_STORAGE */
export async function downloadSeed(
  rpc: Rpc,
  p: { readonly peers: readonly PeerId[]; readonly id: string; readonly disk: HostDisk; readonly signal: AbortSignal }
): Promise<Seed> {
  const { peers, id, disk, signal } = p
  const path = `${seedPath(disk.dataDir)}${TEMPORARY}`
  const received = await fetchSnapshot(rpc, {
    clusterId: null,
    atLeast: 0 as LogIndex,
    id,
    servers: peers,
    receive: () => IncomingSnapshot.create(disk.files, path),
    signal
  })
  try {
    return await publish(disk, received)
  } catch (err) {
    throw storageError(`cannot write ${seedPath(disk.dataDir)}`, err)
  }
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
    const meta = { ...seed.snapshot.meta, configuration: origin.configuration }
    await storage.snapshots.save(meta, sectionsOf(disk.files, path))
    await storage.wal.close()
    // Opening them finds the log behind the snapshot and starts it there.
    storage = await openStorage(disk.dataDir, self, { clock, files: disk.files })
  }
  await disk.files.remove(path)
  return storage
}

/** Renames a durable temporary file to the seed. */
async function publish({ dataDir, files }: HostDisk, written: SavedSnapshot): Promise<Seed> {
  const snapshot = { ...written, path: seedPath(dataDir) }
  await files.rename(written.path, snapshot.path)
  await files.syncDirectory(dataDir)
  return { id: snapshot.id, snapshot }
}
