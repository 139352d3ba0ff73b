// Durable record that this host promised to found cluster X. Its peers count on its vote from then on, so it is a founder
// even if it crashes before it learns that the cluster exists. The file is removed once the disk belongs to a cluster, and
// such a disk makes no promise again: a host that lost its log is never taken for a founder.

import { join } from 'node:path'
import type { ClusterId } from '#model/ids.ts'
import { readDurable, writeDurable } from '#platform/durable-file.ts'
import type { HostDisk } from '../storage/host-disk.ts'

export class FoundingIntent {
  readonly #disk: HostDisk
  readonly #path: string
  /** Serialises writes; a failed write does not prevent the next one. */
  #writing: Promise<unknown> = Promise.resolve()
  #recorded: ClusterId | null = null
  #cleared = false

  constructor(disk: HostDisk) {
    this.#disk = disk
    this.#path = join(disk.dataDir, 'founding')
  }

  /** The cluster that this host, since or before its last start, promised to found; null when there is none. */
  get recorded(): ClusterId | null {
    return this.#recorded
  }

  /** Reads the record of the run before. A truncated file counts as absent: its promise was never sent. @throws ERR_STORAGE */
  async load(): Promise<void> {
    const text = (await readDurable(this.#disk.files, this.#path))?.toString().trim() ?? ''
    if (/^[0-9a-f]{16}$/.test(text)) this.#recorded ??= text as ClusterId
  }

  /** Durable when it resolves; a later record replaces it. @returns false once the disk belongs to a cluster @throws ERR_STORAGE */
  record(cluster: ClusterId): Promise<boolean> {
    return this.#serialise(async () => {
      if (this.#cleared) return false
      if (this.#recorded !== cluster) await writeDurable(this.#disk.files, this.#path, `${cluster}\n`)
      this.#recorded = cluster
      return true
    })
  }

  /** The disk durably belongs to a cluster: removes the record and refuses new ones. @throws ERR_STORAGE */
  clear(): Promise<void> {
    return this.#serialise(async () => {
      this.#cleared = true
      await this.#disk.files.remove(this.#path)
    })
  }

  #serialise<T>(write: () => Promise<T>): Promise<T> {
    const written = this.#writing.then(write)
    this.#writing = written.catch(() => undefined)
    return written
  }
}
