// The durable log of a host: segment files of checksummed frames. All appends that wait share one frame, which one system
// call writes and syncs. A voter keeps its Raft log, vote and commit index here; other hosts keep the committed entries. The
// format is the same, so a host may change roles. A failed write or sync is final and must end the agent: after a failed
// fsync the page cache cannot be trusted (Rebello et al., ATC '20).

import { join } from 'node:path'
import { VxmeshError } from '#model/errors.ts'
import type { ClusterId, LogIndex, PeerId } from '#model/ids.ts'
import type { Cancel, Clock } from '#platform/clock.ts'
import { diskFiles, type FileLayer } from '#platform/file-layer.ts'
import { storageError } from '#platform/storage-error.ts'
import type { DurableState, SnapshotMeta } from '#raft/types.ts'
import type { LogState } from './log-state.ts'
import type { SnapshotHead } from './snapshot-file.ts'
import { SegmentWriter } from './segment-writer.ts'
import { segmentPath } from './segment.ts'
import { readLog, type ReadLog } from './wal-recovery.ts'
import type { LogPosition, LogRecord, Origin, WalRecord } from './wal-record.ts'

export type Recovered = {
  readonly origin: Origin | null
  readonly durable: DurableState
  /** Bytes of a torn append that were cut off. */
  readonly cutBytes: number
}

export type WalOptions = {
  readonly clock: Clock
  /** The host whose log it must be; null accepts any. */
  readonly self?: PeerId | null
  /** The newest snapshot; it covers all entries up to its last one. */
  readonly snapshot?: SnapshotHead | null
  /** Paths of damaged snapshots, named in the error when the log needs one of them. */
  readonly damagedSnapshots?: readonly string[]
  readonly files?: FileLayer
  /** Size at which a segment is closed and the next one started; compaction removes whole segments. */
  readonly segmentBytes?: number
  /** Zeros are written this far ahead, so that a sync need not update the file's length and block map. */
  readonly reserveBytes?: number
}

const SEGMENT_BYTES = 16 * 1024 * 1024
const RESERVE_BYTES = 512 * 1024
/** About how large one frame may get: bytes of appends that share one sync. */
const MAX_GROUP_BYTES = 4 * 1024 * 1024
/** After one to two such periods without an append a sync marker proves the last one durable; otherwise the next frame does. */
const MARKER_MS = 100

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
  | { readonly kind: 'write'; readonly records: readonly LogRecord[] }
  | { readonly kind: 'run'; readonly run: () => Promise<void> }
)

export class Wal {
  readonly #settings: Settings
  readonly #state: LogState
  readonly #writer: SegmentWriter
  readonly #jobs: Job[] = []
  /** All segments, each with the log's last index when the segment was started. */
  readonly #segments: { readonly number: number; readonly lastIndex: number }[]
  #draining: Promise<void> | null = null
  #busySinceMs: number | null = null
  /** Ends a period; null while no append lacks a marker. */
  #period: Cancel | null = null
  #appendedInPeriod = false
  #failed: VxmeshError | null = null

  private constructor(settings: Settings, writer: SegmentWriter, { state, segments }: ReadLog) {
    this.#settings = settings
    this.#writer = writer
    this.#state = state
    this.#segments = segments.map(({ number, head }) => ({ number, lastIndex: head.lastIndex }))
  }

  /**
   * Opens the log of a data directory, creating it when there is none, and recovers its state.
   * @throws ERR_STORAGE when anything acknowledged is damaged or missing, or the log belongs to another host
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
      const replaced = snapshot !== null && replacesLog(snapshot, state)
      const { origin, hardState } = state
      const entries = replaced ? [] : read.entries
      const writer = new SegmentWriter({ files, dir, reserveBytes, sequence: read.end.sequence })
      const wal = new Wal({ clock, dir, files, segmentBytes }, writer, read)
      await wal.#resume(read, replaced ? snapshot : null)
      const commitIndex = Math.max(state.commitIndex, snapshot?.lastIndex ?? 0) as LogIndex
      const durable = { hardState, entries, commitIndex, snapshot }
      return { wal, recovered: { origin, durable, cutBytes: read.end.cutBytes } }
    } catch (err) {
      throw storageError(`the log in ${dir} cannot be opened`, err)
    }
  }

  /**
   * Appends records; resolves when they are durable. Calls run in order; those that wait share a sync.
   * @throws ERR_STORAGE, and so does every later call: nothing is ever retried
   */
  append(records: readonly WalRecord[]): Promise<void> {
    return this.#write(records)
  }

  /** Records the commit index: a hint that saves work after a restart. @throws ERR_STORAGE */
  noteCommit(index: LogIndex): Promise<void> {
    return this.#write([{ kind: 'commit', index }])
  }

  /**
   * Removes the segments that hold only entries up to `upTo`, all covered by a durable snapshot.
   * @throws ERR_STORAGE
   */
  compact(upTo: LogIndex): Promise<void> {
    return this.#enqueue({ kind: 'run', run: () => this.#compact(upTo) })
  }

  /** Drops all entries in favour of a durable snapshot received from another host. @throws ERR_STORAGE */
  async reset({ lastIndex, lastTerm }: LogPosition): Promise<void> {
    await this.#write([{ kind: 'reset', position: { lastIndex, lastTerm } }])
    await this.compact(lastIndex)
  }

