// Counts refused connections by reason. The log gets one line a reason and interval, so that a flood cannot fill it.

import type { Clock } from '#platform/clock.ts'
import type { Logger } from '#platform/log.ts'
import type { DirectFault } from './direct-handshake.ts'
import type { PreambleFault } from './preamble.ts'

/** Shortest time between two lines of one reason. */
const LOG_INTERVAL_MS = 10_000

export type RefusalReason =
  PreambleFault | DirectFault | 'too many connections' | 'no preamble in time' | 'closed early'

type Tally = { total: number; sinceLine: number; nextLineMs: number }

export class Refusals {
  readonly #tallies = new Map<RefusalReason, Tally>()
  readonly #clock: Clock
  readonly #logger: Logger

  constructor({ clock, logger }: { readonly clock: Clock; readonly logger: Logger }) {
    this.#clock = clock
    this.#logger = logger
  }

  /** Connections refused since the start, by reason. */
  get totals(): Readonly<Record<string, number>> {
    return Object.fromEntries([...this.#tallies].map(([reason, { total }]) => [reason, total]))
  }

  /** `why` says the reason in words, for the log. */
  count(reason: RefusalReason, address: string, why: string = reason): void {
    const tally = this.#tallies.get(reason) ?? { total: 0, sinceLine: 0, nextLineMs: 0 }
    this.#tallies.set(reason, tally)
    tally.total += 1
    tally.sinceLine += 1
    const nowMs = this.#clock.nowMs()
    // A connection that ends by itself is a port scan or a health check.
    if (reason === 'closed early' || nowMs < tally.nextLineMs) return
    this.#logger.warn({ address, reason, why, connections: tally.sinceLine }, 'connection refused')
    tally.sinceLine = 0
    tally.nextLineMs = nowMs + LOG_INTERVAL_MS
  }
}
