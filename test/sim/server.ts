// One simulated server: the real core behind the real write gate, with a disk, a clock and an event loop that can each
// fail. A `Life` is one run of its process, from start to crash; only the disk survives it.

import type { ClusterId, LogIndex, PeerId } from '#model/ids.ts'
import { createRaft, type RaftInit, type RaftState } from '#raft/raft.ts'
import { snapshotMeta } from '#raft/snapshot.ts'
import { raftStatus } from '#raft/status.ts'
import { step } from '#raft/step.ts'
import type {
  Configuration,
  Effect,
  Entry,
  Input,
  Message,
  RaftEvent,
  RaftOptions,
  RefusalReason,
  Snapshot
} from '#raft/types.ts'
import { WriteGate } from '#replication/storage/write-gate.ts'
import { Disk } from './disk.ts'
import type { Invariants } from './invariants.ts'
import { Machine, type Outcome } from './machine.ts'
import type { Mutant } from './mutant.ts'
import { observeEffects, observeInput } from './probes.ts'
import type { Random } from './random.ts'
import type { Schedule } from './schedule.ts'
import type { Counters, TraceHash } from './counters.ts'

/** What a server shares with the rest of the simulation. */
export type ServerWorld = {
  readonly random: Random
  readonly schedule: Schedule
  readonly invariants: Invariants
  readonly probes: Counters
  readonly trace: TraceHash
  readonly mutant: Mutant | null
  readonly options: RaftOptions
  /** The founding configuration; the only one that an empty disk knows. */
  readonly configuration: Configuration
  /** Applied entries between two snapshots. */
  readonly snapshotEvery: number
  readonly send: (message: Message) => void
  /** A proposal or read has completed or failed. */
  readonly answered: (server: Server, answer: Answer) => void
  readonly countEvent: () => void
  readonly elected: (server: Server) => void
  /** The process has crashed, and its host keeps running. */
  readonly crashed: (server: Server) => void
  /** `becameCandidate`: it has just become a candidate. */
  readonly handled: (server: Server, event: RaftEvent, becameCandidate: boolean) => void
}

export type Answer =
  | { readonly kind: 'committed'; readonly id: number; readonly entryIndex: LogIndex; readonly outcome: Outcome }
  | { readonly kind: 'unknown' | 'read-failed' | 'changed'; readonly id: number }
  | { readonly kind: 'refused'; readonly id: number; readonly reason: RefusalReason }
  | { readonly kind: 'read-ready'; readonly id: number; readonly index: LogIndex }

type Life = {
  readonly state: RaftState
  readonly gate: WriteGate
  /** Pending proposals by their index. */
  readonly waiting: Map<LogIndex, { readonly id: number; readonly term: number }>
  machine: Machine
  applied: LogIndex
  /** A snapshot is being written. */
  saving: boolean
  /** When the write in flight started, by the server's clock; Infinity when there is none. */
  writingSinceMs: number
  /** When each peer last replied to this server as leader of its term, by the server's clock. */
  readonly lastReplyMs: Map<PeerId, number>
}

const TICK_MS = 50
const COMMIT_NOTE_MS = 1_000
const DISK_MS = 1
const RESTART_MS = 300
const TICK: RaftEvent = { kind: 'tick' }
export const CLUSTER = 'simulated' as ClusterId

export class Server {
  readonly id: PeerId
  readonly number: number
  readonly disk: Disk
  life: Life | null = null
  /** Extra milliseconds per write. */
  diskDelayMs = 0
  /** The next sync fails. */
  failSync = false
  /** Speed of this server's clock; 1 is exact. */
  clockRate = 1
  #clockOffsetMs = 0
  #stalledUntilMs = 0
  readonly #world: ServerWorld

  constructor(number: number, incarnation: number, world: ServerWorld) {
    this.number = number
    this.id = `s${number}` as PeerId
    this.#world = world
    this.disk = new Disk(incarnation, (before, after) => world.invariants.checkHardState(this.id, before, after))
  }

  get clockMs(): number {
    return this.#clockOffsetMs + this.#world.schedule.nowMs * this.clockRate
  }

