// Raft messages to one peer that wait to go together, and which of them say it all in one: an append-request that goes on
// where the one before it ends, an answer that includes an earlier one. Pure. Whatever is left out, the network might have
// lost; what takes its place is what the sender would say now.

import type { Message } from '#raft/types.ts'

type Append = Extract<Message, { readonly kind: 'append-request' }>
type Answer = Extract<Message, { readonly kind: 'append-reply' }>

/** Bytes of entries in one request that was put together of several; the core's own bound is as large. */
const MAX_APPEND_BYTES = 256 * 1024

/** Does it say only how far the log is committed, or that its sender is there? Then it may wait for one that says more. */
export function isBare(message: Message): boolean {
  return message.kind === 'append-request' && message.entries.length === 0
}

export class Outbox {
  #messages: Message[] = []

  /** Is there one that must not wait? */
  get urgent(): boolean {
    return !this.#messages.every(isBare)
  }

  push(message: Message): void {
    const last = this.#messages.at(-1)
    const joined = last === undefined ? null : join(last, message)
    if (joined !== null) this.#messages.pop()
    this.#messages.push(joined ?? message)
  }

  /** All that waits, in order. */
  take(): Message[] {
    const messages = this.#messages
    this.#messages = []
    return messages
  }
}

/** One message that says what two in a row say, or null. */
export function join(first: Message, second: Message): Message | null {
  // Terms and disks apart, nothing that was said before counts for what is said now.
  if (first.term !== second.term || first.incarnation !== second.incarnation) return null
  if (first.clusterId !== second.clusterId || first.to !== second.to || first.from !== second.from) return null
  if (first.kind === 'append-request' && second.kind === 'append-request') return joinRequests(first, second)
  if (first.kind === 'append-reply' && second.kind === 'append-reply') return includes(second, first) ? second : null
  return null
}

function joinRequests(first: Append, second: Append): Append | null {
  const end = first.prevIndex + first.entries.length
  if (second.prevIndex !== end || second.prevTerm !== (first.entries.at(-1)?.term ?? first.prevTerm)) return null
  if (second.round < first.round || second.leaderCommit < first.leaderCommit) return null
  const entries = first.entries.length === 0 ? second.entries : [...first.entries, ...second.entries]
  if (entries.reduce((bytes, { data }) => bytes + data.byteLength, 0) > MAX_APPEND_BYTES) return null
  return { ...second, prevIndex: first.prevIndex, prevTerm: first.prevTerm, entries }
}

/** Does the later answer tell the leader at least as much? */
function includes(later: Answer, earlier: Answer): boolean {
  const both = later.success && earlier.success
  return both && later.matchIndex >= earlier.matchIndex && later.round >= earlier.round
}
