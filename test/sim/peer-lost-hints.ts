// Word of lost connections: what a transport tells its server of one that broke. It may come late, twice, not at all, or
// be false: it is a hint, and the core must be sound and live whatever becomes of it.

import type { PeerId } from '#model/ids.ts'
import type { Random } from './random.ts'
import type { Schedule } from './schedule.ts'
import type { Tally } from './counters.ts'

/** Probabilities a broken connection and end of it. */
export type Telling = { told: number; late: number; repeated: number }

/** A transport without faults. */
export const PROMPT: Telling = { told: 1, late: 0, repeated: 0 }

/** A reset comes as fast as a message. */
const RESET_MS = 2
/** A silent cut is noticed by whoever speaks first, or by a keep-alive. */
const NOTICED_MS = 2_000
const LATE_MS = 8_000

export class Word {
  readonly telling: Telling = { ...PROMPT }
  readonly #random: Random
  readonly #schedule: Schedule
  readonly #faults: Tally
  readonly #peers: readonly PeerId[]
  readonly #tell: (at: PeerId, lost: PeerId) => void

  constructor(p: {
    readonly random: Random
    readonly schedule: Schedule
    readonly faults: Tally
    readonly peers: readonly PeerId[]
    readonly tell: (at: PeerId, lost: PeerId) => void
  }) {
    this.#random = p.random
    this.#schedule = p.schedule
    this.#faults = p.faults
    this.#peers = p.peers
    this.#tell = p.tell
  }

  /** A process has died: its host closes what it had open. */
  died(victim: PeerId): void {
    for (const peer of this.#peers) if (peer !== victim) this.#broke(peer, victim, RESET_MS)
  }

  /** Nothing comes through any more between two. */
  cut(a: PeerId, b: PeerId): void {
    if (a === b) return
    this.#broke(a, b, NOTICED_MS)
    this.#broke(b, a, NOTICED_MS)
  }

  /** Nothing has happened, and it is said all the same. */
  falsely(at: PeerId, lost: PeerId): void {
    if (at !== lost) this.#tell(at, lost)
  }

  calm(): void {
    Object.assign(this.telling, PROMPT)
  }

  #broke(at: PeerId, lost: PeerId, withinMs: number): void {
    const { told, late, repeated } = this.telling
    const random = this.#random
    if (!random.chance(told)) return
    const isLate = random.chance(late)
    if (isLate) this.#faults.add('lost-peer-told-late')
    let times = 1
    if (random.chance(repeated)) {
      this.#faults.add('lost-peer-told-again')
      times += random.below(20)
    }
    for (let n = 0; n < times; n++) {
      this.#schedule.after(random.between(0, isLate ? LATE_MS : withinMs) + n * random.between(0, 100), () => {
        this.#tell(at, lost)
      })
    }
  }
}
