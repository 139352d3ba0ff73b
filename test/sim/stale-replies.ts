// Echoes: answers of the past come once more at the worst moment, to a candidate that counts votes, to a leader that
// is asked to read, to one that has just been refused. A network may double and hold back what it likes.

import type { PeerId } from '#model/ids.ts'
import type { Message, RaftEvent } from '#raft/types.ts'
import type { Random } from './random.ts'
import type { Schedule } from './schedule.ts'
import type { Server } from './server.ts'

/** Answers remembered a receiver. */
const REMEMBERED = 24

export class Echo {
  readonly #random: Random
  readonly #schedule: Schedule
  readonly #deliver: (message: Message) => void
  readonly #past = new Map<PeerId, Message[]>()
  #untilMs = 0

  constructor(p: {
    readonly random: Random
    readonly schedule: Schedule
    readonly deliver: (message: Message) => void
  }) {
    this.#random = p.random
    this.#schedule = p.schedule
    this.#deliver = p.deliver
  }

  begin(untilMs: number): void {
    this.#untilMs = untilMs
  }

  sent(message: Message): void {
    if (message.kind !== 'vote-reply' && message.kind !== 'append-reply') return
    let past = this.#past.get(message.to)
    if (past === undefined) this.#past.set(message.to, (past = []))
    // Votes are rare, so they are not pushed out by the many others.
    if (past.length < REMEMBERED) past.push(message)
    else if (message.kind === 'vote-reply') past[this.#random.below(REMEMBERED / 2)] = message
    else past[REMEMBERED / 2 + this.#random.below(REMEMBERED / 2)] = message
  }

  /** A server has handled something. */
  handled(server: Server, event: RaftEvent, stands: boolean): void {
    if (this.#schedule.nowMs >= this.#untilMs) return
    const refusal = event.kind === 'receive' && event.message.kind === 'append-reply' && !event.message.success
    if (refusal && this.#random.chance(0.6)) this.#again(event.message, 0.3)
    if (!stands && !(event.kind === 'read' && server.isLeader)) return
    for (const message of this.#past.get(server.id) ?? []) if (this.#random.chance(0.5)) this.#again(message, 3)
  }

  #again(message: Message, withinMs: number): void {
    this.#schedule.after(this.#random.between(0, withinMs), () => {
      this.#deliver(message)
    })
  }
}
