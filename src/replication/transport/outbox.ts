// The queue of Raft messages to one peer, with merging: an append-request is merged with one that continues it, and an
// append-reply is replaced by one that supersedes it. Raft tolerates this, since the network might have lost the dropped
// message, and the merged one is what the sender would send now. Pure.

import type { Message } from '#raft/types.ts'

type Append = Extract<Message, { readonly kind: 'append-request' }>
type Reply = Extract<Message, { readonly kind: 'append-reply' }>

/** Bytes of entries in a merged append-request; equal to the core's own bound. */
const MAX_APPEND_BYTES = 256 * 1024

/** An append-request without entries: a heartbeat or a commit index. It may be delayed to be merged with a later one. */
export function isHeartbeat(message: Message): boolean {
  return message.kind === 'append-request' && message.entries.length === 0
}

export class Outbox {
  #messages: Message[] = []

  /** Does the queue hold a message that must not be delayed? */
  get urgent(): boolean {
    return !this.#messages.every(isHeartbeat)
  }

  push(message: Message): void {
    const last = this.#messages.at(-1)
    const merged = last === undefined ? null : merge(last, message)
    if (merged !== null) this.#messages.pop()
    this.#messages.push(merged ?? message)
  }

  /** Empties the queue. @returns its messages, in order */
  take(): Message[] {
    const messages = this.#messages
    this.#messages = []
    return messages
  }
}

/** The one message that stands for two consecutive ones, or null when both must be sent. */
export function merge(first: Message, second: Message): Message | null {
  // Messages of different terms or incarnations are unrelated.
  if (first.term !== second.term || first.incarnation !== second.incarnation) return null
  if (first.clusterId !== second.clusterId || first.to !== second.to || first.from !== second.from) return null
  if (first.kind === 'append-request' && second.kind === 'append-request') return mergeRequests(first, second)
  if (first.kind === 'append-reply' && second.kind === 'append-reply') return supersedes(second, first) ? second : null
  return null
}

function mergeRequests(first: Append, second: Append): Append | null {
  const end = first.prevIndex + first.entries.length
  if (second.prevIndex !== end || second.prevTerm !== (first.entries.at(-1)?.term ?? first.prevTerm)) return null
  if (second.round < first.round || second.leaderCommit < first.leaderCommit) return null
  const entries = first.entries.length === 0 ? second.entries : [...first.entries, ...second.entries]
  if (entries.reduce((bytes, { data }) => bytes + data.byteLength, 0) > MAX_APPEND_BYTES) return null
  return { ...second, prevIndex: first.prevIndex, prevTerm: first.prevTerm, entries }
}

/** Does the later reply tell the leader at least as much as the earlier one? */
function supersedes(later: Reply, earlier: Reply): boolean {
  const both = later.success && earlier.success
  return both && later.matchIndex >= earlier.matchIndex && later.round >= earlier.round
}
