// A disk that can crash between any two operations. A killed process leaves the page cache; a power cut leaves the synced
// data and any subset of the rest, per sector and per directory entry (ALICE, OSDI '14). A failed sync drops the dirty
// pages and marks them clean (ATC '20).

import { dirname } from 'node:path'
import type { FileLayer, OpenFile, SyncedFile } from '#platform/file-layer.ts'
import type { Random } from '#test/sim/random.ts'

const SECTOR_BYTES = 512

type Inode = { cache: Buffer; disk: Buffer; readonly dirty: Set<number> }

type NameChange = {
  readonly directory: string
  readonly removed: readonly string[]
  readonly added: readonly (readonly [string, Inode])[]
}

export class SimulatedDisk implements FileLayer {
  #names = new Map<string, Inode>()
  #durableNames = new Map<string, Inode>()
  #pending: NameChange[] = []
  operations = 0
  /** Called after every operation and in the middle of every write. */
  afterEach: (() => Promise<void>) | null = null
  /** Makes the next operation of this kind fail. */
  failNext: { readonly operation: 'write' | 'sync' | 'syncDirectory'; readonly code: string } | null = null

  /** Directories are implicit. */
  readonly ensureDirectory = (): Promise<void> => Promise.resolve()

  readonly list = async (path: string): Promise<string[]> =>
    [...this.#names.keys()].filter(name => dirname(name) === path).map(name => name.slice(path.length + 1))

  readonly read = async (path: string): Promise<Buffer> => Buffer.from(this.#inode(path).cache)

  readonly create = async (path: string): Promise<OpenFile> => {
    if (this.#names.has(path)) throw systemError('EEXIST', path)
    const inode = { cache: Buffer.alloc(0), disk: Buffer.alloc(0), dirty: new Set<number>() }
    this.#rename({ directory: dirname(path), removed: [], added: [[path, inode]] })
    await this.#done()
    return this.#handle(inode)
  }

  readonly open = async (path: string): Promise<OpenFile> => this.#handle(this.#inode(path))

  readonly openSynced = async (path: string): Promise<SyncedFile> => {
    const inode = this.#inode(path)
    const { write, truncate, sync, close } = this.#handle(inode)
    return {
      write: async (buffers, position) => {
        const bytes = Buffer.concat(buffers)
        await write(bytes, position)
        const to = position + bytes.byteLength
        await this.#sync(inode, { from: position, to, length: Math.max(to, inode.disk.byteLength) })
      },
      truncate: async length => {
        await truncate(length)
        await sync()
      },
      close
    }
  }

  readonly rename = async (from: string, to: string): Promise<void> => {
    this.#rename({ directory: dirname(to), removed: [from], added: [[to, this.#inode(from)]] })
    await this.#done()
  }

  readonly remove = async (path: string): Promise<void> => {
    if (!this.#names.has(path)) return
    this.#rename({ directory: dirname(path), removed: [path], added: [] })
    await this.#done()
  }

  readonly syncDirectory = async (path: string): Promise<void> => {
    this.#mayFail('syncDirectory')
    for (const change of this.#pending.filter(({ directory }) => directory === path)) {
      applyNames(this.#durableNames, change)
    }
    this.#pending = this.#pending.filter(({ directory }) => directory !== path)
    await this.#done()
  }

  paths(): string[] {
    return [...this.#names.keys()].sort()
  }

  bytes(path: string): Buffer {
    return this.#inode(path).cache
  }

  /** The disk after the process is killed: everything, durable or not. */
  clone(): SimulatedDisk {
    const copies = new Map<Inode, Inode>()
    const copy = (inode: Inode): Inode => {
      const made = copies.get(inode) ?? { ...inode, dirty: new Set(inode.dirty) }
      copies.set(inode, made)
      return made
    }
    const copyNames = (names: Map<string, Inode>): Map<string, Inode> =>
      new Map([...names].map(([path, inode]) => [path, copy(inode)]))
    const disk = new SimulatedDisk()
    disk.#names = copyNames(this.#names)
    disk.#durableNames = copyNames(this.#durableNames)
    disk.#pending = this.#pending.map(change => ({
      ...change,
      added: change.added.map(([path, inode]) => [path, copy(inode)] as const)
    }))
    return disk
  }

  /** The disk after a power cut: everything durable, and a random part of the rest. */
  powerCut(random: Random): SimulatedDisk {
    const keep = random.pick([0, 0.1, 0.5, 0.9, 1])
    const names = new Map(this.#durableNames)
    for (const change of this.#pending) if (random.chance(keep)) applyNames(names, change)
    const disk = new SimulatedDisk()
    for (const [path, inode] of names) {
      const bytes = survivors(inode, random, keep)
      const made = { cache: bytes, disk: bytes, dirty: new Set<number>() }
      disk.#names.set(path, made)
      disk.#durableNames.set(path, made)
    }
    return disk
  }

  flip(path: string, at: number, mask: number): void {
    const inode = this.#inode(path)
    inode.cache = Buffer.from(inode.cache)
    inode.cache[at] = (inode.cache[at] ?? 0) ^ mask
  }

  #handle(inode: Inode): OpenFile {
    return {
      read: async (position, length) => Buffer.from(inode.cache.subarray(position, position + length)),
      write: async (bytes, position) => {
        this.#mayFail('write')
        const half = Math.floor(bytes.byteLength / 2)
        if (this.afterEach !== null && half > 0) {
          put(inode, bytes.subarray(0, half), position)
          await this.#done()
        }
        put(inode, bytes, position)
        await this.#done()
      },
      truncate: async length => {
        const before = inode.cache
        inode.cache = Buffer.alloc(length)
        before.copy(inode.cache)
        mark(inode, Math.min(length, before.byteLength), Math.max(length, before.byteLength))
        await this.#done()
      },
      sync: () => {
        const length = inode.cache.byteLength
        return this.#sync(inode, { from: 0, to: Infinity, length })
      },
      close: () => Promise.resolve()
    }
  }

  /** Makes the file's length and the sectors of a range durable; the others stay dirty, as with O_DSYNC. */
  async #sync(inode: Inode, p: { readonly from: number; readonly to: number; readonly length: number }): Promise<void> {
    const failing = this.failNext?.operation === 'sync'
    const dirty = [...inode.dirty].filter(at => at * SECTOR_BYTES < p.to && (at + 1) * SECTOR_BYTES > p.from)
    for (const sector of dirty) inode.dirty.delete(sector)
    if (failing) this.#mayFail('sync')
    inode.disk = Buffer.concat([inode.disk], p.length)
    for (const sector of dirty) copySector(inode.cache, inode.disk, sector)
    await this.#done()
  }

  #rename(change: NameChange): void {
    applyNames(this.#names, change)
    this.#pending.push(change)
  }

  #inode(path: string): Inode {
    const inode = this.#names.get(path)
    if (inode === undefined) throw systemError('ENOENT', path)
    return inode
  }

  #mayFail(operation: 'write' | 'sync' | 'syncDirectory'): void {
    if (this.failNext?.operation !== operation) return
    const { code } = this.failNext
    this.failNext = null
    throw systemError(code, operation)
  }

  async #done(): Promise<void> {
    this.operations += 1
    await this.afterEach?.()
  }
}

