// This host's copy of the cluster: the log and snapshots on its disk and the state applied from them. It outlives roles;
// between two of them the storage is closed and opened again.

import type { Logger } from '#platform/log.ts'
import type { Configuration, Entry, Snapshot, SnapshotMeta } from '#raft/types.ts'
import { entryBytes } from '../codec/limits.ts'
import type { AppliedLog } from '../consensus/applied-log.ts'
import type { Applied } from '../consensus/propose-rpc.ts'
import { Snapshotter } from '../storage/snapshotter.ts'
import type { Storage } from '../storage/storage.ts'

export type ReplicaOptions = {
  readonly storage: Storage
  readonly applied: AppliedLog
  /** Bytes of entries after which the state is saved as a snapshot and the log before it dropped. */
  readonly snapshotBytes: number
  /** The metadata of a snapshot of the state applied now; undefined when the role cannot tell. */
  readonly snapshotMeta: () => SnapshotMeta | undefined
  /** A snapshot of the applied state is durable. */
  readonly snapshotTaken: (snapshot: Snapshot) => void
  readonly logger: Logger
}

export class Replica {
  readonly #options: ReplicaOptions
  #storage: Storage
  #snapshotter: Snapshotter

  constructor(options: ReplicaOptions) {
    this.#options = options
    this.#storage = options.storage
    this.#snapshotter = this.#newSnapshotter()
  }

  get storage(): Storage {
    return this.#storage
  }

  get applied(): AppliedLog {
    return this.#options.applied
  }

  /** Goes on with a storage that was opened again; the one before must be closed. */
  use(storage: Storage): void {
    if (storage === this.#storage) return
    this.#storage = storage
    this.#snapshotter = this.#newSnapshotter()
  }

  /** Makes the state ready for the entries that the storage holds. @param origin the cluster's first configuration */
  rewind(origin: Configuration): void {
    const { recovered, snapshot } = this.#storage
    this.applied.begin(recovered.durable.snapshot?.configuration ?? origin)
    if (snapshot !== null && snapshot.meta.lastIndex > this.applied.index) this.applied.restore(snapshot)
  }

  /** Applies committed entries. @returns an outcome each */
  apply(entries: readonly Entry[]): Applied[] {
    const results = this.applied.apply(entries)
    this.#snapshotter.applied(entries.reduce((bytes, entry) => bytes + entryBytes(entry), 0))
    return results
  }

  /** Waits for a snapshot that is being saved. */
  settled(): Promise<void> {
    return this.#snapshotter.settled()
  }

  close(): Promise<void> {
    return this.#storage.wal.close()
  }

  #newSnapshotter(): Snapshotter {
    const { logger, snapshotBytes, snapshotMeta, snapshotTaken } = this.#options
    const { wal, snapshots, snapshot } = this.#storage
    return new Snapshotter(
      {
        wal,
        snapshots,
        meta: snapshotMeta,
        serialise: () => this.applied.snapshot(),
        taken: taken => {
          logger.info({ lastIndex: taken.meta.lastIndex, bytes: taken.data.byteLength }, 'snapshot saved')
          snapshotTaken(taken)
        },
        failed: err => logger.error({ err }, 'snapshot not saved; the log is kept'),
        minBytes: snapshotBytes
      },
      snapshot?.data.byteLength ?? 0
    )
  }
}
