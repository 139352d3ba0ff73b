// Files that must survive a crash whole: written aside, synced, renamed, and the directory synced.

import { mkdir, open, readFile, rename, rm } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { VxmeshError } from '#model/errors.ts'

/** Ends the name of a file that is being written to take another's place. */
const ASIDE = '.new'

/** The file's bytes, or null when there is none. @throws ERR_STORAGE */
export async function readIfExists(path: string): Promise<Buffer | null> {
  try {
    return await readFile(path)
  } catch (err) {
    if (isErrno(err, 'ENOENT')) return null
    throw storageError(`cannot read ${path}`, err)
  }
}

/** Replaces a file atomically and durably; nobody sees it half-written. @throws ERR_STORAGE */
export function writeDurably(path: string, data: string | Uint8Array, mode = 0o600): Promise<void> {
  return replace(path, { data, mode, durably: true })
}

/** The same for what need not outlive a power cut. @throws ERR_STORAGE */
export function replaceFile(path: string, data: string | Uint8Array, mode = 0o600): Promise<void> {
  return replace(path, { data, mode, durably: false })
}

async function replace(path: string, p: { data: string | Uint8Array; mode: number; durably: boolean }): Promise<void> {
  const aside = `${path}${ASIDE}`
  try {
    await rm(aside, { force: true })
    const file = await open(aside, 'wx', p.mode)
    try {
      await file.writeFile(p.data)
      if (p.durably) await file.sync()
    } finally {
      await file.close()
    }
    await rename(aside, path)
    if (p.durably) await syncDirectory(dirname(path))
  } catch (err) {
    // A full disk is not to be kept full by what did not fit.
    await rm(aside, { force: true }).catch(() => undefined)
    throw storageError(`cannot write ${path}`, err)
  }
}

/** Is this the name of what a crash has left of a replacement? */
export function isAside(name: string): boolean {
  return name.endsWith(ASIDE)
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

/** The directory and its parents; a new one is readable by its owner alone. @throws ERR_STORAGE */
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

/** What the system said, as ERR_STORAGE that names what could not be done; one that is so already stays as it is. */
export function storageError(message: string, cause: unknown): VxmeshError {
  if (cause instanceof VxmeshError && cause.code === 'ERR_STORAGE') return cause
  const detail = cause instanceof Error ? cause.message : String(cause)
  return new VxmeshError('ERR_STORAGE', `${message}: ${detail}`, { cause })
}
