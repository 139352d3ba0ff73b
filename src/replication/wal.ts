// The durable log of a host: segment files of checksummed frames, each one write and one fdatasync for all that waited.
// A server keeps its Raft log, vote and commit index here; a client keeps the committed entries it was told. Both are
// the same fold, so a host may change its role. A failed write or sync is final: the caller must end the agent, for
// after a failed fsync the page cache cannot be trusted (Rebello et al., ATC '20).

import { randomInt } from 'node:crypto'
import { join } from 'node:path'
import { VxmeshError } from '#model/errors.ts'
import type { ClusterId, LogIndex, PeerId } from '#model/ids.ts'
import { monotonicMs } from '#platform/clock.ts'
import { diskFiles, type FileLayer, type OpenFile } from '#platform/file-layer.ts'
import type { DurableState, SnapshotMeta } from '#raft/types.ts'
import type { LogState } from './log-state.ts'
import type { Snapshot } from './snapshot-file.ts'
import { segmentPath, type Segment, type SegmentEnd } from './segment.ts'
import { encodePreamble, FRAME_HEADER_BYTES, PREAMBLE_BYTES, sealFrame } from './wal-frame.ts'
import { readLog, type ReadLog } from './wal-recovery.ts'
import { RecordBuffer, type LogPosition, type LogRecord, type Origin, type WalRecord } from './wal-record.ts'

export type Recovered = {
  readonly origin: Origin | null
  readonly durable: DurableState
  /** Bytes of an unfinished append that a crash left and that were cut off. */
  readonly cutBytes: number
}

export type WalOptions = {
  /** Whose log it must be; null leaves that open. */
  readonly self?: PeerId | null
  /** The newest snapshot, which stands for all entries up to its end. */
  readonly snapshot?: Pick<Snapshot, 'clusterId' | 'meta'> | null
  /** Paths of snapshots that cannot be used, for the error that this may lead to. */
  readonly damagedSnapshots?: readonly string[]
  readonly files?: FileLayer
  /** A segment is closed and the next begun at this size, so that compaction can drop whole files. */
  readonly segmentBytes?: number
  /** Space is written with zeros this far ahead, so that a sync need not write the file's length and block map too. */
  readonly reserveBytes?: number
}

const SEGMENT_BYTES = 16 * 1024 * 1024
const RESERVE_BYTES = 512 * 1024
/** Appends that wait for one sync go into one frame up to about this size. */
const MAX_GROUP_BYTES = 4 * 1024 * 1024

type Settings = {
  readonly dir: string
  readonly files: FileLayer
  readonly segmentBytes: number
  readonly reserved: Buffer
}

type Job = {
  readonly resolve: () => void
  readonly reject: (err: unknown) => void
} & (
  | { readonly kind: 'write'; readonly records: readonly LogRecord[]; readonly sync: boolean }
  | { readonly kind: 'run'; readonly run: () => Promise<void> }
)

/** The segment that is written to. */
type Current = { readonly file: OpenFile; readonly number: number; readonly salt: number }

export class Wal {
  readonly #settings: Settings
  readonly #state: LogState
  readonly #buffer = new RecordBuffer(FRAME_HEADER_BYTES)
  readonly #jobs: Job[] = []
  /** All segments, with the last index that the log had when each began; of an old one that is not known. */
  readonly #segments: { readonly number: number; readonly lastIndex: number }[]
  #current: Current | null = null
  #offset = 0
  #reservedTo = 0
  #sequence: number
  #synced: number
  #draining: Promise<void> | null = null
  #busySinceMs: number | null = null
  #failed: VxmeshError | null = null

  private constructor(settings: Settings, { state, segments, end }: ReadLog) {
    this.#settings = settings
    this.#state = state
    this.#segments = segments.map(({ number, head }) => ({ number, lastIndex: head?.lastIndex ?? Infinity }))
    this.#sequence = end.sequence
    this.#synced = end.sequence - 1
  }

