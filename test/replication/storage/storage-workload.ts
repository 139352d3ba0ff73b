// A random workload on a host's storage, and a model of what must be recovered: appends alone and concurrent, votes,
// conflicts, commit notes, snapshots taken and received, restarts. The model is a hash chain over the entries; a
// snapshot's data is the chain's value at its last entry, so that any recovered state can be compared with the model.

import { createHash } from 'node:crypto'
import type { ClusterId, LogIndex, PeerId, Term } from '#model/ids.ts'
import type { Clock } from '#platform/clock.ts'
import type { FileLayer } from '#platform/file-layer.ts'
import type { Entry, HardState, SnapshotMeta } from '#raft/types.ts'
import { openStorage, type Storage } from '#replication/storage/storage.ts'
import type { WalRecord } from '#replication/storage/wal-record.ts'
import { ManualClock } from '#test/lab/manual-clock.ts'
import type { Random } from '#test/sim/random.ts'
import { contentOf, sections } from '../snapshots.ts'

export const DIR = '/data'
export const SELF = 'peer-a' as PeerId
const CLUSTER = 'c1' as ClusterId
const CONFIGURATION = { voters: [SELF], learners: [] }

/** Small, so that a short run goes through many segments and reservations. */
const SMALL = { segmentBytes: 3 * 1024, reserveBytes: 700 }

/** Longer than any timer of the log. */
const REST_MS = 10_000

/** The content of a storage as a comparable string. */
export type Digest = string

/** @param clock one that stands still by default, so that no sync marker is written unasked */
export async function openSmall(files: FileLayer, clock: Clock = new ManualClock().clock): Promise<Storage> {
  return openStorage(DIR, SELF, { clock, files, ...SMALL })
}

export async function digestOf({ recovered, snapshot, snapshots }: Storage): Promise<Digest> {
  let chain = (await contentOf(snapshots.files, snapshot)).toString()
  for (const entry of recovered.durable.entries) chain = link(chain, entry)
  const last = recovered.durable.entries.at(-1)?.index ?? snapshot?.meta.lastIndex ?? 0
  return digest({ chain, last, hardState: recovered.durable.hardState, belongs: recovered.origin !== null })
}

export class Workload {
  readonly #files: FileLayer
  readonly #random: Random
  readonly #clock: ManualClock
  #storage: Storage
  /** The state after each requested change; a recovered state must be one of those from `#acknowledged` on. */
  readonly #states: Digest[]
  #acknowledged = 0
  #acknowledgedCommit = 0
  #commit = 0
  #chain: string[] = ['']
  #terms: number[] = [0]
  #hardState: HardState = { term: 0 as Term, votedFor: null }
  #snapshotIndex = 0
  readonly counts = new Map<string, number>()

  private constructor(files: FileLayer, random: Random, p: { readonly clock: ManualClock; readonly storage: Storage }) {
    this.#files = files
    this.#random = random
    this.#clock = p.clock
    this.#storage = p.storage
    this.#states = [this.#digest(false)]
  }

  static async start(files: FileLayer, random: Random): Promise<Workload> {
    const clock = new ManualClock()
    return new Workload(files, random, { clock, storage: await openSmall(files, clock.clock) })
  }

