// Packets to Serf's port that the kernel has dropped, sampled from its counters: a scrape then costs no system call.

import type { Clock } from '#platform/clock.ts'

/** By sender: see overlay/plan/filter/serf-limits.ts. */
export type Drops = { readonly stranger: number; readonly member: number }

export type SerfDropsOptions = {
  /** Null without limits. @throws ERR_KERNEL */
  readonly read: () => Drops | null
  readonly clock: Clock
}

export class SerfDrops {
  readonly #options: SerfDropsOptions
  #last: Drops | null = null
  #grownAtMs: number | null = null

  constructor(options: SerfDropsOptions) {
    this.#options = options
  }

  /** Counts from zero again when the table was installed again. */
  get latest(): Drops {
    return this.#last ?? { stranger: 0, member: 0 }
  }

  /** Time since a sample found more than the one before; null: none has. */
  get agoMs(): number | null {
    return this.#grownAtMs === null ? null : this.#options.clock.nowMs() - this.#grownAtMs
  }

  /** @throws ERR_KERNEL */
  sample(): void {
    const { read, clock } = this.#options
    const now = read()
    const before = this.#last
    const grown = now !== null && before !== null && (now.stranger > before.stranger || now.member > before.member)
    if (grown) this.#grownAtMs = clock.nowMs()
    this.#last = now
  }
}
