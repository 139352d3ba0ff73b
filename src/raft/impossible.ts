// Messages that no correct server sends. They are refused before they change anything, so that no message can break an
// invariant of the core.

import { decodeConfiguration } from './configuration.ts'
import type { RaftState } from './raft.ts'
import type { Entry, Message } from './types.ts'

/** Terms and log indexes above it are refused: 1,000 a second for 8,900 years, and far from where doubles lose integers. */
export const MAX_COUNT = 2 ** 48

type Append = Extract<Message, { readonly kind: 'append-request' }>

/** What is wrong with a message in itself, whatever the receiver's state; null if nothing is. */
export function whyMalformed(message: Message): string | null {
  if (message.term > MAX_COUNT) return `term ${message.term}`
  switch (message.kind) {
    case 'append-request':
      return whyMalformedAppend(message)
    case 'pre-vote-request':
    case 'vote-request':
      if (message.lastIndex > MAX_COUNT) return `index ${message.lastIndex}`
      return message.lastTerm > message.term ? `a log of term ${message.lastTerm} in term ${message.term}` : null
    case 'install-request': {
      const { meta, offset, data, size, term } = message
      if (meta.lastIndex > MAX_COUNT) return `index ${meta.lastIndex}`
      if (size === 0) return 'a snapshot of 0 bytes'
      if (meta.lastTerm > term) return `a snapshot of term ${meta.lastTerm} in term ${term}`
      return offset + data.byteLength > size ? 'a chunk beyond the end of its snapshot' : null
    }
    default:
      return null
  }
}

/** What contradicts this server's state; null if nothing does. */
export function whyImpossible(state: RaftState, message: Message): string | null {
  const malformed = whyMalformed(message)
  if (malformed !== null) return malformed
  if (message.kind === 'append-reply') {
    // A late reply may be to an earlier leadership of this server, whose entries it has lost since.
    const isOurs = state.leading !== null && message.term === state.term
    if (isOurs && message.success && message.matchIndex > state.log.lastIndex)
      return `acknowledges entry ${message.matchIndex}, which was never sent`
    return null
  }
  if (message.kind !== 'append-request' && message.kind !== 'install-request') return null
  if (message.term === state.term && state.role === 'leader') return `a second leader in term ${state.term}`
  if (message.term < state.term || message.kind !== 'append-request') return null
  return replacesCommitted(state, message) ? `replaces entries up to ${state.commitIndex}, which are committed` : null
}

/** Committed entries equal every leader's log (leader completeness). */
function replacesCommitted({ commitIndex, log }: RaftState, { prevIndex, prevTerm, entries }: Append): boolean {
  const differs = (index: number, term: number): boolean => {
    const ours = index <= commitIndex ? log.termAt(index as Entry['index']) : undefined
    return ours !== undefined && ours !== term
  }
  return differs(prevIndex, prevTerm) || entries.some(({ index, term }) => differs(index, term))
}

function whyMalformedAppend({ term, prevIndex, prevTerm, leaderCommit, entries }: Append): string | null {
  if (prevTerm > term) return `a log of term ${prevTerm} in term ${term}`
  if (Math.max(prevIndex + entries.length, leaderCommit) > MAX_COUNT) return `index ${prevIndex}`
  let [index, latest]: readonly [number, number] = [prevIndex, prevTerm]
  for (const entry of entries) {
    if (entry.index !== index + 1) return `entry ${entry.index} after ${index}`
    if (entry.term < latest || entry.term > term) return `entry ${entry.index} of term ${entry.term} after ${latest}`
    if (entry.kind === 'config' && !isConfiguration(entry)) return `entry ${entry.index} holds no configuration`
    index = entry.index
    latest = entry.term
  }
  return null
}

function isConfiguration({ data }: Entry): boolean {
  try {
    decodeConfiguration(data)
    return true
  } catch {
    return false
  }
}
