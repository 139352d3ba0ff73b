// Changes of the servers, started from any server: a request to the leader, retried while the consensus refuses it only
// because it is too early. Every step may be repeated; a step that is done already is not an error.

import { asVxmeshError, VxmeshError, type ErrorCode } from '#model/errors.ts'
import { parsePeerId, type PeerId } from '#model/ids.ts'
import type { Clock } from '#platform/clock.ts'
import type { Change } from '#raft/types.ts'
import { isCount, malformed } from '../codec/entry-codec.ts'
import { isRetryable } from '../consensus/retryable.ts'
import type { Rpc } from '../transport/rpc.ts'

const CHANGE = 'raft-change'
const TRANSFER = 'raft-transfer'
const INCARNATION = 'incarnation'

/** A new server receives snapshot and log before it votes. */
const PROMOTE_MS = 60_000
const CHANGE_MS = 5_000
const TRANSFER_MS = 10_000
/** A leader gives up a transfer that takes longer, and has to be asked again. */
const TRANSFER_RETRY_MS = 1_500
const ATTEMPT_MS = 3_000
const RETRY_MS = 100

/** The consensus of a voter. */
export type ServerChanger = {
  readonly change: (change: Change) => Promise<unknown>
  readonly transfer: (to: PeerId) => void
}

/** Answers others. `changer`: null while this host is not a voter; `incarnation`: null while it belongs to no cluster. */
export function serveServerChanges(
  rpc: Rpc,
  p: {
    readonly changer: () => ServerChanger | null
    readonly incarnation: () => number | null
    /** May this peer add and remove servers? A client host that could would make itself one. */
    readonly mayChange: (from: PeerId) => boolean
    /** May this peer move the leadership now? */
    readonly mayTransfer: (from: PeerId) => boolean
  }
): void {
  const changer = (): ServerChanger => {
    const here = p.changer()
    if (here === null) throw new VxmeshError('ERR_NOT_LEADER', 'this host is not a server')
    return here
  }
  rpc.register(CHANGE, async (body, from) => {
    if (!p.mayChange(from)) {
      throw new VxmeshError('ERR_NOT_ALLOWED', 'a client host adds and removes no server; run this on a server')
    }
    await changer().change(readChange(body))
    return true
  })
  rpc.register(TRANSFER, async (body, from) => {
    if (!p.mayTransfer(from)) throw new VxmeshError('ERR_BUSY', 'the leader has only just changed; retry')
    changer().transfer(parsePeerId(String(body)))
    return Promise.resolve(true)
  })
  rpc.register(INCARNATION, () => {
    const incarnation = p.incarnation()
    if (incarnation === null) return Promise.reject(new VxmeshError('ERR_PEER', 'this host belongs to no cluster yet'))
    return Promise.resolve(incarnation)
  })
}

export type ServerChangesOptions = {
  readonly rpc: Rpc
  readonly leader: () => PeerId | null
  readonly clock: Clock
  /** Ends the retries. */
  readonly stopping: AbortSignal
}

export class ServerChanges {
  readonly #options: ServerChangesOptions

  constructor(options: ServerChangesOptions) {
    this.#options = options
  }

  /**
   * Makes a host a voter: a learner first, a voter when it has caught up.
   * @throws ERR_HOST_EXISTS when it is a voter; ERR_PEER when it does not answer; ERR_NO_QUORUM; ERR_TIMEOUT when it does
   *   not catch up in time, and stays a learner
   */
  async add(peer: PeerId): Promise<void> {
    const { rpc } = this.#options
    const incarnation = await rpc.call({ peer, method: INCARNATION, body: null, timeoutMs: ATTEMPT_MS })
    if (!isCount(incarnation)) throw malformed('incarnation')
    // A learner need not be added again; a voter is refused by the promotion.
    await this.#retry({ kind: 'add-learner', peer, incarnation }, CHANGE_MS, ['ERR_HOST_EXISTS'])
    await this.#retry({ kind: 'promote', peer }, PROMOTE_MS)
  }

  /** Makes a server a client. @throws ERR_HOST_NOT_FOUND when it is no server; ERR_INVALID for the last one; ERR_NO_QUORUM */
  async remove(peer: PeerId): Promise<void> {
    await this.#retry({ kind: 'remove', peer }, CHANGE_MS)
  }

  /** Hands leadership over; resolves when the other server leads. @throws ERR_TIMEOUT, ERR_NOT_LEADER when no leader is known */
  async transfer(to: PeerId): Promise<void> {
    const { clock, leader: currentLeader, rpc } = this.#options
    const until = clock.nowMs() + TRANSFER_MS
    for (let askedAtMs = -Infinity; currentLeader() !== to;) {
      const leader = currentLeader()
      if (leader === null && askedAtMs === -Infinity) throw new VxmeshError('ERR_NOT_LEADER', 'no leader is known')
      if (leader !== null && clock.nowMs() - askedAtMs >= TRANSFER_RETRY_MS) {
        askedAtMs = clock.nowMs()
        await rpc.call({ peer: leader, method: TRANSFER, body: to, timeoutMs: ATTEMPT_MS }).catch(ignoreRetryable)
      }
      if (!(await this.#mayRetry(until))) {
        throw new VxmeshError('ERR_TIMEOUT', 'the other server did not take over in time')
      }
    }
  }

  /** @param done refusals that mean that the change was made before */
  async #retry(change: Change, forMs: number, done: readonly ErrorCode[] = []): Promise<void> {
    const { clock, leader: currentLeader, rpc } = this.#options
    const until = clock.nowMs() + forMs
    for (;;) {
      const leader = currentLeader()
      try {
        if (leader === null) throw new VxmeshError('ERR_NO_QUORUM', 'no leader is known')
        await rpc.call({ peer: leader, method: CHANGE, body: change, timeoutMs: ATTEMPT_MS })
        return
      } catch (thrown) {
        const err = asVxmeshError(thrown)
        if (done.includes(err.code)) return
        if (!isRetryable(err)) throw err
        if (await this.#mayRetry(until)) continue
        if (change.kind !== 'promote') throw new VxmeshError('ERR_NO_QUORUM', err.message, { cause: err })
        const why = 'the new server did not catch up in time; it stays a learner'
        throw new VxmeshError('ERR_TIMEOUT', why, { cause: err })
      }
    }
  }

  /** Waits for the next attempt; false when the time is over or the agent stops. */
  async #mayRetry(until: number): Promise<boolean> {
    const { clock, stopping } = this.#options
    return clock.nowMs() <= until && clock.sleep(RETRY_MS, stopping)
  }
}

/** A change of leaders fails the request to the old leader; that is no failure of the transfer. */
function ignoreRetryable(thrown: unknown): void {
  if (!isRetryable(asVxmeshError(thrown))) throw thrown
}

/** @throws ERR_PEER, ERR_INVALID */
function readChange(body: unknown): Change {
  const { kind, peer, incarnation } = (typeof body === 'object' && body !== null ? body : {}) as Record<string, unknown>
  if (typeof peer !== 'string') throw malformed('change of servers')
  const id = parsePeerId(peer)
  if (kind === 'promote' || kind === 'remove') return { kind, peer: id }
  if (kind === 'add-learner' && isCount(incarnation)) return { kind, peer: id, incarnation }
  throw malformed('change of servers')
}
