// A fault: old replies are delivered again at the worst moment, to a candidate that counts votes, to a leader that serves
// a read, or to a leader that has just received a rejection. Networks may duplicate and delay messages arbitrarily.

import type { PeerId } from '#model/ids.ts'
import type { Message, RaftEvent } from '#raft/types.ts'
import type { Random } from './random.ts'
import type { Schedule } from './schedule.ts'
import type { Server } from './server.ts'

/** Replies remembered for each receiver. */
const REMEMBERED = 24

export class StaleReplies {
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

  replayUntil(untilMs: number): void {
    this.#untilMs = untilMs
  }

  sent(message: Message): void {
    if (message.kind !== 'vote-reply' && message.kind !== 'append-reply') return
    let past = this.#past.get(message.to)
    if (past === undefined) this.#past.set(message.to, (past = []))
    // Votes are rare, so the many other replies must not evict them.
    if (past.length < REMEMBERED) past.push(message)
    else if (message.kind === 'vote-reply') past[this.#random.below(REMEMBERED / 2)] = message
    else past[REMEMBERED / 2 + this.#random.below(REMEMBERED / 2)] = message
  }

  /** Called after a server has handled an event; `becameCandidate`: it has just become a candidate. */
  handled(server: Server, event: RaftEvent, becameCandidate: boolean): void {
    if (this.#schedule.nowMs >= this.#untilMs) return
    const refusal = event.kind === 'receive' && event.message.kind === 'append-reply' && !event.message.success
    if (refusal && this.#random.chance(0.6)) this.#replay(event.message, 0.3)
    if (!becameCandidate && !(event.kind === 'read' && server.isLeader)) return
    for (const message of this.#past.get(server.id) ?? []) if (this.#random.chance(0.5)) this.#replay(message, 3)
  }

  #replay(message: Message, withinMs: number): void {
    this.#schedule.after(this.#random.between(0, withinMs), () => {
      this.#deliver(message)
    })
  }
}
