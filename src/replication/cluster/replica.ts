// This host's copy of the cluster: the log and snapshots on its disk and the state applied from them. It outlives roles;
// between two of them the storage is closed and opened again.

import { setImmediate as nextTurn } from 'node:timers/promises'
import type { LogIndex } from '#model/ids.ts'
import type { Logger } from '#platform/log.ts'
import type { Configuration, Entry, SnapshotMeta } from '#raft/types.ts'
import { entryBytes } from '../codec/limits.ts'
import type { AppliedLog } from '../consensus/applied-log.ts'
import type { AppliedEntry } from '../consensus/propose-rpc.ts'
import type { SavedSnapshot } from '../storage/snapshot-reading.ts'
import { Snapshotter } from '../storage/snapshotter.ts'
import type { Storage } from '../storage/storage.ts'

/** Applied at a time on a start: a few milliseconds of work. */
const SLICE_ENTRIES = 512

export type ReplicaOptions = {
  readonly storage: Storage
  readonly applied: AppliedLog
  /** Bytes of entries after which the state is saved as a snapshot and the log before it dropped. */
  readonly snapshotBytes: number
  /** The metadata of a snapshot of the state applied now; undefined when the role cannot tell. */
  readonly snapshotMeta: () => SnapshotMeta | undefined
  /** A snapshot of the applied state is durable. */
  readonly snapshotTaken: (snapshot: SavedSnapshot) => void
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

  /**
   * Brings the state up to the committed entries that the storage holds, a slice at a time. A role then applies them again,
   * which skips them. @param origin the cluster's first configuration @throws ERR_STORAGE
   */
  async rewind(origin: Configuration): Promise<void> {
    const { applied } = this
    const { recovered, snapshot, snapshots } = this.#storage
    const { entries, commitIndex } = recovered.durable
    applied.begin(recovered.durable.snapshot?.configuration ?? origin)
    if (snapshot !== null && snapshot.meta.lastIndex > applied.index) {
      applied.adopt(snapshot.meta, await applied.prepare(snapshots.sections(snapshot)))
    }
    const committed = entries.filter(({ index }) => index <= commitIndex)
    for (let at = 0; at < committed.length; at += SLICE_ENTRIES) {
      const slice = committed.slice(at, at + SLICE_ENTRIES)
      applied.apply(slice)
      this.#snapshotter.count(bytesOf(slice))
      await nextTurn()
    }
  }

  /** Applies committed entries. @returns an outcome each */
  apply(entries: readonly Entry[]): AppliedEntry[] {
    const before = this.applied.index
    const results = this.applied.apply(entries)
    this.#snapshotter.applied(bytesOf(entries, before))
    return results
  }

  /** The newest snapshot if it covers an entry, after taking one if it must be; null when none can be taken now. */
  snapshotCovering(index: LogIndex): Promise<SavedSnapshot | null> {
    return index > this.applied.index ? Promise.resolve(null) : this.#snapshotter.covering(index)
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
    const { wal, snapshots } = this.#storage
    return new Snapshotter({
      wal,
      snapshots,
      meta: snapshotMeta,
      sections: () => this.applied.snapshot(),
      taken: taken => {
        logger.info({ lastIndex: taken.meta.lastIndex, bytes: taken.size }, 'snapshot saved')
        snapshotTaken(taken)
      },
      failed: err => logger.error({ err }, 'snapshot not saved; the log is kept'),
      minBytes: snapshotBytes
    })
  }
}

/** @param after the entries up to it do not count */
function bytesOf(entries: readonly Entry[], after = 0): number {
  return entries.reduce((bytes, entry) => (entry.index > after ? bytes + entryBytes(entry) : bytes), 0)
}
