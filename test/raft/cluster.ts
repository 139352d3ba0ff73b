// A cluster for hand-written schedules: real cores behind the real write gate. The test delivers each message itself;
// disk writes complete at once unless `holdDisk` is set.

import type { ClusterId, LogIndex, PeerId, Term } from '#model/ids.ts'
import { createRaft, type RaftState } from '#raft/raft.ts'
import { snapshotMeta } from '#raft/snapshot.ts'
import { step } from '#raft/step.ts'
import type { Effect, Entry, HardState, Message, MessageKind, RaftEvent, RaftOptions, Snapshot } from '#raft/types.ts'
import { WriteGate, type Batch } from '#replication/storage/write-gate.ts'

export const OPTIONS: RaftOptions = {
  electionTimeoutMs: 500,
  heartbeatMs: 100,
  maxAppendBytes: 1_000,
  maxInflightAppends: 8,
  maxUncommittedBytes: 1_000_000,
  keptEntries: 0,
  maxChunkBytes: 4,
  maxSnapshotBytes: 1_000
}

const TICK_MS = 50
const CLUSTER = 'bench' as ClusterId

/** Called as things happen; a transcript is written from it. */
export type Observer = {
  readonly effect: (server: Server, effect: Effect) => void
  readonly written: (server: Server, batch: Batch) => void
  readonly delivered: (message: Message) => void
  readonly lost: (message: Message) => void
}

type Options = {
  readonly options?: Partial<RaftOptions>
  readonly founders?: readonly string[]
  readonly observer?: Observer
}
type Selection = { readonly from?: string; readonly to?: string; readonly kind?: MessageKind }

export class Server {
  readonly id: PeerId
  state: RaftState
  /** The effects of the last event, including those of the disk completions that it caused. */
  effects: Effect[] = []
  applied: string[] = []
  holdDisk = false
  incarnation = 0
  readonly #founders: readonly PeerId[]
  readonly #options: RaftOptions
  readonly #send: (message: Message) => void
  /** Differs between servers, and so do their election timeouts. */
  readonly #random: number
  readonly #observer: Observer | null
  #nowMs = 0
  #gate = new WriteGate()
  #hardState: HardState = { term: 0 as Term, votedFor: null }
  #entries: Entry[] = []
  #snapshot: Snapshot | null = null

  constructor(p: {
    readonly id: string
    readonly founders: readonly string[]
    readonly options: RaftOptions
    readonly send: (message: Message) => void
    readonly random: number
    readonly observer: Observer | null
  }) {
    this.id = p.id as PeerId
    this.#founders = p.founders as readonly PeerId[]
    this.#options = p.options
    this.#send = p.send
    this.#random = p.random
    this.#observer = p.observer
    this.state = this.#create()
  }

  /** The terms of the log, entry by entry. */
  get terms(): number[] {
    const { log } = this.state
    return log.between(log.baseIndex, log.lastIndex).map(entry => entry.term)
  }

  /** The process crashes and restarts from its disk. */
  restart(): void {
    this.#gate = new WriteGate()
    this.applied = []
    this.holdDisk = false
    this.state = this.#create()
  }

  /** The server restarts with an empty disk under its old id. */
  wipe(incarnation: number): void {
    this.incarnation = incarnation
    this.#hardState = { term: 0 as Term, votedFor: null }
    this.#entries = []
    this.#snapshot = null
    this.restart()
  }

  /** The disk silently loses its last entries, although they were acknowledged; then the server restarts. */
  loseTail(entries: number): void {
    this.#entries.length -= entries
    this.restart()
  }

  handle(event: RaftEvent): void {
    this.effects = []
    this.#step(event)
    if (!this.holdDisk) this.sync()
  }

