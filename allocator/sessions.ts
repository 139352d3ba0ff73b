// Sessions: the answers that callers may still ask for again (Raft thesis 6.3). They are part of the replicated state, so
// every replica remembers and forgets the same answers at the same index; no clock is read.

import {
  FIRST_RULES,
  OWN_BUSINESS,
  SESSIONS_BY_HOSTS,
  type Outcome,
  type OutcomeOf,
  type Refusal,
  type Request
} from '#model/command.ts'
import type { LogIndex } from '#model/ids.ts'
import { MAX_ANSWERS_PER_HOST, MAX_HOSTS, MAX_SESSIONS_PER_HOST } from './quotas.ts'
import { hashAnswer, hashSession, hashText, SetHash, type Hash } from './row-hash.ts'

/** Sessions that there may be, however few hosts there are. */
export const MIN_SESSIONS = 4_096
/** For each registered host: the session of its agent, and an earlier one. */
const SESSIONS_PER_HOST = 2
/** Sessions that the largest cluster may have. */
export const MAX_SESSIONS = MAX_HOSTS * SESSIONS_PER_HOST
/** Most unsettled answers of one session; one more drops the lowest, as if it were settled. */
export const MAX_REMEMBERED = 4_096

/** The sessions of one host, and how many answers they hold together. */
type Owned = { readonly host: string; readonly sessions: Set<Session>; answers: number }

/** An answer, and its hash for when the answer is dropped. */
export type Remembered = { readonly outcome: Outcome; readonly hash: Hash }

export type Session = {
  readonly id: string
  readonly idHash: Hash
  /** Null for sessions of earlier versions, whose names do not tell the host. */
  readonly owner: Owned | null
  lastUsed: LogIndex
  /** Answers below it are dropped; requests below it are not carried out. */
  settledBelow: number
  /** By seq; in no particular order. */
  readonly answers: Map<number, Remembered>
  readonly answersHash: SetHash
  /** What the session adds to the sum over all sessions. */
  hash: Hash
}

export class Sessions {
  /** Least recently used first: use moves a session to the end. */
  readonly #byId = new Map<string, Session>()
  readonly #byOwner = new Map<string, Owned>()
  /** The sum over all sessions. It covers their order of use, because no two are used at one index. */
  readonly #hash = new SetHash()
  /** Log index of the last use of any session. */
  #newest = 0 as LogIndex

  get size(): number {
    return this.#byId.size
  }

  /**
   * Opens a session; idempotent, since opening may be retried. One beyond the bound expires the least recently used one, by
   * log index. @param p.hosts how many hosts are registered
   */
  open(
    id: string,
    index: LogIndex,
    p: { readonly rules?: number; readonly hosts?: number } = {}
  ): OutcomeOf<'session-open'> {
    const { rules = FIRST_RULES, hosts = 0 } = p
    const known = this.#use(id, index)
    if (known === undefined) {
      this.#makeRoom(id, { rules, hosts })
      // The opening request, seq 0, is not remembered: its answer is always the same.
      this.#add({ id, lastUsed: index, settledBelow: 1, answers: new Map() })
    } else this.#rehash(known)
    return { ok: true, result: { kind: 'session' } }
  }

  /**
   * The remembered answer to this request; otherwise the outcome of `carryOut`, which is then remembered. For an unknown
   * session or a dropped answer nothing is carried out; the outcome is ERR_SESSION_EXPIRED and is not remembered.
   */
  once(request: Request, index: LogIndex, carryOut: () => Outcome): Outcome {
    const session = this.#use(request.session, index)
    if (session === undefined) return expired(`session ${request.session} is not known`)
    const outcome = answerOnce(session, request, carryOut)
    const { rules = FIRST_RULES } = request
    if (rules >= OWN_BUSINESS && session.owner !== null) this.#dropBeyondQuota(session.owner)
    this.#rehash(session)
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
    for (const [seq, outcome] of p.answers) {
      if (seq < p.settledBelow || answers.has(seq)) throw new Error(`session ${p.id} cannot have the answer ${seq}`)
      answers.set(seq, outcome)
    }
    if (answers.size > MAX_REMEMBERED) throw new Error(`session ${p.id} has too many answers`)
    this.#add({ ...p, answers })
  }

  get hash(): Hash {
    return this.#hash.value
  }