  async run(operations: number): Promise<void> {
    for (let n = 0; n < operations; n++) await (this.#states.length === 1 ? this.#setOrigin() : this.#one())
  }

  /** Lets the disk come to rest: the last append gets its sync marker. */
  async rest(): Promise<void> {
    this.#count('rest')
    await this.#clock.advance(REST_MS)
  }

  /** Notes that everything is committed. */
  async commitAll(): Promise<void> {
    const index = this.#chain.length - 1
    this.#commit = index
    await this.#storage.wal.noteCommit(index as LogIndex)
    this.#acknowledgedCommit = index
  }

  /**
   * A snapshot of the host's own state; the log keeps some of the covered entries, or none.
   * @param appending append at the same time
   */
  async takeSnapshot(appending: boolean): Promise<void> {
    if (this.#commit <= this.#snapshotIndex) return
    this.#count('snapshot')
    const index = this.#snapshotIndex + 1 + this.#random.below(this.#commit - this.#snapshotIndex)
    const save = this.#save(index)
    if (appending) await this.#append('append', this.#entries())
    await save
    await this.#storage.wal.compact((index - this.#random.below(10)) as LogIndex)
  }

  /** The states that a crash now may leave: the last acknowledged one and any requested since. */
  allowed(): readonly Digest[] {
    return this.#states.slice(this.#acknowledged)
  }

  get commit(): { readonly acknowledged: number; readonly requested: number } {
    return { acknowledged: this.#acknowledgedCommit, requested: this.#commit }
  }

  async close(): Promise<void> {
    await this.#storage.wal.close()
  }

  async #one(): Promise<void> {
    const dice = this.#random.below(100)
    if (dice < 45) return this.#append('append', this.#entries())
    if (dice < 55) {
      const several = Array.from({ length: 2 + this.#random.below(6) }, () => this.#append('append', this.#entries()))
      await Promise.all(several)
      return
    }
    if (dice < 65) return this.#append('vote', [this.#vote()])
    if (dice < 73) return this.#append('conflict', this.#conflict())
    if (dice < 84) return this.#noteCommit()
    if (dice < 92) return this.takeSnapshot(this.#random.chance(0.5))
    if (dice < 95) return this.#receiveSnapshot()
    if (dice < 97) return this.#snapshotAhead()
    if (dice < 98) return this.rest()
    return this.#reopen()
  }

  async #setOrigin(): Promise<void> {
    this.#storage.snapshots.belong(CLUSTER)
    await this.#append('origin', [{ kind: 'origin', origin: { clusterId: CLUSTER, configuration: CONFIGURATION } }])
  }

  /** Requests an append and awaits it; the model is updated at once. */
  async #append(kind: string, records: readonly WalRecord[]): Promise<void> {
    this.#count(kind)
    const state = this.#requested()
    await this.#storage.wal.append(records)
    this.#acknowledge(state)
  }

  #entries(): WalRecord[] {
    return Array.from({ length: 1 + this.#random.below(6) }, () => {
      const data = Buffer.alloc(this.#random.below(120), this.#random.below(256))
      const index = this.#chain.length as LogIndex
      const entry: Entry = { index, term: this.#hardState.term, kind: 'command', data }
      this.#chain.push(link(this.#chain.at(-1) ?? '', entry))
      this.#terms.push(entry.term)
      return { kind: 'entry' as const, entry }
    })
  }

  #vote(): WalRecord {
    this.#hardState = { term: (this.#hardState.term + 1) as Term, votedFor: this.#random.pick([SELF, null]) }
    return { kind: 'hard-state', hardState: this.#hardState }
  }

  #conflict(): WalRecord[] {
    const last = this.#chain.length - 1
    const from = (this.#commit + 1 + this.#random.below(Math.max(1, last - this.#commit))) as LogIndex
    this.#chain.length = Math.min(from, this.#chain.length)
    this.#terms.length = this.#chain.length
    return [this.#vote(), { kind: 'truncate', from }, ...this.#entries()]
  }

  async #noteCommit(): Promise<void> {
    this.#count('commit')
    const last = this.#chain.length - 1
    const index = this.#commit + this.#random.below(last - this.#commit + 1)
    this.#commit = index
    await this.#storage.wal.noteCommit(index as LogIndex)
    this.#acknowledgedCommit = Math.max(this.#acknowledgedCommit, index)
  }

  /** A leader may apply and snapshot entries that are not on its own disk yet. */
  async #snapshotAhead(): Promise<void> {
    this.#count('snapshot ahead')
    const appending = this.#append('append', this.#entries())
    const index = this.#chain.length - 1
    this.#commit = index
    await Promise.all([appending, this.#save(index)])
    this.#acknowledgedCommit = index
    await this.#storage.wal.compact(index as LogIndex)
  }

  /** A snapshot from a leader whose log does not match: beyond this log's end, or with another term there. */
  async #receiveSnapshot(): Promise<void> {
    this.#count('received')
    const beyond = this.#random.chance(0.5)
    const last = this.#chain.length - 1
    const index = beyond
      ? last + 1 + this.#random.below(20)
      : this.#commit + this.#random.below(last - this.#commit + 1)
    if (index <= this.#commit) return
    const term = this.#hardState.term + 1
    await this.#append('vote', [this.#vote()])
    this.#chain = Array.from({ length: index + 1 }, (_, at) => this.#chain[at] ?? '')
    this.#chain[index] = `received ${index} ${term}`
    this.#terms = Array.from({ length: index + 1 }, () => term)
    this.#commit = index
    const state = this.#requested()
    await this.#save(index)
    this.#acknowledge(state)
    await this.#storage.wal.reset({ lastIndex: index as LogIndex, lastTerm: term as Term })
    this.#acknowledgedCommit = index
  }

  async #save(index: number): Promise<void> {
    const meta: SnapshotMeta = {
      lastIndex: index as LogIndex,
      lastTerm: (this.#terms[index] ?? 0) as Term,
      configuration: CONFIGURATION
    }
    await this.#storage.snapshots.save(meta, sections(this.#chain[index] ?? ''))
    this.#snapshotIndex = index
  }

  async #reopen(): Promise<void> {
    this.#count('reopen')
    await this.#storage.wal.close()
    this.#storage = await openSmall(this.#files, this.#clock.clock)
    const found = await digestOf(this.#storage)
    if (found !== this.#states.at(-1)) throw new Error(`reopened as ${found} instead of ${this.#states.at(-1) ?? ''}`)
  }

  #requested(): number {
    return this.#states.push(this.#digest(true)) - 1
  }

  #acknowledge(state: number): void {
    this.#acknowledged = Math.max(this.#acknowledged, state)
  }

  #digest(belongs: boolean): Digest {
    const [chain, last] = [this.#chain.at(-1) ?? '', this.#chain.length - 1]
    return digest({ chain, last, hardState: this.#hardState, belongs })
  }

  #count(kind: string): void {
    this.counts.set(kind, (this.counts.get(kind) ?? 0) + 1)
  }
}

function link(chain: string, { index, term, data }: Entry): string {
  return createHash('sha1').update(`${chain} ${index} ${term} `).update(data).digest('base64')
}

function digest(p: { chain: string; last: number; hardState: HardState; belongs: boolean }): Digest {
  return JSON.stringify([p.last, p.chain, p.hardState.term, p.hardState.votedFor, p.belongs])
}
