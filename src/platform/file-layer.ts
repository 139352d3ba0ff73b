// The few file operations that durable storage is made of, as an interface, so that tests can record them, let the
// machine die between any two, or fill the disk. `diskFiles` is the real one. Errors are those of the system, as they
// come: the caller knows what they mean.

import { mkdir, open, readdir, readFile, rename, rm } from 'node:fs/promises'
import { syncDirectory } from './files.ts'

export type OpenFile = {
  /** Writes all of the bytes at a position. */
  readonly write: (bytes: Uint8Array, position: number) => Promise<void>
  readonly truncate: (length: number) => Promise<void>
  /** The file's bytes and length are on the disk (fdatasync). */
  readonly sync: () => Promise<void>
  readonly close: () => Promise<void>
}

export type FileLayer = {
  /** The directory and its parents; a new one is readable by its owner alone. */
  readonly ensureDirectory: (path: string) => Promise<void>
  /** Names in a directory, in no order. */
  readonly list: (path: string) => Promise<string[]>
  readonly read: (path: string) => Promise<Buffer>
  /** A new file, empty, for its owner alone; there must be none of that name. */
  readonly create: (path: string) => Promise<OpenFile>
  readonly open: (path: string) => Promise<OpenFile>
  readonly rename: (from: string, to: string) => Promise<void>
  /** Absent is success. */
  readonly remove: (path: string) => Promise<void>
  /** Creations, renames and removals in the directory are on the disk. */
  readonly syncDirectory: (path: string) => Promise<void>
}

export const diskFiles: FileLayer = {
  ensureDirectory: async path => {
    await mkdir(path, { recursive: true, mode: 0o700 })
  },
  list: path => readdir(path),
  read: path => readFile(path),
  create: path => openDisk(path, 'wx+'),
  open: path => openDisk(path, 'r+'),
  rename,
  remove: path => rm(path, { force: true }),
  syncDirectory
}

async function openDisk(path: string, flags: 'wx+' | 'r+'): Promise<OpenFile> {
  const file = await open(path, flags, 0o600)
  return {
    write: async (bytes, position) => {
      for (let written = 0; written < bytes.byteLength;) {
        const left = bytes.byteLength - written
        const { bytesWritten } = await file.write(bytes, written, left, position + written)
        written += bytesWritten
      }
    },
    truncate: length => file.truncate(length),
    sync: () => file.datasync(),
    close: () => file.close()
  }
}
