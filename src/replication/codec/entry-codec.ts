// Log entries as bytes. In Raft's messages they are back to back, each u48 index, u48 term, u8 kind, u32 length and its data,
// big-endian; in the feed and in catch-up they are msgpack arrays [index, term, kind, data].

import { VxmeshError } from '#model/errors.ts'
import type { LogIndex, Term } from '#model/ids.ts'
import { bufferOf } from '#platform/bytes.ts'
import type { Entry, EntryKind } from '#raft/types.ts'

export const ENTRY_KINDS: readonly EntryKind[] = ['noop', 'command', 'config']

type EntryTuple = readonly [number, number, number, Uint8Array]

const HEADER_BYTES = 17
/** By the list of entries, which never changes: a leader sends the same one to each of its followers. */
const encoded = new WeakMap<readonly Entry[], Uint8Array>()

export function encodeEntries(entries: readonly Entry[]): Uint8Array {
  const known = encoded.get(entries)
  if (known !== undefined) return known
  const bytes = Buffer.allocUnsafe(entries.reduce((sum, { data }) => sum + HEADER_BYTES + data.byteLength, 0))
  let at = 0
  for (const { index, term, kind, data } of entries) {
    bytes.writeUIntBE(index, at, 6)
    bytes.writeUIntBE(term, at + 6, 6)
    bytes[at + 12] = ENTRY_KINDS.indexOf(kind)
    bytes.writeUInt32BE(data.byteLength, at + 13)
    bytes.set(data, at + HEADER_BYTES)
    at += HEADER_BYTES + data.byteLength
  }
  encoded.set(entries, bytes)
  return bytes
}

/** The entries' data are views of the bytes. @throws ERR_PEER on anything malformed; an unknown kind is never skipped */
export function decodeEntries(value: unknown): Entry[] {
  if (!(value instanceof Uint8Array)) throw malformed('entry')
  const bytes = bufferOf(value)
  const entries: Entry[] = []
  for (let at = 0; at < bytes.byteLength;) {
    const dataAt = at + HEADER_BYTES
    if (dataAt > bytes.byteLength) throw malformed('entry')
    const kind = ENTRY_KINDS[bytes.readUInt8(at + 12)]
    const end = dataAt + bytes.readUInt32BE(at + 13)
    if (kind === undefined || end > bytes.byteLength) throw malformed('entry')
    const [index, term] = [bytes.readUIntBE(at, 6), bytes.readUIntBE(at + 6, 6)]
    entries.push({ index: index as LogIndex, term: term as Term, kind, data: bytes.subarray(dataAt, end) })
    at = end
  }
  return entries
}

export function entryToTuple(entry: Entry): EntryTuple {
  return [entry.index, entry.term, ENTRY_KINDS.indexOf(entry.kind), entry.data]
}

/** @throws ERR_PEER on anything that is not an entry; an unknown kind is never skipped */
export function entryFromTuple(value: unknown): Entry {
  if (!Array.isArray(value) || value.length !== 4) throw malformed('entry')
  const [index, term, kindCode, data] = value as unknown[]
  const kind = typeof kindCode === 'number' ? ENTRY_KINDS[kindCode] : undefined
  if (!isCount(index) || !isCount(term) || kind === undefined || !(data instanceof Uint8Array)) throw malformed('entry')
  return { index: index as LogIndex, term: term as Term, kind, data }
}

/** Decodes entries that all lie at or below the commit index they came with. @throws ERR_PEER */
export function committedEntries(values: readonly unknown[], commitIndex: number): Entry[] {
  const entries = values.map(entryFromTuple)
  if (entries.some(({ index }) => index > commitIndex)) throw malformed('entry: it is not committed')
  return entries
}

/** Is this a valid log index or term: a non-negative integer below 2^53? */
export function isCount(value: unknown): value is number {
  return typeof value === 'number' && Number.isSafeInteger(value) && value >= 0
}

export function malformed(what: string): VxmeshError {
  return new VxmeshError('ERR_PEER', `a malformed ${what}`)
}
