// How a host changes the cluster's state: it sends a command to the leader, wherever that is, under a session and a
// sequence number, so that a retry after an ambiguous failure is the same request and gets the same answer.

import {
  isResultOf,
  RULES,
  type Command,
  type CommandKind,
  type Request,
  type Result,
  type ResultOf
} from '#model/command.ts'
import { asVxmeshError, VxmeshError } from '#model/errors.ts'
import type { LogIndex, PeerId } from '#model/ids.ts'
import { parseCommand } from '#model/parse-request.ts'
import type { Clock } from '#platform/clock.ts'
import type { Random } from '#platform/random.ts'
import type { Rpc } from '../transport/rpc.ts'
import { askPropose, bindRequest, type Applied, type CommitNotice } from './propose-rpc.ts'
import { isRetryable } from './retryable.ts'

/** A change that is not acknowledged by then is ERR_NO_QUORUM: design section 4 promises 5 s. */
export const DEADLINE_MS = 4_500
const ATTEMPT_MS = 2_000
/**
 * Back-off between two rounds through the servers; doubles, because an election ends either soon or only after a while.
 */
const BACKOFF_MIN_MS = 10
const BACKOFF_MAX_MS = 200
/** Requests of this host that may be in flight. */
const MAX_IN_FLIGHT = 2_048
/**
 * A session takes no new request when so many followed its oldest unanswered one. The state machine remembers the last 4,096
 * answers of a session (MAX_REMEMBERED in allocator/sessions.ts), and the requests in flight may still be added: beyond that
 * the answer to the oldest would be forgotten, although it was carried out.
 */
const MAX_SPAN = 2_048

export type ProposerOptions = {
  readonly rpc: Rpc
  readonly self: PeerId
  /** Proposes on this host's own Raft. @throws ERR_NOT_LEADER with context.leader, ERR_NO_QUORUM */
  readonly proposeHere: (request: Request) => Promise<Applied>
  /** Servers to try, the likely leader first; may include this host. */
  readonly servers: () => readonly PeerId[]
  /** May this peer answer a proposal? A leader that others name is asked only then; anybody by default. */
  readonly isServer?: (peer: PeerId) => boolean
  /** Takes what came with a leader's answer. @throws ERR_PEER on anything malformed */
  readonly onNotice?: (leader: PeerId, notice: CommitNotice) => void
  readonly clock: Clock
  readonly random: Random
  /** DEADLINE_MS by default. */
  readonly deadlineMs?: number
}

type Session = {
  readonly id: string
  readonly opened: Promise<unknown>
  readonly unsettled: Set<number>
  nextSeq: number
}

type Submitted = { readonly applied: Applied; readonly attempts: number }

export class Proposer {
  readonly #options: ProposerOptions
  /** The one that new requests use. */
  #session: Session | null = null
  #inFlight = 0
  #leader: PeerId | null = null
  /** Callbacks of attempts in flight and of back-offs: called with a new leader, or with null when the agent stops. */
  readonly #listeners = new Set<(leader: PeerId | null) => void>()
  readonly #deadlineMs: number
  #retries = 0
  #stopped = false

  constructor(options: ProposerOptions) {
    this.#options = options
    this.#deadlineMs = options.deadlineMs ?? DEADLINE_MS
  }

  /** Requests sent again, under their own identity, because the outcome of an earlier attempt was unknown. */
  get retries(): number {
    return this.#retries
  }