  /** Start of the write in flight (monotonic milliseconds), or null. A leader whose disk hangs must step down. */
  get busySinceMs(): number | null {
    return this.#busySinceMs
  }

  /** Finishes the queued jobs and closes; later calls fail. */
  async close(): Promise<void> {
    while (this.#draining !== null) await this.#draining
    this.#period?.()
    if (this.#failed !== null) return this.#writer.abandon()
    this.#failed = new VxmeshError('ERR_STORAGE', `the log in ${this.#settings.dir} is closed`)
    try {
      await this.#writer.close()
    } catch (err) {
      throw storageError(`the log in ${this.#settings.dir} cannot be written`, err)
    }
  }

  async #write(records: readonly LogRecord[]): Promise<void> {
    if (records.length > 0) await this.#enqueue({ kind: 'write', records })
  }

  #enqueue(
    work: { kind: 'write'; records: readonly LogRecord[] } | { kind: 'run'; run: () => Promise<void> }
  ): Promise<void> {
    return new Promise((resolve, reject) => {
      this.#jobs.push({ ...work, resolve, reject })
      this.#draining ??= this.#drain()
    })
  }

  /** Runs the queue, in order, until it is empty. Never rejects. */
  async #drain(): Promise<void> {
    // Coalesces all appends of the current turn of the event loop into one write.
    await Promise.resolve()
    for (let jobs = this.#next(); jobs.length > 0; jobs = this.#next()) {
      this.#busySinceMs = this.#settings.clock.nowMs()
      try {
        if (this.#failed !== null) throw this.#failed
        await this.#runJobs(jobs)
        for (const job of jobs) job.resolve()
      } catch (err) {
        this.#failed ??= storageError(`the log in ${this.#settings.dir} cannot be written`, err)
        for (const job of jobs) job.reject(this.#failed)
      }
      this.#busySinceMs = null
    }
    this.#draining = null
  }

  /** The jobs to run next: one `run` alone, or all writes before the next `run`, up to MAX_GROUP_BYTES. */
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

  async #runJobs(jobs: readonly Job[]): Promise<void> {
    const [first] = jobs
    if (first?.kind === 'run') return first.run()
    if (this.#writer.offset >= this.#settings.segmentBytes) await this.#roll()
    const records = jobs.flatMap(job => (job.kind === 'write' ? job.records : []))
    for (const record of records) this.#state.fold(record)
    await this.#writer.append(records)
    this.#appendedInPeriod = this.#period !== null
    this.#period ??= this.#startPeriod()
  }

  #startPeriod(): Cancel {
    return this.#settings.clock.after(MARKER_MS, () => {
      this.#period = this.#appendedInPeriod ? this.#startPeriod() : null
      this.#appendedInPeriod = false
      if (this.#period !== null || !this.#writer.unproven) return
      // A failure ends the log, and the next append reports it.
      this.#enqueue({ kind: 'run', run: () => this.#mark() }).catch(() => undefined)
    })
  }

  /** An append may have come first. */
  async #mark(): Promise<void> {
    if (this.#writer.unproven && this.#jobs.length === 0) await this.#writer.mark()
  }

  async #compact(upTo: LogIndex): Promise<void> {
    const { files, dir, segmentBytes } = this.#settings
    // At low traffic a segment stays open for days, and would keep the entries that the snapshot covers as long.
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

  /** Makes the recovered state durable: removes leftovers, cuts off a torn append, rewrites unproven frames. */
  async #resume({ segments, leftovers, end }: ReadLog, resetTo: LogPosition | null): Promise<void> {
    const { files, dir } = this.#settings
    try {
      // A rename that is visible may not be durable yet; until it is, the segments before it must stay.
      await files.syncDirectory(dir)
      for (const path of leftovers) await files.remove(path)
      const last = segments.at(-1)
      if (last === undefined) await this.#roll()
      else await this.#writer.resume(last, end)
      if (resetTo !== null) await this.reset(resetTo)
    } catch (err) {
      await this.#writer.abandon()
      throw err
    }
  }
}

/** The log must belong to this host, and to the cluster of the snapshot beside it. */
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
  // A missing log is refused too: it held the vote, and the host could vote twice in a term.
  const what = logCluster === null ? 'no log of it' : `a log of cluster ${logCluster}`
  const advice = 'Move the data directory away and let the host rejoin'
  throw new VxmeshError('ERR_STORAGE', `beside the snapshot of cluster ${clusterId}, ${dir} holds ${what}. ${advice}`)
}

/** Does the snapshot replace the log? Not when the log holds the snapshot's last entry: then it continues from there. */
function replacesLog({ lastIndex, lastTerm }: SnapshotMeta, state: LogState): boolean {
  const replaced = lastIndex > state.lastIndex || state.termAt(lastIndex) !== lastTerm
  if (replaced && state.commitIndex >= lastIndex) {
    const what = `entry ${lastIndex} is committed, but not with the snapshot's term ${lastTerm}`
    throw new VxmeshError('ERR_STORAGE', `the log contradicts the snapshot: ${what}`)
  }
  return replaced
}
