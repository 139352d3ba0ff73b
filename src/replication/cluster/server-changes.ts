// Who are the servers, changed from any host: a request to the leader, asked again while the consensus says that it is
// only too early. Every step may be asked twice: what is done already is no failure on the way.

import { asVxmeshError, VxmeshError, type ErrorCode } from '#model/errors.ts'
import { parsePeerId, type LogIndex, type PeerId } from '#model/ids.ts'
import { monotonicMs, sleep } from '#platform/clock.ts'
import type { Change } from '#raft/types.ts'
import { isCount, malformed } from '../codec/entry-codec.ts'
import type { Rpc } from '../transport/rpc.ts'

const CHANGE = 'raft-change'
const TRANSFER = 'raft-transfer'
const INCARNATION = 'incarnation'
const PLACE = 'place'

/** A new server gets snapshot and log before it votes. */
const PROMOTE_MS = 60_000
const CHANGE_MS = 5_000
const TRANSFER_MS = 10_000
const TRANSFER_AGAIN_MS = 1_500
const ATTEMPT_MS = 3_000
const PAUSE_MS = 100

const TRY_AGAIN: ReadonlySet<ErrorCode> = new Set([
  'ERR_BUSY',
  'ERR_NOT_LEADER',
  'ERR_NO_QUORUM',
  'ERR_PEER',
  'ERR_TIMEOUT'
])

/** What a server does for others; null where it cannot. */
export type ServerPart = {
  readonly change: (change: Change) => Promise<unknown>
  readonly transfer: (to: PeerId) => void
}

/** Whether a committed configuration means a host's disk, and the log index up to which that is known. */
export type Participation = { readonly index: LogIndex; readonly member: boolean }

export function serveServerChanges(
  rpc: Rpc,
  p: {
    readonly part: () => ServerPart | null
    readonly incarnation: () => number | null
    readonly place: (peer: PeerId, incarnation: number) => Participation
  }
): void {
  const part = (): ServerPart => {
    const here = p.part()
    if (here === null) throw new VxmeshError('ERR_NOT_LEADER', 'this host is no server')
    return here
  }
  rpc.register(CHANGE, async body => {
    await part().change(readChange(body))
    return true
  })
  rpc.register(TRANSFER, async body => {
    part().transfer(parsePeerId(String(body)))
    return Promise.resolve(true)
  })
  rpc.register(PLACE, (body, from) => {
    if (!isCount(body)) throw malformed('question about a place')
    return Promise.resolve(p.place(from, body))
  })
  rpc.register(INCARNATION, () => {
    const incarnation = p.incarnation()
    if (incarnation === null) return Promise.reject(new VxmeshError('ERR_PEER', 'this host belongs to no cluster yet'))
    return Promise.resolve(incarnation)
  })
}

/** What another host knows of this one's place. @throws ERR_PEER, ERR_TIMEOUT */
export async function askParticipation(rpc: Rpc, peer: PeerId, incarnation: number): Promise<Participation> {
  const answer = await rpc.call({ peer, method: PLACE, body: incarnation, timeoutMs: ATTEMPT_MS })
  const { index, member } = (typeof answer === 'object' && answer !== null ? answer : {}) as Record<string, unknown>
  if (!isCount(index) || typeof member !== 'boolean') throw malformed('answer about a place')
  return { index: index as LogIndex, member }
}

export class ServerChanges {
  readonly #rpc: Rpc
  readonly #leader: () => PeerId | null
  readonly #stopping: AbortSignal

  constructor(p: { readonly rpc: Rpc; readonly leader: () => PeerId | null; readonly stopping: AbortSignal }) {
    this.#rpc = p.rpc
    this.#leader = p.leader
    this.#stopping = p.stopping
  }

  /**
   * Makes a host a voter: a learner first, a voter when it has caught up.
   * @throws ERR_HOST_EXISTS when it is one; ERR_PEER when it does not answer; ERR_NO_QUORUM; ERR_TIMEOUT when it does not
   *   catch up in time, and stays a learner
   */
  async add(peer: PeerId): Promise<void> {
    const incarnation = await this.#rpc.call({ peer, method: INCARNATION, body: null, timeoutMs: ATTEMPT_MS })
    if (!isCount(incarnation)) throw malformed('incarnation')
    // A learner already is as good as one made now; a voter is told from it by the promotion.
    await this.#insist({ kind: 'add-learner', peer, incarnation }, CHANGE_MS, ['ERR_HOST_EXISTS'])
    await this.#insist({ kind: 'promote', peer }, PROMOTE_MS)
  }

  /** Makes a server a client again. @throws ERR_HOST_NOT_FOUND when it is none; ERR_INVALID for the last one; ERR_NO_QUORUM */
  async remove(peer: PeerId): Promise<void> {
    await this.#insist({ kind: 'remove', peer }, CHANGE_MS)
  }

  /**
   * Hands leadership over; resolves when the other leads. A leader gives up when the other takes too long: it is asked
   * again. @throws ERR_TIMEOUT, ERR_NOT_LEADER when nobody leads
   */
  async transfer(to: PeerId): Promise<void> {
    const until = monotonicMs() + TRANSFER_MS
    for (let asked = -Infinity; this.#leader() !== to;) {
      const leader = this.#leader()
      if (leader === null && asked === -Infinity) throw new VxmeshError('ERR_NOT_LEADER', 'no leader is known')
      if (leader !== null && monotonicMs() - asked >= TRANSFER_AGAIN_MS) {
        asked = monotonicMs()
        await this.#rpc.call({ peer: leader, method: TRANSFER, body: to, timeoutMs: ATTEMPT_MS }).catch(passOver)
      }
      if (monotonicMs() > until || !(await sleep(PAUSE_MS, this.#stopping))) {
        throw new VxmeshError('ERR_TIMEOUT', 'the other server has not taken over in time')
      }
    }
  }

  async #insist(change: Change, forMs: number, done: readonly ErrorCode[] = []): Promise<void> {
    const until = monotonicMs() + forMs
    for (;;) {
      const leader = this.#leader()
      try {
        if (leader === null) throw new VxmeshError('ERR_NO_QUORUM', 'no leader is known')
        await this.#rpc.call({ peer: leader, method: CHANGE, body: change, timeoutMs: ATTEMPT_MS })
        return
      } catch (thrown) {
        const err = asVxmeshError(thrown)
        if (done.includes(err.code)) return
        if (!TRY_AGAIN.has(err.code)) throw err
        if (monotonicMs() > until || !(await sleep(PAUSE_MS, this.#stopping))) {
          if (change.kind !== 'promote') throw new VxmeshError('ERR_NO_QUORUM', err.message, { cause: err })
          const why = 'the new server has not caught up in time; it stays a learner'
          throw new VxmeshError('ERR_TIMEOUT', why, { cause: err })
        }
      }
    }
  }
}

/** What a change of leaders brings about by itself is no failure of one. */
function passOver(thrown: unknown): void {
  if (!TRY_AGAIN.has(asVxmeshError(thrown).code)) throw thrown
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
