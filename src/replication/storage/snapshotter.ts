// When the state is saved as a snapshot and the log before it is let go: when the entries since the last one weigh more
// than a bound and than half of that snapshot, so that neither log nor work grows without end.

import { asVxmeshError, type VxmeshError } from '#model/errors.ts'
import type { Snapshot, SnapshotMeta } from '#raft/types.ts'
import type { SnapshotStore } from './snapshot-store.ts'
import type { Wal } from './wal.ts'

/** What it is of is fixed; its bytes come in their time. */
export type TakenSnapshot = { readonly meta: SnapshotMeta; readonly data: Promise<Uint8Array> }

export type SnapshotterOptions = {
  readonly wal: Wal
  readonly snapshots: SnapshotStore
  /** The applied state, and what it stands for; null when that cannot be said now. Called right after entries are applied. */
  readonly take: () => TakenSnapshot | null
  /** It is durable. */
  readonly taken: (snapshot: Snapshot) => void
  readonly failed: (err: VxmeshError) => void
  /** The least weight of entries that is worth a snapshot, bytes. */
  readonly minBytes: number
}

export class Snapshotter {
  readonly #options: SnapshotterOptions
  #bytes = 0
  #lastBytes: number
  #saving: Promise<void> | null = null

  /** @param lastBytes of the snapshot that is there already */
  constructor(options: SnapshotterOptions, lastBytes: number) {
    this.#options = options
    this.#lastBytes = lastBytes
  }

  /** Entries of so many bytes have been applied. */
  applied(bytes: number): void {
    this.#bytes += bytes
    if (this.#saving !== null || this.#bytes < Math.max(this.#options.minBytes, this.#lastBytes / 2)) return
    const snapshot = this.#options.take()
    if (snapshot === null) return
    this.#bytes = 0
    this.#saving = this.#save(snapshot).finally(() => {
      this.#saving = null
    })
  }

  /** Waits for a save under way. */
  async settled(): Promise<void> {
    await this.#saving
  }

  /** A failed save has changed nothing: the log is kept whole, and the next chance is after as many entries again. */
  async #save({ meta, data: coming }: TakenSnapshot): Promise<void> {
    const { wal, snapshots, taken, failed } = this.#options
    try {
      const data = await coming
      await snapshots.save(meta, data)
      this.#lastBytes = data.byteLength
      taken({ meta, data })
      await wal.compact(meta.lastIndex)
    } catch (err) {
      failed(asVxmeshError(err))
    }
  }
}
