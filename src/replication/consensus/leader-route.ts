// The way from a proposer to the leader: whom to ask, and one attempt at it. A leader that becomes known ends the attempts at
// another server and all back-offs.

import { asVxmeshError, VxmeshError } from '#model/errors.ts'
import type { PeerId, Term } from '#model/ids.ts'
import type { Clock } from '#platform/clock.ts'
import type { Entry } from '#raft/types.ts'
import type { Rpc } from '../transport/rpc.ts'
import type { Proposal } from './proposal.ts'
import { askPropose, type Answer, type CommitNotice, type ProposeHere } from './propose-rpc.ts'

export type LeaderRouteOptions = {
  readonly rpc: Rpc
  readonly self: PeerId
  /** Proposes on this host's own Raft. @throws ERR_NOT_LEADER with context.leader, ERR_NO_QUORUM */
  readonly proposeHere: ProposeHere
  /** Servers to try, the likely leader first; may include this host. */
  readonly servers: () => readonly PeerId[]
  /** May this peer answer a proposal? A leader that others name is asked only then; anybody by default. */
  readonly isServer?: (peer: PeerId) => boolean
  /** Takes what came with a leader's answer. @throws ERR_PEER on anything malformed */
  readonly onNotice?: (leader: PeerId, notice: CommitNotice) => void
  /** Does this host apply what is committed without delay? Then it finds its outcomes itself; by default it does not. */
  readonly keepsUp?: () => boolean
  /** Takes entries of this host that are committed. @returns false when others before them are missing here */
  readonly onCommitted?: (leader: PeerId, term: Term, entries: readonly Entry[]) => boolean
  readonly clock: Clock
}

export type AskOptions = {
  readonly timeoutMs: number
  /** Must the answers have outcomes? */
  readonly outcomes: boolean
}

/** How long the leader is asked for outcomes once this host had to wait for entries of others. */
const OUTCOMES_MS = 5_000

export class LeaderRoute {
  readonly #options: LeaderRouteOptions
  #leader: PeerId | null = null
  /** Callbacks of attempts in flight and of back-offs: called with a new leader, or with null when the agent stops. */
  readonly #listeners = new Set<(leader: PeerId | null) => void>()
  /** Until then the leader is asked for outcomes: entries of other hosts lay before those of this one. */
  #outcomesUntilMs = -Infinity
  #stopped = false

  constructor(options: LeaderRouteOptions) {
    this.#options = options
  }

  /** The server that answered last, or that others name; null when it must be found. */
  get leader(): PeerId | null {
    const { isServer = () => true } = this.#options
    return this.#leader === null || !isServer(this.#leader) ? null : this.#leader
  }

  get isStopped(): boolean {
    return this.#stopped
  }

  stop(): void {
    this.#stopped = true
    for (const notify of this.#listeners) notify(null)
  }

  /** A leader is known: whoever backs off, or awaits another server's answer, turns to it at once. */
  hint(leader: PeerId): void {
    if (leader === this.#leader) return
    this.#leader = leader
    for (const notify of this.#listeners) notify(leader)
  }

  /** The likely leader, then the servers; none twice a round, because they may name each other or a dead leader. */
  next(tried: ReadonlySet<PeerId>): PeerId | undefined {
    const { leader } = this
    const servers = this.#options.servers()
    return (leader === null ? servers : [leader, ...servers]).find(server => !tried.has(server))
  }

  /** Ends early when a leader is known. */
  backOff(ms: number): Promise<void> {
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

  /**
   * Asks one server. A leader that is cut off or hangs may never answer: another leader ends the wait, and the outcome is
   * unknown. @throws ERR_NOT_LEADER, ERR_PEER, ERR_TIMEOUT, ERR_AGENT_UNREACHABLE, or what the server refused them all with
   */
  ask(server: PeerId, batch: readonly Proposal[], p: AskOptions): Promise<readonly Answer[]> {
    return new Promise((resolve, reject) => {
      const notify = (leader: PeerId | null): void => {
        if (leader === null) failed(stopping())
        else if (leader !== server)
          failed(new VxmeshError('ERR_PEER', `${leader} leads, and not ${server}`, { context: { leader } }))
      }
      const failed = (thrown: unknown): void => {
        const err = asVxmeshError(thrown)
        this.#listeners.delete(notify)
        const elsewhere = err.context['leader']
        if (this.#leader === server || this.#leader === null)
          this.#leader = typeof elsewhere === 'string' && elsewhere !== '' ? (elsewhere as PeerId) : null
        reject(err)
      }
      this.#listeners.add(notify)
      if (this.#stopped) notify(null)
      else
        this.#send(server, batch, p).then(answers => {
          this.#listeners.delete(notify)
          this.#leader = server
          resolve(answers)
        }, failed)
    })
  }

  async #send(server: PeerId, batch: readonly Proposal[], p: AskOptions): Promise<readonly Answer[]> {
    const { clock, keepsUp, self, proposeHere, rpc } = this.#options
    const { timeoutMs } = p
    if (server === self) {
      const late = (): VxmeshError => new VxmeshError('ERR_TIMEOUT', 'not committed in time')
      return clock.within(proposeHere(batch.map(({ data }) => data)), timeoutMs, late)
    }
    const mayOmit = keepsUp?.() === true && clock.nowMs() >= this.#outcomesUntilMs
    const outcomes = p.outcomes || !mayOmit
    const { answers, term, notice } = await askPropose(rpc, { server, batch, outcomes, timeoutMs })
    if (!outcomes) this.#committed(server, term, { batch, answers })
    if (notice !== null) this.#options.onNotice?.(server, notice)
    return answers
  }

  #committed(
    server: PeerId,
    term: Term,
    p: { readonly batch: readonly Proposal[]; readonly answers: readonly Answer[] }
  ): void {
    const entries = entriesOf(term, p.batch, p.answers)
    const { clock, onCommitted } = this.#options
    if (entries.length > 0 && onCommitted?.(server, term, entries) === false)
      this.#outcomesUntilMs = clock.nowMs() + OUTCOMES_MS
  }
}

/** The entries of committed proposals, as the leader has appended them. */
function entriesOf(term: Term, batch: readonly Proposal[], answers: readonly Answer[]): Entry[] {
  const entries: Entry[] = []
  for (const [at, { data }] of batch.entries()) {
    const answer = answers[at]
    if (answer !== undefined && 'own' in answer) entries.push({ index: answer.index, term, kind: 'command', data })
  }
  return entries
}

export function stopping(): VxmeshError {
  return new VxmeshError('ERR_AGENT_UNREACHABLE', 'the agent is stopping; whether the change was made is unknown')
}
