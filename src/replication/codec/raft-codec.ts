// Raft messages on the wire: msgpack [cluster, term, incarnation, kind, ...fields]. `from` is not encoded: it is the peer
// that the Noise handshake authenticated.

import type { ClusterId, LogIndex, PeerId, Term } from '#model/ids.ts'
import { decodeMsgpack, encodeMsgpack } from '#platform/msgpack.ts'
import type { Message } from '#raft/types.ts'
import { configurationFrom, metaToTuple } from './meta-codec.ts'
import { decodeEntries, encodeEntries, isCount, malformed } from './entry-codec.ts'

export function encodeRaftMessage(message: Message): Uint8Array {
  return encodeMsgpack([message.clusterId, message.term, message.incarnation, message.kind, ...messageFields(message)])
}

/** @throws ERR_PEER on anything malformed */
export function decodeRaftMessage(bytes: Uint8Array, ends: { readonly from: PeerId; readonly to: PeerId }): Message {
  const parts: unknown = decodeMsgpack(bytes)
  if (!Array.isArray(parts)) throw malformed('raft message')
  const [clusterId, term, incarnation, kind, ...fields] = parts as unknown[]
  if (typeof clusterId !== 'string' || typeof kind !== 'string') throw malformed('raft message')
  const header = {
    clusterId: clusterId as ClusterId,
    term: count(term) as Term,
    incarnation: count(incarnation),
    ...ends
  }
  const index = (at: number): LogIndex => count(fields[at]) as LogIndex
  const termAt = (at: number): Term => count(fields[at]) as Term
  switch (kind) {
    case 'pre-vote-request':
      return { ...header, kind, lastIndex: index(0), lastTerm: termAt(1) }
    case 'pre-vote-reply':
      return { ...header, kind, granted: flag(fields[0]), requestTerm: termAt(1) }
    case 'vote-request':
      return { ...header, kind, lastIndex: index(0), lastTerm: termAt(1), transfer: flag(fields[2]) }
    case 'vote-reply':
      return { ...header, kind, granted: flag(fields[0]) }
    case 'append-request': {
      return {
        ...header,
        kind,
        prevIndex: index(0),
        prevTerm: termAt(1),
        entries: decodeEntries(fields[2]),
        leaderCommit: index(3),
        round: count(fields[4])
      }
    }
    case 'append-reply':
      return {
        ...header,
        kind,
        success: flag(fields[0]),
        matchIndex: index(1),
        conflictTerm: termAt(2),
        round: count(fields[3])
      }
    case 'install-request':
      return {
        ...header,
        kind,
        meta: { lastIndex: index(0), lastTerm: termAt(1), configuration: configurationFrom(bytesAt(fields[2])) },
        size: count(fields[3]),
        offset: count(fields[4]),
        data: bytesAt(fields[5]),
        round: count(fields[6])
      }
    case 'install-reply':
      return {
        ...header,
        kind,
        lastIndex: index(0),
        offset: count(fields[1]),
        done: flag(fields[2]),
        round: count(fields[3])
      }
    case 'timeout-now':
      return { ...header, kind }
    default:
      throw malformed('raft message')
  }
}

function messageFields(message: Message): readonly unknown[] {
  switch (message.kind) {
    case 'pre-vote-request':
      return [message.lastIndex, message.lastTerm]
    case 'pre-vote-reply':
      return [message.granted, message.requestTerm]
    case 'vote-request':
      return [message.lastIndex, message.lastTerm, message.transfer]
    case 'vote-reply':
      return [message.granted]
    case 'append-request':
      return [message.prevIndex, message.prevTerm, encodeEntries(message.entries), message.leaderCommit, message.round]
    case 'append-reply':
      return [message.success, message.matchIndex, message.conflictTerm, message.round]
    case 'install-request': {
      return [...metaToTuple(message.meta), message.size, message.offset, message.data, message.round]
    }
    case 'install-reply':
      return [message.lastIndex, message.offset, message.done, message.round]
    case 'timeout-now':
      return []
  }
}

function count(value: unknown): number {
  if (!isCount(value)) throw malformed('raft message')
  return value
}

function flag(value: unknown): boolean {
  if (typeof value !== 'boolean') throw malformed('raft message')
  return value
}

function bytesAt(value: unknown): Uint8Array {
  if (!(value instanceof Uint8Array)) throw malformed('raft message')
  return value
}
