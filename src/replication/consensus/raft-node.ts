// The driver of the consensus core: feeds it events, one at a time, and carries out its effects. What must wait for
// the disk waits; everything that is ready while a sync runs goes into the next one (group commit).

import { VxmeshError, type ErrorCode } from '#model/errors.ts'
import type { ClusterId, LogIndex, PeerId, Term } from '#model/ids.ts'
import { monotonicMs } from '#platform/clock.ts'
import { systemRandom } from '#platform/random.ts'
import type { Logger } from '#platform/log.ts'
import { createRaft, type RaftState } from '#raft/raft.ts'
import { snapshotMeta } from '#raft/snapshot.ts'
import { raftStatus, type RaftStatus } from '#raft/status.ts'
import { step } from '#raft/step.ts'
import type {
  Change,
  Configuration,
  DurableState,
  Effect,
  Entry,
  Message,
  RaftEvent,
  RaftOptions,
  RaftRole,
  RefusalReason,
  Snapshot,
  SnapshotMeta
} from '#raft/types.ts'
import type { Wal } from '../storage/wal.ts'
import { WriteGate } from '../storage/write-gate.ts'

export type RoleChange = { readonly role: RaftRole; readonly term: Term; readonly leader: PeerId | null }

export type RaftNodeOptions = {
  readonly self: PeerId
  readonly clusterId: ClusterId
  readonly configuration: Configuration
  readonly durable: DurableState
  /** The bytes of durable.snapshot; null without one. */
  readonly snapshotData?: Uint8Array | null
  /** Of this host's disk: 0 on a founder's, else drawn when it joined (Configuration.incarnations). */
  readonly incarnation?: number
  readonly wal: Wal
  readonly send: (message: Message) => void
  /** Applies committed entries in order and returns one result each; what `propose` resolves to. */
  readonly apply: (entries: readonly Entry[]) => readonly unknown[]
  /** Makes a leader's snapshot durable and begins the log anew after it. */
  readonly installSnapshot: (snapshot: Snapshot) => Promise<void>
  /** Replaces the applied state by a snapshot's. */
  readonly restore: (snapshot: Snapshot) => void
  readonly roleChanged: (change: RoleChange) => void
  /** The disk or an invariant failed: the agent must end. */
  readonly fatal: (err: Error) => void
  readonly logger: Logger
}

export const RAFT_OPTIONS: RaftOptions = {
  electionTimeoutMs: 500,
  heartbeatMs: 100,
  maxAppendBytes: 256 * 1024,
  maxInflightAppends: 16,
  maxUncommittedBytes: 64 * 1024 * 1024,
  keptEntries: 4_096,
  maxChunkBytes: 256 * 1024,
  maxSnapshotBytes: 1024 * 1024 * 1024
}

const TICK_MS = 25
const COMMIT_NOTE_MS = 1_000
/** Events that may wait for the core; beyond it messages are dropped, for the core repeats what matters. */
const MAX_QUEUED = 16_384

/** What the caller is told, and so whether and where it tries again. */
const REFUSALS: Readonly<Record<RefusalReason, ErrorCode>> = {
  'not-leader': 'ERR_NOT_LEADER',
  transferring: 'ERR_NOT_LEADER',
  busy: 'ERR_BUSY',
  'no-own-commit': 'ERR_BUSY',
  'change-under-way': 'ERR_BUSY',
  'not-caught-up': 'ERR_BUSY',
  'too-few-alive': 'ERR_NO_QUORUM',
  'already-there': 'ERR_HOST_EXISTS',
  'no-such-learner': 'ERR_HOST_NOT_FOUND',
  'no-such-peer': 'ERR_HOST_NOT_FOUND',
  'last-voter': 'ERR_INVALID'
}

type Proposal = { readonly resolve: (result: unknown) => void; readonly reject: (err: VxmeshError) => void }
type Waiting = { readonly term: Term; readonly proposal: Proposal }

export class RaftNode {
  readonly #options: RaftNodeOptions
  readonly #state: RaftState
  readonly #queue: RaftEvent[] = []
  readonly #proposals = new Map<number, Proposal>()
  readonly #waiting = new Map<LogIndex, Waiting>()
  readonly #reads = new Map<number, { resolve: (index: LogIndex) => void; reject: (err: VxmeshError) => void }>()
  readonly #gate = new WriteGate()
  #pumping = false
  #stopped = false
  #nextId = 1
  #notedCommit = 0
  #confirmAt: LogIndex | null = null
  #current = false
  readonly #ticker: NodeJS.Timeout
  readonly #noter: NodeJS.Timeout

