// One simulated server: the real core behind the real write gate, with a disk, a clock and an event loop that can all
// go wrong. It lives, dies and lives again; only its disk goes from one life to the next.

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
import type { Tally, Trace } from './counters.ts'

/** What a server shares with the rest of its world. */
export type ServerWorld = {
  readonly random: Random
  readonly schedule: Schedule
  readonly invariants: Invariants
  readonly probes: Tally
  readonly trace: Trace
  readonly mutant: Mutant | null
  readonly options: RaftOptions
  /** In which the cluster was founded; all that a new disk knows. */
  readonly configuration: Configuration
  /** Applied entries between two snapshots. */
  readonly snapshotEvery: number
  readonly send: (message: Message) => void
  /** A proposal or read has ended, one way or the other. */
  readonly answered: (server: Server, answer: Answer) => void
  readonly countEvent: () => void
  readonly elected: (server: Server) => void
  /** Its process has ended, and its host goes on. */
  readonly died: (server: Server) => void
  /** `stands`: it has just become a candidate. */
  readonly handled: (server: Server, event: RaftEvent, stands: boolean) => void
}

export type Answer =
  | { readonly kind: 'committed'; readonly id: number; readonly entryIndex: LogIndex; readonly outcome: Outcome }
  | { readonly kind: 'unknown' | 'read-failed' | 'changed'; readonly id: number }
  | { readonly kind: 'refused'; readonly id: number; readonly reason: RefusalReason }
  | { readonly kind: 'read-ready'; readonly id: number; readonly index: LogIndex }

type Life = {
  readonly state: RaftState
  readonly gate: WriteGate
  /** Proposals by the index that they got. */
  readonly waiting: Map<LogIndex, { readonly id: number; readonly term: number }>
  machine: Machine
  applied: LogIndex
  /** A snapshot is being written. */
  saving: boolean
  /** By the own clock; Infinity when nothing is written. */
  writingSinceMs: number
  /** When each peer last answered this server as the leader of its term, by its own clock. */
  readonly heard: Map<PeerId, number>
}

const TICK_MS = 50
const NOTE_MS = 1_000
const DISK_MS = 1
const RESTART_MS = 300
const TICK: RaftEvent = { kind: 'tick' }
export const CLUSTER = 'simulated' as ClusterId

export class Server {
  readonly id: PeerId
  readonly number: number
  readonly disk: Disk
  life: Life | null = null
  /** Milliseconds that one write takes more than a good disk's. */
  diskDelayMs = 0
  /** The next sync fails. */
  failSync = false
  /** How fast this server's clock runs. */
  clockRate = 1
  #clockOffsetMs = 0
  #stalledUntilMs = 0
  readonly #world: ServerWorld

  constructor(number: number, incarnation: number, world: ServerWorld) {
    this.number = number
    this.id = `s${number}` as PeerId
    this.#world = world
    this.disk = new Disk(incarnation, (before, after) => world.invariants.wrote(this.id, before, after))
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
      // Its checksums say so: it does not start, and is given an empty disk.
      probes.add('damaged-disk-replaced')
      this.wipe()
    }
    const durable = this.disk.read()
    const { snapshot } = this.disk
    const base = snapshot?.meta.lastIndex ?? 0
    if (durable.commitIndex > base + durable.entries.length) {
      invariants.fail(`${this.id}: the disk ends before what it says is committed`)
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
    invariants.stateAt(this.id, applied, machine)
    const life: Life = {
      state,
      machine,
      applied,
      gate: new WriteGate(),
      waiting: new Map(),
      heard: new Map(),
      saving: false,
      writingSinceMs: Infinity
    }
    this.life = life
    this.#stalledUntilMs = 0
    this.#every(TICK_MS, life, () => this.#step(life, TICK))
    this.#every(NOTE_MS, life, () => this.disk.noteCommit(raftStatus(state).durableCommitIndex))
    this.#step(life, TICK)
    if (state.role !== 'follower') probes.add('sole-voter-stands-at-once')
  }

