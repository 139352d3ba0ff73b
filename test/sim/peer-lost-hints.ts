// Simulated peer-lost hints: a transport reports broken connections to its server. Hints may be late, repeated, missing
// or false, and the core must stay safe and live with any of these.

import type { PeerId } from '#model/ids.ts'
import type { Random } from './random.ts'
import type { Schedule } from './schedule.ts'
import type { Counters } from './counters.ts'

/** Probabilities per broken connection and endpoint. */
export type HintDelivery = { delivered: number; late: number; repeated: number }

/** A transport without faults. */
export const RELIABLE: HintDelivery = { delivered: 1, late: 0, repeated: 0 }

/** A TCP reset arrives as fast as a message. */
const RESET_MS = 2
/** A silent cut is detected by the first write or by a keep-alive. */
const DETECTED_MS = 2_000
const LATE_MS = 8_000

export class PeerLostHints {
  readonly delivery: HintDelivery = { ...RELIABLE }
  readonly #random: Random
  readonly #schedule: Schedule
  readonly #faults: Counters
  readonly #peers: readonly PeerId[]
  readonly #deliver: (at: PeerId, lost: PeerId) => void

  constructor(p: {
    readonly random: Random
    readonly schedule: Schedule
    readonly faults: Counters
    readonly peers: readonly PeerId[]
    readonly deliver: (at: PeerId, lost: PeerId) => void
  }) {
    this.#random = p.random
    this.#schedule = p.schedule
    this.#faults = p.faults
    this.#peers = p.peers
    this.#deliver = p.deliver
  }

  /** A process has crashed: its host resets its connections. */
  crashed(victim: PeerId): void {
    for (const peer of this.#peers) if (peer !== victim) this.#connectionBroke(peer, victim, RESET_MS)
  }

  /** A link was cut: both ends detect it later. */
  cut(a: PeerId, b: PeerId): void {
    if (a === b) return
    this.#connectionBroke(a, b, DETECTED_MS)
    this.#connectionBroke(b, a, DETECTED_MS)
  }

  /** Delivers a hint although no connection broke. */
  sendFalse(at: PeerId, lost: PeerId): void {
    if (at !== lost) this.#deliver(at, lost)
  }

  reset(): void {
    Object.assign(this.delivery, RELIABLE)
  }

  #connectionBroke(at: PeerId, lost: PeerId, withinMs: number): void {
    const { delivered, late, repeated } = this.delivery
    const random = this.#random
    if (!random.chance(delivered)) return
    const isLate = random.chance(late)
    if (isLate) this.#faults.add('peer-lost-hint-late')
    let times = 1
    if (random.chance(repeated)) {
      this.#faults.add('peer-lost-hint-repeated')
      times += random.below(20)
    }
    for (let n = 0; n < times; n++) {
      this.#schedule.after(random.between(0, isLate ? LATE_MS : withinMs) + n * random.between(0, 100), () => {
        this.#deliver(at, lost)
      })
    }
  }
}