  get isLeader(): boolean {
    return this.life?.state.role === 'leader'
  }

  start(): void {
    const { options, configuration, random, probes, invariants } = this.#world
    if (this.disk.damaged) {
      // Checksums detect the damage: the server refuses to start and gets an empty disk.
      probes.add('damaged-disk-replaced')
      this.wipe()
    }
    const durable = this.disk.read()
    const { snapshot } = this.disk
    const base = snapshot?.meta.lastIndex ?? 0
    if (durable.commitIndex > base + durable.entries.length) {
      invariants.fail(`${this.id}: the log on disk ends before its commit index`)
      return
    }
    if (durable.hardState.votedFor !== null) probes.add('restart-with-a-vote')
    if (base + durable.entries.length > durable.commitIndex) probes.add('restart-with-an-uncommitted-tail')
    if (snapshot !== null) probes.add('restart-from-a-snapshot')
    const { incarnation } = this.disk
    const init = { self: this.id, clusterId: CLUSTER, options, configuration, durable, incarnation }
    const data = snapshot?.data ?? null
    const state = this.#create({ ...init, snapshotData: data, nowMs: this.clockMs, random: random.unit() })
    if (state === null) return
    const machine = data === null ? new Machine() : this.#decode(data)
    const applied = base as LogIndex
    invariants.checkState(this.id, applied, machine)
    const life: Life = {
      state,
      machine,
      applied,
      gate: new WriteGate(),
      waiting: new Map(),
      lastReplyMs: new Map(),
      saving: false,
      writingSinceMs: Infinity
    }
    this.life = life
    this.#stalledUntilMs = 0
    this.#every(TICK_MS, life, () => this.#step(life, TICK))
    this.#every(COMMIT_NOTE_MS, life, () => this.disk.noteCommit(raftStatus(state).durableCommitIndex))
    this.#step(life, TICK)
    if (state.role !== 'follower') probes.add('sole-voter-campaigns-at-once')
  }