  #create(init: RaftInit): RaftState | null {
    try {
      return createRaft(init)
    } catch (err) {
      this.#world.invariants.fail(`${this.id} cannot start: ${err instanceof Error ? err.message : String(err)}`)
      return null
    }
  }

  /** An empty disk in the place of the old one, under the same id. */
  wipe(): void {
    this.disk.wipe(1 + this.#world.random.below(2 ** 31))
  }

  /** The disk's word that a write failed is final: the server ends, and is started again. */
  fail(torn: boolean): void {
    this.crash(torn)
    this.#world.schedule.after(RESTART_MS, () => {
      if (this.life === null) this.start()
    })
  }

  /** kill -9 or a power cut: what was not on the disk is gone. @returns records lost and kept of the write under way */
  crash(torn: boolean): { readonly lost: number; readonly kept: number } {
    const { life } = this
    this.life = null
    if (life !== null) this.#forgetCallers(life)
    if (life !== null && !torn) this.#world.died(this)
    return this.disk.crash(this.#world.random, torn)
  }

  /** The event loop stands still: what comes meanwhile waits. */
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

  /** Something for this server has come; a dead one misses it. */
  give(event: RaftEvent): void {
    const { life } = this
    if (life !== null) this.#whenAwake(life, () => this.#step(life, event))
  }

  #whenAwake(life: Life, run: () => void): void {
    if (this.life !== life) return
    const { schedule } = this.#world
    if (schedule.nowMs >= this.#stalledUntilMs) run()
    else schedule.at(this.#stalledUntilMs, () => this.#whenAwake(life, run))
  }

  /** The last configuration that this server's log or disk holds, committed or not. */
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
      doubting: state.leader !== null && state.leaderHeardMs === -Infinity,
      transferring: state.leading !== null && state.leading.transfer !== null
    }
    let input: Input = { event, nowMs: this.clockMs, random: random.unit() }
    observeInput(probes, state, event)
    if (event.kind === 'receive' && isProof(event.message, state.term)) {
      life.heard.set(event.message.from, this.clockMs)
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
    invariants.configured(state)
    trace.add(this.number, state.term, state.log.lastIndex, state.commitIndex, effects.length)
    if (state.role === 'leader' && before.role !== 'leader') {
      invariants.becameLeader(state)
      this.#world.elected(this)
    }
    if (state.role === 'leader' && (before.role !== 'leader' || state.log.lastConfigIndex !== before.configIndex)) {
      life.heard.clear()
      for (const voter of state.configuration.voters) life.heard.set(voter, this.clockMs)
    }
    if (state.role === 'leader' && event.kind === 'tick') {
      const { heard, writingSinceMs } = life
      invariants.leads({ state, heard, nowMs: this.clockMs, writingSinceMs })
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
        invariants.speaks(life.state, effect.message)
        if (life.gate.admit(effect)) this.#send(effect.message)
        return
      case 'commit':
        this.#apply(life, effect.entries)
        return
      case 'proposed':
        life.waiting.set(effect.index, { id: effect.id, term: effect.term })
        return
      case 'refused':
        answered(this, { kind: 'refused', id: effect.id, reason: effect.reason })
        return
      case 'read-ready':
        // The state must be applied so far before it is looked at; here it always is.
        if (life.applied < effect.index) invariants.fail(`${this.id} would read ${effect.index} at ${life.applied}`)
        answered(this, { kind: 'read-ready', id: effect.id, index: life.applied })
        return
      case 'read-failed':
        answered(this, { kind: 'read-failed', id: effect.id })
        return
      case 'lost-log':
        invariants.fail(`${this.id} holds that ${effect.peer} lost its log`)
        return
      case 'role':
        if (effect.role !== 'leader') this.#forgetCallers(life)
    }
  }

  #send(message: Message): void {
    this.#world.invariants.sent(message)
    this.#world.send(message)
  }

  #apply(life: Life, entries: readonly Entry[]): void {
    const { invariants, answered, probes } = this.#world
    for (const entry of entries) {
      if (entry.index !== life.applied + 1) invariants.fail(`${this.id} applies ${entry.index} after ${life.applied}`)
      const { repeated } = life.machine
      const outcome = life.machine.apply(entry)
      if (life.machine.repeated > repeated) probes.add('repeated-command-answered-from-the-session')
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
    invariants.stateAt(this.id, life.applied, life.machine)
  }

  /** The state machine is replaced by a leader's. */
  #restore(life: Life, { meta, data }: Snapshot): void {
    life.machine = this.#decode(data)
    life.applied = meta.lastIndex
    this.#world.invariants.stateAt(this.id, life.applied, life.machine)
    this.#world.invariants.snapshotAt(this.id, meta)
  }

  #decode(data: Uint8Array): Machine {
    try {
      return Machine.decode(data)
    } catch (err) {
      this.#world.invariants.fail(`${this.id} has a snapshot that is none: ${String(err)}`)
      return new Machine()
    }
  }

  /** Saves the state every so often, beside the log; while it is written the server goes on. */
  #takeSnapshot(life: Life): void {
    const { snapshotEvery, random, schedule } = this.#world
    const { state, applied } = life
    if (life.saving || applied - (state.snapshot?.meta.lastIndex ?? 0) < snapshotEvery) return
    const meta = snapshotMeta(state, applied)
    if (meta === undefined) return
    // The same state need not be the same bytes everywhere.
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

  #forgetCallers(life: Life): void {
    for (const { id } of life.waiting.values()) this.#world.answered(this, { kind: 'unknown', id })
    life.waiting.clear()
  }

  /** As the real driver does: one write at a time, and what waited for it goes out when it is durable. */
  #write(life: Life): void {
    const batch = life.gate.next()
    if (batch === null) return
    const { random, schedule, probes } = this.#world
    this.disk.begin(batch)
    life.writingSinceMs = this.clockMs
    if (this.disk.full) {
      this.fail(true)
      return
    }
    if (batch.kind === 'append' && batch.records.length > 3) probes.add('group-commit')
    schedule.after(random.between(0, DISK_MS) + this.diskDelayMs, () => {
      if (this.life !== life) return
      if (this.failSync) {
        this.failSync = false
        this.fail(random.chance(0.5))
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

/** A receiver's answer to the leader of its own term. */
function isProof({ kind, term }: Message, leaderTerm: number): boolean {
  return (kind === 'append-reply' || kind === 'install-reply') && term === leaderTerm
}
