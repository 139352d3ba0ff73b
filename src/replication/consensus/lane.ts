// The fast path of proposals: those of one turn of the event loop, and those that come while the frames before them wait for
// their answers, go to the leader in one frame. Whatever fails goes on one by one (proposer.ts).

import { asVxmeshError, VxmeshError } from '#model/errors.ts'
import type { PeerId } from '#model/ids.ts'
import type { Clock } from '#platform/clock.ts'
import { MAX_BATCH } from '../codec/proposal-codec.ts'
import type { LeaderRoute } from './leader-route.ts'
import type { Proposal } from './proposal.ts'

/** Bytes of requests in one frame, unless a single one is larger; about what one append-request carries. */
const MAX_BATCH_BYTES = 256 * 1024
/** A larger batch leaves its outcomes to this host: it applies them a moment later, and they need not be sent. */
const MAX_OUTCOMES = 4
/** How long an outcome may be found here before the leader is asked for it. */
const OWN_OUTCOME_MS = 1_000
/** Frames in flight: one that is replicated, and some that gather at the leader for the next write. */
const MAX_FRAMES = 4

export type LaneOptions = {
  readonly route: LeaderRoute
  readonly clock: Clock
  readonly attemptMs: number
  /** Takes a proposal that the lane cannot answer: not sent, or with an unknown outcome. */
  readonly failed: (proposal: Proposal, err: VxmeshError | null) => void
}

export class Lane {
  readonly #options: LaneOptions
  #gathered: Proposal[] = []
  #frames = 0
  #flushing = false

  constructor(options: LaneOptions) {
    this.#options = options
  }

  /** Sends a proposal with those of the same turn. */
  push(proposal: Proposal): void {
    this.#gathered.push(proposal)
    if (this.#flushing || this.#frames >= MAX_FRAMES) return
    this.#flushing = true
    process.nextTick(() => {
      this.#flushing = false
      this.#flush()
    })
  }

  #flush(): void {
    const { route, failed } = this.#options
    const { leader } = route
    // Nobody is known to lead: each looks for the leader by itself.
    if (leader === null) for (const each of this.#gathered.splice(0)) failed(each, null)
    else while (this.#gathered.length > 0 && this.#frames < MAX_FRAMES) this.#send(leader, this.#take())
  }

  #take(): Proposal[] {
    let bytes = 0
    let count = 0
    for (const { data } of this.#gathered) {
      bytes += data.byteLength
      if (count > 0 && (bytes > MAX_BATCH_BYTES || count >= MAX_BATCH)) break
      count += 1
    }
    return this.#gathered.splice(0, count)
  }

  #send(leader: PeerId, batch: readonly Proposal[]): void {
    const { route, clock, attemptMs, failed } = this.#options
    let leftMs = attemptMs
    const nowMs = clock.nowMs()
    for (const each of batch) {
      each.attempts += 1
      leftMs = Math.min(leftMs, each.deadlineMs - nowMs)
    }
    this.#frames += 1
    const outcomes = batch.length <= MAX_OUTCOMES
    route.ask(leader, batch, { timeoutMs: Math.max(1, leftMs), outcomes }).then(
      answers => {
        this.#frames -= 1
        let isOwn = false
        for (const [at, each] of batch.entries()) {
          const answer = answers[at]
          if (each.isSettled) continue
          if (answer === undefined || answer instanceof VxmeshError) failed(each, answer ?? null)
          else if ('own' in answer) isOwn = true
          else each.resolve(answer)
        }
        if (isOwn) this.#awaitOwn(batch)
        this.#flush()
      },
      (thrown: unknown) => {
        const err = asVxmeshError(thrown)
        this.#frames -= 1
        for (const each of batch) if (!each.isSettled) failed(each, err)
        this.#flush()
      }
    )
  }

  /** Asks the leader after all when this host does not apply what is committed: it lags, or a snapshot replaces the entries. */
  #awaitOwn(batch: readonly Proposal[]): void {
    const { clock, failed } = this.#options
    clock.after(OWN_OUTCOME_MS, () => {
      for (const each of batch) if (!each.isSettled) failed(each, null)
    })
  }
}
