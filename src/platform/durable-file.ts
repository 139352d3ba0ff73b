// Small files that must survive a crash whole, over a FileLayer: written aside, synced, renamed, and the directory synced.
// files.ts does the same on the real disk only.

import { dirname } from 'node:path'
import type { FileLayer } from './file-layer.ts'
import { isErrno, storageError } from './files.ts'

/** The file's bytes, or null when there is none. @throws ERR_STORAGE */
export async function readDurable(files: FileLayer, path: string): Promise<Buffer | null> {
  try {
    return await files.read(path)
  } catch (err) {
    if (isErrno(err, 'ENOENT')) return null
    throw storageError(`cannot read ${path}`, err)
  }
}

/** Replaces a file atomically; durable when it resolves. @throws ERR_STORAGE */
export async function writeDurable(files: FileLayer, path: string, data: string | Uint8Array): Promise<void> {
  const aside = `${path}.new`
  try {
    await files.remove(aside)
    const file = await files.create(aside)
    try {
      await file.write(typeof data === 'string' ? Buffer.from(data) : data, 0)
      await file.sync()
    } finally {
      await file.close()
    }
    await files.rename(aside, path)
    await files.syncDirectory(dirname(path))
  } catch (err) {
    // Do not let a truncated copy keep a full disk full.
    await files.remove(aside).catch(() => undefined)
    throw storageError(`cannot write ${path}`, err)
  }
}
