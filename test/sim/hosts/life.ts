// One run of a host's process, from start to crash. Every port that the process gets (clock, files, mesh) checks it: when
// the process has crashed, its timers do not fire, its writes do not happen and its messages are not sent.

import { clockFrom, type Clock } from '#platform/clock.ts'
import type { Random as RandomPort } from '#platform/random.ts'
import type { Random } from '../random.ts'
import type { Schedule } from '../schedule.ts'

export class Life {
  readonly #schedule: Schedule
  #isAlive = true
  #stalledUntilMs = 0

  constructor(schedule: Schedule) {
    this.#schedule = schedule
  }

  get isAlive(): boolean {
    return this.#isAlive
  }

  end(): void {
    this.#isAlive = false
  }

  /** Stalls the process: its timers, disk completions and incoming messages wait. */
  stall(ms: number): void {
    this.#stalledUntilMs = Math.max(this.#stalledUntilMs, this.#schedule.nowMs + ms)
  }

  /** Runs an action of this process after a time, unless the process has crashed by then. */
  after(ms: number, run: () => void): void {
    this.#schedule.after(ms, () => this.run(run))
  }

  /** Runs an action now, or when the stall ends. */
  run(run: () => void): void {
    if (!this.#isAlive) return
    if (this.#schedule.nowMs < this.#stalledUntilMs) this.#schedule.at(this.#stalledUntilMs, () => this.run(run))
    else run()
  }

  clock(): Clock {
    return clockFrom({
      nowMs: () => this.#schedule.nowMs,
      after: (ms, run) => {
        let isSet = true
        this.after(ms, () => {
          if (isSet) run()
        })
        return () => void (isSet = false)
      },
      every: (ms, run) => {
        let isSet = true
        const next = (): void => {
          this.after(ms, () => {
            if (!isSet) return
            next()
            run()
          })
        }
        next()
        return () => void (isSet = false)
      }
    })
  }
}

/** Randomness for a host, drawn from the simulation's. */
export function randomOf(random: Random): RandomPort {
  const hex = (digits: number): string => Array.from({ length: digits }, () => random.below(16).toString(16)).join('')
  return { unit: () => random.unit(), id: () => `${hex(8)}-${hex(4)}-4${hex(3)}-8${hex(3)}-${hex(12)}` }
}
