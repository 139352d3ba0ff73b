// A host's simulated disk: files whose operations take time. A killed process leaves the page cache intact; a power cut
// keeps the synced bytes and names, and a random prefix of the later operations.

import { dirname } from 'node:path'
import type { FileLayer, OpenFile, SyncedFile } from '#platform/file-layer.ts'
import type { Random } from '../random.ts'
import type { Life } from './life.ts'

type Change = { readonly position: number; readonly bytes: Uint8Array } | { readonly length: number }
type File = { readonly cache: Content; readonly disk: Content; unsynced: Change[] }
type Rename = { readonly directory: string; readonly removed: string | null; readonly added: [string, File] | null }

const OPERATION_MS = 0.1
const SYNC_MS = 1

export class HostDisk {
  #names = new Map<string, File>()
  #durableNames = new Map<string, File>()
  #unsynced: Rename[] = []
  /** Extra milliseconds per sync. */
  delayMs = 0
  /** Every write fails with ENOSPC. */
  isFull = false

  /** The file operations of one process. */
  layer(life: Life, random: Random): FileLayer {
    const later = <T>(ms: number, run: () => T): Promise<T> =>
      new Promise((resolve, reject) => {
        life.after(random.between(0, ms), () => {
          try {
            resolve(run())
          } catch (err) {
            reject(err instanceof Error ? err : new Error(String(err)))
          }
        })
      })
    const handle = (path: string): OpenFile => {
      const file = this.#file(path)
      return {
        write: (bytes, position) => {
          const copy = Uint8Array.from(bytes)
          return later(OPERATION_MS, () => this.#change(file, { position, bytes: copy }))
        },
        read: (position, length) =>
          later(OPERATION_MS, () => Buffer.from(file.cache.bytes.subarray(position, position + length))),
        truncate: length => later(OPERATION_MS, () => this.#change(file, { length })),
        sync: () => later(SYNC_MS + this.delayMs, () => sync(file)),
        close: () => Promise.resolve()
      }
    }
    const synced = ({ write, truncate, sync, close }: OpenFile): SyncedFile => ({
      write: async (buffers, position) => {
        await write(Buffer.concat(buffers), position)
        await sync()
      },
      truncate: async length => {
        await truncate(length)
        await sync()
      },
      close
    })
    return {
      ensureDirectory: () => Promise.resolve(),
      list: path =>
        later(OPERATION_MS, () =>
          [...this.#names.keys()].filter(name => dirname(name) === path).map(name => name.slice(path.length + 1))
        ),
      read: path => later(OPERATION_MS, () => Buffer.from(this.#file(path).cache.bytes)),
      create: path =>
        later(OPERATION_MS, () => {
          if (this.#names.has(path)) throw systemError('EEXIST', path)
          const file: File = { cache: new Content(), disk: new Content(), unsynced: [] }
          this.#rename({ directory: dirname(path), removed: null, added: [path, file] })
          return handle(path)
        }),
      open: path => later(OPERATION_MS, () => handle(path)),
      openSynced: path => later(OPERATION_MS, () => synced(handle(path))),
      rename: (from, to) =>
        later(OPERATION_MS, () =>
          this.#rename({ directory: dirname(to), removed: from, added: [to, this.#file(from)] })
        ),
      remove: path =>
        later(OPERATION_MS, () => {
          if (this.#names.has(path)) this.#rename({ directory: dirname(path), removed: path, added: null })
        }),
      syncDirectory: path => later(SYNC_MS, () => this.#syncDirectory(path))
    }
  }

  /** A snapshot is being written or received. */
  get hasPartialSnapshot(): boolean {
    return [...this.#names.keys()].some(name => name.endsWith('.snap.new'))
  }

  powerCut(random: Random): void {
    const kept = random.below(this.#unsynced.length + 1)
    for (const rename of this.#unsynced.slice(0, kept)) apply(this.#durableNames, rename)
    this.#unsynced = []
    this.#names = new Map(this.#durableNames)
    for (const file of this.#names.values()) {
      for (const change of file.unsynced.slice(0, random.below(file.unsynced.length + 1))) file.disk.apply(change)
      file.unsynced = []
      file.cache.copyFrom(file.disk)
    }
  }

  #change(file: File, change: Change): void {
    if (this.isFull && 'bytes' in change) throw systemError('ENOSPC', 'write')
    file.cache.apply(change)
    file.unsynced.push(change)
  }

  #rename(rename: Rename): void {
    apply(this.#names, rename)
    this.#unsynced.push(rename)
  }

  #syncDirectory(path: string): void {
    for (const rename of this.#unsynced) if (rename.directory === path) apply(this.#durableNames, rename)
    this.#unsynced = this.#unsynced.filter(({ directory }) => directory !== path)
  }

  #file(path: string): File {
    const file = this.#names.get(path)
    if (file === undefined) throw systemError('ENOENT', path)
    return file
  }
}

/** Bytes of a file, in a buffer that grows ahead. */
class Content {
  #buffer = Buffer.alloc(4_096)
  #length = 0

  get bytes(): Uint8Array {
    return this.#buffer.subarray(0, this.#length)
  }

  apply(change: Change): void {
    if ('length' in change) this.#resize(change.length)
    else {
      this.#resize(Math.max(this.#length, change.position + change.bytes.byteLength))
      this.#buffer.set(change.bytes, change.position)
    }
  }

  copyFrom({ bytes }: Content): void {
    this.#buffer = Buffer.from(bytes)
    this.#length = bytes.byteLength
  }

  #resize(length: number): void {
    if (length > this.#buffer.byteLength) {
      const larger = Buffer.alloc(2 * length)
      this.#buffer.copy(larger, 0, 0, this.#length)
      this.#buffer = larger
    }
    if (length < this.#length) this.#buffer.fill(0, length, this.#length)
    this.#length = length
  }
}

function sync(file: File): void {
  for (const change of file.unsynced) file.disk.apply(change)
  file.unsynced = []
}

function apply(names: Map<string, File>, { removed, added }: Rename): void {
  if (removed !== null) names.delete(removed)
  if (added !== null) names.set(...added)
}

function systemError(code: string, what: string): Error {
  return Object.assign(new Error(`${code}: ${what}`), { code })
}