  /** Makes a snapshot of the applied state durable and drops the log before it. */
  takeSnapshot(text: string): void {
    const meta = snapshotMeta(this.state, this.state.commitIndex)
    if (meta === undefined) throw new Error('no snapshot can be taken yet')
    this.#snapshot = { meta, data: Buffer.from(text) }
    this.#entries = this.#entries.filter(entry => entry.index > meta.lastIndex)
    this.handle({ kind: 'snapshot-taken', snapshot: this.#snapshot })
  }

  propose(text: string): void {
    this.handle({ kind: 'propose', id: 1, batch: [Buffer.from(text)] })
  }

  advance(ms: number): void {
    for (let left = ms; left > 0; left -= TICK_MS) {
      this.#nowMs += TICK_MS
      this.handle({ kind: 'tick' })
    }
  }

  /** The clock advances while the process does nothing. */
  stall(ms: number): void {
    this.#nowMs += ms
  }

  /** Completes all pending disk writes. */
  sync(): void {
    for (let batch = this.#gate.next(); batch !== null; batch = this.#gate.next()) {
      this.#write(batch)
      for (const message of this.#gate.written(batch)) this.#send(message)
      this.#step({ kind: 'persisted', count: batch.count })
    }
  }

  effectKinds(): string[] {
    return this.effects.map(effect => effect.kind)
  }

  #create(): RaftState {
    const snapshot = this.#snapshot
    const durable = {
      hardState: this.#hardState,
      entries: [...this.#entries],
      commitIndex: 0 as LogIndex,
      snapshot: snapshot?.meta ?? null
    }
    return createRaft({
      self: this.id,
      clusterId: CLUSTER,
      options: this.#options,
      durable,
      snapshotData: snapshot?.data ?? null,
      incarnation: this.incarnation,
      configuration: { voters: this.#founders, learners: [] },
      nowMs: this.#nowMs,
      random: this.#random
    })
  }

  #step(event: RaftEvent): void {
    const effects = step(this.state, { event, nowMs: this.#nowMs, random: this.#random })
    this.effects.push(...effects)
    for (const effect of effects) {
      this.#observer?.effect(this, effect)
      if (effect.kind === 'persist') this.#gate.persist(effect)
      if (effect.kind === 'install') {
        this.#gate.install(effect)
        this.applied = [Buffer.from(effect.snapshot.data).toString()]
      }
      if (effect.kind === 'send' && this.#gate.admit(effect)) this.#send(effect.message)
      if (effect.kind === 'commit') {
        for (const { kind, data } of effect.entries)
          this.applied.push(kind === 'command' ? Buffer.from(data).toString() : kind)
      }
    }
  }

  #write(batch: Batch): void {
    this.#observer?.written(this, batch)
    if (batch.kind === 'install') {
      this.#snapshot = batch.snapshot
      this.#entries = []
      return
    }
    for (const record of batch.records) {
      if (record.kind === 'hard-state') this.#hardState = record.hardState
      if (record.kind === 'truncate') this.#entries = this.#entries.filter(entry => entry.index < record.from)
      if (record.kind === 'entry') this.#entries.push(record.entry)
    }
  }
}

export class Cluster {
  readonly servers: Record<string, Server> = {}
  /** Messages in flight, in the order in which they were sent. */
  readonly wire: Message[] = []
  readonly #observer: Observer | null

  constructor(ids: readonly string[], p: Options = {}) {
    const observer = p.observer ?? null
    this.#observer = observer
    const options = { ...OPTIONS, ...p.options }
    for (const [at, id] of ids.entries()) {
      const send = (message: Message): void => void this.wire.push(message)
      this.servers[id] = new Server({ id, founders: p.founders ?? ids, options, send, random: at / 10, observer })
    }
  }

  at(id: string): Server {
    const server = this.servers[id]
    if (server === undefined) throw new Error(`no server ${id}`)
    return server
  }

  /** Removes messages from the wire without delivering them. */
  take({ from, to, kind }: Selection = {}): Message[] {
    const taken = this.wire.filter(
      m => (from ?? m.from) === m.from && (to ?? m.to) === m.to && (kind ?? m.kind) === m.kind
    )
    for (const message of taken) this.wire.splice(this.wire.indexOf(message), 1)
    return taken
  }

  deliver(...messages: readonly Message[]): void {
    for (const message of messages) {
      this.#observer?.delivered(message)
      this.at(message.to).handle({ kind: 'receive', message })
    }
  }

  /** Delivers messages between the given servers until the wire is empty; all others are lost. */
  settle(...among: readonly string[]): void {
    for (let n = 0; this.wire.length > 0; n++) {
      if (n > 10_000) throw new Error('the messages do not end')
      const message = this.wire.shift()
      if (message === undefined) return
      const isMeant = (id: string): boolean => among.length === 0 || among.includes(id)
      if (isMeant(message.from) && isMeant(message.to)) this.deliver(message)
      else this.#observer?.lost(message)
    }
  }

  /** Delivers messages between two servers until a message of a kind is on the wire. */
  deliverUntil(kind: MessageKind, ...between: readonly [string, string]): void {
    for (let n = 0; n < 100 && !this.wire.some(m => m.kind === kind); n++) {
      const next = this.wire.find(m => between.includes(m.from) && between.includes(m.to))
      if (next === undefined) return
      this.wire.splice(this.wire.indexOf(next), 1)
      this.deliver(next)
    }
  }

  /** Advances the clocks of the given servers and delivers the messages between them; all others are lost. */
  advance(ms: number, ...among: readonly string[]): void {
    const ids = among.length === 0 ? Object.keys(this.servers) : among
    for (let left = ms; left > 0; left -= TICK_MS) {
      for (const id of ids) this.at(id).advance(TICK_MS)
      this.settle(...ids)
    }
  }

  /** All leaders have been silent, and the server's timer starts an election. Votes travel between the given servers. */
  campaign(id: string, ...among: readonly string[]): void {
    this.take()
    for (const server of Object.values(this.servers)) if (server.id !== id) server.stall(600)
    const candidate = this.at(id)
    for (let n = 0; n < 40 && candidate.state.role !== 'leader'; n++) {
      candidate.advance(TICK_MS)
      for (let round = 0; round < 3; round++) {
        for (const kind of VOTES) {
          for (const message of this.take({ kind })) {
            if (among.length === 0 || (among.includes(message.from) && among.includes(message.to)))
              this.deliver(message)
          }
        }
      }
    }
    if (candidate.state.role !== 'leader') throw new Error(`${id} was not elected`)
  }

  /** The server campaigns, wins, and the others follow it. */
  elect(id: string): void {
    this.campaign(id)
    this.settle()
  }
}

const VOTES = ['pre-vote-request', 'pre-vote-reply', 'vote-request', 'vote-reply'] as const
