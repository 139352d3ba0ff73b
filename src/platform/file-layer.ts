// The file operations that durable storage uses, as an interface: tests can crash between any two, or fail any of them.
// `diskFiles` is the real implementation. Errors are passed on unchanged; the caller wraps them.

import { constants, writev } from 'node:fs'
import { mkdir, open, readdir, readFile, rename, rm } from 'node:fs/promises'

export type OpenFile = {
  /** Writes all of `bytes` at `position`. */
  readonly write: (bytes: Uint8Array, position: number) => Promise<void>
  /** Up to `length` bytes at `position`; fewer at the end of the file. */
  readonly read: (position: number, length: number) => Promise<Buffer>
  readonly truncate: (length: number) => Promise<void>
  /** Makes the file's data and length durable (fdatasync). */
  readonly sync: () => Promise<void>
  readonly close: () => Promise<void>
}

/** A file whose writes are durable once they have returned: a write and its sync are one system call (O_DSYNC). */
export type SyncedFile = {
  /**
   * Writes all buffers, one behind the other, at `position`. They are durable afterwards; what another file handle wrote
   * need not be. The buffers must not change during the call.
   */
  readonly write: (buffers: readonly Uint8Array[], position: number) => Promise<void>
  /** Sets the length; durable, too. */
  readonly truncate: (length: number) => Promise<void>
  readonly close: () => Promise<void>
}

export type FileLayer = {
  /** Creates the directory and its parents if absent, with mode 0700. */
  readonly ensureDirectory: (path: string) => Promise<void>
  /** Names in a directory, unordered. */
  readonly list: (path: string) => Promise<string[]>
  readonly read: (path: string) => Promise<Buffer>
  /** Creates an empty file; it must not exist. The mode is 0600 by default. */
  readonly create: (path: string, mode?: number) => Promise<OpenFile>
  readonly open: (path: string) => Promise<OpenFile>
  /** Opens an existing file. */
  readonly openSynced: (path: string) => Promise<SyncedFile>
  readonly rename: (from: string, to: string) => Promise<void>
  /** An absent file is not an error. */
  readonly remove: (path: string) => Promise<void>
  /** Makes creations, renames and removals in the directory durable. */
  readonly syncDirectory: (path: string) => Promise<void>
}

export const diskFiles: FileLayer = {
  ensureDirectory: async path => {
    await mkdir(path, { recursive: true, mode: 0o700 })
  },
  list: path => readdir(path),
  read: path => readFile(path),
  create: (path, mode) => openDisk(path, 'wx+', mode),
  open: path => openDisk(path, 'r+'),
  openSynced,
  rename,
  remove: path => rm(path, { force: true }),
  syncDirectory: async path => {
    const dir = await open(path, 'r')
    try {
      await dir.sync()
    } finally {
      await dir.close()
    }
  }
}

async function openDisk(path: string, flags: 'wx+' | 'r+', mode = 0o600): Promise<OpenFile> {
  const file = await open(path, flags, mode)
  return {
    write: async (bytes, position) => {
      for (let written = 0; written < bytes.byteLength;) {
        const remaining = bytes.byteLength - written
        const { bytesWritten } = await file.write(bytes, written, remaining, position + written)
        written += bytesWritten
      }
    },
    read: async (position, length) => {
      const bytes = Buffer.allocUnsafeSlow(length)
      let read = 0
      for (let count = -1; count !== 0 && read < length; read += count) {
        count = (await file.read(bytes, read, length - read, position + read)).bytesRead
      }
      return bytes.subarray(0, read)
    },
    truncate: length => file.truncate(length),
    sync: () => file.datasync(),
    close: () => file.close()
  }
}

async function openSynced(path: string): Promise<SyncedFile> {
  const file = await open(path, constants.O_RDWR | constants.O_DSYNC)
  return {
    write: (buffers, position) => writeAll(file.fd, buffers, position),
    truncate: async length => {
      await file.truncate(length)
      await file.datasync()
    },
    close: () => file.close()
  }
}

/** By callback, which takes a fifth less processor time than the promise of a FileHandle: it is in every append's way. */
function writeAll(fd: number, buffers: readonly Uint8Array[], position: number): Promise<void> {
  return new Promise((resolve, reject) => {
    const writeFrom = (rest: readonly Uint8Array[], at: number): void => {
      writev(fd, rest, at, (err, written) => {
        const left = err === null ? skip(rest, written) : []
        if (err !== null) reject(err)
        else if (left.length === 0) resolve()
        else writeFrom(left, at + written)
      })
    }
    writeFrom(buffers, position)
  })
}

/** The buffers without their first bytes. */
function skip(buffers: readonly Uint8Array[], bytes: number): Uint8Array[] {
  const left: Uint8Array[] = []
  let at = 0
  for (const buffer of buffers) {
    if (at + buffer.byteLength > bytes) left.push(buffer.subarray(Math.max(0, bytes - at)))
    at += buffer.byteLength
  }
  return left
}