  /** Fails all proposals in flight, whose outcome is then unknown. Without it they would run until their deadline. */
  stop(): void {
    this.#stopped = true
    for (const notify of this.#listeners) notify(null)
  }

  /** A leader is known: proposals that back off, or await another server's answer, are sent to it at once. */
  hint(leader: PeerId): void {
    if (leader === this.#leader) return
    this.#leader = leader
    for (const notify of this.#listeners) notify(leader)
  }

  /**
   * Proposes a command; resolves after commit with its result and the index at which it is visible.
   * @throws the outcome's error; ERR_INVALID for a command that no replica could apply; ERR_NO_QUORUM when no leader
   * acknowledged in time (the outcome is then unknown); ERR_BUSY
   */
  async propose<C extends Command>(
    command: C
  ): Promise<{ readonly result: ResultOf<C['kind']>; readonly index: LogIndex }> {
    // A leader checks what others send. Its own commands bypass that, and an invalid one in the log would stop every replica.
    parseCommand(command)
    if (this.#inFlight >= MAX_IN_FLIGHT) throw new VxmeshError('ERR_BUSY', 'too many changes are in flight; retry')
    this.#inFlight += 1
    try {
      return await this.#proposeOnce(command, this.#now() + this.#deadlineMs)
    } finally {
      this.#inFlight -= 1
    }
  }

  async #proposeOnce<C extends Command>(
    command: C,
    deadline: number
  ): Promise<{ readonly result: ResultOf<C['kind']>; readonly index: LogIndex }> {
    for (;;) {
      const session = await this.#openSession(deadline)
      const { applied, attempts } = await this.#proposeIn(session, command, deadline)
      const { outcome, index } = applied
      if (outcome.ok) return { result: resultOf<C['kind']>(command.kind, outcome.result), index }
      if (outcome.error.code === 'ERR_SESSION_EXPIRED') {
        if (this.#session === session) this.#session = null
        // Sent once and refused for its session, it was not applied. Sent twice, the first attempt may have been.
        if (attempts === 1) continue
      }
      throw VxmeshError.fromBody(outcome.error)
    }
  }

  async #proposeIn(session: Session, command: Command, deadline: number): Promise<Submitted> {
    const { id, unsettled } = session
    const seq = session.nextSeq++
    unsettled.add(seq)
    try {
      const [oldest = seq] = unsettled // insertion order: the first is the lowest
      return await this.#submit({ session: id, seq, settledBelow: oldest, rules: RULES, command }, deadline)
    } finally {
      unsettled.delete(seq)
    }
  }

  /**
   * The open session, or the one that is being opened; a new one when its opener's deadline passed before ours, or when an
   * answer has been missing for so many requests that the session cannot take another.
   */
  async #openSession(deadline: number): Promise<Session> {
    if (this.#session !== null && isFull(this.#session)) this.#session = null
    for (let session = this.#session; session !== null; session = this.#session) {
      const opened = await session.opened.then(
        () => true,
        () => false
      )
      if (opened) return session
    }
    const id = this.#options.random.id()
    const open: Request = {
      session: id,
      seq: 0,
      settledBelow: 0,
      rules: RULES,
      command: { kind: 'session-open' }
    }
    const opening: Session = { id, opened: this.#submit(open, deadline), unsettled: new Set(), nextSeq: 1 }
    this.#session = opening
    opening.opened.catch(() => {
      if (this.#session === opening) this.#session = null
    })
    await opening.opened
    return opening
  }

  /** Sends the same request to one server after the other until one returns an outcome. */
  async #submit(request: Request, deadline: number): Promise<Submitted> {
    const { random } = this.#options
    let last: VxmeshError | null = null
    let attempts = 0
    for (let backoffMs = BACKOFF_MIN_MS; this.#now() < deadline; backoffMs = Math.min(2 * backoffMs, BACKOFF_MAX_MS)) {
      if (this.#stopped) throw stopping()
      const tried = new Set<PeerId>()
      for (let server = this.#next(tried); server !== undefined; server = this.#next(tried)) {
        const leftMs = deadline - this.#now()
        if (leftMs <= 0) break
        tried.add(server)
        attempts += 1
        if (attempts > 1) this.#retries += 1
        try {
          const applied = await this.#askWhileItLeads(server, request, Math.min(ATTEMPT_MS, leftMs))
          this.#leader = server
          return { applied, attempts }
        } catch (err) {
          last = asVxmeshError(err)
          if (!isRetryable(last)) throw last
          const elsewhere = last.context['leader']
          // A server that does not lead proposed nothing: that was no attempt.
          if (last.code === 'ERR_NOT_LEADER') attempts -= 1
          this.#leader = typeof elsewhere === 'string' && elsewhere !== '' ? (elsewhere as PeerId) : null
        }
      }
      await this.#backOff(Math.max(0, Math.min(backoffMs * (0.5 + random.unit()), deadline - this.#now())))
    }
    throw new VxmeshError('ERR_NO_QUORUM', `no leader acknowledged the change within ${this.#deadlineMs / 1000} s`, {
      ...(last === null ? {} : { cause: last })
    })
  }

  /** The likely leader, then the servers; none twice a round, because they may name each other or a dead leader. */
  #next(tried: ReadonlySet<PeerId>): PeerId | undefined {
    const { isServer = () => true, servers } = this.#options
    const likely = this.#leader === null || !isServer(this.#leader) ? [] : [this.#leader]
    return [...likely, ...servers()].find(server => !tried.has(server))
  }

  /** Ends early when a leader is known. */
  #backOff(ms: number): Promise<void> {
    return new Promise(resolve => {
      const done = (): void => {
        cancel()
        this.#listeners.delete(done)
        resolve()
      }
      const cancel = this.#options.clock.after(ms, done)
      this.#listeners.add(done)
    })
  }

  /** A leader that is cut off or hangs may never answer: another leader ends the wait, and the outcome is unknown. */
  #askWhileItLeads(server: PeerId, request: Request, timeoutMs: number): Promise<Applied> {
    return new Promise((resolve, reject) => {
      const notify = (leader: PeerId | null): void => {
        if (leader === null) reject(stopping())
        else if (leader !== server)
          reject(new VxmeshError('ERR_PEER', `${leader} leads, and not ${server}`, { context: { leader } }))
      }
      this.#listeners.add(notify)
      const asked = this.#ask(server, request, timeoutMs).finally(() => this.#listeners.delete(notify))
      asked.then(resolve, reject)
    })
  }

  async #ask(server: PeerId, request: Request, timeoutMs: number): Promise<Applied> {
    const { clock, self, proposeHere, rpc } = this.#options
    if (server === self) {
      const late = (): VxmeshError => new VxmeshError('ERR_TIMEOUT', 'not committed in time')
      return clock.within(proposeHere(bindRequest(request, { from: self, isServer: true })), timeoutMs, late)
    }
    const { applied, notice } = await askPropose(rpc, { server, request, timeoutMs })
    if (notice !== null) this.#options.onNotice?.(server, notice)
    return applied
  }

  #now(): number {
    return this.#options.clock.nowMs()
  }
}

function isFull({ unsettled, nextSeq }: Session): boolean {
  const [oldest = nextSeq] = unsettled // insertion order: the first is the lowest
  return nextSeq - oldest >= MAX_SPAN
}

function stopping(): VxmeshError {
  return new VxmeshError('ERR_AGENT_UNREACHABLE', 'the agent is stopping; whether the change was made is unknown')
}

/** @throws Error when this host's own state machine answered with another kind: a broken invariant */
function resultOf<K extends CommandKind>(kind: K, result: Result): ResultOf<K> {
  if (isResultOf(kind, result)) return result
  throw new Error(`${kind} was answered with ${result.kind}`)
}
