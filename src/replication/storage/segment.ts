// One segment file: its name, and its records read back. What is damaged is told from what was never finished here.

import { join } from 'node:path'
import { VxmeshError } from '#model/errors.ts'
import { hasPreamble, PREAMBLE_BYTES, readFrame, readPreamble, saysSynced, SEGMENT_VERSION } from './wal-frame.ts'
import { readOldRecord } from './wal-record-v1.ts'
import { decodeRecords, type LogRecord, type SegmentHead } from './wal-record.ts'

export type Segment = {
  readonly number: number
  readonly path: string
  readonly bytes: Buffer
  /** Null in the old form. */
  readonly salt: number | null
  /** Null in the old form, save for the very first segment, which begins with nothing. */
  readonly head: SegmentHead | null
  readonly firstSequence: number
}

export function segmentNames(names: readonly string[]): string[] {
  return names.filter(name => /^[0-9]{8}\.seg$/.test(name)).sort()
}

export function segmentPath(dir: string, number: number): string {
  return join(dir, `${number.toString().padStart(8, '0')}.seg`)
}

/** Reads a segment's beginning. @throws ERR_STORAGE when it is damaged: a segment gets its name when that is durable */
export function parseSegment(dir: string, name: string, bytes: Buffer): Segment {
  const number = Number(name.slice(0, 8))
  const path = join(dir, name)
  if (!hasPreamble(bytes)) {
    // The first one of the old form was empty only until the host knew its cluster, and then it has nothing to lose.
    if (number === 1 && bytes.byteLength === 0) throw damaged(path, 0, 'it is empty')
    return { number, path, bytes, salt: null, head: number === 1 ? NOTHING : null, firstSequence: 1 }
  }
  const preamble = readPreamble(bytes)
  if (preamble === null) throw damaged(path, 0, 'its beginning does not match its checksum')
  const { version, salt } = preamble
  if (version !== SEGMENT_VERSION) {
    throw new VxmeshError('ERR_STORAGE', `${path} is of version ${version}, and this program knows ${SEGMENT_VERSION}`)
  }
  const frame = readFrame(bytes, PREAMBLE_BYTES, salt)
  if (frame.kind !== 'frame') throw damaged(path, PREAMBLE_BYTES, frame.kind === 'end' ? 'it is empty' : frame.why)
  const [first] = decodeRecords(frame.body)
  if (first?.kind !== 'segment') throw damaged(path, PREAMBLE_BYTES, 'it does not begin with what came before it')
  return { number, path, bytes, salt, head: first.head, firstSequence: frame.sequence }
}

export type SegmentEnd = {
  /** Bytes up to here are good. */
  readonly offset: number
  /** The next frame's number. */
  readonly sequence: number
  /** Bytes of an unfinished append after the offset. */
  readonly cutBytes: number
  /** Where the frames begin of which nothing says that they are durable; equal to the offset when there are none. */
  readonly unproven: number
}

/**
 * Reads all records of a segment in order.
 * @param last only the last segment may end with an unfinished append
 * @throws ERR_STORAGE when anything that was acknowledged is damaged
 */
export function readSegment(
  segment: Segment,
  p: { readonly sequence: number; readonly last: boolean; readonly each: (record: LogRecord) => void }
): SegmentEnd {
  return segment.salt === null ? readOld(segment, p) : readFrames(segment, segment.salt, p)
}

type ReadOptions = Parameters<typeof readSegment>[1]

function readFrames({ bytes, path }: Segment, salt: number, { sequence, last, each }: ReadOptions): SegmentEnd {
  let offset = PREAMBLE_BYTES
  const starts: { readonly sequence: number; readonly offset: number }[] = []
  for (;;) {
    const frame = readFrame(bytes, offset, salt)
    if (frame.kind === 'frame') {
      if (frame.sequence !== sequence) {
        throw damaged(path, offset, `frame ${frame.sequence} where ${sequence} belongs`)
      }
      for (const record of decodeRecords(frame.body)) each(record)
      while ((starts[0]?.sequence ?? Infinity) <= frame.synced) starts.shift()
      if (frame.body.byteLength > 0) starts.push({ sequence, offset })
      sequence += 1
      offset = frame.end
      continue
    }
    const broken = frame.kind === 'broken'
    if (broken && (!last || saysSynced(bytes, { from: offset, salt, sequence }))) throw damaged(path, offset, frame.why)
    const cutBytes = broken ? bytes.byteLength - offset : 0
    return { offset, sequence, cutBytes, unproven: starts[0]?.offset ?? offset }
  }
}

function readOld({ bytes, path }: Segment, { sequence, last, each }: ReadOptions): SegmentEnd {
  let offset = 0
  for (;;) {
    const read = readOldRecord(bytes, offset, sequence)
    if (read.kind === 'record') {
      each(read.record)
      sequence += 1
      offset = read.end
      continue
    }
    if (read.kind === 'end' || (read.kind === 'torn' && last)) {
      return { offset, sequence, cutBytes: bytes.byteLength - offset, unproven: offset }
    }
    throw damaged(path, offset, read.kind === 'torn' ? 'a record that breaks off' : read.why)
  }
}

const NOTHING = {
  self: null,
  origin: null,
  hardState: { term: 0, votedFor: null },
  commitIndex: 0,
  lastIndex: 0,
  lastTerm: 0
} as unknown as SegmentHead

export function damaged(path: string, offset: number, why: string): VxmeshError {
  const advice = 'Move the data directory away and let the host rejoin'
  return new VxmeshError('ERR_STORAGE', `${path} is damaged at byte ${offset}: ${why}. ${advice}`)
}
