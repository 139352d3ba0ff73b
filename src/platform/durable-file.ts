// Atomic and durable replacement of small files over a FileLayer: written to a temporary file, synced, renamed, and the
// directory synced. files.ts does the same on the real disk only.

import { dirname } from 'node:path'
import type { FileLayer } from './file-layer.ts'
import { isErrno, storageError } from './files.ts'

/** The file's content, or null when it does not exist. @throws ERR_STORAGE */
export async function readDurable(files: FileLayer, path: string): Promise<Buffer | null> {
  try {
    return await files.read(path)
  } catch (err) {
    if (isErrno(err, 'ENOENT')) return null
    throw storageError(`cannot read ${path}`, err)
  }
}

/** Replaces a file atomically; durable when the promise resolves. @throws ERR_STORAGE */
export async function writeDurable(files: FileLayer, path: string, data: string | Uint8Array): Promise<void> {
  const temporary = `${path}.new`
  try {
    await files.remove(temporary)
    const file = await files.create(temporary)
    try {
      await file.write(typeof data === 'string' ? Buffer.from(data) : data, 0)
      await file.sync()
    } finally {
      await file.close()
    }
    await files.rename(temporary, path)
    await files.syncDirectory(dirname(path))
  } catch (err) {
    // A partial file must not take up space on a full disk.
    await files.remove(temporary).catch(() => undefined)
    throw storageError(`cannot write ${path}`, err)
  }
}
