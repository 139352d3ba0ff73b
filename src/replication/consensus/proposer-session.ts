// A session of this host at the state machine, as its proposer sees it.

import type { Proposal } from './proposal.ts'

/**
 * A session takes no new request when so many followed its oldest unanswered one. The state machine remembers the last 4,096
 * answers of a session (MAX_REMEMBERED in allocator/sessions.ts), and the requests in flight may still be added: beyond that
 * the answer to the oldest would be forgotten, although it was carried out.
 */
const MAX_SPAN = 2_048

export type Session = {
  readonly id: string
  readonly opened: Promise<unknown>
  isOpen: boolean
  /** By number, in the order in which they were proposed. */
  readonly unsettled: Map<number, Proposal>
  nextSeq: number
}

/** @param open proposes to open the session of this id */
export function openSession(id: string, open: (id: string) => Promise<unknown>): Session {
  const session: Session = {
    id,
    opened: open(id).then(() => {
      session.isOpen = true
    }),
    isOpen: false,
    unsettled: new Map(),
    nextSeq: 1
  }
  return session
}

export function isFull({ unsettled, nextSeq }: Session): boolean {
  return nextSeq - oldestOf(unsettled, nextSeq) >= MAX_SPAN
}

/** The lowest number that has no answer yet, or another when all have one. */
export function oldestOf(unsettled: ReadonlyMap<number, unknown>, otherwise: number): number {
  for (const seq of unsettled.keys()) return seq // insertion order: the first is the lowest
  return otherwise
}
