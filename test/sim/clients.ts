// Callers: they propose and read, at servers that they believe to lead, and remember what they were told. What was
// acknowledged must stay; a read must see everything that was acknowledged before it was asked.

import type { LogIndex } from '#model/ids.ts'
import { contentOf, type Invariants } from './invariants.ts'
import type { Random } from './random.ts'
import type { Schedule } from './schedule.ts'
import type { Answer, Server } from './server.ts'
import type { Tally } from './tally.ts'

export class Clients {
  readonly #servers: readonly Server[]
  readonly #random: Random
  readonly #schedule: Schedule
  readonly #invariants: Invariants
  readonly #probes: Tally
  readonly #proposals = new Map<number, Uint8Array>()
  readonly #reads = new Map<number, number>()
  #believed = 0
  #nextId = 1
  acknowledged = 0

  constructor(p: {
    readonly servers: readonly Server[]
    readonly random: Random
    readonly schedule: Schedule
    readonly invariants: Invariants
    readonly probes: Tally
  }) {
    this.#servers = p.servers
    this.#random = p.random
    this.#schedule = p.schedule
    this.#invariants = p.invariants
    this.#probes = p.probes
  }

  /** Keeps asking, at the pace of this seed, until a time. */
  run(everyMs: number, untilMs: number): void {
    this.#schedule.after(this.#random.between(0, 2 * everyMs), () => {
      if (this.#schedule.nowMs >= untilMs) return
      const burst = this.#random.chance(0.05) ? 20 : 1
      for (let n = 0; n < burst; n++) this.propose(this.#target())
      if (this.#random.chance(0.3)) this.#read(this.#target())
      this.run(everyMs, untilMs)
    })
  }

  propose(server: Server): void {
    const id = this.#nextId++
    const data = new Uint8Array(4 + this.#random.below(24))
    new DataView(data.buffer).setUint32(0, id)
    this.#proposals.set(id, data)
    server.give({ kind: 'propose', id, data })
  }

  answered(server: Server, answer: Answer): void {
    switch (answer.kind) {
      case 'committed': {
        const data = this.#proposals.get(answer.id)
        if (data === undefined) this.#invariants.fail(`proposal ${answer.id} is answered twice`)
        else this.#invariants.acknowledged(answer.index, contentOf({ kind: 'command', data }))
        this.#proposals.delete(answer.id)
        this.acknowledged += 1
        return
      }
      case 'refused':
        // Nothing was appended, so it must never appear.
        this.#proposals.delete(answer.id)
        this.#believed = this.#servers.findIndex(other => other.id === server.life?.state.leader)
        return
      case 'unknown':
        this.#probes.add('proposal-of-unknown-fate')
        return
      case 'read-ready':
        this.#readAt(answer.id, answer.index)
        return
      case 'read-failed':
        this.#reads.delete(answer.id)
    }
  }

  #read(server: Server): void {
    const id = this.#nextId++
    this.#reads.set(id, this.#invariants.highestAcked)
    server.give({ kind: 'read', id })
  }

  #readAt(id: number, index: LogIndex): void {
    const ackedBefore = this.#reads.get(id)
    if (ackedBefore !== undefined) this.#invariants.read(index, ackedBefore)
    this.#reads.delete(id)
  }

  #target(): Server {
    const believed = this.#random.chance(0.8) ? this.#servers[this.#believed] : undefined
    return believed ?? this.#random.pick(this.#servers)
  }
}
