// Records of the write-ahead log and their bytes: u8 kind, u32 payload length, payload. An entry's payload is u48 index,
// u48 term, u8 kind and its data; any other's is msgpack. Checksums are in the frame (wal-frame.ts). Big-endian.

import { VxmeshError } from '#model/errors.ts'
import type { ClusterId, LogIndex, PeerId, Term } from '#model/ids.ts'
import { decodeMsgpack, encodeMsgpack } from '#platform/msgpack.ts'
import type { Configuration, Entry, HardState } from '#raft/types.ts'
import { ENTRY_KINDS, isCount } from '../codec/entry-codec.ts'

/** The cluster that this host belongs to: written once, when it founds or joins the cluster. */
export type Origin = { readonly clusterId: ClusterId; readonly configuration: Configuration }

/** The records that the log's users append. */
export type WalRecord =
  | { readonly kind: 'origin'; readonly origin: Origin }
  | { readonly kind: 'hard-state'; readonly hardState: HardState }
  | { readonly kind: 'truncate'; readonly from: LogIndex }
  | { readonly kind: 'entry'; readonly entry: Entry }
  | { readonly kind: 'commit'; readonly index: LogIndex }

/** The last entry that a log or a snapshot covers. */
export type LogPosition = { readonly lastIndex: LogIndex; readonly lastTerm: Term }

/** The head of a segment: the state that all earlier segments add up to, without their entries. */
export type SegmentHead = LogPosition & {
  /** The host whose log this is; null when it was opened without one. */
  readonly self: PeerId | null
  readonly origin: Origin | null
  readonly hardState: HardState
  readonly commitIndex: LogIndex
}

export type LogRecord =
  | WalRecord
  /** A snapshot replaced all entries; the log continues after this position. */
  | { readonly kind: 'reset'; readonly position: LogPosition }
  | { readonly kind: 'segment'; readonly head: SegmentHead }

const KINDS: readonly LogRecord['kind'][] = ['origin', 'hard-state', 'truncate', 'entry', 'commit', 'reset', 'segment']
const ENTRY = KINDS.indexOf('entry')
const PREFIX_BYTES = 5
const ENTRY_HEADER_BYTES = 13

/** A reusable buffer of encoded records, behind space reserved for a frame header. */
export class RecordBuffer {
  readonly #reserved: number
  #bytes: Buffer
  #end: number

  constructor(reserved: number) {
    this.#reserved = reserved
    this.#bytes = Buffer.alloc(64 * 1024)
    this.#end = reserved
  }

  /** The reserved bytes and the records so far; valid until the next call. */
  get bytes(): Buffer {
    return this.#bytes.subarray(0, this.#end)
  }

  clear(): void {
    this.#end = this.#reserved
  }

  push(record: LogRecord): void {
    if (record.kind === 'entry') {
      const { index, term, kind, data } = record.entry
      const at = this.#startRecord(ENTRY, ENTRY_HEADER_BYTES + data.byteLength)
      this.#bytes.writeUIntBE(index, at, 6)
      this.#bytes.writeUIntBE(term, at + 6, 6)
      this.#bytes[at + 12] = ENTRY_KINDS.indexOf(kind)
      this.#bytes.set(data, at + ENTRY_HEADER_BYTES)
      return
    }
    const payload = encodeMsgpack(payloadOf(record))
    this.#bytes.set(payload, this.#startRecord(KINDS.indexOf(record.kind), payload.byteLength))
  }

