// The durable log of a host: segment files of checksummed frames, each one write and one fdatasync for all that waited.
// A server keeps its Raft log, vote and commit index here; a client keeps the committed entries it was told. Both are
// the same fold, so a host may change its role. A failed write or sync is final: the caller must end the agent, for
// after a failed fsync the page cache cannot be trusted (Rebello et al., ATC '20).

import { join } from 'node:path'
import { VxmeshError } from '#model/errors.ts'
import type { ClusterId, LogIndex, PeerId } from '#model/ids.ts'
import type { Clock } from '#platform/clock.ts'
import { diskFiles, type FileLayer } from '#platform/file-layer.ts'
import { storageError } from '#platform/files.ts'
import type { DurableState, SnapshotMeta } from '#raft/types.ts'
import type { LogState } from './log-state.ts'
import type { ClusterSnapshot } from './snapshot-file.ts'
import { SegmentWriter } from './segment-writer.ts'
import { segmentPath } from './segment.ts'
import { readLog, type ReadLog } from './wal-recovery.ts'
import type { LogPosition, LogRecord, Origin, WalRecord } from './wal-record.ts'

export type Recovered = {
  readonly origin: Origin | null
  readonly durable: DurableState
  /** Bytes of an unfinished append that a crash left and that were cut off. */
  readonly cutBytes: number
}

export type WalOptions = {
  readonly clock: Clock
  /** Whose log it must be; null leaves that open. */
  readonly self?: PeerId | null
  /** The newest snapshot, which stands for all entries up to its end. */
  readonly snapshot?: Pick<ClusterSnapshot, 'clusterId' | 'meta'> | null
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
  readonly clock: Clock
  readonly dir: string
  readonly files: FileLayer
  readonly segmentBytes: number
}

type Job = {
  readonly resolve: () => void
  readonly reject: (err: unknown) => void
} & (
  | { readonly kind: 'write'; readonly records: readonly LogRecord[]; readonly sync: boolean }
  | { readonly kind: 'run'; readonly run: () => Promise<void> }
)

export class Wal {
  readonly #settings: Settings
  readonly #state: LogState
  readonly #writer: SegmentWriter
  readonly #jobs: Job[] = []
  /** All segments, with the last index that the log had when each began; of an old one that is not known. */
  readonly #segments: { readonly number: number; readonly lastIndex: number }[]
  #draining: Promise<void> | null = null
  #busySinceMs: number | null = null
  #failed: VxmeshError | null = null

  private constructor(settings: Settings, writer: SegmentWriter, { state, segments }: ReadLog) {
    this.#settings = settings
    this.#writer = writer
    this.#state = state
    this.#segments = segments.map(({ number, head }) => ({ number, lastIndex: head?.lastIndex ?? Infinity }))
  }

  /**
   * Opens the log of a data directory, making it when there is none, and folds what it holds.
   * @throws ERR_STORAGE when anything acknowledged is damaged or missing, or the log is another host's
   */
  static async open(
    dataDir: string,
    options: WalOptions
  ): Promise<{ readonly wal: Wal; readonly recovered: Recovered }> {
    const { clock, files = diskFiles, segmentBytes = SEGMENT_BYTES, reserveBytes = RESERVE_BYTES } = options
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
      const writer = new SegmentWriter({ files, dir, reserveBytes, sequence: read.end.sequence })
      const wal = new Wal({ clock, dir, files, segmentBytes }, writer, read)
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
    if (this.#failed !== null) return this.#writer.abandon()
    this.#failed = new VxmeshError('ERR_STORAGE', `the log in ${this.#settings.dir} is closed`)
    try {
      await this.#writer.close()
    } catch (err) {
      throw storageError(`the log in ${this.#settings.dir} cannot be written`, err)
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
      this.#busySinceMs = this.#settings.clock.nowMs()
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
    const [first] = jobs
    if (first?.kind === 'run') return first.run()
    if (this.#writer.offset >= this.#settings.segmentBytes) await this.#roll()
    const writes = jobs.filter(job => job.kind === 'write')
    const records = writes.flatMap(job => job.records)
    for (const record of records) this.#state.fold(record)
    await this.#writer.write(records)
    if (writes.some(job => job.sync)) await this.#writer.sync()
  }

  async #compact(upTo: LogIndex): Promise<void> {
    const { files, dir, segmentBytes } = this.#settings
    // A segment that a little traffic fills for days would keep what the snapshot stands for just as long.
    if (this.#writer.offset >= segmentBytes / 16) await this.#roll()
    const keep = this.#segments.findLastIndex(({ lastIndex }) => lastIndex <= upTo)
    if (keep <= 0) return
    for (const { number } of this.#segments.splice(0, keep)) await files.remove(segmentPath(dir, number))
    await files.syncDirectory(dir)
  }

  async #roll(): Promise<void> {
    const head = this.#state.head()
    const number = (this.#segments.at(-1)?.number ?? 0) + 1
    await this.#writer.begin(number, head)
    this.#segments.push({ number, lastIndex: head.lastIndex })
  }

  /** Makes the files what was read of them, durably and provably. */
  async #takeUp({ segments, leftovers, end }: ReadLog, resetTo: LogPosition | null): Promise<void> {
    const { files, dir } = this.#settings
    try {
      // A segment that is seen may not have its name for good yet: before that those that it stands for must not go.
      await files.syncDirectory(dir)
      for (const path of leftovers) await files.remove(path)
      const last = segments.at(-1)
      if (last !== undefined) await this.#writer.takeUp(last, end)
      if ((last?.salt ?? null) === null) await this.#roll()
      if (resetTo !== null) await this.reset(resetTo)
    } catch (err) {
      await this.#writer.abandon()
      throw err
    }
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