  #create(init: RaftInit): RaftState | null {
    try {
      return createRaft(init)
    } catch (err) {
      this.#world.invariants.fail(`${this.id} cannot start: ${err instanceof Error ? err.message : String(err)}`)
      return null
    }
  }

  /** Replaces the disk by an empty one, under the same server id. */
  wipe(): void {
    this.disk.wipe(1 + this.#world.random.below(2 ** 31))
  }

  /** A failed write ends the process; it is restarted later. */
  restartAfterFailure(torn: boolean): void {
    this.crash(torn)
    this.#world.schedule.after(RESTART_MS, () => {
      if (this.life === null) this.start()
    })
  }

  /** kill -9 or a power cut: only durable state survives. @returns records lost and kept of the write in flight */
  crash(torn: boolean): { readonly lost: number; readonly kept: number } {
    const { life } = this
    this.life = null
    if (life !== null) this.#abandonCallers(life)
    if (life !== null && !torn) this.#world.crashed(this)
    return this.disk.crash(this.#world.random, torn)
  }

  /** Stalls the event loop: events are queued meanwhile. */
  stall(ms: number): void {
    this.#stalledUntilMs = Math.max(this.#stalledUntilMs, this.#world.schedule.nowMs + ms)
  }

  jumpClock(ms: number): void {
    this.#clockOffsetMs += ms
  }

  setClockRate(rate: number): void {
    this.#clockOffsetMs = this.clockMs - this.#world.schedule.nowMs * rate
    this.clockRate = rate
  }

  /** Handles an event; a crashed server loses it. */
  handle(event: RaftEvent): void {
    const { life } = this
    if (life !== null) this.#whenAwake(life, () => this.#step(life, event))
  }

  #whenAwake(life: Life, run: () => void): void {
    if (this.life !== life) return
    const { schedule } = this.#world
    if (schedule.nowMs >= this.#stalledUntilMs) run()
    else schedule.at(this.#stalledUntilMs, () => this.#whenAwake(life, run))
  }

  /** The index of the last config entry in this server's log or on its disk, committed or not. */
  get lastConfigIndex(): LogIndex {
    return Math.max(this.disk.lastConfigIndex, this.life?.state.log.lastConfigIndex ?? 0) as LogIndex
  }

  #every(ms: number, life: Life, run: () => void): void {
    this.#world.schedule.after(ms / this.clockRate, () => {
      if (this.life !== life) return
      this.#whenAwake(life, run)
      this.#every(ms, life, run)
    })
  }

  #step(life: Life, event: RaftEvent): void {
    if (this.life !== life) return
    const { mutant, random, invariants, probes, trace } = this.#world
    const { state } = life
    this.#world.countEvent()
    const before = {
      role: state.role,
      term: state.term,
      lastIndex: state.log.lastIndex,
      commitIndex: state.commitIndex,
      baseIndex: state.log.baseIndex,
      configIndex: state.log.lastConfigIndex,
      suspecting: state.leader !== null && state.leaderContactMs === -Infinity,
      transferring: state.leading !== null && state.leading.transfer !== null
    }
    let input: Input = { event, nowMs: this.clockMs, random: random.unit() }
    observeInput(probes, state, event)
    if (event.kind === 'receive' && isReplyToLeader(event.message, state.term)) {
      life.lastReplyMs.set(event.message.from, this.clockMs)
    }
    let effects: Effect[]
    try {
      input = mutant?.before?.(state, input) ?? input
      effects = step(state, input)
      effects = mutant?.after?.(state, input, effects) ?? effects
    } catch (err) {
      invariants.fail(`${this.id}: ${err instanceof Error ? err.message : String(err)}`)
      return
    }
    observeEffects(probes, { state, before, event, effects })
    invariants.checkConfiguration(state)
    trace.add(this.number, state.term, state.log.lastIndex, state.commitIndex, effects.length)
    if (state.role === 'leader' && before.role !== 'leader') {
      invariants.becameLeader(state)
      this.#world.elected(this)
    }
    if (state.role === 'leader' && (before.role !== 'leader' || state.log.lastConfigIndex !== before.configIndex)) {
      life.lastReplyMs.clear()
      for (const voter of state.configuration.voters) life.lastReplyMs.set(voter, this.clockMs)
    }
    if (state.role === 'leader' && event.kind === 'tick') {
      const { lastReplyMs, writingSinceMs } = life
      invariants.checkLeader({ state, lastReplyMs, nowMs: this.clockMs, writingSinceMs })
    }
    for (const effect of effects) this.#carryOut(life, effect)
    this.#write(life)
    this.#takeSnapshot(life)
    this.#world.handled(this, event, state.role === 'candidate' && before.role !== 'candidate')
  }

  #carryOut(life: Life, effect: Effect): void {
    const { invariants, answered } = this.#world
    switch (effect.kind) {
      case 'persist':
        invariants.appended(effect.entries, this.#termBefore(life, effect.entries))
        life.gate.persist(effect)
        return
      case 'install':
        life.gate.install(effect)
        this.#restore(life, effect.snapshot)
        return
      case 'send':
        invariants.checkMessageTerm(life.state, effect.message)
        if (life.gate.admit(effect)) this.#send(effect.message)
        return
      case 'commit':
        this.#apply(life, effect.entries)
        return
      case 'proposed':
        for (let n = 0; n < effect.count; n++) {
          const { id, index, term } = effect
          life.waiting.set((index + n) as LogIndex, { id: id + n, term })
        }
        return
      case 'refused':
        answered(this, { kind: 'refused', id: effect.id, reason: effect.reason })
        return
      case 'read-ready':
        // A real embedder waits until the index is applied; here it always is.
        if (life.applied < effect.index) invariants.fail(`${this.id} would read ${effect.index} at ${life.applied}`)
        answered(this, { kind: 'read-ready', id: effect.id, index: life.applied })
        return
      case 'read-failed':
        answered(this, { kind: 'read-failed', id: effect.id })
        return
      case 'impossible':
        invariants.fail(`${this.id} gets an impossible message of ${effect.from}: ${effect.why}`)
        return
      case 'lost-log':
        invariants.fail(`${this.id} reports that ${effect.peer} lost its log`)
        return
      case 'role':
        if (effect.role !== 'leader') this.#abandonCallers(life)
    }
  }

  #send(message: Message): void {
    this.#world.invariants.checkVote(message)
    this.#world.send(message)
  }

  #apply(life: Life, entries: readonly Entry[]): void {
    const { invariants, answered, probes } = this.#world
    for (const entry of entries) {
      if (entry.index !== life.applied + 1) invariants.fail(`${this.id} applies ${entry.index} after ${life.applied}`)
      const { repeated } = life.machine
      const outcome = life.machine.apply(entry)
      if (life.machine.repeated > repeated) probes.add('retried-command-answered-from-the-session')
      invariants.applied(life.state, entry)
      life.applied = entry.index
      const waiting = life.waiting.get(entry.index)
      if (waiting === undefined) continue
      life.waiting.delete(entry.index)
      const { id } = waiting
      if (waiting.term !== entry.term) answered(this, { kind: 'unknown', id })
      else if (outcome === null) answered(this, { kind: 'changed', id })
      else answered(this, { kind: 'committed', id, entryIndex: entry.index, outcome })
    }
    invariants.checkState(this.id, life.applied, life.machine)
  }

  /** Replaces the state machine by a leader's snapshot. */
  #restore(life: Life, { meta, data }: Snapshot): void {
    life.machine = this.#decode(data)
    life.applied = meta.lastIndex
    this.#world.invariants.checkState(this.id, life.applied, life.machine)
    this.#world.invariants.checkSnapshot(this.id, meta)
  }

  #decode(data: Uint8Array): Machine {
    try {
      return Machine.decode(data)
    } catch (err) {
      this.#world.invariants.fail(`${this.id} has a malformed snapshot: ${String(err)}`)
      return new Machine()
    }
  }

  /** Saves a snapshot every `snapshotEvery` entries; the server keeps running while it is written. */
  #takeSnapshot(life: Life): void {
    const { snapshotEvery, random, schedule } = this.#world
    const { state, applied } = life
    if (life.saving || applied - (state.snapshot?.meta.lastIndex ?? 0) < snapshotEvery) return
    const meta = snapshotMeta(state, applied)
    if (meta === undefined) return
    // Equal states may have different encodings.
    const snapshot = { meta, data: life.machine.encode(random.below(8)) }
    life.saving = true
    schedule.after(random.between(0, 20 * DISK_MS) + this.diskDelayMs, () => {
      if (this.life !== life) return
      this.disk.saveSnapshot(snapshot)
      this.#whenAwake(life, () => {
        life.saving = false
        this.#step(life, { kind: 'snapshot-taken', snapshot })
      })
    })
  }

  #abandonCallers(life: Life): void {
    for (const { id } of life.waiting.values()) this.#world.answered(this, { kind: 'unknown', id })
    life.waiting.clear()
  }

  /** Like the real driver: one write at a time; the messages that wait for it are sent once it is durable. */
  #write(life: Life): void {
    const batch = life.gate.next()
    if (batch === null) return
    const { random, schedule, probes } = this.#world
    this.disk.begin(batch)
    life.writingSinceMs = this.clockMs
    if (this.disk.full) {
      this.restartAfterFailure(true)
      return
    }
    if (batch.kind === 'append' && batch.records.length > 3) probes.add('group-commit')
    schedule.after(random.between(0, DISK_MS) + this.diskDelayMs, () => {
      if (this.life !== life) return
      if (this.failSync) {
        this.failSync = false
        this.restartAfterFailure(random.chance(0.5))
        return
      }
      this.disk.finish()
      this.#whenAwake(life, () => {
        life.writingSinceMs = Infinity
        for (const message of life.gate.written(batch)) this.#send(message)
        this.#step(life, { kind: 'persisted', count: batch.count })
        this.#write(life)
      })
    })
  }

  #termBefore({ state }: Life, entries: readonly Entry[]): number | undefined {
    const first = entries[0]
    return first === undefined ? undefined : state.log.termAt((first.index - 1) as LogIndex)
  }
}

/** A reply to the leader of the given term. */
function isReplyToLeader({ kind, term }: Message, leaderTerm: number): boolean {
  return (kind === 'append-reply' || kind === 'install-reply') && term === leaderTerm
}
