// The simulated network: delays, loses, duplicates and reorders messages; links are cut one direction at a time.

import type { PeerId } from '#model/ids.ts'
import type { Message } from '#raft/types.ts'
import type { Random } from './random.ts'
import type { Schedule } from './schedule.ts'
import type { Counters } from './counters.ts'

export type NetworkFaults = {
  /** Probability per message. */
  loss: number
  duplication: number
  /** Probability per message of a delay of seconds. */
  delay: number
  /** Milliseconds of uniform jitter on top of the minimal latency, so messages overtake each other. */
  jitterMs: number
}

/** A network without faults. */
export const NO_FAULTS: NetworkFaults = { loss: 0, duplication: 0, delay: 0, jitterMs: 1 }

const LATENCY_MS = 0.2
const LATE_MS = 8_000

export class Network {
  readonly faultRates: NetworkFaults
  readonly #cut = new Set<string>()
  #slow = { jitterMs: 0, untilMs: 0 }
  readonly #random: Random
  readonly #schedule: Schedule
  readonly #faults: Counters
  readonly #deliver: (message: Message) => void
  readonly #linkCut: (a: PeerId, b: PeerId) => void

  constructor(p: {
    readonly faultRates: NetworkFaults
    readonly random: Random
    readonly schedule: Schedule
    readonly faults: Counters
    readonly deliver: (message: Message) => void
    /** A link was cut. */
    readonly linkCut: (a: PeerId, b: PeerId) => void
  }) {
    this.faultRates = p.faultRates
    this.#random = p.random
    this.#schedule = p.schedule
    this.#faults = p.faults
    this.#deliver = p.deliver
    this.#linkCut = p.linkCut
  }

  send(message: Message): void {
    const { loss, duplication, delay } = this.faultRates
    const jitterMs = this.#schedule.nowMs < this.#slow.untilMs ? this.#slow.jitterMs : this.faultRates.jitterMs
    const random = this.#random
    if (this.#cut.size > 0 && this.#cut.has(link(message.from, message.to))) return
    if (random.chance(loss)) {
      this.#faults.add('loss')
      return
    }
    let latency = LATENCY_MS + random.between(0, jitterMs)
    if (random.chance(delay)) {
      this.#faults.add('delay')
      latency += random.between(0, LATE_MS)
    }
    this.#arrive(message, latency)
    if (random.chance(duplication)) {
      this.#faults.add('duplication')
      this.#arrive(message, latency + random.between(0, 20 * jitterMs))
    }
  }

  /** Raises the jitter until a time. */
  slow(jitterMs: number, untilMs: number): void {
    this.#slow = { jitterMs, untilMs }
  }

  /** Ends all network faults. */
  reset(): void {
    Object.assign(this.faultRates, NO_FAULTS)
    this.slow(0, 0)
    this.heal()
  }

  /** Cuts one direction of a link. */
  cut(from: PeerId, to: PeerId): void {
    this.#cut.add(link(from, to))
    this.#linkCut(from, to)
  }

  heal(): void {
    this.#cut.clear()
  }

  #arrive(message: Message, latency: number): void {
    this.#schedule.after(latency, () => {
      if (this.#cut.size === 0 || !this.#cut.has(link(message.from, message.to))) this.#deliver(message)
    })
  }
}

function link(from: PeerId, to: PeerId): string {
  return `${from}>${to}`
}
