// Sessions: the answers that callers may still ask for again (Raft thesis 6.3). They are part of the replicated state, so
// every replica remembers and forgets the same answers at the same index; no clock is read.

import type { Outcome, OutcomeOf, Refusal, Request } from '#model/command.ts'
import type { LogIndex } from '#model/ids.ts'
import { hashAnswer, Hasher, SetHash, type Hash } from './row-hash.ts'

/** Most sessions; one more expires the least recently used, by log index. */
export const MAX_SESSIONS = 4_096
/** Most unsettled answers of one session; one more drops the lowest, as if it were settled. */
export const MAX_REMEMBERED = 4_096

export type Session = {
  lastUsed: LogIndex
  /** Answers below it are dropped; requests below it are not carried out. */
  settledBelow: number
  /** By seq; in no particular order. */
  readonly answers: Map<number, Outcome>
  readonly hash: SetHash
}

export class Sessions {
  /** Least recently used first: use moves a session to the end. */
  readonly #byId = new Map<string, Session>()
  /** Log index of the last use of any session. */
  #newest = 0 as LogIndex

  get size(): number {
    return this.#byId.size
  }

  /** Opens a session; idempotent, since opening may be retried. */
  open(id: string, index: LogIndex): OutcomeOf<'session-open'> {
    if (this.#use(id, index) === undefined) {
      const [oldest] = this.#byId.keys()
      if (oldest !== undefined && this.#byId.size >= MAX_SESSIONS) this.#byId.delete(oldest)
      // The opening request, seq 0, is not remembered: its answer is always the same.
      this.#byId.set(id, { lastUsed: index, settledBelow: 1, answers: new Map(), hash: new SetHash() })
      this.#newest = index
    }
    return { ok: true, result: { kind: 'session' } }
  }

  /**
   * The remembered answer to this request; otherwise the outcome of `carryOut`, which is then remembered. For an unknown
   * session or a dropped answer nothing is carried out; the outcome is ERR_SESSION_EXPIRED and is not remembered.
   */
  once(request: Request, index: LogIndex, carryOut: () => Outcome): Outcome {
    const { session: id, seq, settledBelow } = request
    const session = this.#use(id, index)
    if (session === undefined) return expired(`session ${id} is not known`)
    const remembered = session.answers.get(seq)
    if (remembered !== undefined) return remembered
    if (seq < session.settledBelow) return expired(`the answer to request ${seq} of session ${id} was dropped`)
    const outcome = carryOut()
    session.answers.set(seq, outcome)
    session.hash.add(hashAnswer(seq, outcome))
    // A request cannot have settled its own answer, whatever it claims.
    forget(session, Math.min(settledBelow, seq))
    while (session.answers.size > MAX_REMEMBERED) forget(session, lowest(session.answers) + 1)
    return outcome
  }

  /** Least recently used first. */
  entries(): IterableIterator<[string, Readonly<Session>]> {
    return this.#byId.entries()
  }

  /** Restores a session from a snapshot, least recently used first. @throws Error on an impossible session */
  restore(p: {
    readonly id: string
    readonly lastUsed: LogIndex
    readonly settledBelow: number
    readonly answers: Iterable<readonly [seq: number, outcome: Outcome]>
  }): void {
    if (this.#byId.has(p.id) || p.lastUsed <= this.#newest) throw new Error(`session ${p.id} is out of order`)
    if (this.#byId.size >= MAX_SESSIONS) throw new Error(`session ${p.id} is one too many`)
    const answers = new Map<number, Outcome>()
    const hash = new SetHash()
    for (const [seq, outcome] of p.answers) {
      if (seq < p.settledBelow || answers.has(seq)) throw new Error(`session ${p.id} cannot have the answer ${seq}`)
      answers.set(seq, outcome)
      hash.add(hashAnswer(seq, outcome))
    }
    if (answers.size > MAX_REMEMBERED) throw new Error(`session ${p.id} has too many answers`)
    this.#byId.set(p.id, { lastUsed: p.lastUsed, settledBelow: p.settledBelow, answers, hash })
    this.#newest = p.lastUsed
  }

  /** O(sessions): each session keeps the sum over its answers. */
  get hash(): Hash {
    const all = new Hasher().number(this.#byId.size)
    for (const [id, { lastUsed, settledBelow, hash }] of this.#byId) {
      all.text(id).number(lastUsed).number(settledBelow).number(hash.value.a).number(hash.value.b)
    }
    return all.finish()
  }

  #use(id: string, index: LogIndex): Session | undefined {
    const session = this.#byId.get(id)
    if (session === undefined) return undefined
    this.#byId.delete(id)
    this.#byId.set(id, session)
    session.lastUsed = index
    this.#newest = index
    return session
  }
}

/** Drops all answers below `settledBelow`, in time proportional to the smaller of the step and the number of answers. */
function forget(session: Session, settledBelow: number): void {
  const { answers, hash } = session
  const drop = (seq: number): void => {
    const outcome = answers.get(seq)
    if (outcome === undefined) return
    answers.delete(seq)
    hash.remove(hashAnswer(seq, outcome))
  }
  const from = session.settledBelow
  if (settledBelow <= from) return
  session.settledBelow = settledBelow
  if (settledBelow - from <= answers.size) for (let seq = from; seq < settledBelow; seq++) drop(seq)
  else for (const seq of [...answers.keys()]) if (seq < settledBelow) drop(seq)
}

function lowest(answers: ReadonlyMap<number, Outcome>): number {
  let least = Infinity
  for (const seq of answers.keys()) if (seq < least) least = seq
  return least
}

function expired(message: string): Refusal {
  return { ok: false, error: { code: 'ERR_SESSION_EXPIRED', message } }
}
