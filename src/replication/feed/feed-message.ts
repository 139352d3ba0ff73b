// A feed message: msgpack [cluster, term, commitIndex, entries].

import type { ClusterId, LogIndex, Term } from '#model/ids.ts'
import { decodeMsgpack, encodeMsgpack } from '#platform/msgpack.ts'
import type { Entry } from '#raft/types.ts'
import { MAX_COUNT } from '#raft/impossible.ts'
import { committedEntries, entryToTuple, isCount, malformed } from '../codec/entry-codec.ts'
import { entryBytes } from '../codec/limits.ts'

/** Bytes of entries in one message. Gossip copies a message along many paths, so long ranges go by stream instead. */
const MAX_MESSAGE_BYTES = 48 * 1024

/** Splits a range into messages; an empty range makes one message that carries the commit index alone. */
export function encodeFeed(p: {
  readonly clusterId: ClusterId
  readonly term: Term
  readonly commitIndex: LogIndex
  readonly entries: readonly Entry[]
}): Uint8Array[] {
  const messages: Uint8Array[] = []
  let batch: Entry[] = []
  let bytes = 0
  const flush = (): void => {
    messages.push(encodeMsgpack([p.clusterId, p.term, p.commitIndex, batch.map(entryToTuple)]))
    batch = []
    bytes = 0
  }
  for (const entry of p.entries) {
    batch.push(entry)
    bytes += entryBytes(entry)
    if (bytes >= MAX_MESSAGE_BYTES) flush()
  }
  if (batch.length > 0 || messages.length === 0) flush()
  return messages
}

export type FeedMessage = {
  readonly clusterId: string
  readonly term: Term
  readonly commitIndex: LogIndex
  readonly entries: readonly Entry[]
}

/** @throws ERR_PEER on anything malformed */
export function decodeFeed(data: Uint8Array): FeedMessage {
  const parts: unknown = decodeMsgpack(data)
  if (!Array.isArray(parts) || parts.length !== 4) throw malformed('feed message')
  const [clusterId, term, commitIndex, entries] = parts as unknown[]
  if (typeof clusterId !== 'string' || !isCount(term) || !isCount(commitIndex) || !Array.isArray(entries)) {
    throw malformed('feed message')
  }
  if (term > MAX_COUNT || commitIndex > MAX_COUNT) throw malformed('feed message')
  return {
    clusterId,
    term: term as Term,
    commitIndex: commitIndex as LogIndex,
    entries: committedEntries(entries, commitIndex)
  }
}
