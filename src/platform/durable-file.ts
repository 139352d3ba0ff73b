// Small files over a FileLayer, replaced atomically: written to a temporary file, renamed, and synced if they must survive
// a power cut. files.ts does it on the real disk.

import { dirname } from 'node:path'
import type { FileLayer } from './file-layer.ts'
import { isErrno, storageError } from './storage-error.ts'

const TEMPORARY = '.new'

export type Replacement = {
  readonly data: string | Uint8Array
  /** Permissions of the new file; 0600 by default. */
  readonly mode?: number
  /** Sync the file and its directory? */
  readonly durable: boolean
  /** Suffix of the temporary file. Writers of one file that may overlap need one each. */
  readonly suffix?: string
}

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
export function writeDurable(files: FileLayer, path: string, data: string | Uint8Array): Promise<void> {
  return replace(files, path, { data, durable: true })
}

/** Replaces a file atomically. @throws ERR_STORAGE */
export async function replace(files: FileLayer, path: string, p: Replacement): Promise<void> {
  const temporary = `${path}${p.suffix ?? TEMPORARY}`
  try {
    await files.remove(temporary)
    const file = await files.create(temporary, p.mode)
    try {
      await file.write(typeof p.data === 'string' ? Buffer.from(p.data) : p.data, 0)
      if (p.durable) await file.sync()
    } finally {
      await file.close()
    }
    await files.rename(temporary, path)
    if (p.durable) await files.syncDirectory(dirname(path))
  } catch (err) {
    // A partial file must not take up space on a full disk.
    await files.remove(temporary).catch(() => undefined)
    throw storageError(`cannot write ${path}`, err)
  }
}

/** Is this the name of a temporary file, left by a crash? */
export function isTemporary(name: string): boolean {
  return name.endsWith(TEMPORARY)
}
