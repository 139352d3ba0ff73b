// Reads a log directory back, starting at the newest segment that begins at or before the snapshot's last entry: all
// entries after the snapshot are in it or later. Older segments are leftovers of an interrupted compaction. The head of
// each later segment is checked against the records before it.

import { isDeepStrictEqual } from 'node:util'
import { join } from 'node:path'
import { VxmeshError } from '#model/errors.ts'
import type { LogIndex } from '#model/ids.ts'
import type { FileLayer } from '#platform/file-layer.ts'
import type { Entry, SnapshotMeta } from '#raft/types.ts'
import { LogState } from './log-state.ts'
import { damaged, parseSegment, readSegment, segmentNames, type Segment, type SegmentEnd } from './segment.ts'
import type { LogRecord } from './wal-record.ts'

export type ReadLog = {
  readonly state: LogState
  /** The entries after the snapshot. */
  readonly entries: readonly Entry[]
  /** In order; empty when there was no log. */
  readonly segments: readonly Segment[]
  /** Paths of files that are no longer needed. */
  readonly leftovers: readonly string[]
  readonly end: SegmentEnd
}

/** @throws ERR_STORAGE */
export async function readLog(
  files: FileLayer,
  dir: string,
  p: { readonly snapshot: SnapshotMeta | null; readonly damagedSnapshots: readonly string[] }
): Promise<ReadLog> {
  const found = await files.list(dir)
  const names = segmentNames(found)
  const snapshotIndex = p.snapshot?.lastIndex ?? (0 as LogIndex)
  const segments = await segmentsFrom(files, { dir, names, snapshotIndex })
  const [first] = segments
  if (names.length > 0 && first === undefined) throw compactedAway(dir, snapshotIndex, p.damagedSnapshots)
  const fold = new LogFold()
  let end: SegmentEnd = { offset: 0, sequence: first?.firstSequence ?? 1, cutBytes: 0, unproven: 0 }
  for (const [at, segment] of segments.entries()) {
    const previous = segments[at - 1]
    if (previous !== undefined && segment.number !== previous.number + 1) {
      throw new VxmeshError('ERR_STORAGE', `${dir}: segment ${previous.number + 1} is missing`)
    }
    const each = (record: LogRecord): void => fold.take(record, at === 0, segment.path)
    end = readSegment(segment, { sequence: end.sequence, last: at === segments.length - 1, each })
  }
  const { state } = fold
  if (state.commitIndex > state.lastIndex) {
    const what = `entry ${state.commitIndex} is committed, and the log ends with ${state.lastIndex}`
    throw new VxmeshError('ERR_STORAGE', `${dir}: ${what}`)
  }
  const leftovers = [
    ...found.filter(name => name.endsWith('.seg.new')),
    ...names.slice(0, names.length - segments.length)
  ].map(name => join(dir, name))
  return { state, entries: fold.entriesAfter(snapshotIndex), segments, leftovers, end }
}

/** The newest segment that begins at or before the snapshot's last entry, and all later ones; empty without one. */
async function segmentsFrom(
  files: FileLayer,
  p: { readonly dir: string; readonly names: readonly string[]; readonly snapshotIndex: LogIndex }
): Promise<Segment[]> {
  const segments: Segment[] = []
  for (const name of p.names.toReversed()) {
    const segment = parseSegment(p.dir, name, await files.read(join(p.dir, name)))
    segments.unshift(segment)
    if (segment.head.lastIndex <= p.snapshotIndex) return segments
  }
  return []
}

/** The log's state, and the entries that are still valid. */
class LogFold {
  readonly state = new LogState()
  #entries: Entry[] = []
  #before = 0 as LogIndex

  take(record: LogRecord, first: boolean, path: string): void {
    if (record.kind === 'segment' && !first) {
      if (!isDeepStrictEqual(record.head, { ...this.state.head(), self: record.head.self })) {
        throw damaged(path, 0, 'its head contradicts the segment before it')
      }
      this.state.self = record.head.self
      return
    }
    this.state.fold(record)
    if (record.kind === 'entry') this.#entries.push(record.entry)
    else if (record.kind === 'truncate') this.#truncate(record.from)
    else if (record.kind === 'reset' || record.kind === 'segment') {
      this.#entries = []
      this.#before = this.state.lastIndex
    }
  }

  entriesAfter(index: LogIndex): Entry[] {
    return this.#entries.slice(Math.max(0, index - this.#before))
  }

  #truncate(from: LogIndex): void {
    if (from <= this.#before) this.#before = (from - 1) as LogIndex
    this.#entries.length = Math.min(this.#entries.length, from - 1 - this.#before)
  }
}

function compactedAway(dir: string, snapshotIndex: LogIndex, damagedSnapshots: readonly string[]): VxmeshError {
  const newest = snapshotIndex === 0 ? 'there is no intact snapshot' : `the snapshot ends with entry ${snapshotIndex}`
  const why = damagedSnapshots.length === 0 ? '' : `; damaged: ${damagedSnapshots.join(', ')}`
  const advice = 'Move the data directory away and let the host rejoin'
  return new VxmeshError('ERR_STORAGE', `${dir} begins too late: ${newest}${why}. ${advice}`)
}
