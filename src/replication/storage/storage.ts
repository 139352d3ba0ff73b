// The replicated data that a host keeps on disk, opened together: the newest intact snapshot and the log after it.

import type { PeerId } from '#model/ids.ts'
import { diskFiles } from '#platform/file-layer.ts'
import type { SavedSnapshot } from './snapshot-reading.ts'
import { SnapshotStore } from './snapshot-store.ts'
import { Wal, type Recovered, type WalOptions } from './wal.ts'

export type Storage = {
  readonly wal: Wal
  readonly snapshots: SnapshotStore
  readonly recovered: Recovered
  /** The state that the recovered entries apply to. */
  readonly snapshot: SavedSnapshot | null
  /** Damaged snapshot files that this host does not need. */
  readonly damagedSnapshots: readonly string[]
}

/**
 * Opens the log and the snapshots of a data directory, creating both when there are none.
 *
 * A snapshot is always saved before the log is compacted (one taken here) or reset (one received). So the snapshot always
 * covers the entries that the log no longer has, and a snapshot ahead of the log replaces it here.
 * @throws ERR_STORAGE when anything acknowledged is damaged or missing, or belongs to another host or cluster
 */
export async function openStorage(
  dataDir: string,
  self: PeerId | null,
  options: Pick<WalOptions, 'clock' | 'files' | 'segmentBytes' | 'reserveBytes'>
): Promise<Storage> {
  const { store, latest, damaged } = await SnapshotStore.open(dataDir, options.files ?? diskFiles)
  const { wal, recovered } = await Wal.open(dataDir, { ...options, self, snapshot: latest, damagedSnapshots: damaged })
  if (recovered.origin !== null) store.belong(recovered.origin.clusterId)
  return { wal, snapshots: store, recovered, snapshot: latest, damagedSnapshots: damaged }
}