  constructor(options: RaftNodeOptions) {
    this.#options = options
    this.#notedCommit = options.durable.commitIndex
    this.#state = createRaft({
      self: options.self,
      clusterId: options.clusterId,
      options: RAFT_OPTIONS,
      durable: options.durable,
      snapshotData: options.snapshotData ?? null,
      incarnation: options.incarnation ?? 0,
      configuration: options.configuration,
      nowMs: monotonicMs(),
      random: systemRandom.unit()
    })
    this.#ticker = setInterval(() => this.#enqueue({ kind: 'tick', diskBusySinceMs: options.wal.busySinceMs }), TICK_MS)
    this.#noter = setInterval(() => this.#noteCommit(), COMMIT_NOTE_MS)
    this.#enqueue({ kind: 'tick' })
  }

  status(): RaftStatus {
    return raftStatus(this.#state)
  }

  /**
   * Is what is applied here at least what a leader of this process's life had committed? Before that the state may be
   * older than what this host has already acted upon, and nothing may be removed because of it.
   */
  get current(): boolean {
    return this.#current
  }

  receive(message: Message): void {
    if (message.kind === 'append-request' && message.term >= this.status().term)
      this.#confirmAt ??= message.leaderCommit
    if (this.#queue.length < MAX_QUEUED) this.#enqueue({ kind: 'receive', message })
  }

  /** The connection to a server broke or was refused. It may be there all the same. */
  peerLost(peer: PeerId): void {
    if (this.#queue.length < MAX_QUEUED) this.#enqueue({ kind: 'peer-lost', peer })
  }

  /**
   * Proposes a command; resolves with its result once it is committed and applied here.
   * @throws ERR_NOT_LEADER when this server does not lead; ERR_NO_QUORUM when its fate is unknown
   */
  propose(data: Uint8Array): Promise<unknown> {
    return new Promise((resolve, reject) => {
      const id = this.#nextId++
      this.#proposals.set(id, { resolve, reject })
      this.#enqueue({ kind: 'propose', id, data })
    })
  }

  /** Resolves to an index; once that is applied, what is read is linearizable. @throws ERR_NOT_LEADER */
  read(): Promise<LogIndex> {
    return new Promise((resolve, reject) => {
      const id = this.#nextId++
      this.#reads.set(id, { resolve, reject })
      this.#enqueue({ kind: 'read', id })
    })
  }

  /**
   * Changes the membership by one server; resolves once that is committed.
   * @throws ERR_BUSY when it is too early and a retry will do; ERR_HOST_EXISTS, ERR_HOST_NOT_FOUND or ERR_INVALID (the
   *   last voter) when it makes no sense; and as propose
   */
  change(change: Change): Promise<unknown> {
    return new Promise((resolve, reject) => {
      const id = this.#nextId++
      this.#proposals.set(id, { resolve, reject })
      this.#enqueue({ kind: 'change', id, change })
    })
  }

  /** Hands leadership to a voter, if it can take it; an election timeout later the attempt is over. */
  transfer(to: PeerId): void {
    this.#enqueue({ kind: 'transfer', to })
  }

  /** What a snapshot of the state applied up to an index must say of itself. */
  snapshotMeta(index: LogIndex): SnapshotMeta | undefined {
    return snapshotMeta(this.#state, index)
  }

  /** A snapshot of the applied state is durable: the log before it is let go, but for a tail. */
  snapshotTaken(snapshot: Snapshot): void {
    this.#enqueue({ kind: 'snapshot-taken', snapshot })
  }

  /** The latest, to be given to others; null without one. */
  get snapshot(): Snapshot | null {
    return this.#state.snapshot
  }

  /** Undefined where the log does not reach, or is compacted. */
  termAt(index: LogIndex): Term | undefined {
    return this.#state.log.termAt(index)
  }

  /** The first entry that is still in memory. */
  get firstIndex(): LogIndex {
    return (this.#state.log.baseIndex + 1) as LogIndex
  }

  /** Committed entries from an index on, as many as fit; for catch-up. Empty when none are there. */
  committedEntries(from: LogIndex, maxBytes: number): Entry[] {
    const { log, commitIndex } = this.#state
    const entries: Entry[] = []
    let bytes = 0
    for (let index = from; index <= commitIndex && bytes < maxBytes; index++) {
      const entry = log.at(index)
      if (entry === undefined) break
      entries.push(entry)
      bytes += entry.data.byteLength + 32
    }
    return entries
  }

  stop(): void {
    this.#stopped = true
    clearInterval(this.#ticker)
    clearInterval(this.#noter)
    this.#failAll('the agent stops')
  }

  #enqueue(event: RaftEvent): void {
    if (this.#stopped) return
    this.#queue.push(event)
    if (this.#pumping) return
    this.#pumping = true
    setImmediate(() => this.#pump())
  }

  #pump(): void {
    try {
      for (let event = this.#queue.shift(); event !== undefined && !this.#stopped; event = this.#queue.shift()) {
        for (const effect of step(this.#state, { event, nowMs: monotonicMs(), random: systemRandom.unit() })) {
          this.#carryOut(effect)
        }
      }
      this.#pumping = false
      this.#startWriting()
    } catch (err) {
      this.#fail(err)
    }
  }

  #carryOut(effect: Effect): void {
    switch (effect.kind) {
      case 'persist':
        this.#gate.persist(effect)
        return
      case 'install':
        this.#gate.install(effect)
        this.#options.restore(effect.snapshot)
        return
      case 'send':
        if (this.#gate.admit(effect)) this.#options.send(effect.message)
        return
      case 'commit':
        // Needs no wait: a committed entry is durable on a majority, and what was applied here dies with the process.
        this.#applyAll(effect.entries)
        this.#confirm(effect.entries, effect.commitIndex)
        return
      case 'proposed': {
        const proposal = this.#proposals.get(effect.id)
        this.#proposals.delete(effect.id)
        if (proposal !== undefined) this.#waiting.set(effect.index, { term: effect.term, proposal })
        return
      }
      case 'refused': {
        this.#proposals.get(effect.id)?.reject(refused(effect))
        this.#proposals.delete(effect.id)
        return
      }
      case 'read-ready':
        this.#reads.get(effect.id)?.resolve(effect.index)
        this.#reads.delete(effect.id)
        return
      case 'read-failed':
        this.#reads.get(effect.id)?.reject(new VxmeshError('ERR_NOT_LEADER', 'this server does not lead'))
        this.#reads.delete(effect.id)
        return
      case 'lost-log':
        this.#options.logger.error({ peer: effect.peer }, 'server lost what it had on disk; remove it and add it again')
        return
      case 'role':
        if (effect.role !== 'leader') this.#failWaiting('the leader stepped down; the outcome is unknown')
        this.#options.roleChanged({ role: effect.role, term: effect.term, leader: effect.leader })
    }
  }

  #applyAll(entries: readonly Entry[]): void {
    const results = this.#options.apply(entries)
    for (const [at, entry] of entries.entries()) {
      const waiting = this.#waiting.get(entry.index)
      if (waiting === undefined) continue
      this.#waiting.delete(entry.index)
      if (waiting.term === entry.term) waiting.proposal.resolve(results[at])
      else waiting.proposal.reject(unknownFate('another leader wrote that entry'))
    }
  }

  #confirm(entries: readonly Entry[], commitIndex: LogIndex): void {
    if (this.#current) return
    const { role, term } = this.status()
    const led = role === 'leader' && entries.some(entry => entry.term === term)
    this.#current = led || (this.#confirmAt !== null && commitIndex >= this.#confirmAt)
  }

  #startWriting(): void {
    const batch = this.#stopped ? null : this.#gate.next()
    if (batch === null) return
    const { wal, installSnapshot } = this.#options
    const written = batch.kind === 'append' ? wal.append(batch.records) : installSnapshot(batch.snapshot)
    written.then(
      () => {
        for (const message of this.#gate.written(batch)) this.#options.send(message)
        this.#enqueue({ kind: 'persisted', count: batch.count })
        this.#startWriting()
      },
      (err: unknown) => this.#fail(err)
    )
  }

  #noteCommit(): void {
    const { durableCommitIndex } = this.status()
    if (durableCommitIndex === this.#notedCommit) return
    this.#notedCommit = durableCommitIndex
    this.#options.wal.noteCommit(durableCommitIndex).catch((err: unknown) => this.#fail(err))
  }

  #fail(err: unknown): void {
    if (this.#stopped) return
    this.stop()
    this.#options.fatal(err instanceof Error ? err : new Error(String(err)))
  }

  #failWaiting(why: string): void {
    for (const { proposal } of this.#waiting.values()) proposal.reject(unknownFate(why))
    this.#waiting.clear()
  }

  #failAll(why: string): void {
    this.#failWaiting(why)
    for (const proposal of this.#proposals.values()) proposal.reject(unknownFate(why))
    this.#proposals.clear()
    for (const read of this.#reads.values()) read.reject(unknownFate(why))
    this.#reads.clear()
  }
}

function refused({ reason, leader }: Extract<Effect, { readonly kind: 'refused' }>): VxmeshError {
  const code = REFUSALS[reason]
  return new VxmeshError(code, `refused by the consensus: ${reason}`, { context: { reason, leader: leader ?? '' } })
}

function unknownFate(why: string): VxmeshError {
  return new VxmeshError('ERR_NO_QUORUM', why)
}
