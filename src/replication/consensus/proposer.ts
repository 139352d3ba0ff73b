// How a host changes the cluster's state: it sends commands to the leader, wherever that is, each under a session and a
// sequence number, so that a retry after an ambiguous failure is the same request and gets the same answer. Commands go
// together (lane.ts); one that fails goes on by itself, from server to server, until its deadline.

import { isResultOf, type Command, type CommandKind, type Request, type Result, type ResultOf } from '#model/command.ts'
import { asVxmeshError, VxmeshError } from '#model/errors.ts'
import type { LogIndex, PeerId } from '#model/ids.ts'
import { parseCommand } from '#model/parse-request.ts'
import type { Random } from '#platform/random.ts'
import { Lane } from './lane.ts'
import { LeaderRoute, stopping, type LeaderRouteOptions } from './leader-route.ts'
import { proposal, type Proposal } from './proposal.ts'
import { ProposalWindow } from './proposal-window.ts'
import { isFull, oldestOf, openSession, type Session } from './proposer-session.ts'
import type { Applied } from './propose-rpc.ts'
import { isRetryable } from './retryable.ts'

/** A change that is not acknowledged by then is ERR_NO_QUORUM: design section 4 promises 5 s. */
export const DEADLINE_MS = 4_500
const ATTEMPT_MS = 2_000
/**
 * Back-off between two rounds through the servers; doubles, because an election ends either soon or only after a while.
 */
const BACKOFF_MIN_MS = 10
const BACKOFF_MAX_MS = 200

export type ProposerOptions = LeaderRouteOptions & {
  /** Does this host propose as a server? Otherwise its requests name it. A leader that sees it otherwise corrects them. */
  readonly isSelfServer?: () => boolean
  /** The rules of the cluster, as this host knows them. */
  readonly rules: () => number
  readonly random: Random
  /** DEADLINE_MS by default. */
  readonly deadlineMs?: number
}

export type Proposed<K extends CommandKind> = { readonly result: ResultOf<K>; readonly index: LogIndex }

/** A command, and who waits for it. */
type Wish = {
  readonly command: Command
  readonly deadlineMs: number
  readonly resolve: (proposed: Proposed<CommandKind>) => void
  readonly reject: (err: VxmeshError) => void
}

export class Proposer {
  readonly #options: ProposerOptions
  readonly #route: LeaderRoute
  readonly #lane: Lane
  readonly #deadlineMs: number
  /** The one that new requests use. */
  #session: Session | null = null
  /** By id: that one, and earlier ones that still await answers. */
  readonly #sessions = new Map<string, Session>()
  readonly #window: ProposalWindow
  #retries = 0

