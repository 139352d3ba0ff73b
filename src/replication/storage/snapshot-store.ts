// The snapshots of a host: files in `snapshot/` of the data directory, each named by the last entry it covers. A new one
// is written to a temporary file, synced and renamed, and the directory synced; only then is the previous one removed.

import { join } from 'node:path'
import { asVxmeshError, VxmeshError } from '#model/errors.ts'
import type { ClusterId } from '#model/ids.ts'
import { diskFiles, type FileLayer } from '#platform/file-layer.ts'
import { storageError } from '#platform/storage-error.ts'
import type { SnapshotMeta } from '#raft/types.ts'
import { IncomingSnapshot, type ReceivedSnapshot } from './incoming-snapshot.ts'
import { checkSnapshotFile, sectionsOf, writeSnapshotFile, type SavedSnapshot } from './snapshot-reading.ts'

type OpenedSnapshots = {
  readonly store: SnapshotStore
  /** The newest intact snapshot. */
  readonly latest: SavedSnapshot | null
  /** Damaged files newer than `latest`; kept until the next save, for inspection. */
  readonly damaged: readonly string[]
}

const TEMPORARY = '.snap.new'

export class SnapshotStore {
  readonly files: FileLayer
  readonly #dir: string
  #clusterId: ClusterId | null
  #latest: SavedSnapshot | null
  #saving: Promise<unknown> = Promise.resolve()
  #received = 0

  private constructor(files: FileLayer, dir: string, latest: SavedSnapshot | null) {
    this.files = files
    this.#dir = dir
    this.#clusterId = latest?.clusterId ?? null
    this.#latest = latest
  }

  /**
   * Opens the snapshots of a data directory and removes partial files that a crash left. Damage is not an error here: the
   * log decides whether the host can do without the snapshot.
   * @throws ERR_STORAGE when the directory or a file cannot be read
   */
  static async open(dataDir: string, files: FileLayer = diskFiles): Promise<OpenedSnapshots> {
    const dir = join(dataDir, 'snapshot')
    try {
      await files.ensureDirectory(dir)
      await files.syncDirectory(dataDir)
      const names = await files.list(dir)
      for (const name of names.filter(name => name.endsWith(TEMPORARY))) await files.remove(join(dir, name))
      const { latest, damaged } = await newestIntact(files, dir, names)
      // A file that is visible may not be durable yet, and the log is about to rely on it.
      await files.syncDirectory(dir)
      return { store: new SnapshotStore(files, dir, latest), latest, damaged }
    } catch (err) {
      throw storageError(`the snapshots in ${dir} cannot be read`, err)
    }
  }

  /** The newest snapshot that is durable here. */
  get latest(): SavedSnapshot | null {
    return this.#latest
  }

  /** Sets the cluster whose state is saved here. @throws ERR_STORAGE when the snapshot is of another cluster */
  belong(clusterId: ClusterId): void {
    if (this.#clusterId !== null && this.#clusterId !== clusterId) {
      const what = `holds the state of cluster ${this.#clusterId}, and this host belongs to cluster ${clusterId}`
      throw new VxmeshError('ERR_STORAGE', `${this.#dir} ${what}`)
    }
    this.#clusterId = clusterId
  }

  /** The sections of a snapshot file. @throws ERR_STORAGE when any byte is damaged, at the end at the latest */
  sections({ path }: { readonly path: string }): AsyncGenerator<Uint8Array> {
    return sectionsOf(this.files, path)
  }

  /**
   * Saves a snapshot; resolves with it, or a newer one, once that is durable. Calls run in order. The sections are read to
   * the end or returned. After an error the previous snapshot is still there, and a later save may succeed.
   * @throws ERR_STORAGE
   */
  save(meta: SnapshotMeta, sections: AsyncIterableIterator<Uint8Array>): Promise<SavedSnapshot> {
    return this.#inOrder(async () => {
      const clusterId = this.#clusterId
      if (clusterId === null) throw new Error('a snapshot is saved before its cluster is known')
      if (this.#latest !== null && meta.lastIndex <= this.#latest.meta.lastIndex) {
        await sections.return?.()
        return this.#latest
      }
      const path = join(this.#dir, nameOf(meta.lastIndex))
      try {
        await this.files.remove(`${path}.new`)
        const written = await writeSnapshotFile(this.files, `${path}.new`, { clusterId, meta, sections })
        return await this.#publish(written)
      } catch (err) {
        throw storageError(`${path} cannot be written`, err)
      }
    })
  }

  /** A new file for a snapshot of another host. @throws ERR_STORAGE */
  receive(): Promise<IncomingSnapshot> {
    this.#received += 1
    return IncomingSnapshot.create(this.files, join(this.#dir, `received-${this.#received}${TEMPORARY}`))
  }

  /** Makes a received snapshot the newest, even instead of one of the same index. @throws ERR_STORAGE */
  adopt(received: ReceivedSnapshot): Promise<SavedSnapshot> {
    return this.#inOrder(async () => {
      if (this.#latest !== null && received.meta.lastIndex < this.#latest.meta.lastIndex) {
        await this.files.remove(received.path)
        return this.#latest
      }
      try {
        return await this.#publish(received)
      } catch (err) {
        throw storageError(`${received.path} cannot be kept`, err)
      }
    })
  }

  #inOrder(run: () => Promise<SavedSnapshot>): Promise<SavedSnapshot> {
    const result = this.#saving.then(run)
    this.#saving = result.catch(() => undefined)
    return result
  }

  /** Renames a durable temporary file, and removes all older ones. */
  async #publish(written: SavedSnapshot): Promise<SavedSnapshot> {
    const name = nameOf(written.meta.lastIndex)
    const latest = { ...written, path: join(this.#dir, name) }
    await this.files.rename(written.path, latest.path)
    await this.files.syncDirectory(this.#dir)
    this.#latest = latest
    for (const other of snapshotNames(await this.files.list(this.#dir))) {
      if (other !== name) await this.files.remove(join(this.#dir, other))
    }
    return latest
  }
}

async function newestIntact(
  files: FileLayer,
  dir: string,
  names: readonly string[]
): Promise<{ readonly latest: SavedSnapshot | null; readonly damaged: string[] }> {
  const damaged: string[] = []
  for (const name of snapshotNames(names).sort().reverse()) {
    const path = join(dir, name)
    const latest = await checkOrNull(files, path)
    if (latest !== null && nameOf(latest.meta.lastIndex) === name) return { latest, damaged }
    damaged.push(path)
  }
  return { latest: null, damaged }
}

async function checkOrNull(files: FileLayer, path: string): Promise<SavedSnapshot | null> {
  try {
    return await checkSnapshotFile(files, path)
  } catch (err) {
    if (asVxmeshError(err).code === 'ERR_STORAGE') return null
    throw err
  }
}

function snapshotNames(names: readonly string[]): string[] {
  return names.filter(name => /^[0-9]{16}\.snap$/.test(name))
}

function nameOf(lastIndex: number): string {
  return `${lastIndex.toString().padStart(16, '0')}.snap`
}
