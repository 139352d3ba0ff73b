// Drives the consensus core: feeds it events one at a time and carries out its effects. Effects that must wait for the
// disk wait, and everything that becomes ready during a sync goes into the next one (group commit).

import type { LogIndex, PeerId } from '#model/ids.ts'
import type { Cancel } from '#platform/clock.ts'
import { createRaft, type RaftState } from '#raft/raft.ts'
import { snapshotMeta } from '#raft/snapshot.ts'
import { raftStatus, tickDueMs, type RaftStatus } from '#raft/status.ts'
import { step } from '#raft/step.ts'
import type { Change, Effect, Entry, Message, RaftEvent, Snapshot, SnapshotMeta } from '#raft/types.ts'
import { entryBytes } from '../codec/limits.ts'
import { WriteGate } from '../storage/write-gate.ts'
import { PendingRequests } from './pending-requests.ts'
import { RAFT_OPTIONS, type RaftNodeOptions } from './raft-node-options.ts'

/** Between two ticks at most: the core notices a stall of this process by their absence. */
const TICK_MAX_MS = RAFT_OPTIONS.electionTimeoutMs / 2
const COMMIT_NOTE_MS = 1_000
/** Events queued for the core; beyond it messages are dropped, because the core repeats those that matter. */
const MAX_QUEUED = 16_384

export class RaftNode {
  readonly #options: RaftNodeOptions
  readonly #state: RaftState
  readonly #queue: RaftEvent[] = []
  readonly #pending = new PendingRequests()
  readonly #gate = new WriteGate()
  readonly #stopNoting: Cancel
  #tick: { readonly atMs: number; readonly cancel: Cancel } | null = null
  #pumping = false
  #stopped = false
  #notedCommit: LogIndex
  /** The commit index that a leader of this process's life announced first. */
  #announcedCommit: LogIndex | null = null
  #current = false