  constructor(options: ProposerOptions) {
    this.#options = options
    this.#deadlineMs = options.deadlineMs ?? DEADLINE_MS
    this.#window = new ProposalWindow({ nowMs: () => this.#now() })
    this.#route = new LeaderRoute(options)
    this.#lane = new Lane({
      route: this.#route,
      clock: options.clock,
      attemptMs: ATTEMPT_MS,
      failed: (each, err) => this.#leftLane(each, err)
    })
  }

  /** Requests sent again, under their own identity, because the outcome of an earlier attempt was unknown. */
  get retries(): number {
    return this.#retries
  }

  /** Fails all proposals in flight, whose outcome is then unknown. Without it they would run until their deadline. */
  stop(): void {
    this.#route.stop()
  }

  /** A leader is known: proposals that back off, or await another server's answer, are sent to it at once. */
  hint(leader: PeerId): void {
    this.#route.hint(leader)
  }

  /**
   * Proposes a command; resolves after commit with its result and the index at which it is visible.
   * @throws the outcome's error; ERR_INVALID for a command that no replica could apply; ERR_NO_QUORUM when no leader
   * acknowledged in time (the outcome is then unknown); ERR_BUSY
   */
  propose<C extends Command>(given: C): Promise<Proposed<C['kind']>> {
    return new Promise<Proposed<CommandKind>>((resolve, reject) => {
      // First, because it costs least.
      this.#window.checkRoom()
      // A leader checks what others send. Its own commands bypass that, and an invalid one in the log would stop every replica.
      const command = parseCommand(given)
      const deadlineMs = this.#now() + this.#deadlineMs
      const begin = (beganMs: number): void => {
        const done = <T>(settle: (value: T) => void): ((value: T) => void) => {
          return value => {
            this.#window.leave(beganMs)
            settle(value)
          }
        }
        this.#begin({ command, deadlineMs, resolve: done(resolve), reject: done(reject) })
      }
      this.#window.enter({ latestMs: deadlineMs - ATTEMPT_MS, begin, refuse: reject })
    })
  }

  /** This host has applied a request. If it is one of its own in flight, that is its answer. */
  applied(request: Request, applied: Applied): void {
    this.#sessions.get(request.session)?.unsettled.get(request.seq)?.resolve(applied)
  }

  #begin(wish: Wish): void {
    const session = this.#session
    if (session?.isOpen === true && !isFull(session)) this.#proposeIn(session, wish)
    else this.#openSession(wish.deadlineMs).then(opened => this.#proposeIn(opened, wish), wish.reject)
  }

  #proposeIn(session: Session, { command, deadlineMs, resolve, reject }: Wish): void {
    const { id, unsettled } = session
    const seq = session.nextSeq++
    const made = this.#proposal(command, {
      session: id,
      seq,
      settledBelow: oldestOf(unsettled, seq),
      deadlineMs,
      resolve: ({ index, outcome }) => {
        this.#settled(session, seq)
        if (outcome.ok) {
          resolve({ result: resultOf(command.kind, outcome.result), index })
          return
        }
        const isExpired = outcome.error.code === 'ERR_SESSION_EXPIRED'
        if (isExpired && this.#session === session) this.#retire(session)
        // Sent once and refused for its session, it was not applied. Sent twice, the first attempt may have been.
        if (isExpired && made.attempts === 1) this.#begin({ command, deadlineMs, resolve, reject })
        else reject(VxmeshError.fromBody(outcome.error))
      },
      reject: err => {
        this.#settled(session, seq)
        reject(err)
      }
    })
    unsettled.set(seq, made)
    this.#lane.push(made)
  }

  /** Takes no further request; those in flight keep it. */
  #retire(session: Session): void {
    this.#session = null
    if (session.unsettled.size === 0) this.#sessions.delete(session.id)
  }

  #settled(session: Session, seq: number): void {
    session.unsettled.delete(seq)
    if (session !== this.#session && session.unsettled.size === 0) this.#sessions.delete(session.id)
  }

  /**
   * The open session, or the one that is being opened; a new one when its opener's deadline passed before ours, or when an
   * answer has been missing for so many requests that the session cannot take another.
   */
  async #openSession(deadlineMs: number): Promise<Session> {
    if (this.#session !== null && isFull(this.#session)) this.#retire(this.#session)
    for (let session = this.#session; session !== null; session = this.#session) {
      const opened = await session.opened.then(
        () => true,
        () => false
      )
      if (opened) return session
    }
    const opening = openSession(`${this.#options.self}/${this.#options.random.id()}`, id => {
      return new Promise<Applied>((resolve, reject) => {
        const first = { session: id, seq: 0, settledBelow: 0, deadlineMs, resolve, reject }
        void this.#submit(this.#proposal({ kind: 'session-open' }, first))
      })
    })
    this.#session = opening
    this.#sessions.set(opening.id, opening)
    opening.opened.catch(() => {
      if (this.#session === opening) this.#session = null
      this.#sessions.delete(opening.id)
    })
    await opening.opened
    return opening
  }

  #proposal(command: Command, p: Omit<Parameters<typeof proposal>[0], 'command' | 'rules' | 'by'>): Proposal {
    const { isSelfServer, rules, self } = this.#options
    return proposal({ ...p, command, rules: rules(), by: isSelfServer?.() === false ? self : null })
  }

  /** The lane could not answer a proposal: it was not sent when there is no error. */
  #leftLane(each: Proposal, err: VxmeshError | null): void {
    if (err !== null && !this.#mayRetry(each, err)) each.reject(err)
    else void this.#submit(each, err)
  }

  /** Sends one proposal to one server after the other until one returns an outcome. */
  async #submit(each: Proposal, failed: VxmeshError | null = null): Promise<void> {
    const { random } = this.#options
    const route = this.#route
    let last = failed
    for (let backoffMs = BACKOFF_MIN_MS; ; backoffMs = Math.min(2 * backoffMs, BACKOFF_MAX_MS)) {
      if (this.#now() >= each.deadlineMs) break
      if (route.isStopped) {
        each.reject(stopping())
        return
      }
      const tried = new Set<PeerId>()
      for (let server = route.next(tried); server !== undefined; server = route.next(tried)) {
        const leftMs = each.deadlineMs - this.#now()
        if (leftMs <= 0) break
        tried.add(server)
        const answer = await this.#attempt(server, each, Math.min(ATTEMPT_MS, leftMs))
        if (!(answer instanceof VxmeshError)) {
          each.resolve(answer)
          return
        }
        last = answer
        if (this.#mayRetry(each, last)) continue
        each.reject(last)
        return
      }
      await route.backOff(Math.max(0, Math.min(backoffMs * (0.5 + random.unit()), each.deadlineMs - this.#now())))
    }
    if (each.attempts === 0 && last?.code === 'ERR_BUSY') {
      each.reject(last)
      return
    }
    const why = `no leader acknowledged the change within ${this.#deadlineMs / 1000} s`
    each.reject(new VxmeshError('ERR_NO_QUORUM', why, last === null ? {} : { cause: last }))
  }

  async #attempt(server: PeerId, each: Proposal, timeoutMs: number): Promise<Applied | VxmeshError> {
    each.attempts += 1
    if (each.attempts > 1) this.#retries += 1
    try {
      const [answer] = await this.#route.ask(server, [each], { timeoutMs, outcomes: true })
      if (answer !== undefined && !('own' in answer)) return answer
      return new VxmeshError('ERR_PEER', `${server} answered nothing`)
    } catch (err) {
      return asVxmeshError(err)
    }
  }

  /** After a failed attempt. A server that does not lead, or takes no more, proposed nothing: that was no attempt. */
  #mayRetry(each: Proposal, err: VxmeshError): boolean {
    if (err.code === 'ERR_NOT_LEADER' || err.code === 'ERR_BUSY') each.attempts -= 1
    return isRetryable(err)
  }

  #now(): number {
    return this.#options.clock.nowMs()
  }
}

/** @throws Error when this host's own state machine answered with another kind: a broken invariant */
function resultOf(kind: CommandKind, result: Result): ResultOf<CommandKind> {
  const answered = result.kind
  if (isResultOf(kind, result)) return result
  throw new Error(`${kind} was answered with ${answered}`)
}
