// How a host changes the cluster's state: its commands go to the leader, wherever it is, under a session and a
// sequence number, so that a retry after an ambiguous failure is the same request and yields the same answer.

import { asVxmeshError, isErrorCode, VxmeshError, type ErrorCode } from '#model/errors.ts'
import type { LogIndex, PeerId } from '#model/ids.ts'
import {
  isResultOf,
  type Command,
  type CommandKind,
  type Outcome,
  type Request,
  type Result,
  type ResultOf
} from '#model/command.ts'
import { parseCommand } from '#model/parse-request.ts'
import { monotonicMs, within } from '#platform/clock.ts'
import { systemRandom } from '#platform/random.ts'
import { isCount, malformed } from '../codec/entry-codec.ts'
import type { Rpc } from '../transport/rpc.ts'

const METHOD = 'propose'
/** A change that is not acknowledged by then is ERR_NO_QUORUM: design section 4 promises 5 s. */
export const DEADLINE_MS = 4_500
const ATTEMPT_MS = 2_000
/** Between two rounds through the servers; doubles with each, for an election is over soon or takes its time. */
const PAUSE_MIN_MS = 10
const PAUSE_MAX_MS = 200

/** What a leader has to say besides an answer, as frames of Raft's channel or messages of the feed. */
export type CommitNotice = { readonly raft: readonly Uint8Array[]; readonly feed: readonly Uint8Array[] }

/** A committed request: what it came to, and the log index from which it is visible. */
export type Applied = { readonly index: LogIndex; readonly outcome: Outcome }

export type ProposerOptions = {
  readonly rpc: Rpc
  readonly self: PeerId
  /** Proposes on this host's own Raft. @throws ERR_NOT_LEADER with context.leader, ERR_NO_QUORUM */
  readonly proposeHere: (request: Request) => Promise<Applied>
  /** Servers to try, the likely leader first; may hold this host. */
  readonly servers: () => readonly PeerId[]
  /** What came with a leader's answer. @throws ERR_PEER on anything malformed */
  readonly onNotice?: (leader: PeerId, word: CommitNotice) => void
  /** DEADLINE_MS, unless a test cannot wait so long. */
  readonly deadlineMs?: number
}

/** Requests of one session that may be without an answer; the state machine remembers at least as many. */
const MAX_UNSETTLED = 2_048

/** What another server, or the same one a little later, may answer differently. */
const WORTH_A_RETRY: ReadonlySet<ErrorCode> = new Set([
  'ERR_PEER',
  'ERR_TIMEOUT',
  'ERR_NOT_LEADER',
  'ERR_NO_QUORUM',
  'ERR_BUSY'
])

type Session = {
  readonly id: string
  readonly opened: Promise<unknown>
  readonly unsettled: Set<number>
  nextSeq: number
}

type Submitted = { readonly applied: Applied; readonly attempts: number }

export class Proposer {
  readonly #options: ProposerOptions
  #session: Session | null = null
  #leader: PeerId | null = null
  /** Those who wait for an answer or for a leader; null tells them that the agent ends. */
  readonly #waiting = new Set<(leader: PeerId | null) => void>()
  readonly #deadlineMs: number
  #retries = 0
  #stopped = false

  constructor(options: ProposerOptions) {
    this.#options = options
    this.#deadlineMs = options.deadlineMs ?? DEADLINE_MS
  }

  /** Requests sent again, under their own identity, because the fate of an earlier attempt was unknown. */
  get retries(): number {
    return this.#retries
  }