  constructor(options: RaftNodeOptions) {
    const { clock, clusterId, configuration, durable, random, self } = options
    this.#options = options
    this.#notedCommit = durable.commitIndex
    this.#state = createRaft({
      self,
      clusterId,
      options: RAFT_OPTIONS,
      durable,
      snapshotData: options.snapshotData ?? null,
      incarnation: options.incarnation ?? 0,
      configuration,
      nowMs: clock.nowMs(),
      random: random.unit()
    })
    this.#stopNoting = clock.every(COMMIT_NOTE_MS, () => this.#noteCommit())
    this.#enqueue({ kind: 'tick' })
  }

  status(): RaftStatus {
    return raftStatus(this.#state)
  }

  /**
   * Has this host applied at least what was committed when a leader first reached this process? Before that the state
   * may be older than one this host has acted on, and nothing may be removed because of it. A new leader's commit index
   * is itself too low until an entry of its own term is committed (Raft thesis 3.6.2).
   */
  get current(): boolean {
    if (!this.#current) {
      const { role, term, commitIndex, commitTerm } = this.status()
      const announced = role === 'leader' ? (0 as LogIndex) : this.#announcedCommit
      this.#current = commitTerm === term && announced !== null && commitIndex >= announced
    }
    return this.#current
  }

  /** The configuration in force, committed or not, and the leader that this server follows. */
  get view(): Pick<RaftState, 'configuration' | 'leader'> {
    return this.#state
  }

  receive(message: Message): void {
    if (message.kind === 'append-request' && message.term >= this.status().term)
      this.#announcedCommit ??= message.leaderCommit
    if (this.#queue.length < MAX_QUEUED) this.#enqueue({ kind: 'receive', message })
  }

  /** The connection to a server broke or was refused; the server may be alive all the same. */
  peerLost(peer: PeerId): void {
    if (this.#queue.length < MAX_QUEUED) this.#enqueue({ kind: 'peer-lost', peer })
  }

  /**
   * Proposes commands together; resolves with their results once all are committed and applied here.
   * @throws ERR_NOT_LEADER when this server does not lead; ERR_NO_QUORUM when the outcome is unknown
   */
  propose(batch: readonly Uint8Array[]): Promise<readonly unknown[]> {
    if (batch.length === 0) return Promise.resolve([])
    return this.#pending.proposals(id => this.#enqueue({ kind: 'propose', id, batch }))
  }

  /** Resolves to an index; a read from a state applied up to it is linearizable. @throws ERR_NOT_LEADER */
  read(): Promise<LogIndex> {
    return this.#pending.read(id => this.#enqueue({ kind: 'read', id }))
  }

  /**
   * Changes the membership by one server; resolves once that is committed.
   * @throws ERR_BUSY when it is too early and a retry will do; ERR_HOST_EXISTS, ERR_HOST_NOT_FOUND or ERR_INVALID (the
   *   last voter) when it makes no sense; and as propose
   */
  async change(change: Change): Promise<unknown> {
    const [result] = await this.#pending.proposals(id => this.#enqueue({ kind: 'change', id, change }))
    return result
  }

  /** Hands leadership to a voter, if it can take it; the attempt ends after an election timeout. */
  transfer(to: PeerId): void {
    this.#enqueue({ kind: 'transfer', to })
  }

  /** The metadata of a snapshot of the state applied up to an index. */
  snapshotMeta(index: LogIndex): SnapshotMeta | undefined {
    return snapshotMeta(this.#state, index)
  }

  /** A snapshot of the applied state is durable: drops the log before it, except for a tail. */
  snapshotTaken(snapshot: Snapshot): void {
    this.#enqueue({ kind: 'snapshot-taken', snapshot })
  }

  /** The latest, to be sent to others; null without one. */
  get snapshot(): Snapshot | null {
    return this.#state.snapshot
  }

  /** The first entry that is still in memory. */
  get firstIndex(): LogIndex {
    return (this.#state.log.baseIndex + 1) as LogIndex
  }

  /** Committed entries from an index on, up to a size, for catch-up; empty when that index is not in memory. */
  committedEntries(from: LogIndex, maxBytes: number): Entry[] {
    const { log, commitIndex } = this.#state
    const entries: Entry[] = []
    let bytes = 0
    for (let index = from; index <= commitIndex && bytes < maxBytes; index++) {
      const entry = log.at(index)
      if (entry === undefined) break
      entries.push(entry)
      bytes += entryBytes(entry)
    }
    return entries
  }

  stop(): void {
    this.#stopped = true
    this.#stopNoting()
    this.#tick?.cancel()
    this.#pending.failAll('the agent stops')
  }

  #enqueue(event: RaftEvent): void {
    if (this.#stopped) return
    this.#queue.push(event)
    if (this.#pumping) return
    this.#pumping = true
    process.nextTick(() => this.#pump())
  }

  #pump(): void {
    const { clock, random } = this.#options
    try {
      for (let event = this.#queue.shift(); event !== undefined && !this.#stopped; event = this.#queue.shift()) {
        for (const effect of step(this.#state, { event, nowMs: clock.nowMs(), random: random.unit() })) {
          this.#carryOut(effect)
        }
      }
      this.#pumping = false
      this.#armTick()
      this.#startWriting()
    } catch (err) {
      this.#fail(err)
    }
  }

  /** A tick that is not needed any more does no harm: only one that is due sooner takes its place. */
  #armTick(): void {
    const { clock, wal } = this.#options
    const nowMs = clock.nowMs()
    const atMs = Math.min(nowMs + TICK_MAX_MS, tickDueMs(this.#state))
    if (this.#stopped || (this.#tick !== null && this.#tick.atMs <= atMs)) return
    this.#tick?.cancel()
    const run = (): void => {
      this.#tick = null
      this.#enqueue({ kind: 'tick', diskBusySinceMs: wal.busySinceMs })
    }
    this.#tick = { atMs, cancel: clock.after(Math.max(0, Math.ceil(atMs - nowMs)), run) }
  }

  #carryOut(effect: Effect): void {
    switch (effect.kind) {
      case 'persist': {
        this.#gate.persist(effect)
        return
      }
      case 'install':
        this.#gate.install(effect)
        this.#options.restore(effect.snapshot)
        return
      case 'send':
        if (this.#gate.admit(effect)) this.#options.send(effect.message)
        return
      case 'commit':
        // Need not wait: a committed entry is durable on a majority, and the state applied here dies with the process.
        this.#pending.applied(effect.entries, this.#options.apply(effect.entries))
        return
      case 'proposed': {
        this.#pending.appended(effect)
        return
      }
      case 'refused': {
        this.#pending.refused(effect)
        return
      }
      case 'read-ready': {
        this.#pending.readReady(effect.id, effect.index)
        return
      }
      case 'read-failed': {
        this.#pending.readFailed(effect.id)
        return
      }
      case 'impossible': {
        this.#options.refused(effect.from, effect.why)
        return
      }
      case 'lost-log': {
        this.#options.logger.error({ peer: effect.peer }, 'server lost its durable log; remove it and add it again')
        return
      }
      case 'role':
        if (effect.role !== 'leader') this.#pending.failAppended('the leader stepped down; the outcome is unknown')
        this.#options.roleChanged({ role: effect.role, term: effect.term, leader: effect.leader })
    }
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
}