  /** Writes a record's prefix and makes room for its payload. @returns the payload's offset */
  #startRecord(kind: number, payloadBytes: number): number {
    const start = this.#end
    this.#end += PREFIX_BYTES + payloadBytes
    if (this.#end > this.#bytes.byteLength) {
      const larger = Buffer.allocUnsafe(Math.max(this.#end, 2 * this.#bytes.byteLength))
      this.#bytes.copy(larger, 0, 0, start)
      this.#bytes = larger
    }
    this.#bytes[start] = kind
    this.#bytes.writeUInt32BE(payloadBytes, start + 1)
    return start + PREFIX_BYTES
  }
}

/**
 * Decodes the records of a frame with a valid checksum; the entries' data are views of its bytes.
 * @throws ERR_STORAGE on an unknown record: it is never skipped
 */
export function decodeRecords(body: Buffer): LogRecord[] {
  const records: LogRecord[] = []
  for (let at = 0; at < body.byteLength;) {
    if (body.byteLength - at < PREFIX_BYTES) throw unknownRecord()
    const end = at + PREFIX_BYTES + body.readUInt32BE(at + 1)
    if (end > body.byteLength) throw unknownRecord()
    records.push(decodeRecord(KINDS[body.readUInt8(at)], body.subarray(at + PREFIX_BYTES, end)))
    at = end
  }
  return records
}

function decodeRecord(kind: LogRecord['kind'] | undefined, payload: Buffer): LogRecord {
  if (kind === undefined) throw unknownRecord()
  return kind === 'entry'
    ? { kind, entry: decodeEntry(payload) }
    : recordOf(kind, decodeMsgpack(payload, 'ERR_STORAGE'))
}

function decodeEntry(payload: Buffer): Entry {
  const kind = payload.byteLength < ENTRY_HEADER_BYTES ? undefined : ENTRY_KINDS[payload.readUInt8(12)]
  if (kind === undefined) throw unknownRecord()
  const [index, term] = [payload.readUIntBE(0, 6), payload.readUIntBE(6, 6)]
  return { index: index as LogIndex, term: term as Term, kind, data: payload.subarray(ENTRY_HEADER_BYTES) }
}

function payloadOf(record: Exclude<LogRecord, { readonly kind: 'entry' }>): unknown {
  switch (record.kind) {
    case 'origin':
      return originParts(record.origin)
    case 'hard-state':
      return hardStateParts(record.hardState)
    case 'truncate':
      return record.from
    case 'commit':
      return record.index
    case 'reset':
      return [record.position.lastIndex, record.position.lastTerm]
    case 'segment': {
      const { self, origin, hardState, commitIndex, lastIndex, lastTerm } = record.head
      const originOrNull = origin === null ? null : originParts(origin)
      return [self, originOrNull, hardStateParts(hardState), commitIndex, lastIndex, lastTerm]
    }
  }
}

/** Builds a record from its decoded payload. @throws ERR_STORAGE */
function recordOf(kind: Exclude<LogRecord['kind'], 'entry'>, payload: unknown): LogRecord {
  const parts: readonly unknown[] = Array.isArray(payload) ? payload : []
  switch (kind) {
    case 'origin':
      return { kind, origin: decodeOrigin(parts) }
    case 'hard-state':
      return { kind, hardState: hardStateOf(parts) }
    case 'truncate':
      return { kind, from: indexOf(payload) }
    case 'commit':
      return { kind, index: indexOf(payload) }
    case 'reset':
      return { kind, position: { lastIndex: indexOf(parts[0]), lastTerm: termOf(parts[1]) } }
    case 'segment': {
      const [self, origin, hardState, commitIndex, lastIndex, lastTerm] = parts
      if (parts.length !== 6 || !(self === null || typeof self === 'string') || !Array.isArray(hardState)) break
      if (!(origin === null || Array.isArray(origin))) break
      const head = {
        self: self as PeerId | null,
        origin: origin === null ? null : decodeOrigin(origin),
        hardState: hardStateOf(hardState),
        commitIndex: indexOf(commitIndex),
        lastIndex: indexOf(lastIndex),
        lastTerm: termOf(lastTerm)
      }
      return { kind, head }
    }
  }
  throw unknownRecord()
}

function originParts({ clusterId, configuration }: Origin): unknown[] {
  return [clusterId, configuration.voters, configuration.learners]
}

function decodeOrigin([clusterId, voters, learners]: readonly unknown[]): Origin {
  if (typeof clusterId !== 'string' || !Array.isArray(voters) || !Array.isArray(learners)) throw unknownRecord()
  const configuration = { voters: voters as PeerId[], learners: learners as PeerId[] }
  return { clusterId: clusterId as ClusterId, configuration }
}

function hardStateParts({ term, votedFor }: HardState): unknown[] {
  return [term, votedFor]
}

function hardStateOf([term, votedFor]: readonly unknown[]): HardState {
  if (!(votedFor === null || typeof votedFor === 'string')) throw unknownRecord()
  return { term: termOf(term), votedFor: votedFor as PeerId | null }
}

function indexOf(value: unknown): LogIndex {
  if (!isCount(value)) throw unknownRecord()
  return value as LogIndex
}

function termOf(value: unknown): Term {
  return indexOf(value) as number as Term
}

function unknownRecord(): VxmeshError {
  return new VxmeshError('ERR_STORAGE', 'the log holds a record that this version does not know')
}
