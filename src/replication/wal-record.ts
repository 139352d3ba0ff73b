// Records of the write-ahead log. Layout: u32 payload length, u48 sequence number, u8 kind, u8 zero, u32 CRC-32 of
// those 12 bytes and the payload, then the payload (msgpack). The sequence number makes a spliced or swapped record
// as visible as a flipped bit. Big-endian.

import { crc32 } from 'node:zlib'
import { VxmeshError } from '#model/errors.ts'
import type { ClusterId, LogIndex, PeerId, Term } from '#model/ids.ts'
import { decodeMsgpack, encodeMsgpack } from '#platform/msgpack.ts'
import type { Configuration, Entry, HardState } from '#raft/types.ts'
import { entryFromTuple, entryToTuple, isCount } from './entry-codec.ts'

/** What this host belongs to: written once, at bootstrap or at the first contact with the cluster. */
export type Origin = { readonly clusterId: ClusterId; readonly configuration: Configuration }

export type WalRecord =
  | { readonly kind: 'origin'; readonly origin: Origin }
  | { readonly kind: 'hard-state'; readonly hardState: HardState }
  | { readonly kind: 'truncate'; readonly from: LogIndex }
  | { readonly kind: 'entry'; readonly entry: Entry }
  | { readonly kind: 'commit'; readonly index: LogIndex }

export const RECORD_HEADER_BYTES = 16
/** A record holds one entry; an entry holds one command of at most a few kilobytes. */
export const MAX_RECORD_BYTES = 4 * 1024 * 1024

const KINDS: readonly WalRecord['kind'][] = ['origin', 'hard-state', 'truncate', 'entry', 'commit']

export function encodeRecord(record: WalRecord, sequence: number): Buffer {
  const payload = encodeMsgpack(payloadOf(record))
  const out = Buffer.allocUnsafe(RECORD_HEADER_BYTES + payload.byteLength)
  out.writeUInt32BE(payload.byteLength, 0)
  out.writeUIntBE(sequence, 4, 6)
  out.writeUInt8(KINDS.indexOf(record.kind), 10)
  out.writeUInt8(0, 11)
  payload.copy(out, RECORD_HEADER_BYTES)
  out.writeUInt32BE(crc32(payload, crc32(out.subarray(0, 12))), 12)
  return out
}

export type ReadRecord =
  | { readonly kind: 'record'; readonly record: WalRecord; readonly nextOffset: number }
  | { readonly kind: 'end' }
  /** The bytes end inside a record: what a crash in the middle of an append leaves. */
  | { readonly kind: 'torn' }
  | { readonly kind: 'corrupt'; readonly why: string }

/** Reads the record at an offset, which must carry the given sequence number. */
export function readRecord(bytes: Buffer, offset: number, sequence: number): ReadRecord {
  const left = bytes.byteLength - offset
  if (left === 0) return { kind: 'end' }
  if (left < RECORD_HEADER_BYTES) return { kind: 'torn' }
  const length = bytes.readUInt32BE(offset)
  if (length > MAX_RECORD_BYTES) return { kind: 'corrupt', why: `a length of ${length}` }
  if (left < RECORD_HEADER_BYTES + length) return { kind: 'torn' }
  const payload = bytes.subarray(offset + RECORD_HEADER_BYTES, offset + RECORD_HEADER_BYTES + length)
  if (crc32(payload, crc32(bytes.subarray(offset, offset + 12))) !== bytes.readUInt32BE(offset + 12)) {
    return { kind: 'corrupt', why: 'a checksum that does not match' }
  }
  const found = bytes.readUIntBE(offset + 4, 6)
  if (found !== sequence) return { kind: 'corrupt', why: `record ${found} where ${sequence} belongs` }
  const record = recordOf(KINDS[bytes.readUInt8(offset + 10)], decodeMsgpack(payload))
  return { kind: 'record', record, nextOffset: offset + RECORD_HEADER_BYTES + length }
}

function payloadOf(record: WalRecord): unknown {
  switch (record.kind) {
    case 'origin':
      return [record.origin.clusterId, record.origin.configuration.voters, record.origin.configuration.learners]
    case 'hard-state':
      return [record.hardState.term, record.hardState.votedFor]
    case 'truncate':
      return record.from
    case 'entry':
      return entryToTuple(record.entry)
    case 'commit':
      return record.index
  }
}

/** The checksum was right, so what does not fit was written by another version: that halts, it is never skipped. */
function recordOf(kind: WalRecord['kind'] | undefined, payload: unknown): WalRecord {
  const parts: readonly unknown[] = Array.isArray(payload) ? payload : []
  switch (kind) {
    case 'origin':
      if (typeof parts[0] === 'string' && Array.isArray(parts[1]) && Array.isArray(parts[2])) {
        const configuration = { voters: parts[1] as PeerId[], learners: parts[2] as PeerId[] }
        return { kind, origin: { clusterId: parts[0] as ClusterId, configuration } }
      }
      break
    case 'hard-state':
      if (isCount(parts[0]) && (parts[1] === null || typeof parts[1] === 'string')) {
        return { kind, hardState: { term: parts[0] as Term, votedFor: parts[1] as PeerId | null } }
      }
      break
    case 'truncate':
      if (isCount(payload)) return { kind, from: payload as LogIndex }
      break
    case 'entry':
      return { kind, entry: entryFromTuple(payload) }
    case 'commit':
      if (isCount(payload)) return { kind, index: payload as LogIndex }
      break
    case undefined:
      break
  }
  throw new VxmeshError('ERR_STORAGE', 'the log holds a record that this version does not know')
}