  /**
   * Opens the log of a data directory, making it when there is none, and folds what it holds.
   * @throws ERR_STORAGE when anything acknowledged is damaged or missing, or the log is another host's
   */
  static async open(
    dataDir: string,
    options: WalOptions = {}
  ): Promise<{ readonly wal: Wal; readonly recovered: Recovered }> {
    const { files = diskFiles, segmentBytes = SEGMENT_BYTES, reserveBytes = RESERVE_BYTES } = options
    const { self = null, damagedSnapshots = [] } = options
    const snapshot = options.snapshot?.meta ?? null
    const dir = join(dataDir, 'log')
    try {
      await files.ensureDirectory(dir)
      await files.syncDirectory(dataDir)
      const read = await readLog(files, dir, { snapshot, damagedSnapshots })
      const { state } = read
      refuseForeign(dir, state, { self, clusterId: options.snapshot?.clusterId ?? null })
      state.self ??= self
      const replaced = snapshot !== null && takesThePlace(snapshot, state)
      const { origin, hardState } = state
      const entries = replaced ? [] : read.entries
      const wal = new Wal({ dir, files, segmentBytes, reserved: Buffer.alloc(reserveBytes) }, read)
      await wal.#takeUp(read, replaced ? snapshot : null)
      const commitIndex = Math.max(state.commitIndex, snapshot?.lastIndex ?? 0) as LogIndex
      const durable = { hardState, entries, commitIndex, snapshot }
      return { wal, recovered: { origin, durable, cutBytes: read.end.cutBytes } }
    } catch (err) {
      throw storageError(`the log in ${dir} cannot be opened`, err)
    }
  }

  /**
   * Appends records; resolves when they are durable. Calls are served in order; those that wait share a sync.
   * @throws ERR_STORAGE, and again at every later call: nothing is ever retried
   */
  append(records: readonly WalRecord[]): Promise<void> {
    return this.#write(records, true)
  }

  /** Notes how far the log is committed; not synced, for it is only a hint that saves work after a restart. */
  noteCommit(index: LogIndex): Promise<void> {
    return this.#write([{ kind: 'commit', index }], false)
  }

  /**
   * Says that a durable snapshot stands for all entries up to an index; segments that hold no later one are removed.
   * @throws ERR_STORAGE
   */
  compact(upTo: LogIndex): Promise<void> {
    return this.#enqueue({ kind: 'run', run: () => this.#compact(upTo) })
  }

  /** A durable snapshot that came from elsewhere takes the log's place: it goes on after it. @throws ERR_STORAGE */
  async reset({ lastIndex, lastTerm }: LogPosition): Promise<void> {
    await this.#write([{ kind: 'reset', position: { lastIndex, lastTerm } }], true)
    await this.compact(lastIndex)
  }

  /** Since when (monotonic milliseconds) the disk has owed an answer, or null: a leader whose disk hangs must not lead. */
  get busySinceMs(): number | null {
    return this.#busySinceMs
  }