  #add(p: {
    readonly id: string
    readonly lastUsed: LogIndex
    readonly settledBelow: number
    readonly answers: ReadonlyMap<number, Outcome>
  }): void {
    const { id, lastUsed, settledBelow } = p
    const owner = this.#ownedBy(id)
    const session: Session = {
      ...{ id, idHash: hashText(id), owner, lastUsed, settledBelow },
      ...{ answers: new Map(), answersHash: new SetHash(), hash: NONE }
    }
    for (const [seq, outcome] of p.answers) remember(session, seq, outcome)
    owner?.sessions.add(session)
    this.#byId.set(id, session)
    this.#newest = lastUsed
    this.#rehash(session)
  }

  /** Expires sessions so that there is room for one more. */
  #makeRoom(id: string, { rules, hosts }: { readonly rules: number; readonly hosts: number }): void {
    const own = rules < OWN_BUSINESS ? null : this.#ownedBy(id)
    while (own !== null && own.sessions.size >= MAX_SESSIONS_PER_HOST) this.#remove(leastRecent(own.sessions))
    const forHosts = Math.min(MAX_SESSIONS, Math.max(MIN_SESSIONS, hosts * SESSIONS_PER_HOST))
    const most = rules < SESSIONS_BY_HOSTS ? MIN_SESSIONS : forHosts
    for (const oldest of this.#byId.values()) {
      if (this.#byId.size < most) return
      this.#remove(oldest)
      // By the earlier rules exactly one, however many there are by now.
      if (rules < SESSIONS_BY_HOSTS) return
    }
  }

  #remove(session: Session | undefined): void {
    if (session === undefined) return
    const { id, owner, answers, hash } = session
    this.#byId.delete(id)
    this.#hash.remove(hash)
    if (owner === null) return
    owner.sessions.delete(session)
    owner.answers -= answers.size
    if (owner.sessions.size === 0) this.#byOwner.delete(owner.host)
  }

  /** Drops answers of the host's least recently used sessions. */
  #dropBeyondQuota(owner: Owned): void {
    while (owner.answers > MAX_ANSWERS_PER_HOST) {
      const oldest = leastRecent(owner.sessions, true)
      if (oldest === undefined) return
      forget(oldest, lowest(oldest.answers) + 1)
      this.#rehash(oldest)
    }
  }

  #ownedBy(id: string): Owned | null {
    const host = ownerOf(id)
    if (host === null) return null
    let own = this.#byOwner.get(host)
    if (own === undefined) this.#byOwner.set(host, (own = { host, sessions: new Set(), answers: 0 }))
    return own
  }

  #use(id: string, index: LogIndex): Session | undefined {
    const session = this.#byId.get(id)
    if (session === undefined) return undefined
    this.#byId.delete(session.id)
    this.#byId.set(session.id, session)
    session.lastUsed = index
    this.#newest = index
    return session
  }

  /** Follows a change of the session. */
  #rehash(session: Session): void {
    this.#hash.remove(session.hash)
    session.hash = hashSession(session)
    this.#hash.add(session.hash)
  }
}

const NONE: Hash = { a: 0, b: 0 }

/** The host that opened a session, by which the leader names it; null for sessions of earlier versions. */
function ownerOf(id: string): string | null {
  const end = id.indexOf('/')
  return end === -1 ? null : id.slice(0, end)
}

/** The remembered answer, or that of `carryOut`; see `once`. */
function answerOnce(session: Session, { seq, settledBelow }: Request, carryOut: () => Outcome): Outcome {
  const remembered = session.answers.get(seq)
  if (remembered !== undefined) return remembered.outcome
  if (seq < session.settledBelow) return expired(`the answer to request ${seq} of session ${session.id} was dropped`)
  const outcome = carryOut()
  remember(session, seq, outcome)
  // A request cannot have settled its own answer, whatever it claims.
  forget(session, Math.min(settledBelow, seq))
  while (session.answers.size > MAX_REMEMBERED) forget(session, lowest(session.answers) + 1)
  return outcome
}

function remember({ answers, answersHash, owner }: Session, seq: number, outcome: Outcome): void {
  const hash = hashAnswer(seq, outcome)
  answers.set(seq, { outcome, hash })
  answersHash.add(hash)
  if (owner !== null) owner.answers += 1
}

/** Drops all answers below `settledBelow`, in time proportional to the smaller of the step and the number of answers. */
function forget(session: Session, settledBelow: number): void {
  const { answers, settledBelow: from } = session
  if (settledBelow <= from) return
  session.settledBelow = settledBelow
  if (settledBelow - from <= answers.size) for (let seq = from; seq < settledBelow; seq++) drop(session, seq)
  else for (const seq of [...answers.keys()]) if (seq < settledBelow) drop(session, seq)
}

function drop({ answers, answersHash, owner }: Session, seq: number): void {
  const remembered = answers.get(seq)
  if (remembered === undefined) return
  answers.delete(seq)
  answersHash.remove(remembered.hash)
  if (owner !== null) owner.answers -= 1
}

/** The session that was used least recently. O(sessions of the host) */
function leastRecent(sessions: Iterable<Session>, withAnswers = false): Session | undefined {
  let least: Session | undefined
  for (const session of sessions) {
    if (withAnswers && session.answers.size === 0) continue
    if (least === undefined || session.lastUsed < least.lastUsed) least = session
  }
  return least
}

function lowest(answers: ReadonlyMap<number, Remembered>): number {
  let least = Infinity
  for (const seq of answers.keys()) if (seq < least) least = seq
  return least
}

function expired(message: string): Refusal {
  return { ok: false, error: { code: 'ERR_SESSION_EXPIRED', message } }
}
