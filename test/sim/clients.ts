// Simulated clients. Each has a session and one operation in flight, which it retries under the same sequence number
// until a server answers. Every answer is checked for linearizability.

import type { Invariants } from './invariants.ts'
import { encodeCommand } from './machine.ts'
import type { Random } from './random.ts'
import type { Schedule } from './schedule.ts'
import type { Answer, Server } from './server.ts'
import type { Counters } from './counters.ts'

type Caller = {
  readonly client: number
  seq: number
  /** Null for a read. */
  data: Uint8Array | null
  /** The highest index that any client had observed when the operation started. */
  seenBefore: number
  /** The id of the latest attempt; 0 between operations. */
  attempt: number
  readonly once: boolean
}

const RETRY_AFTER_MS = 900
/** How often a command is proposed together with others. */
const BATCH_CHANCE = 0.2

export class Clients {
  readonly #servers: readonly Server[]
  readonly #random: Random
  readonly #schedule: Schedule
  readonly #invariants: Invariants
  readonly #probes: Counters
  readonly #attempts = new Map<number, { readonly caller: Caller; readonly seq: number }>()
  #likelyLeader = 0
  #nextAttempt = 1
  #nextClient = 1
  #thinkMs = 0
  #untilMs = 0
  acknowledged = 0

  constructor(p: {
    readonly servers: readonly Server[]
    readonly random: Random
    readonly schedule: Schedule
    readonly invariants: Invariants
    readonly probes: Counters
  }) {
    this.#servers = p.servers
    this.#random = p.random
    this.#schedule = p.schedule
    this.#invariants = p.invariants
    this.#probes = p.probes
  }

  /** Starts closed-loop callers with a think time; no operation starts after `untilMs`. */
  run(p: { readonly callers: number; readonly thinkMs: number; readonly untilMs: number }): void {
    this.#thinkMs = p.thinkMs
    this.#untilMs = p.untilMs
    for (let n = 0; n < p.callers; n++) this.#think(this.#caller(false))
  }

  /** Sends one command to one server, without retries. */
  propose(server: Server): void {
    const caller = this.#caller(true)
    this.#begin(caller, true)
    this.#ask(caller, server)
  }

  answered(server: Server, answer: Answer): void {
    const attempt = this.#attempts.get(answer.id)
    if (attempt === undefined) return
    this.#attempts.delete(answer.id)
    const { caller, seq } = attempt
    switch (answer.kind) {
      case 'committed':
        if (seq === caller.seq) {
          const { entryIndex, outcome } = answer
          this.#invariants.acknowledged({ entryIndex, outcome, seenBefore: caller.seenBefore })
          this.acknowledged += 1
          this.#done(caller)
        }
        return
      case 'read-ready':
        if (seq !== caller.seq) return
        this.#invariants.read(answer.index, caller.seenBefore)
        this.#done(caller)
        return
      case 'unknown':
        this.#probes.add('proposal-with-unknown-outcome')
        break
      case 'changed':
        throw new Error('a client requested a membership change')
      case 'refused':
      case 'read-failed':
        this.#likelyLeader = this.#servers.findIndex(other => other.id === server.life?.state.leader)
    }
    if (caller.attempt === answer.id) this.#repeat(caller, this.#random.between(1, 100))
  }

  #caller(once: boolean): Caller {
    return { client: this.#nextClient++, seq: 0, data: null, seenBefore: 0, attempt: 0, once }
  }

  #think(caller: Caller): void {
    this.#schedule.after(this.#random.between(0, 2 * this.#thinkMs), () => {
      if (this.#schedule.nowMs >= this.#untilMs) return
      this.#begin(caller, this.#random.chance(0.75))
      this.#ask(caller, this.#target())
    })
  }

  #begin(caller: Caller, isCommand: boolean): void {
    const random = this.#random
    caller.seq += 1
    caller.seenBefore = this.#invariants.observedIndex
    const command = { client: caller.client, seq: caller.seq, key: random.below(8), amount: 1 + random.below(9) }
    caller.data = isCommand ? encodeCommand(command, random.below(20)) : null
  }

  #ask(caller: Caller, server: Server): void {
    const id = this.#register(caller)
    if (caller.data === null) server.handle({ kind: 'read', id })
    else server.handle({ kind: 'propose', id, batch: [caller.data, ...this.#companions()] })
    if (!caller.once) {
      this.#schedule.after(RETRY_AFTER_MS, () => {
        if (caller.attempt === id) this.#repeat(caller, 0)
      })
    }
  }

  #register(caller: Caller): number {
    const id = this.#nextAttempt++
    caller.attempt = id
    this.#attempts.set(id, { caller, seq: caller.seq })
    return id
  }

  /** Commands of other clients in the same batch; each of their ids is one more than that before it. */
  #companions(): readonly Uint8Array[] {
    const count = this.#random.chance(BATCH_CHANCE) ? this.#random.between(1, 4) : 0
    return Array.from({ length: Math.floor(count) }, () => {
      const caller = this.#caller(true)
      this.#begin(caller, true)
      this.#register(caller)
      this.#probes.add('proposals-in-a-batch')
      return caller.data ?? new Uint8Array()
    })
  }

  #repeat(caller: Caller, afterMs: number): void {
    if (caller.once || this.#schedule.nowMs >= this.#untilMs) return
    const { attempt } = caller
    this.#schedule.after(afterMs, () => {
      if (caller.attempt === attempt) this.#ask(caller, this.#target())
    })
  }

  #done(caller: Caller): void {
    caller.attempt = 0
    if (!caller.once) this.#think(caller)
  }

  #target(): Server {
    const believed = this.#random.chance(0.8) ? this.#servers[this.#likelyLeader] : undefined
    return believed ?? this.#random.pick(this.#servers)
  }
}
