// A hunt: leader after leader is cut off or killed within a few answers of its election, while the last victim comes
// back. Entries of earlier terms then reach a majority when the new term's own entry does not, and tails of many terms
// meet: what chance alone hardly ever brings about (thesis figure 3.7).

import type { Message } from '#raft/types.ts'
import type { Random } from './random.ts'
import type { Schedule } from './schedule.ts'
import type { Server } from './server.ts'

export class Hunt {
  readonly #random: Random
  readonly #schedule: Schedule
  readonly #strike: (victim: Server) => void
  readonly #propose: (server: Server) => void
  readonly #meddle: (server: Server) => void
  readonly #starve: (server: Server) => void
  #leadersLeft = 0
  #withChanges = false
  #prey: Server | null = null
  #answersLeft = 0

  constructor(p: {
    readonly random: Random
    readonly schedule: Schedule
    readonly strike: (victim: Server) => void
    readonly propose: (server: Server) => void
    /** Asks a leader for a change of membership. */
    readonly meddle: (server: Server) => void
    /** Cuts the way from a server to some other. */
    readonly starve: (server: Server) => void
  }) {
    this.#random = p.random
    this.#schedule = p.schedule
    this.#strike = p.strike
    this.#propose = p.propose
    this.#meddle = p.meddle
    this.#starve = p.starve
  }

  /**
   * @param withChanges each new leader is asked for a change of membership at once. One leader's reaches nobody, the
   *   next one's all but one: two configurations that both differ from the last committed one (Ongaro 2015).
   */
  begin(leaders: number, withChanges: boolean): void {
    this.#leadersLeft = leaders
    this.#withChanges = withChanges
  }

  stop(): void {
    this.#leadersLeft = 0
    this.#prey = null
  }

  elected(server: Server): void {
    if (this.#leadersLeft === 0) return
    this.#leadersLeft -= 1
    this.#prey = server
    this.#answersLeft = this.#random.below(6)
    if (this.#withChanges) {
      const reachesNobody = this.#leadersLeft % 2 === 1
      this.#answersLeft = reachesNobody ? 0 : 2 + this.#random.below(3)
      if (!reachesNobody) this.#starve(server)
    }
    this.#schedule.after(this.#random.between(0, 1), () => {
      if (this.#withChanges) this.#meddle(server)
      for (let n = this.#random.below(3); n > 0; n--) this.#propose(server)
      if (this.#answersLeft === 0) this.#end(server)
    })
  }

  /** A message has been handled. */
  handled(message: Message): void {
    const prey = this.#prey
    if (prey === null || message.kind !== 'append-reply' || message.to !== prey.id) return
    this.#answersLeft -= 1
    if (this.#answersLeft <= 0) this.#end(prey)
  }

  #end(prey: Server): void {
    if (this.#prey !== prey) return
    this.#prey = null
    this.#strike(prey)
  }
}
