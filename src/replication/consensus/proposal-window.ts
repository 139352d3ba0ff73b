// How many proposals of this host are under way at once. What waits at a slow leader ends with its outcome unknown, and is
// sent again and again; so most of a load waits here for its turn, and what is too much is refused before it is sent. As a
// leader slows down, fewer are under way. Pure.

import { VxmeshError } from '#model/errors.ts'

/** Most proposals under way. */
export const WINDOW = 512
const WINDOW_MIN = 16
/** Windows of proposals under way or waiting; one more proposal is refused at once. */
const WINDOWS = 4
export const MAX_IN_FLIGHT = WINDOWS * WINDOW
/** An answer that takes longer shrinks the window: far below the time after which an attempt is repeated. */
const SLOW_MS = 500
const SHRINK = 0.7
/** Growth by each answer in time: an eighth of the window while it is answered once. */
const GROWTH = 0.125

type Turn = {
  /** After this the proposal is not worth sending. */
  readonly latestMs: number
  /** Must call `leave` with the time at which it began, once the proposal is settled. */
  readonly begin: (beganMs: number) => void
  /** Called instead of `begin`. */
  readonly refuse: (err: VxmeshError) => void
}

export class ProposalWindow {
  readonly #nowMs: () => number
  readonly #waiting: Turn[] = []
  #underWay = 0
  #size = WINDOW
  #shrunkMs = -Infinity

  constructor(options: { readonly nowMs: () => number }) {
    this.#nowMs = options.nowMs
  }

  /** @throws ERR_BUSY when one more would be too many */
  checkRoom(): void {
    if (this.#underWay + this.#waiting.length >= WINDOWS * this.#size) throw busy()
  }

  /** Begins now, or in turn. @throws ERR_BUSY */
  enter(turn: Turn): void {
    this.checkRoom()
    if (this.#underWay < this.#size) this.#begin(turn)
    else this.#waiting.push(turn)
  }

  /** A proposal is settled. */
  leave(beganMs: number): void {
    const nowMs = this.#nowMs()
    this.#underWay -= 1
    if (nowMs - beganMs <= SLOW_MS) this.#size = Math.min(WINDOW, this.#size + GROWTH)
    // Those that began before the last time were too many by then, and say nothing about the present size.
    else if (beganMs >= this.#shrunkMs) {
      this.#size = Math.max(WINDOW_MIN, this.#size * SHRINK)
      this.#shrunkMs = nowMs
    }
    while (this.#underWay < this.#size) {
      const next = this.#waiting.shift()
      if (next === undefined) return
      if (nowMs <= next.latestMs) this.#begin(next)
      else next.refuse(busy())
    }
  }

  #begin(turn: Turn): void {
    this.#underWay += 1
    turn.begin(this.#nowMs())
  }
}

function busy(): VxmeshError {
  return new VxmeshError('ERR_BUSY', 'too many changes are in flight; retry')
}
