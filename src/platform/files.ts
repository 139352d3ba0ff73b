// Small files and directories of the real disk.

import { join } from 'node:path'
import { readDurable, replace } from './durable-file.ts'
import { diskFiles } from './file-layer.ts'
import { storageError } from './storage-error.ts'

/** The file's content, or null when it does not exist. @throws ERR_STORAGE */
export function readIfExists(path: string): Promise<Buffer | null> {
  return readDurable(diskFiles, path)
}

/** Replaces a file atomically and durably. @throws ERR_STORAGE */
export function writeDurably(path: string, data: string | Uint8Array, mode = 0o600): Promise<void> {
  return replace(diskFiles, path, { data, mode, durable: true })
}

/** Replaces a file atomically, but not durably: a power cut may lose it. @throws ERR_STORAGE */
export function replaceFile(path: string, data: string | Uint8Array, mode = 0o600): Promise<void> {
  return replace(diskFiles, path, { data, mode, durable: false })
}

/** Creates a directory and its parents if absent, with mode 0700. @throws ERR_STORAGE */
export async function ensureDirectory(...parts: readonly [string, ...string[]]): Promise<string> {
  const path = join(...parts)
  try {
    await diskFiles.ensureDirectory(path)
    return path
  } catch (err) {
    throw storageError(`cannot create ${path}`, err)
  }
}

/** An absent file is not an error. */
export async function removeFile(path: string): Promise<void> {
  await diskFiles.remove(path)
}
