import type { LogIndex } from '#model/ids.ts'
import { createRaft, type RaftInit, type RaftState } from '#raft/raft.ts'
import { snapshotMeta } from '#raft/snapshot.ts'
import { step } from '#raft/step.ts'
import type { Effect, Entry, Message, RaftEvent, Snapshot } from '#raft/types.ts'

type Write = Extract<Effect, { readonly kind: 'persist' | 'install' }>

export type Embedding = {
  /** Monotonic milliseconds. */
  readonly nowMs: () => number
  /** Uniform in [0, 1). */
  readonly random: () => number
  /** Resolves once the write is durable. */
  readonly write: (write: Write) => Promise<void>
  /** May lose, delay, duplicate and reorder messages. */
  readonly send: (message: Message) => void
  /** Applies one committed entry to the state machine and returns the result for the client. */
  readonly apply: (entry: Entry) => string
  /** Replaces the state machine. */
  readonly restore: (snapshot: Snapshot) => void
  /** Makes a snapshot durable and drops the log before it. */
  readonly save: (snapshot: Snapshot) => Promise<void>
  /** The process must end: the disk failed, or an invariant of Raft is broken. */
  readonly fatal: (err: unknown) => void
}

type Pending<T> = { readonly resolve: (value: T) => void; readonly reject: (err: Error) => void }

export class RaftLoop {
  readonly #embedding: Embedding
  readonly #state: RaftState
  readonly #events: RaftEvent[] = []
  #isRunning = false
  #isEnded = false
  /** Duty 4: writes in the order of their effects; each has the number that `persisted` reports. */
  readonly #writes: { readonly number: number; readonly write: Write }[] = []
  #emittedWrites = 0
  #durableWrites = 0
  /** Duty 5: messages that wait until a write is durable. */
  #held: { readonly after: number; readonly message: Message }[] = []
  #nextId = 1
  /** Duty 7: requests that have no index yet, then by the index of their entry; duty 8: reads. */
  readonly #requests = new Map<number, Pending<string>>()
  readonly #appended = new Map<LogIndex, Pending<string> & { readonly term: number }>()
  readonly #reads = new Map<number, Pending<LogIndex>>()

  /** Duty 1: `init` holds what the disk held when the process started. */
  constructor(init: RaftInit, embedding: Embedding) {
    this.#embedding = embedding
    this.#state = createRaft(init)
  }

  get state(): Readonly<RaftState> {
    return this.#state
  }

  /** Duties 2 and 3: every event goes through one queue: ticks, messages, hints, changes of membership. */
  handle(event: RaftEvent): void {
    this.#events.push(event)
    if (this.#isRunning || this.#isEnded) return
    this.#isRunning = true
    try {
      this.#run()
    } catch (err) {
      this.#end(err)
    }
    this.#isRunning = false
  }

  /** Duty 7: rejects if the outcome is unknown; the client retries then, under the same request id. */
  propose(data: Uint8Array): Promise<string> {
    return new Promise((resolve, reject) => {
      const id = this.#nextId++
      this.#requests.set(id, { resolve, reject })
      this.handle({ kind: 'propose', id, batch: [data] })
    })
  }

  /** Duty 8: once the state machine has applied this index, a read from it is linearizable. */
  readIndex(): Promise<LogIndex> {
    return new Promise((resolve, reject) => {
      const id = this.#nextId++
      this.#reads.set(id, { resolve, reject })
      this.handle({ kind: 'read', id })
    })
  }

  /** Duty 9: `data` is the state machine's state at the last applied index. */
  async takeSnapshot(data: Uint8Array): Promise<boolean> {
    const meta = snapshotMeta(this.#state, this.#state.emittedIndex)
    if (meta === undefined) return false
    const snapshot = { meta, data }
    await this.#embedding.save(snapshot)
    this.handle({ kind: 'snapshot-taken', snapshot })
    return true
  }

  #run(): void {
    for (let event = this.#events.shift(); event !== undefined; event = this.#events.shift()) {
      const { nowMs, random } = this.#embedding
      const effects = step(this.#state, { event, nowMs: nowMs(), random: random() })
      for (const effect of effects) this.#carryOut(effect)
    }
  }

  #carryOut(effect: Effect): void {
    switch (effect.kind) {
      case 'install':
        this.#embedding.restore(effect.snapshot)
        this.#startWrite(effect)
        return
      case 'persist':
        this.#startWrite(effect)
        return
      case 'send':
        if (effect.beforePersist || this.#durableWrites === this.#emittedWrites) this.#embedding.send(effect.message)
        else this.#held.push({ after: this.#emittedWrites, message: effect.message })
        return
      case 'commit':
        for (const entry of effect.entries) this.#apply(entry)
        return
      case 'proposed': {
        const request = this.#requests.get(effect.id)
        this.#requests.delete(effect.id)
        if (request !== undefined) this.#appended.set(effect.index, { ...request, term: effect.term })
        return
      }
      case 'refused':
        this.#requests
          .get(effect.id)
          ?.reject(new Error(`refused: ${effect.reason}; the leader is ${effect.leader ?? 'unknown'}`))
        this.#requests.delete(effect.id)
        return
      case 'read-ready':
        this.#reads.get(effect.id)?.resolve(effect.index)
        this.#reads.delete(effect.id)
        return
      case 'read-failed':
        this.#reads.get(effect.id)?.reject(new Error('this server does not lead'))
        this.#reads.delete(effect.id)
        return
      case 'role':
        if (effect.role !== 'leader') this.#abandonRequests()
        return
      case 'lost-log':
        console.error(`${effect.peer} lost acknowledged entries: remove it and add it again`)
        return
      case 'impossible':
        console.error(`${effect.from} sent a message that no correct server sends: ${effect.why}`)
    }
  }

  #apply(entry: Entry): void {
    const result = this.#embedding.apply(entry)
    const request = this.#appended.get(entry.index)
    this.#appended.delete(entry.index)
    if (request?.term === entry.term) request.resolve(result)
    else request?.reject(new Error('outcome unknown: another leader replaced the entry'))
  }

  #startWrite(write: Write): void {
    this.#emittedWrites += 1
    this.#writes.push({ number: this.#emittedWrites, write })
    if (this.#writes.length === 1) void this.#writeAll()
  }

  async #writeAll(): Promise<void> {
    for (let next = this.#writes[0]; next !== undefined && !this.#isEnded; next = this.#writes[0]) {
      try {
        await this.#embedding.write(next.write)
      } catch (err) {
        this.#end(err)
        return
      }
      this.#writes.shift()
      this.#durableWrites = next.number
      const ready = this.#held.filter(({ after }) => after <= this.#durableWrites)
      this.#held = this.#held.filter(({ after }) => after > this.#durableWrites)
      for (const { message } of ready) this.#embedding.send(message)
      this.handle({ kind: 'persisted', count: this.#durableWrites })
    }
  }

  #abandonRequests(): void {
    for (const request of this.#appended.values()) request.reject(new Error('outcome unknown: the leader stepped down'))
    this.#appended.clear()
  }

  #end(err: unknown): void {
    this.#isEnded = true
    this.#abandonRequests()
    this.#embedding.fatal(err)
  }
}
