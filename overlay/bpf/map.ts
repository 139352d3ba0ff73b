// A map of our programs: entries of fixed size. Calls are synchronous and take about a microsecond an entry.

import { closeSync } from 'node:fs'
import * as bpf from '#platform/bpf.ts'
import type { CallResult } from '#platform/libc.ts'
import { errnoName } from '#platform/libc.ts'
import { kernelError } from '#platform/netlink-error.ts'
import type { MapShape } from './object/btf.ts'

/** Entries in one system call: half a millisecond. */
const BATCH = 1_000
const PER_PROCESSOR: readonly number[] = [5, 6, 10]

/** Entries, keys and values back to back. */
export type Dump = { readonly keys: Uint8Array; readonly values: Uint8Array; readonly count: number }

export type Entry = { readonly key: Uint8Array; readonly value: Uint8Array }

export class BpfMap {
  readonly shape: MapShape
  readonly fd: number
  /** Of a value as it is read and written: of a map per processor, one value for each, padded to 8 bytes. */
  readonly valueBytes: number

  /** @param processors that are possible, not only those that run */
  constructor(shape: MapShape, fd: number, processors: number) {
    this.shape = shape
    this.fd = fd
    this.valueBytes = PER_PROCESSOR.includes(shape.type)
      ? Math.ceil(shape.value.bytes / 8) * 8 * processors
      : shape.value.bytes
  }

  /** @returns the value; null when there is none @throws ERR_KERNEL */
  get(key: Uint8Array): Uint8Array | null {
    const value = new Uint8Array(this.valueBytes)
    const found = bpf.lookup(this.fd, key, value)
    if (found.value >= 0) return value
    if (errnoName(found.errno) === 'ENOENT') return null
    throw this.#error('read', found)
  }

  /** Adds or replaces entries. Those before one that fails are written. @throws ERR_KERNEL */
  set(entries: readonly Entry[]): void {
    const keys = joined(entries.map(({ key }) => key))
    this.write({ keys, values: joined(entries.map(({ value }) => value)), count: entries.length })
  }

  /** The same with keys and values back to back. @throws ERR_KERNEL */
  write({ keys, values, count }: Dump): void {
    const { bytes } = this.shape.key
    for (let at = 0; at < count; at += BATCH) {
      const end = Math.min(count, at + BATCH)
      const part = {
        keys: keys.subarray(at * bytes, end * bytes),
        values: values.subarray(at * this.valueBytes, end * this.valueBytes)
      }
      const written = bpf.updateBatch(this.fd, { ...part, count: end - at })
      if (written.value < 0) throw this.#error('write', written)
    }
  }

  /** Adds an entry unless there is one. @throws ERR_KERNEL */
  add({ key, value }: Entry): void {
    const added = bpf.add(this.fd, key, value)
    if (added.value < 0 && errnoName(added.errno) !== 'EEXIST') throw this.#error('write', added)
  }

  /** Deletes entries; one that does not exist is no error. @throws ERR_KERNEL */
  delete(keys: readonly Uint8Array[]): void {
    this.remove(joined(keys), keys.length)
  }

  /** The same with the keys back to back. @throws ERR_KERNEL */
  remove(keys: Uint8Array, all: number): void {
    const { bytes } = this.shape.key
    for (let at = 0; at < all;) {
      const count = Math.min(all - at, BATCH)
      const deleted = bpf.removeBatch(this.fd, keys.subarray(at * bytes, (at + count) * bytes), count)
      const isAbsent = deleted.value < 0 && errnoName(deleted.errno) === 'ENOENT'
      if (deleted.value < 0 && !isAbsent) throw this.#error('delete from', deleted)
      // The kernel stops at a key that has no entry.
      at += isAbsent ? deleted.done + 1 : count
    }
  }

  /** See `dump`. @throws ERR_KERNEL */
  entries(): Entry[] {
    const { key } = this.shape
    const { keys, values, count } = this.dump()
    return Array.from({ length: count }, (_, i) => ({
      key: keys.subarray(i * key.bytes, (i + 1) * key.bytes),
      value: values.subarray(i * this.valueBytes, (i + 1) * this.valueBytes)
    }))
  }

  /**
   * Reads all entries, keys and values back to back. One that is added or deleted meanwhile may be missing or twice; the order
   * is the same as long as nothing changes. @throws ERR_KERNEL
   */
  dump(): Dump {
    return together([...this.parts()])
  }

  /** The same in parts of a thousand entries or so. @throws ERR_KERNEL */
  *parts(): Generator<Dump> {
    const { key } = this.shape
    const cursor = new Uint8Array(4)
    let room = BATCH
    for (let first = true; ;) {
      const keys = new Uint8Array(room * key.bytes)
      const values = new Uint8Array(room * this.valueBytes)
      const read = bpf.lookupBatch(this.fd, { keys, values, count: room, cursor, first })
      const name = read.value < 0 ? errnoName(read.errno) : null
      if (name === 'ENOSPC') {
        room *= 2
        continue
      }
      if (name !== null && name !== 'ENOENT') throw this.#error('read', read)
      const count = read.done
      yield {
        keys: keys.subarray(0, count * key.bytes),
        values: values.subarray(0, count * this.valueBytes),
        count
      }
      if (name === 'ENOENT') return
      first = false
    }
  }

  close(): void {
    closeSync(this.fd)
  }

  #error(doing: string, { errno }: CallResult): Error {
    return kernelError(`${doing} BPF map ${this.shape.name}`, errno)
  }
}

function together(parts: readonly Dump[]): Dump {
  return {
    keys: Buffer.concat(parts.map(({ keys }) => keys)),
    values: Buffer.concat(parts.map(({ values }) => values)),
    count: parts.reduce((sum, { count }) => sum + count, 0)
  }
}

function joined(parts: readonly Uint8Array[]): Uint8Array {
  const bytes = parts[0]?.length ?? 0
  const all = new Uint8Array(parts.length * bytes)
  parts.forEach((part, i) => all.set(part, i * bytes))
  return all
}
