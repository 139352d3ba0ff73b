// The snapshots of a host: files in `snapshot/` of the data directory, each named by the last entry it covers. A new one
// is written to a temporary file, synced and renamed, and the directory synced; only then is the previous one removed.

import { join } from 'node:path'
import { asVxmeshError, VxmeshError } from '#model/errors.ts'
import type { ClusterId } from '#model/ids.ts'
import { diskFiles, type FileLayer } from '#platform/file-layer.ts'
import { storageError } from '#platform/storage-error.ts'
import type { SnapshotMeta } from '#raft/types.ts'
import { parseSnapshotFile, writeSnapshotFile, type ClusterSnapshot } from './snapshot-file.ts'

type OpenedSnapshots = {
  readonly store: SnapshotStore
  /** The newest intact snapshot. */
  readonly latest: ClusterSnapshot | null
  /** Damaged files newer than `latest`; kept until the next save, for inspection. */
  readonly damaged: readonly string[]
}

export class SnapshotStore {
  readonly #files: FileLayer
  readonly #dir: string
  #clusterId: ClusterId | null
  #lastIndex: number
  #saving: Promise<void> = Promise.resolve()

  private constructor(files: FileLayer, dir: string, latest: ClusterSnapshot | null) {
    this.#files = files
    this.#dir = dir
    this.#clusterId = latest?.clusterId ?? null
    this.#lastIndex = latest?.meta.lastIndex ?? 0
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
      for (const name of names.filter(name => name.endsWith('.snap.new'))) await files.remove(join(dir, name))
      const { latest, damaged } = await newestIntact(files, dir, names)
      // A file that is visible may not be durable yet, and the log is about to rely on it.
      await files.syncDirectory(dir)
      return { store: new SnapshotStore(files, dir, latest), latest, damaged }
    } catch (err) {
      throw storageError(`the snapshots in ${dir} cannot be read`, err)
    }
  }

  /** Sets the cluster whose state is saved here. @throws ERR_STORAGE when the snapshot is of another cluster */
  belong(clusterId: ClusterId): void {
    if (this.#clusterId !== null && this.#clusterId !== clusterId) {
      const what = `holds the state of cluster ${this.#clusterId}, and this host belongs to cluster ${clusterId}`
      throw new VxmeshError('ERR_STORAGE', `${this.#dir} ${what}`)
    }
    this.#clusterId = clusterId
  }

  /**
   * Saves a snapshot; resolves when it, or a newer one, is durable. Calls run in order; the data must not change until
   * then. After an error the previous snapshot is still there, and a later save may succeed.
   * @throws ERR_STORAGE
   */
  save(meta: SnapshotMeta, data: Uint8Array): Promise<void> {
    const previous = this.#saving
    const save = (async () => {
      await previous
      await this.#save(meta, data)
    })()
    this.#saving = save.catch(() => undefined)
    return save
  }

  async #save(meta: SnapshotMeta, data: Uint8Array): Promise<void> {
    const clusterId = this.#clusterId
    if (clusterId === null) throw new Error('a snapshot is saved before its cluster is known')
    if (meta.lastIndex <= this.#lastIndex) return
    const name = nameOf(meta.lastIndex)
    const path = join(this.#dir, name)
    try {
      await this.#files.remove(`${path}.new`)
      await writeSnapshotFile(this.#files, `${path}.new`, { clusterId, meta, data })
      await this.#files.rename(`${path}.new`, path)
      await this.#files.syncDirectory(this.#dir)
      this.#lastIndex = meta.lastIndex
      for (const other of snapshotNames(await this.#files.list(this.#dir))) {
        if (other !== name) await this.#files.remove(join(this.#dir, other))
      }
    } catch (err) {
      throw storageError(`${path} cannot be written`, err)
    }
  }
}

async function newestIntact(
  files: FileLayer,
  dir: string,
  names: readonly string[]
): Promise<{ readonly latest: ClusterSnapshot | null; readonly damaged: string[] }> {
  const damaged: string[] = []
  for (const name of snapshotNames(names).sort().reverse()) {
    const path = join(dir, name)
    const latest = await parseOrNull(path, await files.read(path))
    if (latest !== null && nameOf(latest.meta.lastIndex) === name) return { latest, damaged }
    damaged.push(path)
  }
  return { latest: null, damaged }
}

async function parseOrNull(path: string, bytes: Buffer): Promise<ClusterSnapshot | null> {
  try {
    return await parseSnapshotFile(path, bytes)
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
