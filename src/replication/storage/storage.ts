// All that a host keeps of its cluster, opened together: the newest whole snapshot and the log that goes on after it.

import type { PeerId } from '#model/ids.ts'
import { diskFiles } from '#platform/file-layer.ts'
import type { ClusterSnapshot } from './snapshot-file.ts'
import { SnapshotStore } from './snapshot-store.ts'
import { Wal, type Recovered, type WalOptions } from './wal.ts'

export type Storage = {
  readonly wal: Wal
  readonly snapshots: SnapshotStore
  readonly recovered: Recovered
  /** The state that the recovered entries follow. */
  readonly snapshot: ClusterSnapshot | null
  /** Snapshot files that are damaged, and that this host can do without. */
  readonly damagedSnapshots: readonly string[]
}

/**
 * Opens the log and the snapshots of a data directory, making both when there are none.
 *
 * Whoever takes a snapshot saves it first, then compacts the log; whoever receives one saves it first, then resets the
 * log. So a snapshot is never behind what the log needs, and one that is ahead of the log takes its place here.
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
