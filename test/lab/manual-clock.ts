// A clock that stands still until a test moves it. Timers run in order of their time, those of one time in the order in
// which they were set, and what they settle is settled before the next one runs.

import { setImmediate as nextTurn } from 'node:timers/promises'
import { clockFrom, type Cancel, type Clock } from '#platform/clock.ts'

type Timer = { dueMs: number; readonly everyMs: number | null; readonly run: () => void }

export class ManualClock {
  #nowMs = 0
  readonly #timers = new Set<Timer>()
  readonly clock: Clock = clockFrom({
    nowMs: () => this.#nowMs,
    after: (ms, run) => this.#set({ dueMs: this.#nowMs + ms, everyMs: null, run }),
    every: (ms, run) => this.#set({ dueMs: this.#nowMs + ms, everyMs: ms, run })
  })

  /** Timers that are set. */
  get pending(): number {
    return this.#timers.size
  }

  /** Moves time on by `ms`, and runs what is due on the way. */
  async advance(ms: number): Promise<void> {
    const untilMs = this.#nowMs + ms
    await settle()
    for (let next = this.#next(untilMs); next !== undefined; next = this.#next(untilMs)) {
      this.#nowMs = next.dueMs
      if (next.everyMs === null) this.#timers.delete(next)
      else next.dueMs += next.everyMs
      next.run()
      await settle()
    }
    this.#nowMs = untilMs
  }

  #set(timer: Timer): Cancel {
    this.#timers.add(timer)
    return () => this.#timers.delete(timer)
  }

  /** A set keeps its order, and a stable sort keeps it among timers of one time. */
  #next(untilMs: number): Timer | undefined {
    return [...this.#timers].filter(({ dueMs }) => dueMs <= untilMs).sort((a, b) => a.dueMs - b.dueMs)[0]
  }
}

/** Lets every promise that can settle without the clock settle. */
export async function settle(): Promise<void> {
  for (let turn = 0; turn < 3; turn++) await nextTurn()
}
