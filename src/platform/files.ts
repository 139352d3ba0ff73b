// Atomic replacement of files: written to a temporary file, synced, renamed, and the directory synced.

import { mkdir, open, readFile, rename, rm } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { VxmeshError } from '#model/errors.ts'

/** Suffix of the temporary file. */
const TEMPORARY = '.new'

/** The file's content, or null when it does not exist. @throws ERR_STORAGE */
export async function readIfExists(path: string): Promise<Buffer | null> {
  try {
    return await readFile(path)
  } catch (err) {
    if (isErrno(err, 'ENOENT')) return null
    throw storageError(`cannot read ${path}`, err)
  }
}

/** Replaces a file atomically and durably. @throws ERR_STORAGE */
export function writeDurably(path: string, data: string | Uint8Array, mode = 0o600): Promise<void> {
  return replace(path, { data, mode, durable: true })
}

/** Replaces a file atomically, but not durably: a power cut may lose it. @throws ERR_STORAGE */
export function replaceFile(path: string, data: string | Uint8Array, mode = 0o600): Promise<void> {
  return replace(path, { data, mode, durable: false })
}

async function replace(path: string, p: { data: string | Uint8Array; mode: number; durable: boolean }): Promise<void> {
  const temporary = `${path}${TEMPORARY}`
  try {
    await rm(temporary, { force: true })
    const file = await open(temporary, 'wx', p.mode)
    try {
      await file.writeFile(p.data)
      if (p.durable) await file.sync()
    } finally {
      await file.close()
    }
    await rename(temporary, path)
    if (p.durable) await syncDirectory(dirname(path))
  } catch (err) {
    // A partial file must not take up space on a full disk.
    await rm(temporary, { force: true }).catch(() => undefined)
    throw storageError(`cannot write ${path}`, err)
  }
}

/** Is this the name of a temporary file, left by a crash? */
export function isTemporary(name: string): boolean {
  return name.endsWith(TEMPORARY)
}

/** Makes creations, renames and removals in a directory durable. */
export async function syncDirectory(path: string): Promise<void> {
  const dir = await open(path, 'r')
  try {
    await dir.sync()
  } finally {
    await dir.close()
  }
}

/** Creates a directory and its parents if absent, with mode 0700. @throws ERR_STORAGE */
export async function ensureDirectory(...parts: readonly [string, ...string[]]): Promise<string> {
  const path = join(...parts)
  try {
    await mkdir(path, { recursive: true, mode: 0o700 })
    return path
  } catch (err) {
    throw storageError(`cannot create ${path}`, err)
  }
}

export async function removeFile(path: string): Promise<void> {
  await rm(path, { force: true })
}

export function isErrno(err: unknown, code: string): boolean {
  return err instanceof Error && 'code' in err && err.code === code
}

/** Wraps an error as ERR_STORAGE with a message; one that is ERR_STORAGE already is returned unchanged. */
export function storageError(message: string, cause: unknown): VxmeshError {
  if (cause instanceof VxmeshError && cause.code === 'ERR_STORAGE') return cause
  const detail = cause instanceof Error ? cause.message : String(cause)
  return new VxmeshError('ERR_STORAGE', `${message}: ${detail}`, { cause })
}
