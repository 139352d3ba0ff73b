// The snapshots of a host: one file each in `snapshot/` of the data directory, named by the last entry it stands for.
// A new one is written aside, synced, renamed, and the directory synced; only then does the one before it go.

import { join } from 'node:path'
import { asVxmeshError, VxmeshError } from '#model/errors.ts'
import type { ClusterId } from '#model/ids.ts'
import { diskFiles, type FileLayer } from '#platform/file-layer.ts'
import { storageError } from '#platform/files.ts'
import type { SnapshotMeta } from '#raft/types.ts'
import { parseSnapshotFile, writeSnapshotFile, type ClusterSnapshot } from './snapshot-file.ts'

export type OpenedSnapshots = {
  readonly store: SnapshotStore
  /** The newest that is whole. */
  readonly latest: ClusterSnapshot | null
  /** Files newer than that, which are not; kept until the next save, for a human to look at. */
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
   * Opens the snapshots of a data directory and removes what a crash left half-written. Damage is no error here: whether
   * the host can do without the snapshot, its log decides. @throws ERR_STORAGE when the directory or a file cannot be read
   */
  static async open(dataDir: string, files: FileLayer = diskFiles): Promise<OpenedSnapshots> {
    const dir = join(dataDir, 'snapshot')
    try {
      await files.ensureDirectory(dir)
      await files.syncDirectory(dataDir)
      const names = await files.list(dir)
      for (const name of names.filter(name => name.endsWith('.snap.new'))) await files.remove(join(dir, name))
      const { latest, damaged } = await newestWhole(files, dir, names)
      // What is seen may not be durable yet, and the log is about to rely on it.
      await files.syncDirectory(dir)
      return { store: new SnapshotStore(files, dir, latest), latest, damaged }
    } catch (err) {
      throw storageError(`the snapshots in ${dir} cannot be read`, err)
    }
  }

  /** Says which cluster's state is saved here. @throws ERR_STORAGE when there is one of another cluster */
  belong(clusterId: ClusterId): void {
    if (this.#clusterId !== null && this.#clusterId !== clusterId) {
      const what = `holds the state of cluster ${this.#clusterId}, and this host belongs to cluster ${clusterId}`
      throw new VxmeshError('ERR_STORAGE', `${this.#dir} ${what}`)
    }
    this.#clusterId = clusterId
  }

  /**
   * Saves a snapshot; resolves when it, or a later one, is durable. Calls are served in order, the data must not change
   * meanwhile. After an error the one before is still there, and a later save may succeed.
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

  /** Reads the newest snapshot back. @throws ERR_STORAGE when it is damaged */
  async load(): Promise<ClusterSnapshot | null> {
    await this.#saving
    if (this.#lastIndex === 0) return null
    const path = join(this.#dir, nameOf(this.#lastIndex))
    try {
      return await parseSnapshotFile(path, await this.#files.read(path))
    } catch (err) {
      throw storageError(`${path} cannot be read`, err)
    }
  }

  async #save(meta: SnapshotMeta, data: Uint8Array): Promise<void> {
    const clusterId = this.#clusterId
    if (clusterId === null) throw new Error('a snapshot of no cluster')
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

async function newestWhole(
  files: FileLayer,
  dir: string,
  names: readonly string[]
): Promise<{ readonly latest: ClusterSnapshot | null; readonly damaged: string[] }> {
  const damaged: string[] = []
  for (const name of snapshotNames(names).sort().reverse()) {
    const path = join(dir, name)
    const latest = await wholeOrNull(path, await files.read(path))
    if (latest !== null && nameOf(latest.meta.lastIndex) === name) return { latest, damaged }
    damaged.push(path)
  }
  return { latest: null, damaged }
}

async function wholeOrNull(path: string, bytes: Buffer): Promise<ClusterSnapshot | null> {
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
