// How far this host has applied its cluster's log, and the state machine that it applies it to.

import type { Command, Outcome, Refusal, Request } from '#model/command.ts'
import type { LogIndex, PeerId, Term } from '#model/ids.ts'
import type { Ip } from '#model/ip.ts'
import type { Configuration, Entry, SnapshotMeta } from '#raft/types.ts'
import type { FeedNote } from '../feed/feed-message.ts'
import { requestOf } from './entry-request.ts'
import { configurationAfter } from './participation.ts'
import type { Applied, AppliedEntry } from './propose-rpc.ts'

/** The state machine behind the log. */
export type StateMachine = {
  /** Applies a committed command. */
  readonly apply: (index: LogIndex, request: Request) => Outcome
  /** Why a client host's request does not enter the log, as the leader sees it; null if it may. */
  readonly admit: (
    command: Command,
    from: { readonly peer: PeerId; readonly addresses: () => readonly Ip[] }
  ) => Refusal | null
  /** The newest rules by which the state applies a request: see ClusterState.rules. */
  readonly rules: () => number
  /** Advances past an entry that holds no command. */
  readonly skip: (index: LogIndex) => void
  /** The state at the time of the call in sections; entries may be applied while it is read, to its end or `return`. */
  readonly snapshot: () => AsyncIterableIterator<Uint8Array>
  /** Builds a state from sections beside the one in use. @throws ERR_STORAGE when they encode none */
  readonly prepare: (sections: AsyncIterable<Uint8Array>) => Promise<PreparedState>
  /** Called after each applied range. */
  readonly applied: (index: LogIndex) => void
  /** What a leader tells the followers of the feed about its state; a few short notes. */
  readonly notes: () => readonly FeedNote[]
  /** What another host that may lead notes of its state. */
  readonly noted: (author: PeerId, notes: readonly FeedNote[]) => void
}

/** A state that was built beside the one in use. */
export type PreparedState = {
  /** Replaces the whole state, at once. */
  readonly adopt: () => void
}

const SKIPPED: Outcome = { ok: true, result: { kind: 'session' } }

export class AppliedLog {
  readonly #machine: StateMachine
  readonly #outcome: (request: Request, applied: Applied) => void
  #meta: SnapshotMeta = {
    lastIndex: 0 as LogIndex,
    lastTerm: 0 as Term,
    configuration: { voters: [], learners: [] }
  }

  /** @param outcome takes what each request led to */
  constructor(machine: StateMachine, outcome: (request: Request, applied: Applied) => void = () => undefined) {
    this.#machine = machine
    this.#outcome = outcome
  }

  /** The metadata of a snapshot of the state: the last entry applied, and the configuration with it. */
  get meta(): SnapshotMeta {
    return this.#meta
  }

  get index(): LogIndex {
    return this.#meta.lastIndex
  }

  get configuration(): Configuration {
    return this.#meta.configuration
  }

  /** Sets the configuration before the first entry. Later the state knows it: a log that is read again may end before it. */
  begin(configuration: Configuration): void {
    if (this.index === 0) this.#meta = { ...this.#meta, configuration }
  }

  /** Applies committed entries in order; skips those that were applied before. @returns an outcome each */
  apply(entries: readonly Entry[]): AppliedEntry[] {
    const before = this.index
    const results = entries.map(entry => ({
      index: entry.index,
      term: entry.term,
      outcome: this.#applyOne(entry)
    }))
    const fresh = entries.filter(({ index }) => index > before)
    this.#meta = { ...this.#meta, configuration: configurationAfter(this.configuration, fresh) }
    if (entries.length > 0) this.#machine.applied(this.index)
    return results
  }

  /** The sections of the applied state at the time of the call; see StateMachine. */
  snapshot(): AsyncIterableIterator<Uint8Array> {
    return this.#machine.snapshot()
  }

  /** @throws ERR_STORAGE */
  prepare(sections: AsyncIterable<Uint8Array>): Promise<PreparedState> {
    return this.#machine.prepare(sections)
  }

  /** Goes on from a prepared state, which is that after `meta.lastIndex`. */
  adopt(meta: SnapshotMeta, prepared: PreparedState): void {
    prepared.adopt()
    this.#meta = meta
    this.#machine.applied(this.index)
  }

  /** See StateMachine. */
  notes(): readonly FeedNote[] {
    return this.#machine.notes()
  }

  noted(author: PeerId, notes: readonly FeedNote[]): void {
    this.#machine.noted(author, notes)
  }

  #applyOne(entry: Entry): Outcome {
    const { index, term, kind } = entry
    // After a change of role the log is read again from its beginning.
    if (index <= this.index) return SKIPPED
    this.#meta = { lastIndex: index, lastTerm: term, configuration: this.configuration }
    if (kind === 'command') {
      const request = requestOf(entry)
      const outcome = this.#machine.apply(index, request)
      this.#outcome(request, { index, outcome })
      return outcome
    }
    this.#machine.skip(index)
    return SKIPPED
  }
}
