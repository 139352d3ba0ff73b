// The durable log of a host: segment files of checksummed records, appended in batches with one fdatasync each.
// A server keeps its Raft log, vote and commit index here; a client keeps the committed entries it was told. Both are
// the same fold, so a host may change its role. A failed write or sync is final: the caller must end the agent, for
// after a failed fsync the page cache cannot be trusted (Rebello et al., ATC '20).

import { open, readdir, readFile, type FileHandle } from 'node:fs/promises'
import { join } from 'node:path'
import { VxmeshError } from '#model/errors.ts'
import type { LogIndex, Term } from '#model/ids.ts'
import { ensureDirectory, syncDirectory } from '#platform/files.ts'
import type { DurableState, Entry, HardState } from '#raft/types.ts'
import { encodeRecord, readRecord, type Origin, type WalRecord } from './wal-record.ts'

/** A segment is closed and the next begun at this size, so that compaction can drop whole files. */
const SEGMENT_BYTES = 64 * 1024 * 1024

export type Recovered = {
  readonly origin: Origin | null
  readonly durable: DurableState
  /** Bytes of an unfinished append that a crash left and that were cut off. */
  readonly cutBytes: number
}

type Fold = { origin: Origin | null; hardState: HardState; entries: Entry[]; commitIndex: LogIndex }

export class Wal {
  readonly #dir: string
  #file: FileHandle
  #segment: number
  #offset: number
  #sequence: number
  #failed: VxmeshError | null = null
  #writing: Promise<void> = Promise.resolve()

  private constructor(p: { dir: string; file: FileHandle; segment: number; offset: number; sequence: number }) {
    this.#dir = p.dir
    this.#file = p.file
    this.#segment = p.segment
    this.#offset = p.offset
    this.#sequence = p.sequence
  }

  /**
   * Opens the log of a data directory, making it when there is none, and folds what it holds.
   * @throws ERR_STORAGE when a record other than an unfinished last one is damaged
   */
  static async open(dataDir: string): Promise<{ readonly wal: Wal; readonly recovered: Recovered }> {
    const dir = await ensureDirectory(dataDir, 'log')
    const names = (await readdir(dir)).filter(name => /^[0-9]{8}\.seg$/.test(name)).sort()
    const fold: Fold = {
      origin: null,
      hardState: { term: 0 as Term, votedFor: null },
      entries: [],
      commitIndex: 0 as LogIndex
    }
    let sequence = 1
    let offset = 0
    let cutBytes = 0
    for (const [at, name] of names.entries()) {
      const bytes = await readFile(join(dir, name))
      const read = foldSegment({ bytes, sequence, fold, path: join(dir, name), last: at === names.length - 1 })
      sequence = read.sequence
      offset = read.offset
      cutBytes = bytes.byteLength - read.offset
    }
    const segment = names.length === 0 ? 1 : Number(names.at(-1)?.slice(0, 8))
    const file = await open(join(dir, segmentName(segment)), names.length === 0 ? 'wx+' : 'r+', 0o600)
    if (cutBytes > 0) {
      await file.truncate(offset)
      await file.sync()
    }
    await syncDirectory(dir)
    const { origin, ...durable } = fold
    if (durable.commitIndex > durable.entries.length) {
      const what = `entry ${durable.commitIndex} is committed, and the log ends with ${durable.entries.length}`
      throw new VxmeshError('ERR_STORAGE', `${dir}: ${what}`)
    }
    return {
      wal: new Wal({ dir, file, segment, offset, sequence }),
      recovered: { origin, durable: { ...durable, snapshot: null }, cutBytes }
    }
  }

  /**
   * Appends records; resolves when they are durable. Calls are served in order.
   * @throws ERR_STORAGE, and again at every later call: nothing is ever retried
   */
  async append(records: readonly WalRecord[]): Promise<void> {
    const previous = this.#writing
    const write = (async () => {
      await previous
      await this.#write(records, true)
    })()
    this.#writing = write.catch(() => undefined)
    return write
  }

  /** Notes how far the log is committed; not synced, for it is only a hint that saves work after a restart. */
  async noteCommit(index: LogIndex): Promise<void> {
    const previous = this.#writing
    const write = (async () => {
      await previous
      await this.#write([{ kind: 'commit', index }], false)
    })()
    this.#writing = write.catch(() => undefined)
    return write
  }

  async close(): Promise<void> {
    await this.#writing
    await this.#file.close()
  }

  async #write(records: readonly WalRecord[], sync: boolean): Promise<void> {
    if (this.#failed !== null) throw this.#failed
    try {
      if (this.#offset >= SEGMENT_BYTES) await this.#roll()
      const bytes = Buffer.concat(records.map((record, at) => encodeRecord(record, this.#sequence + at)))
      let written = 0
      while (written < bytes.byteLength) {
        const { bytesWritten } = await this.#file.write(
          bytes,
          written,
          bytes.byteLength - written,
          this.#offset + written
        )
        written += bytesWritten
      }
      this.#sequence += records.length
      this.#offset += bytes.byteLength
      if (sync) await this.#file.datasync()
    } catch (err) {
      const text = err instanceof Error ? err.message : String(err)
      this.#failed = new VxmeshError('ERR_STORAGE', `the log in ${this.#dir} cannot be written: ${text}`, {
        cause: err
      })
      throw this.#failed
    }
  }

  async #roll(): Promise<void> {
    await this.#file.sync()
    await this.#file.close()
    this.#segment += 1
    this.#file = await open(join(this.#dir, segmentName(this.#segment)), 'wx+', 0o600)
    await syncDirectory(this.#dir)
    this.#offset = 0
  }
}

function foldSegment(p: {
  readonly bytes: Buffer
  readonly sequence: number
  readonly fold: Fold
  readonly path: string
  readonly last: boolean
}): { readonly sequence: number; readonly offset: number } {
  let { sequence } = p
  let offset = 0
  for (;;) {
    const read = readRecord(p.bytes, offset, sequence)
    if (read.kind === 'record') {
      foldRecord(p.fold, read.record)
      sequence += 1
      offset = read.nextOffset
      continue
    }
    if (read.kind === 'end' || (read.kind === 'torn' && p.last)) return { sequence, offset }
    const why = read.kind === 'torn' ? 'a record that breaks off' : read.why
    throw new VxmeshError(
      'ERR_STORAGE',
      `${p.path} is damaged at byte ${offset}: ${why}. Move the data directory away and let the host rejoin`
    )
  }
}

function foldRecord(fold: Fold, record: WalRecord): void {
  switch (record.kind) {
    case 'origin':
      fold.origin = record.origin
      return
    case 'hard-state':
      fold.hardState = record.hardState
      return
    case 'truncate':
      fold.entries.length = Math.max(0, Math.min(fold.entries.length, record.from - 1))
      return
    case 'entry':
      if (record.entry.index !== fold.entries.length + 1) {
        throw new VxmeshError('ERR_STORAGE', `entry ${record.entry.index} follows entry ${fold.entries.length}`)
      }
      fold.entries.push(record.entry)
      return
    case 'commit':
      fold.commitIndex = record.index
  }
}

function segmentName(segment: number): string {
  return `${segment.toString().padStart(8, '0')}.seg`
}
