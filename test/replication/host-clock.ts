// A clock of one host on a shared clock: when the host dies, its timers die with it.

import { clockFrom, type Cancel, type Clock } from '#platform/clock.ts'

export class HostClock {
  readonly clock: Clock
  readonly #timers = new Set<Cancel>()
  #dead = false

  constructor(shared: Clock) {
    this.clock = clockFrom({
      nowMs: shared.nowMs,
      after: (ms, run) => {
        const cancel = this.#hold(
          shared.after(ms, () => {
            this.#timers.delete(cancel)
            run()
          })
        )
        return cancel
      },
      every: (ms, run) => this.#hold(shared.every(ms, run))
    })
  }

  /** No timer of the host fires any more, and none is set. */
  kill(): void {
    this.#dead = true
    for (const cancel of this.#timers) cancel()
    this.#timers.clear()
  }

  #hold(cancelShared: Cancel): Cancel {
    if (this.#dead) cancelShared()
    const cancel = (): void => {
      cancelShared()
      this.#timers.delete(cancel)
    }
    if (!this.#dead) this.#timers.add(cancel)
    return cancel
  }
}
