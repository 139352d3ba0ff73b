// Decides when to save a snapshot and compact the log: when the entries applied since the last snapshot exceed both a
// fixed size and half of that snapshot's size. This bounds the log's length and the share of time spent on snapshots.

import { asVxmeshError, type VxmeshError } from '#model/errors.ts'
import type { Snapshot, SnapshotMeta } from '#raft/types.ts'
import type { SnapshotStore } from './snapshot-store.ts'
import type { Wal } from './wal.ts'

type SnapshotterOptions = {
  readonly wal: Wal
  readonly snapshots: SnapshotStore
  /** The position of the applied state; undefined when it is not known now. Called right after entries are applied. */
  readonly meta: () => SnapshotMeta | undefined
  /** Captures the applied state at the time of the call; its bytes follow asynchronously. */
  readonly serialise: () => Promise<Uint8Array>
  /** The snapshot is durable. */
  readonly taken: (snapshot: Snapshot) => void
  readonly failed: (err: VxmeshError) => void
  /** Bytes of applied entries below which no snapshot is taken. */
  readonly minBytes: number
}

export class Snapshotter {
  readonly #options: SnapshotterOptions
  #bytesSinceSnapshot = 0
  #lastSnapshotBytes: number
  #saving: Promise<void> | null = null

  /** @param lastSnapshotBytes size of the snapshot on disk, 0 without one */
  constructor(options: SnapshotterOptions, lastSnapshotBytes: number) {
    this.#options = options
    this.#lastSnapshotBytes = lastSnapshotBytes
  }

  /** Counts applied entries, and starts a snapshot when enough have gathered. */
  applied(bytes: number): void {
    this.#bytesSinceSnapshot += bytes
    const thresholdBytes = Math.max(this.#options.minBytes, this.#lastSnapshotBytes / 2)
    if (this.#saving !== null || this.#bytesSinceSnapshot < thresholdBytes) return
    const meta = this.#options.meta()
    if (meta === undefined) return
    this.#bytesSinceSnapshot = 0
    this.#saving = this.#save(meta, this.#options.serialise()).finally(() => {
      this.#saving = null
    })
  }

  /** Waits for a save in flight. */
  async settled(): Promise<void> {
    await this.#saving
  }

  /** A failed save changes nothing: the log is not compacted, and the next attempt comes after as many entries again. */
  async #save(meta: SnapshotMeta, pending: Promise<Uint8Array>): Promise<void> {
    const { wal, snapshots, taken, failed } = this.#options
    try {
      const data = await pending
      await snapshots.save(meta, data)
      this.#lastSnapshotBytes = data.byteLength
      taken({ meta, data })
      await wal.compact(meta.lastIndex)
    } catch (err) {
      failed(asVxmeshError(err))
    }
  }
}
