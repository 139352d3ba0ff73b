// A founder's word. Who has told others that it founds a cluster with them is a founder of it, also when it dies before it
// hears that the cluster is there: the others count on its vote. The word lies in the data directory until the disk
// belongs to a cluster; a disk that has belonged somewhere has none, so that one which lost its log is never a founder's.

import { join } from 'node:path'
import type { ClusterId } from '#model/ids.ts'
import { readIfExists, removeFile, writeDurably } from '#platform/files.ts'

export class FoundingIntent {
  readonly #path: string
  /** One write after the other; a failed one keeps nobody from the next. */
  #writing: Promise<unknown> = Promise.resolve()
  #given: ClusterId | null = null
  #redeemed = false

  constructor(dataDir: string) {
    this.#path = join(dataDir, 'founding')
  }

  /** The cluster that this host, in this life or the last, has said it would found; null: none. */
  get recorded(): ClusterId | null {
    return this.#given
  }

  /** Reads what an earlier life has said. Half a word is none: it was not given yet. @throws ERR_STORAGE */
  async load(): Promise<void> {
    const text = (await readIfExists(this.#path))?.toString().trim() ?? ''
    if (/^[0-9a-f]{16}$/.test(text)) this.#given ??= text as ClusterId
  }

  /** Durable when it resolves; the last word counts. @returns false when the disk belongs somewhere by now @throws ERR_STORAGE */
  record(cluster: ClusterId): Promise<boolean> {
    const given = this.#writing.then(async () => {
      if (this.#redeemed) return false
      if (this.#given !== cluster) await writeDurably(this.#path, `${cluster}\n`)
      this.#given = cluster
      return true
    })
    this.#writing = given.catch(() => undefined)
    return given
  }

  /** The disk belongs to a cluster, and durably so: from now on no word is given, and none is left. @throws ERR_STORAGE */
  clear(): Promise<void> {
    const redeemed = this.#writing.then(async () => {
      this.#redeemed = true
      await removeFile(this.#path)
    })
    this.#writing = redeemed.catch(() => undefined)
    return redeemed
  }
}
