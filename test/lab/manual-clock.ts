// A clock that a test advances. Timers run in order of their due time, those due together in the order in which they were
// set, and the promises that one settles are settled before the next one runs.

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

  /** How many timers are set. */
  get pending(): number {
    return this.#timers.size
  }

  /** Advances time by `ms` and runs the timers that become due. */
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

  /** A set keeps insertion order, and the sort is stable, so timers due together keep it. */
  #next(untilMs: number): Timer | undefined {
    return [...this.#timers].filter(({ dueMs }) => dueMs <= untilMs).sort((a, b) => a.dueMs - b.dueMs)[0]
  }
}

/** Lets every promise that can settle without the clock settle. */
export async function settle(): Promise<void> {
  for (let turn = 0; turn < 3; turn++) await nextTurn()
}