  /** Ends all proposals; what became of those under way is unknown. Without it they would go on for their whole time. */
  stop(): void {
    this.#stopped = true
    for (const tell of this.#waiting) tell(null)
  }

  /** There is word of a leader. Whoever waits for a leader, or for another server's answer, goes there at once. */
  hint(leader: PeerId): void {
    if (leader === this.#leader) return
    this.#leader = leader
    for (const tell of this.#waiting) tell(leader)
  }

  /**
   * Proposes a command and resolves with its result after commit.
   * @throws the outcome's error; ERR_INVALID for a command that no replica could apply; ERR_NO_QUORUM when no leader
   * acknowledged in time (the fate is then unknown); ERR_BUSY
   */
  async propose<C extends Command>(
    command: C
  ): Promise<{ readonly result: ResultOf<C['kind']>; readonly index: LogIndex }> {
    // A leader checks what others send. Its own must not get into the log unchecked either: all replicas would stop at it.
    parseCommand(command)
    const deadline = monotonicMs() + this.#deadlineMs
    for (;;) {
      const session = await this.#openSession(deadline)
      const { applied, attempts } = await this.#proposeIn(session, command, deadline)
      const { outcome, index } = applied
      if (outcome.ok) return { result: resultOf<C['kind']>(command.kind, outcome.result), index }
      if (outcome.error.code === 'ERR_SESSION_EXPIRED') {
        if (this.#session === session) this.#session = null
        // Sent once and refused for its session: it was not carried out. Sent twice, the first may have been.
        if (attempts === 1) continue
      }
      throw VxmeshError.fromBody(outcome.error)
    }
  }

  async #proposeIn(session: Session, command: Command, deadline: number): Promise<Submitted> {
    const { id, unsettled } = session
    if (unsettled.size >= MAX_UNSETTLED) throw new VxmeshError('ERR_BUSY', 'too many changes are under way; retry')
    const seq = session.nextSeq++
    unsettled.add(seq)
    try {
      const [oldest = seq] = unsettled // insertion order: the first is the lowest
      return await this.#submit({ session: id, seq, settledBelow: oldest, command }, deadline)
    } finally {
      unsettled.delete(seq)
    }
  }

  /** The open session, or the one that is being opened; when its opener's time ran out before ours, a new one. */
  async #openSession(deadline: number): Promise<Session> {
    for (let session = this.#session; session !== null; session = this.#session) {
      const opened = await session.opened.then(
        () => true,
        () => false
      )
      if (opened) return session
    }
    const id = systemRandom.id()
    const open: Request = { session: id, seq: 0, settledBelow: 0, command: { kind: 'session-open' } }
    const opening: Session = { id, opened: this.#submit(open, deadline), unsettled: new Set(), nextSeq: 1 }
    this.#session = opening
    opening.opened.catch(() => {
      if (this.#session === opening) this.#session = null
    })
    await opening.opened
    return opening
  }

  /** The same request to one server after the other until one gives an outcome. */
  async #submit(request: Request, deadline: number): Promise<Submitted> {
    let last: VxmeshError | null = null
    let attempts = 0
    for (let pauseMs = PAUSE_MIN_MS; monotonicMs() < deadline; pauseMs = Math.min(2 * pauseMs, PAUSE_MAX_MS)) {
      if (this.#stopped) throw ending()
      const asked = new Set<PeerId>()
      for (let server = this.#next(asked); server !== undefined; server = this.#next(asked)) {
        const left = deadline - monotonicMs()
        if (left <= 0) break
        asked.add(server)
        attempts += 1
        if (attempts > 1) this.#retries += 1
        try {
          const applied = await this.#askWhileItLeads(server, request, Math.min(ATTEMPT_MS, left))
          this.#leader = server
          return { applied, attempts }
        } catch (err) {
          last = asVxmeshError(err)
          if (!WORTH_A_RETRY.has(last.code)) throw last
          const elsewhere = last.context['leader']
          // A refusal by one that does not lead was no attempt: nothing was proposed.
          if (last.code === 'ERR_NOT_LEADER') attempts -= 1
          this.#leader = typeof elsewhere === 'string' && elsewhere !== '' ? (elsewhere as PeerId) : null
        }
      }
      await this.#pause(Math.max(0, Math.min(pauseMs * (0.5 + systemRandom.unit()), deadline - monotonicMs())))
    }
    throw new VxmeshError('ERR_NO_QUORUM', `no leader acknowledged the change within ${this.#deadlineMs / 1000} s`, {
      ...(last === null ? {} : { cause: last })
    })
  }

  /** The likely leader, then the servers; nobody twice a round, for they may point at each other or at one that is gone. */
  #next(asked: ReadonlySet<PeerId>): PeerId | undefined {
    const likely = this.#leader === null ? [] : [this.#leader]
    return [...likely, ...this.#options.servers()].find(server => !asked.has(server))
  }

  /** Ends before its time when there is word of a leader. */
  #pause(ms: number): Promise<void> {
    return new Promise(resolve => {
      const done = (): void => {
        clearTimeout(timer)
        this.#waiting.delete(done)
        resolve()
      }
      const timer = setTimeout(done, ms)
      this.#waiting.add(done)
    })
  }

  /** A leader that was cut off or hangs may never answer: word of another one ends the wait, and the fate is unknown. */
  #askWhileItLeads(server: PeerId, request: Request, timeoutMs: number): Promise<Applied> {
    return new Promise((resolve, reject) => {
      const tell = (leader: PeerId | null): void => {
        if (leader === null) reject(ending())
        else if (leader !== server)
          reject(new VxmeshError('ERR_PEER', `${leader} leads, and not ${server}`, { context: { leader } }))
      }
      this.#waiting.add(tell)
      const asked = this.#ask(server, request, timeoutMs).finally(() => this.#waiting.delete(tell))
      asked.then(resolve, reject)
    })
  }

  async #ask(server: PeerId, request: Request, timeoutMs: number): Promise<Applied> {
    const { self, proposeHere, rpc } = this.#options
    if (server === self) {
      return within(proposeHere(request), timeoutMs, () => new VxmeshError('ERR_TIMEOUT', 'not committed in time'))
    }
    const answer = await rpc.call({ peer: server, method: METHOD, body: request, timeoutMs })
    const { applied, leader, word } = asRecord(answer)
    if (isApplied(applied, request.command.kind)) {
      // One of an earlier version brings none.
      if (isCommitNotice(word)) this.#options.onNotice?.(server, word)
      return applied
    }
    if (typeof leader !== 'string') throw malformed('answer to a proposal')
    throw new VxmeshError('ERR_NOT_LEADER', `${server} does not lead`, { context: { leader } })
  }
}

function ending(): VxmeshError {
  return new VxmeshError('ERR_AGENT_UNREACHABLE', 'the agent is ending; whether the change was made is unknown')
}

/**
 * Answers others' proposals from this host's Raft. `check` refuses a malformed request by throwing; `wordFor` a peer is
 * what goes with its answer: whoever proposed waits until its own log has what came of it.
 */
export function servePropose(
  rpc: Rpc,
  p: {
    proposeHere: () => ((request: Request) => Promise<Applied>) | null
    check: (body: unknown) => Request
    wordFor?: (peer: PeerId) => CommitNotice
  }
): void {
  rpc.register(METHOD, async (body, from) => {
    const request = p.check(body)
    const proposeHere = p.proposeHere()
    if (proposeHere === null) return { leader: '' }
    try {
      const applied = await proposeHere(request)
      return { applied, word: p.wordFor?.(from) ?? null }
    } catch (err) {
      if (err instanceof VxmeshError && err.code === 'ERR_NOT_LEADER') return { leader: err.context['leader'] ?? '' }
      throw err
    }
  })
}

/** @throws Error when this host's own state machine answered with another kind: a broken invariant */
function resultOf<K extends CommandKind>(kind: K, result: Result): ResultOf<K> {
  if (isResultOf(kind, result)) return result
  throw new Error(`${kind} was answered with ${result.kind}`)
}

/** Answers come from other hosts: what cannot be one must not pass for one. */
function isApplied(value: unknown, command: CommandKind): value is Applied {
  const { index, outcome } = asRecord(value)
  const { ok, result, error } = asRecord(outcome)
  if (!isCount(index)) return false
  if (ok === true) return isResultOf(command, { kind: asRecord(result)['kind'] })
  const { code, message } = asRecord(error)
  return ok === false && typeof code === 'string' && isErrorCode(code) && typeof message === 'string'
}

function isCommitNotice(value: unknown): value is CommitNotice {
  const { raft, feed } = asRecord(value)
  return [raft, feed].every(
    frames => Array.isArray(frames) && frames.every((frame: unknown) => frame instanceof Uint8Array)
  )
}

function asRecord(value: unknown): Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null ? (value as Readonly<Record<string, unknown>>) : {}
}
