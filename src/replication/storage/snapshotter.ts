// Decides when to save a snapshot and compact the log: when the entries applied since the last snapshot exceed both a
// fixed size and half of that snapshot's size. This bounds the log's length and the share of time spent on snapshots.

import { asVxmeshError, type VxmeshError } from '#model/errors.ts'
import type { LogIndex } from '#model/ids.ts'
import type { SnapshotMeta } from '#raft/types.ts'
import type { SavedSnapshot } from './snapshot-reading.ts'
import type { SnapshotStore } from './snapshot-store.ts'
import type { Wal } from './wal.ts'

type SnapshotterOptions = {
  readonly wal: Pick<Wal, 'compact'>
  readonly snapshots: Pick<SnapshotStore, 'latest' | 'save'>
  /** The position of the applied state; undefined when it is not known now. Called right after entries are applied. */
  readonly meta: () => SnapshotMeta | undefined
  /** The sections of the applied state at the time of the call, which follow while it changes. */
  readonly sections: () => AsyncIterableIterator<Uint8Array>
  /** The snapshot is durable. */
  readonly taken: (snapshot: SavedSnapshot) => void
  readonly failed: (err: VxmeshError) => void
  /** Bytes of applied entries below which no snapshot is taken. */
  readonly minBytes: number
}

export class Snapshotter {
  readonly #options: SnapshotterOptions
  #bytesSinceSnapshot = 0
  #saving: Promise<void> | null = null

  constructor(options: SnapshotterOptions) {
    this.#options = options
  }

  /** Counts applied entries. */
  count(bytes: number): void {
    this.#bytesSinceSnapshot += bytes
  }

  /** Counts applied entries, and starts a snapshot when enough have gathered. */
  applied(bytes: number): void {
    this.count(bytes)
    const { minBytes, snapshots } = this.#options
    const thresholdBytes = Math.max(minBytes, (snapshots.latest?.size ?? 0) / 2)
    if (this.#saving === null && this.#bytesSinceSnapshot >= thresholdBytes) this.#start()
  }

  /** The newest snapshot if it covers an entry, after taking one if it must be; null when none can be taken now. */
  async covering(index: LogIndex): Promise<SavedSnapshot | null> {
    const { snapshots } = this.#options
    const isCovered = (): boolean => (snapshots.latest?.meta.lastIndex ?? 0) >= index
    // A save in flight may have begun too early.
    for (let attempt = 0; attempt < 2 && !isCovered(); attempt++) {
      if (this.#saving === null) this.#start()
      await this.#saving
    }
    return isCovered() ? snapshots.latest : null
  }

  /** Waits for a save in flight. */
  async settled(): Promise<void> {
    await this.#saving
  }

  #start(): void {
    const { meta, sections } = this.#options
    const position = meta()
    if (position === undefined) return
    this.#bytesSinceSnapshot = 0
    this.#saving = this.#save(position, sections()).finally(() => {
      this.#saving = null
    })
  }

  /** A failed save changes nothing: the log is not compacted, and the next attempt comes after as many entries again. */
  async #save(meta: SnapshotMeta, sections: AsyncIterableIterator<Uint8Array>): Promise<void> {
    const { wal, snapshots, taken, failed } = this.#options
    try {
      const saved = await snapshots.save(meta, sections)
      taken(saved)
      await wal.compact(meta.lastIndex)
    } catch (err) {
      failed(asVxmeshError(err))
    }
  }
}
