// A feed message: msgpack [cluster, term, commitIndex, entries], in some beats followed by notes of the leader's state.

import type { ClusterId, LogIndex, Term } from '#model/ids.ts'
import { decodeMsgpack, encodeMsgpack } from '#platform/msgpack.ts'
import type { Entry } from '#raft/types.ts'
import { MAX_COUNT } from '#raft/impossible.ts'
import { committedEntries, entryToTuple, isCount, malformed } from '../codec/entry-codec.ts'
import { entryBytes } from '../codec/limits.ts'

/** Bytes of entries in one message. Gossip copies a message along many paths, so long ranges go by stream instead. */
const MAX_MESSAGE_BYTES = 48 * 1024

/** What the leader says of its state after the entry with this index; only the state machine knows what it means. */
export type FeedNote = readonly [index: number, text: string]

const MAX_NOTES = 4
const MAX_NOTE_CHARACTERS = 128

/**
 * Splits a range into messages; an empty range makes one message that carries the commit index alone. Notes are in the last one;
 * agents of earlier releases refuse a message with notes, and take the next one.
 */
export function encodeFeed(p: {
  readonly clusterId: ClusterId
  readonly term: Term
  readonly commitIndex: LogIndex
  readonly entries: readonly Entry[]
  readonly notes?: readonly FeedNote[]
}): Uint8Array[] {
  const { notes = [] } = p
  const messages: Uint8Array[] = []
  let batch: Entry[] = []
  let bytes = 0
  const flush = (more: readonly unknown[] = []): void => {
    messages.push(encodeMsgpack([p.clusterId, p.term, p.commitIndex, batch.map(entryToTuple), ...more]))
    batch = []
    bytes = 0
  }
  for (const entry of p.entries) {
    batch.push(entry)
    bytes += entryBytes(entry)
    if (bytes >= MAX_MESSAGE_BYTES) flush()
  }
  if (batch.length > 0 || messages.length === 0 || notes.length > 0) flush(notes.length === 0 ? [] : [notes])
  return messages
}

export type FeedMessage = {
  readonly clusterId: string
  readonly term: Term
  readonly commitIndex: LogIndex
  readonly entries: readonly Entry[]
  readonly notes: readonly FeedNote[]
}

/** @throws ERR_PEER on anything malformed */
export function decodeFeed(data: Uint8Array): FeedMessage {
  const parts: unknown = decodeMsgpack(data)
  if (!Array.isArray(parts) || parts.length < 4 || parts.length > 5) throw malformed('feed message')
  const [clusterId, term, commitIndex, entries, notes = []] = parts as unknown[]
  if (typeof clusterId !== 'string' || !isCount(term) || !isCount(commitIndex) || !Array.isArray(entries)) {
    throw malformed('feed message')
  }
  if (term > MAX_COUNT || commitIndex > MAX_COUNT) throw malformed('feed message')
  if (!areNotes(notes)) throw malformed('feed message')
  return {
    clusterId,
    term: term as Term,
    commitIndex: commitIndex as LogIndex,
    entries: committedEntries(entries, commitIndex),
    notes
  }
}

function areNotes(value: unknown): value is readonly FeedNote[] {
  return Array.isArray(value) && value.length <= MAX_NOTES && value.every(isNote)
}

function isNote(value: unknown): value is FeedNote {
  const [index, text] = Array.isArray(value) && value.length === 2 ? (value as unknown[]) : []
  return isCount(index) && index <= MAX_COUNT && typeof text === 'string' && text.length <= MAX_NOTE_CHARACTERS
}
