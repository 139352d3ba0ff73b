// The simulated network: messages take time, are lost, doubled and overtaken; links are cut in one direction at a time.

import type { PeerId } from '#model/ids.ts'
import type { Message } from '#raft/types.ts'
import type { Random } from './random.ts'
import type { Schedule } from './schedule.ts'
import type { Tally } from './counters.ts'

export type Weather = {
  /** Probabilities a message. */
  loss: number
  duplication: number
  /** Of being held up for seconds: the message of another age. */
  delay: number
  /** Milliseconds; what comes on top of the least latency is uniform, so messages overtake each other. */
  jitterMs: number
}

/** A network without faults. */
export const CALM: Weather = { loss: 0, duplication: 0, delay: 0, jitterMs: 1 }

const LATENCY_MS = 0.2
const LATE_MS = 8_000

export class Network {
  readonly weather: Weather
  readonly #cut = new Set<string>()
  #slow = { jitterMs: 0, untilMs: 0 }
  readonly #random: Random
  readonly #schedule: Schedule
  readonly #faults: Tally
  readonly #deliver: (message: Message) => void
  readonly #broken: (a: PeerId, b: PeerId) => void

  constructor(p: {
    readonly weather: Weather
    readonly random: Random
    readonly schedule: Schedule
    readonly faults: Tally
    readonly deliver: (message: Message) => void
    /** A link was cut. */
    readonly broken: (a: PeerId, b: PeerId) => void
  }) {
    this.weather = p.weather
    this.#random = p.random
    this.#schedule = p.schedule
    this.#faults = p.faults
    this.#deliver = p.deliver
    this.#broken = p.broken
  }

  send(message: Message): void {
    const { loss, duplication, delay } = this.weather
    const jitterMs = this.#schedule.nowMs < this.#slow.untilMs ? this.#slow.jitterMs : this.weather.jitterMs
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

  /** For a time messages take up to so long. */
  slow(jitterMs: number, untilMs: number): void {
    this.#slow = { jitterMs, untilMs }
  }

  /** Nothing is lost, doubled, slow or cut any more. */
  calm(): void {
    Object.assign(this.weather, CALM)
    this.slow(0, 0)
    this.heal()
  }

  /** One direction. */
  cut(from: PeerId, to: PeerId): void {
    this.#cut.add(link(from, to))
    this.#broken(from, to)
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