  /** Waits for what was asked and closes; later calls are refused. */
  async close(): Promise<void> {
    while (this.#draining !== null) await this.#draining
    const current = this.#current
    this.#current = null
    try {
      if (this.#failed !== null || current === null) return
      this.#failed = new VxmeshError('ERR_STORAGE', `the log in ${this.#settings.dir} is closed`)
      await current.file.truncate(this.#offset)
      await current.file.sync()
    } catch (err) {
      throw storageError(`the log in ${this.#settings.dir} cannot be written`, err)
    } finally {
      await current?.file.close()
    }
  }

  async #write(records: readonly LogRecord[], sync: boolean): Promise<void> {
    if (records.length > 0) await this.#enqueue({ kind: 'write', records, sync })
  }

  #enqueue(
    work: { kind: 'write'; records: readonly LogRecord[]; sync: boolean } | { kind: 'run'; run: () => Promise<void> }
  ): Promise<void> {
    return new Promise((resolve, reject) => {
      this.#jobs.push({ ...work, resolve, reject })
      this.#draining ??= this.#drain()
    })
  }

  /** Serves what waits, in order, until nothing does. Never rejects. */
  async #drain(): Promise<void> {
    // What else this turn of the event loop appends goes into the same write.
    await Promise.resolve()
    for (let jobs = this.#next(); jobs.length > 0; jobs = this.#next()) {
      this.#busySinceMs = monotonicMs()
      try {
        if (this.#failed !== null) throw this.#failed
        await this.#serve(jobs)
        for (const job of jobs) job.resolve()
      } catch (err) {
        this.#failed ??= storageError(`the log in ${this.#settings.dir} cannot be written`, err)
        for (const job of jobs) job.reject(this.#failed)
      }
      this.#busySinceMs = null
    }
    this.#draining = null
  }

  /** The jobs to serve next: one that runs alone, or all writes up to the next such one, within a bound. */
  #next(): Job[] {
    let bytes = 0
    let count = 0
    for (const job of this.#jobs) {
      if (job.kind === 'run' && count > 0) break
      count += 1
      if (job.kind === 'run') break
      for (const record of job.records) bytes += record.kind === 'entry' ? record.entry.data.byteLength : 0
      if (bytes >= MAX_GROUP_BYTES) break
    }
    return this.#jobs.splice(0, count)
  }

  async #serve(jobs: readonly Job[]): Promise<void> {
    if (this.#offset >= this.#settings.segmentBytes) await this.#roll()
    this.#buffer.clear()
    let sync = false
    for (const job of jobs) {
      if (job.kind === 'run') return job.run()
      for (const record of job.records) {
        this.#state.fold(record)
        this.#buffer.push(record)
      }
      sync ||= job.sync
    }
    await this.#put(this.#buffer.bytes)
    if (sync) await this.#sync()
  }

  async #put(frame: Buffer): Promise<void> {
    const { file, salt } = this.#open()
    await file.write(sealFrame(frame, { salt, sequence: this.#sequence, synced: this.#synced }), this.#offset)
    this.#sequence += 1
    this.#offset += frame.byteLength
  }

  /**
   * Syncs, and says so behind the frame before anybody is told: from then on damage to it cannot pass for an append
   * that a crash broke off. The note becomes durable with the next sync; only a power cut before that can lose it.
   */
  async #sync(): Promise<void> {
    const { file } = this.#open()
    const end = this.#offset + FRAME_HEADER_BYTES
    if (end > this.#reservedTo) {
      await file.write(this.#settings.reserved, this.#offset)
      this.#reservedTo = this.#offset + this.#settings.reserved.byteLength
    }
    await file.sync()
    this.#synced = this.#sequence - 1
    await this.#put(Buffer.alloc(FRAME_HEADER_BYTES))
  }

  async #compact(upTo: LogIndex): Promise<void> {
    const { files, dir, segmentBytes } = this.#settings
    // A segment that a little traffic fills for days would keep what the snapshot stands for just as long.
    if (this.#offset >= segmentBytes / 16) await this.#roll()
    const keep = this.#segments.findLastIndex(({ lastIndex }) => lastIndex <= upTo)
    if (keep <= 0) return
    for (const { number } of this.#segments.splice(0, keep)) await files.remove(segmentPath(dir, number))
    await files.syncDirectory(dir)
  }

  /** Begins the next segment; it gets its name when its beginning is durable. */
  async #roll(): Promise<void> {
    const { files, dir } = this.#settings
    if (this.#current !== null) {
      await this.#current.file.truncate(this.#offset)
      await this.#current.file.sync()
      this.#synced = this.#sequence - 1
    }
    const head = this.#state.head()
    const number = (this.#segments.at(-1)?.number ?? 0) + 1
    const salt = randomInt(1, 2 ** 32)
    const path = segmentPath(dir, number)
    await files.remove(`${path}.new`)
    const file = await files.create(`${path}.new`)
    await this.#current?.file.close()
    this.#current = { file, number, salt }
    await file.write(encodePreamble(salt), 0)
    this.#offset = PREAMBLE_BYTES
    this.#reservedTo = 0
    this.#buffer.clear()
    this.#buffer.push({ kind: 'segment', head })
    await this.#put(this.#buffer.bytes)
    await file.sync()
    await files.rename(`${path}.new`, path)
    await files.syncDirectory(dir)
    this.#synced = this.#sequence - 1
    this.#segments.push({ number, lastIndex: head.lastIndex })
  }

  /** Makes the files what was read of them, durably and provably. */
  async #takeUp({ segments, leftovers, end }: ReadLog, resetTo: LogPosition | null): Promise<void> {
    const { files, dir } = this.#settings
    try {
      for (const path of leftovers) await files.remove(path)
      const last = segments.at(-1)
      if (last === undefined) await this.#roll()
      else {
        this.#current = { file: await files.open(last.path), number: last.number, salt: last.salt ?? 0 }
        await this.#rewriteEnd(last, end)
        await files.syncDirectory(dir)
        if (last.salt === null) await this.#roll()
      }
      if (resetTo !== null) await this.reset(resetTo)
    } catch (err) {
      await this.#current?.file.close()
      throw err
    }
  }

  /** Cuts what was never finished, and writes again what nothing proves durable: after a failed sync the page cache may
   * show what the disk does not have, and call it clean. */
  async #rewriteEnd({ bytes, salt }: Segment, { offset, cutBytes, unproven }: SegmentEnd): Promise<void> {
    const { file } = this.#open()
    this.#offset = offset
    this.#reservedTo = cutBytes > 0 ? offset : bytes.byteLength
    if (cutBytes > 0) await file.truncate(offset)
    if (unproven < offset) await file.write(bytes.subarray(unproven, offset), unproven)
    await file.sync()
    if (salt === null || unproven === offset) return
    await this.#put(Buffer.alloc(FRAME_HEADER_BYTES))
    await file.sync()
  }

  #open(): Current {
    if (this.#current === null) throw new Error('the log is not open')
    return this.#current
  }
}

/** A log may belong to one host and one cluster, those of the identity and the snapshot beside it. */
function refuseForeign(
  dir: string,
  state: LogState,
  { self, clusterId }: { readonly self: PeerId | null; readonly clusterId: ClusterId | null }
): void {
  if (state.self !== null && self !== null && state.self !== self) {
    throw new VxmeshError('ERR_STORAGE', `${dir} is the log of host ${state.self}, and this host is ${self}`)
  }
  const logCluster = state.origin?.clusterId ?? null
  if (clusterId === null || clusterId === logCluster) return
  // A lost log is refused too: its votes are forgotten, and the host could vote twice in a term.
  const what = logCluster === null ? 'no log of it' : `a log of cluster ${logCluster}`
  const advice = 'Move the data directory away and let the host rejoin'
  throw new VxmeshError('ERR_STORAGE', `beside the snapshot of cluster ${clusterId}, ${dir} holds ${what}. ${advice}`)
}

/** Must the log give way to the snapshot? Not when it holds the snapshot's last entry: it goes on from that. */
function takesThePlace({ lastIndex, lastTerm }: SnapshotMeta, state: LogState): boolean {
  const replaced = lastIndex > state.lastIndex || state.termAt(lastIndex) !== lastTerm
  if (replaced && state.commitIndex >= lastIndex) {
    const what = `entry ${lastIndex} is committed, and not of term ${lastTerm} as the snapshot says`
    throw new VxmeshError('ERR_STORAGE', `the log contradicts the snapshot: ${what}`)
  }
  return replaced
}

function storageError(message: string, cause: unknown): VxmeshError {
  if (cause instanceof VxmeshError && cause.code === 'ERR_STORAGE') return cause
  const text = cause instanceof Error ? cause.message : String(cause)
  return new VxmeshError('ERR_STORAGE', `${message}: ${text}`, { cause })
}
