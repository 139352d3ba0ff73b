// A fault: one leader after the other is isolated or killed a few replies after its election, while the previous one
// recovers. Entries of earlier terms then reach a majority while the current term's entry does not, and logs with tails
// of many terms meet, which random faults alone hardly ever produce (thesis figure 3.7).

import type { Message } from '#raft/types.ts'
import type { Random } from './random.ts'
import type { Schedule } from './schedule.ts'
import type { Server } from './server.ts'

export class LeaderChurn {
  readonly #random: Random
  readonly #schedule: Schedule
  readonly #fail: (leader: Server) => void
  readonly #propose: (server: Server) => void
  readonly #requestChange: (server: Server) => void
  readonly #cutOneLink: (server: Server) => void
  #leadersLeft = 0
  #withChanges = false
  #target: Server | null = null
  #repliesLeft = 0

  constructor(p: {
    readonly random: Random
    readonly schedule: Schedule
    readonly fail: (leader: Server) => void
    readonly propose: (server: Server) => void
    /** Requests a membership change from a leader. */
    readonly requestChange: (server: Server) => void
    /** Cuts the link from a server to a random other one. */
    readonly cutOneLink: (server: Server) => void
  }) {
    this.#random = p.random
    this.#schedule = p.schedule
    this.#fail = p.fail
    this.#propose = p.propose
    this.#requestChange = p.requestChange
    this.#cutOneLink = p.cutOneLink
  }

  /**
   * @param withChanges each new leader gets a membership change at once. One leader's change reaches no server, the next
   *   one's all but one: two configurations that both differ from the last committed one (Ongaro 2015).
   */
  begin(leaders: number, withChanges: boolean): void {
    this.#leadersLeft = leaders
    this.#withChanges = withChanges
  }

  stop(): void {
    this.#leadersLeft = 0
    this.#target = null
  }

  elected(server: Server): void {
    if (this.#leadersLeft === 0) return
    this.#leadersLeft -= 1
    this.#target = server
    this.#repliesLeft = this.#random.below(6)
    if (this.#withChanges) {
      const reachesNobody = this.#leadersLeft % 2 === 1
      this.#repliesLeft = reachesNobody ? 0 : 2 + this.#random.below(3)
      if (!reachesNobody) this.#cutOneLink(server)
    }
    this.#schedule.after(this.#random.between(0, 1), () => {
      if (this.#withChanges) this.#requestChange(server)
      for (let n = this.#random.below(3); n > 0; n--) this.#propose(server)
      if (this.#repliesLeft === 0) this.#end(server)
    })
  }

  /** Called after a message was delivered. */
  handled(message: Message): void {
    const target = this.#target
    if (target === null || message.kind !== 'append-reply' || message.to !== target.id) return
    this.#repliesLeft -= 1
    if (this.#repliesLeft <= 0) this.#end(target)
  }

  #end(target: Server): void {
    if (this.#target !== target) return
    this.#target = null
    this.#fail(target)
  }
}
