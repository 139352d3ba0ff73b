// The way from a proposer to the leader: whom to ask, and one attempt at it. A leader that becomes known ends the attempts at
// another server and all back-offs.

import { asVxmeshError, VxmeshError } from '#model/errors.ts'
import type { PeerId } from '#model/ids.ts'
import type { Clock } from '#platform/clock.ts'
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
  readonly clock: Clock
}

export class LeaderRoute {
  readonly #options: LeaderRouteOptions
  #leader: PeerId | null = null
  /** Callbacks of attempts in flight and of back-offs: called with a new leader, or with null when the agent stops. */
  readonly #listeners = new Set<(leader: PeerId | null) => void>()
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
  ask(server: PeerId, batch: readonly Proposal[], timeoutMs: number): Promise<readonly Answer[]> {
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
        this.#send(server, batch, timeoutMs).then(answers => {
          this.#listeners.delete(notify)
          this.#leader = server
          resolve(answers)
        }, failed)
    })
  }

  async #send(server: PeerId, batch: readonly Proposal[], timeoutMs: number): Promise<readonly Answer[]> {
    const { clock, self, proposeHere, rpc } = this.#options
    if (server === self) {
      const late = (): VxmeshError => new VxmeshError('ERR_TIMEOUT', 'not committed in time')
      return clock.within(proposeHere(batch.map(({ data }) => data)), timeoutMs, late)
    }
    const { answers, notice } = await askPropose(rpc, { server, batch, timeoutMs })
    if (notice !== null) this.#options.onNotice?.(server, notice)
    return answers
  }
}

export function stopping(): VxmeshError {
  return new VxmeshError('ERR_AGENT_UNREACHABLE', 'the agent is stopping; whether the change was made is unknown')
}
