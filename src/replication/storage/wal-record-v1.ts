// Segments as the first version wrote them: records one after the other, each u32 payload length, u48 sequence number,
// u8 kind, u8 zero, u32 CRC-32 of those 12 bytes and the payload, then the payload (msgpack). Only read, never written.

import { crc32 } from 'node:zlib'
import { decodeMsgpack } from '#platform/msgpack.ts'
import { entryFromTuple } from '../codec/entry-codec.ts'
import { recordOf, unknownRecord, type LogRecord } from './wal-record.ts'

const HEADER_BYTES = 16
const MAX_PAYLOAD_BYTES = 4 * 1024 * 1024
const KINDS = ['origin', 'hard-state', 'truncate', 'entry', 'commit'] as const

export type ReadOldRecord =
  | { readonly kind: 'record'; readonly record: LogRecord; readonly end: number }
  | { readonly kind: 'end' }
  /** The bytes end inside a record: what a crash in the middle of an append leaves. */
  | { readonly kind: 'torn' }
  | { readonly kind: 'corrupt'; readonly why: string }

/** Reads the record at an offset, which must carry the given sequence number. @throws ERR_STORAGE on unknown kinds */
export function readOldRecord(bytes: Buffer, offset: number, sequence: number): ReadOldRecord {
  const left = bytes.byteLength - offset
  if (left === 0) return { kind: 'end' }
  if (left < HEADER_BYTES) return { kind: 'torn' }
  const length = bytes.readUInt32BE(offset)
  if (length > MAX_PAYLOAD_BYTES) return { kind: 'corrupt', why: `a length of ${length}` }
  const end = offset + HEADER_BYTES + length
  if (end > bytes.byteLength) return { kind: 'torn' }
  const payload = bytes.subarray(offset + HEADER_BYTES, end)
  if (crc32(payload, crc32(bytes.subarray(offset, offset + 12))) !== bytes.readUInt32BE(offset + 12)) {
    return { kind: 'corrupt', why: 'a checksum that does not match' }
  }
  const found = bytes.readUIntBE(offset + 4, 6)
  if (found !== sequence) return { kind: 'corrupt', why: `record ${found} where ${sequence} belongs` }
  const kind = KINDS[bytes.readUInt8(offset + 10)]
  if (kind === undefined) throw unknownRecord()
  const value = decodeMsgpack(payload, 'ERR_STORAGE')
  const record = kind === 'entry' ? { kind, entry: entryFromTuple(value) } : recordOf(kind, value)
  return { kind: 'record', record, end }
}
