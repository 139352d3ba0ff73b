// Sessions: the answers that callers may still ask for again (Raft thesis 6.3). They are part of the replicated state, so
// every replica remembers and forgets the same answers at the same index; no clock is read.

import { FIRST_RULES, OWN_BUSINESS, type Outcome, type OutcomeOf, type Refusal, type Request } from '#model/command.ts'
import type { LogIndex } from '#model/ids.ts'
import { MAX_ANSWERS_PER_HOST, MAX_SESSIONS_PER_HOST } from './quotas.ts'
import { hashAnswer, Hasher, SetHash, type Hash } from './row-hash.ts'

/** Most sessions; one more expires the least recently used, by log index. */
export const MAX_SESSIONS = 4_096
/** Most unsettled answers of one session; one more drops the lowest, as if it were settled. */
export const MAX_REMEMBERED = 4_096

/** The sessions of one host, and how many answers they hold together. */
type Owned = { readonly ids: Set<string>; answers: number }

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
  readonly #byOwner = new Map<string, Owned>()
  /** Log index of the last use of any session. */
  #newest = 0 as LogIndex

  get size(): number {
    return this.#byId.size
  }

  /** Opens a session; idempotent, since opening may be retried. */
  open(id: string, index: LogIndex, rules = FIRST_RULES): OutcomeOf<'session-open'> {
    if (this.#use(id, index) === undefined) {
      if (rules >= OWN_BUSINESS) {
        const own = this.#byOwner.get(ownerOf(id) ?? '')
        while (own !== undefined && own.ids.size >= MAX_SESSIONS_PER_HOST) this.#remove(this.#leastRecent(own))
      }
      const [oldest] = this.#byId.keys()
      if (oldest !== undefined && this.#byId.size >= MAX_SESSIONS) this.#remove(oldest)
      // The opening request, seq 0, is not remembered: its answer is always the same.
      this.#add(id, { lastUsed: index, settledBelow: 1, answers: new Map(), hash: new SetHash() })
      this.#newest = index
    }
    return { ok: true, result: { kind: 'session' } }
  }

  /**
   * The remembered answer to this request; otherwise the outcome of `carryOut`, which is then remembered. For an unknown
   * session or a dropped answer nothing is carried out; the outcome is ERR_SESSION_EXPIRED and is not remembered.
   */
  once(request: Request, index: LogIndex, carryOut: () => Outcome): Outcome {
    const { session: id, seq, settledBelow, rules = FIRST_RULES } = request
    const session = this.#use(id, index)
    if (session === undefined) return expired(`session ${id} is not known`)
    const remembered = session.answers.get(seq)
    if (remembered !== undefined) return remembered
    if (seq < session.settledBelow) return expired(`the answer to request ${seq} of session ${id} was dropped`)
    const before = session.answers.size
    const outcome = carryOut()
    session.answers.set(seq, outcome)
    session.hash.add(hashAnswer(seq, outcome))
    // A request cannot have settled its own answer, whatever it claims.
    forget(session, Math.min(settledBelow, seq))
    while (session.answers.size > MAX_REMEMBERED) forget(session, lowest(session.answers) + 1)
    this.#count(id, session.answers.size - before)
    if (rules >= OWN_BUSINESS) this.#dropBeyondQuota(id)
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
    this.#add(p.id, { lastUsed: p.lastUsed, settledBelow: p.settledBelow, answers, hash })
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

  #add(id: string, session: Session): void {
    this.#byId.set(id, session)
    const owner = ownerOf(id)
    if (owner === null) return
    const own = this.#byOwner.get(owner) ?? { ids: new Set(), answers: 0 }
    this.#byOwner.set(owner, own)
    own.ids.add(id)
    own.answers += session.answers.size
  }

  #remove(id: string): void {
    const owner = ownerOf(id)
    const own = owner === null ? undefined : this.#byOwner.get(owner)
    if (owner !== null && own !== undefined) {
      own.ids.delete(id)
      own.answers -= this.#byId.get(id)?.answers.size ?? 0
      if (own.ids.size === 0) this.#byOwner.delete(owner)
    }
    this.#byId.delete(id)
  }

  #count(id: string, added: number): void {
    const own = this.#byOwner.get(ownerOf(id) ?? '')
    if (own !== undefined) own.answers += added
  }

  /** Drops answers of the host's least recently used sessions. */
  #dropBeyondQuota(id: string): void {
    const own = this.#byOwner.get(ownerOf(id) ?? '')
    while (own !== undefined && own.answers > MAX_ANSWERS_PER_HOST) {
      const oldest = this.#byId.get(this.#leastRecent(own, true))
      if (oldest === undefined) return
      const { size } = oldest.answers
      forget(oldest, lowest(oldest.answers) + 1)
      own.answers -= size - oldest.answers.size
    }
  }

  /** A host's session that was used least recently. O(sessions of the host) */
  #leastRecent({ ids }: Owned, withAnswers = false): string {
    let [least, usedAt] = ['', Infinity]
    for (const id of ids) {
      const session = this.#byId.get(id)
      if (session === undefined || session.lastUsed >= usedAt || (withAnswers && session.answers.size === 0)) continue
      ;[least, usedAt] = [id, session.lastUsed]
    }
    return least
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

/** The host that opened a session, by which the leader names it; null for sessions of earlier versions. */
function ownerOf(id: string): string | null {
  const end = id.indexOf('/')
  return end === -1 ? null : id.slice(0, end)
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