function applyNames(names: Map<string, Inode>, { removed, added }: NameChange): void {
  for (const path of removed) names.delete(path)
  for (const [path, inode] of added) names.set(path, inode)
}

function put(inode: Inode, bytes: Uint8Array, position: number): void {
  const before = inode.cache
  inode.cache = Buffer.alloc(Math.max(before.byteLength, position + bytes.byteLength))
  before.copy(inode.cache)
  inode.cache.set(bytes, position)
  mark(inode, position, position + bytes.byteLength)
}

function mark(inode: Inode, from: number, to: number): void {
  for (let at = Math.floor(from / SECTOR_BYTES); at * SECTOR_BYTES < to; at++) inode.dirty.add(at)
}

function copySector(from: Buffer, to: Buffer, sector: number): void {
  const start = sector * SECTOR_BYTES
  if (start < to.byteLength) to.set(from.subarray(start, Math.min(start + SECTOR_BYTES, to.byteLength)), start)
}

function survivors(inode: Inode, random: Random, keep: number): Buffer {
  const length = random.chance(keep) ? inode.cache.byteLength : inode.disk.byteLength
  const bytes = Buffer.alloc(length)
  inode.disk.copy(bytes)
  for (const sector of inode.dirty) {
    if (sector * SECTOR_BYTES < length && random.chance(keep)) copySector(inode.cache, bytes, sector)
  }
  return bytes
}

function systemError(code: string, what: string): Error {
  return Object.assign(new Error(`${code}: ${what}`), { code })
}
