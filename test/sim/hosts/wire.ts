// One direction of a stream between two processes: deliveries take time and keep their order. While the link is cut they
// wait; when the receiver stalls they wait too; when either process has crashed they are lost. Whole answers may be lost.

import type { Life } from './life.ts'

export type WireOptions = {
  readonly from: Life
  readonly to: Life
  readonly nowMs: () => number
  /** Does the link carry bytes in this direction? */
  readonly isOpen: () => boolean
  readonly latencyMs: () => number
  /** Is this delivery lost, as when the sender's buffers are full? */
  readonly isLost: () => boolean
}

export class Wire {
  readonly #options: WireOptions
  #stalled: (() => void)[] = []
  #lastArrivalMs = 0

  constructor(options: WireOptions) {
    this.#options = options
  }

  /** @returns false when the sender has crashed */
  readonly carry = (deliver: () => void): boolean => {
    const { from, to, nowMs, isOpen, latencyMs, isLost } = this.#options
    if (!from.isAlive) return false
    if (isLost()) return true
    this.#lastArrivalMs = Math.max(this.#lastArrivalMs, nowMs() + latencyMs())
    to.after(this.#lastArrivalMs - nowMs(), () => {
      if (this.#stalled.length > 0 || !isOpen()) this.#stalled.push(deliver)
      else deliver()
    })
    return true
  }

  /** The link has healed. */
  resume(): void {
    const stalled = this.#stalled
    this.#stalled = []
    for (const deliver of stalled) this.#options.to.run(deliver)
  }
}
