// Sessions: the answers that callers may still ask for again (Raft thesis 6.3). Part of the replicated state, so every
// replica remembers and forgets the same ones at the same index; nothing here looks at a clock.

import type { Outcome, Request } from '#model/command.ts'
import type { LogIndex } from '#model/ids.ts'

/** Sessions kept; the one least recently used, by log index, is expired for a new one. */
export const MAX_SESSIONS = 4_096
/** Unsettled answers kept in one session; the oldest go first. */
export const MAX_REMEMBERED = 4_096

type Session = { lastUsed: LogIndex; settledBelow: number; readonly answers: Map<number, Outcome> }

/** A session as a snapshot holds it. */
export type PlainSession = readonly [
  id: string,
  lastUsed: LogIndex,
  settledBelow: number,
  answers: readonly (readonly [number, Outcome])[]
]

const EXPIRED: Outcome = {
  ok: false,
  error: { code: 'ERR_SESSION_EXPIRED', message: 'the session is not known or its answer was given up' }
}

export class Sessions {
  /** Least recently used first: a used one is moved to the end. */
  readonly #byId = new Map<string, Session>()

  get size(): number {
    return this.#byId.size
  }

  /** Opens a session, or finds it open: opening is idempotent. */
  open(id: string, index: LogIndex): Outcome {
    if (!this.#byId.has(id)) {
      const oldest = this.#byId.size >= MAX_SESSIONS ? this.#byId.keys().next().value : undefined
      if (oldest !== undefined) this.#byId.delete(oldest)
      this.#byId.set(id, { lastUsed: index, settledBelow: 1, answers: new Map() })
    }
    return { ok: true, result: { kind: 'session' } }
  }

  /** The remembered answer of this very request, or what `carryOut` gives, which is then remembered. */
  once(request: Request, index: LogIndex, carryOut: () => Outcome): Outcome {
    const session = this.#byId.get(request.session)
    if (session === undefined) return EXPIRED
    this.#byId.delete(request.session)
    this.#byId.set(request.session, session)
    session.lastUsed = index
    const remembered = session.answers.get(request.seq)
    if (remembered !== undefined) return remembered
    if (request.seq < session.settledBelow) return EXPIRED
    const outcome = carryOut()
    session.answers.set(request.seq, outcome)
    this.#forget(session, request.settledBelow)
    return outcome
  }

  *plain(): Generator<PlainSession> {
    for (const [id, { lastUsed, settledBelow, answers }] of this.#byId) yield [id, lastUsed, settledBelow, [...answers]]
  }

  restore([id, lastUsed, settledBelow, answers]: PlainSession): void {
    this.#byId.set(id, { lastUsed, settledBelow, answers: new Map(answers) })
  }

  #forget(session: Session, settledBelow: number): void {
    if (settledBelow > session.settledBelow) {
      session.settledBelow = settledBelow
      for (const seq of session.answers.keys()) if (seq < settledBelow) session.answers.delete(seq)
    }
    while (session.answers.size > MAX_REMEMBERED) {
      const oldest = Math.min(...session.answers.keys())
      session.answers.delete(oldest)
      session.settledBelow = Math.max(session.settledBelow, oldest + 1)
    }
  }
}
