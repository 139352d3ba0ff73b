// Log entries as msgpack arrays: [index, term, kind, data]. The Raft streams, the feed and catch-up share this encoding.

import { VxmeshError } from '#model/errors.ts'
import type { LogIndex, Term } from '#model/ids.ts'
import type { Entry, EntryKind } from '#raft/types.ts'

export const ENTRY_KINDS: readonly EntryKind[] = ['noop', 'command', 'config']

type EntryTuple = readonly [number, number, number, Uint8Array]

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
