// One segment file: its name, and its records read back. Reading tells damage apart from an append that a crash tore.

import { join } from 'node:path'
import { VxmeshError } from '#model/errors.ts'
import { hasMagic, PREAMBLE_BYTES, provesSynced, readFrame, readPreamble, SEGMENT_VERSION } from './wal-frame.ts'
import { decodeRecords, type LogRecord, type SegmentHead } from './wal-record.ts'

export type Segment = {
  readonly number: number
  readonly path: string
  readonly bytes: Buffer
  readonly salt: number
  readonly head: SegmentHead
  readonly firstSequence: number
}

export function segmentNames(names: readonly string[]): string[] {
  return names.filter(name => /^[0-9]{8}\.seg$/.test(name)).sort()
}

export function segmentPath(dir: string, number: number): string {
  return join(dir, `${number.toString().padStart(8, '0')}.seg`)
}

/**
 * Parses a segment's preamble and head.
 * @throws ERR_STORAGE when they are damaged: a segment gets its name only once both are durable
 */
export function parseSegment(dir: string, name: string, bytes: Buffer): Segment {
  const path = join(dir, name)
  if (!hasMagic(bytes)) throw damaged(path, 0, bytes.byteLength === 0 ? 'it is empty' : 'it is not a segment file')
  const preamble = readPreamble(bytes)
  if (preamble === null) throw damaged(path, 0, 'the preamble does not match its checksum')
  const { version, salt } = preamble
  if (version !== SEGMENT_VERSION) {
    throw new VxmeshError('ERR_STORAGE', `${path} has version ${version}, and this program reads ${SEGMENT_VERSION}`)
  }
  const frame = readFrame(bytes, PREAMBLE_BYTES, salt)
  if (frame.kind !== 'frame') throw damaged(path, PREAMBLE_BYTES, frame.kind === 'end' ? 'it has no head' : frame.why)
  const [first] = decodeRecords(frame.body)
  if (first?.kind !== 'segment') throw damaged(path, PREAMBLE_BYTES, 'the first record is not a segment head')
  return { number: Number(name.slice(0, 8)), path, bytes, salt, head: first.head, firstSequence: frame.sequence }
}

export type SegmentEnd = {
  /** Everything before this offset is valid. */
  readonly offset: number
  /** The next frame's number. */
  readonly sequence: number
  /** Bytes of a torn append after the offset. */
  readonly cutBytes: number
  /** Offset of the first frame that no later header proves durable; equal to `offset` when there is none. */
  readonly unproven: number
}

/**
 * Reads all records of a segment in order.
 * @param p.last only the last segment may end with a torn append
 * @throws ERR_STORAGE when anything acknowledged is damaged
 */
export function readSegment(
  { bytes, path, salt }: Segment,
  p: { readonly sequence: number; readonly last: boolean; readonly each: (record: LogRecord) => void }
): SegmentEnd {
  let { sequence } = p
  let offset = PREAMBLE_BYTES
  const unproven: { readonly sequence: number; readonly offset: number }[] = []
  for (;;) {
    const frame = readFrame(bytes, offset, salt)
    if (frame.kind === 'frame') {
      if (frame.sequence !== sequence) {
        throw damaged(path, offset, `frame ${frame.sequence} where frame ${sequence} is expected`)
      }
      for (const record of decodeRecords(frame.body)) p.each(record)
      while ((unproven[0]?.sequence ?? Infinity) <= frame.synced) unproven.shift()
      if (frame.body.byteLength > 0) unproven.push({ sequence, offset })
      sequence += 1
      offset = frame.end
      continue
    }
    const broken = frame.kind === 'broken'
    if (broken && (!p.last || provesSynced(bytes, { from: offset, salt, sequence }))) {
      throw damaged(path, offset, frame.why)
    }
    const cutBytes = broken ? bytes.byteLength - offset : 0
    return { offset, sequence, cutBytes, unproven: unproven[0]?.offset ?? offset }
  }
}

export function damaged(path: string, offset: number, why: string): VxmeshError {
  const advice = 'Move the data directory away and let the host rejoin'
  return new VxmeshError('ERR_STORAGE', `${path} is damaged at byte ${offset}: ${why}. ${advice}`)
}
