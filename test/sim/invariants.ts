// Safety invariants, checked at every event. Each check costs O(1) per event or entry.

import type { LogIndex, PeerId, Term } from '#model/ids.ts'
import { encodeConfiguration, isVoter, quorumSize } from '#raft/configuration.ts'
import type { RaftState } from '#raft/raft.ts'
import type { Entry, HardState, Message, SnapshotMeta } from '#raft/types.ts'
import { Machine, type Outcome } from './machine.ts'

type Seen = { readonly entry: Entry; readonly termBefore: number | undefined }
type Committed = {
  readonly entry: Entry
  readonly outcome: Outcome | null
  readonly digest: number
  /** The term of the server that applied it first: at least the term in which it was committed. */
  readonly inTerm: Term
}

export class Invariants {
  violation: string | null = null
  readonly #leaderOf = new Map<Term, PeerId>()
  readonly #votes = new Map<PeerId, Map<Term, PeerId>>()
  /** By index: every entry, of any term, that was ever appended there. */
  readonly #seen: Seen[][] = []
  /** By index - 1: the committed entries and their outcomes on a reference state machine. */
  readonly committed: Committed[] = []
  readonly #reference = new Machine()
  readonly #configs: Entry[] = []
  /** The highest index whose effect a client has observed. */
  observedIndex = 0

  /** The index of the last committed config entry. */
  get committedConfigIndex(): LogIndex {
    return this.#configs.at(-1)?.index ?? (0 as LogIndex)
  }

  fail(violation: string): void {
    this.violation ??= violation
  }

  /** Election safety and leader completeness. */
  becameLeader(state: RaftState): void {
    const other = this.#leaderOf.get(state.term)
    if (other !== undefined && other !== state.self)
      this.fail(`two leaders in term ${state.term}: ${other}, ${state.self}`)
    this.#leaderOf.set(state.term, state.self)
    // Only entries committed in earlier terms: a leader that delayed votes elect late may miss newer ones.
    let last = this.committed.length
    while ((this.committed[last - 1]?.inTerm ?? 0) >= state.term) last -= 1
    const committed = this.committed[last - 1]
    if (committed !== undefined && state.log.termAt(last as LogIndex) !== committed.entry.term) {
      this.fail(`leader completeness: ${state.self} leads term ${state.term} and lacks committed entry ${last}`)
    }
  }

  /** Every message carries its sender's term; otherwise a stale leader would never be deposed. */
  checkMessageTerm(state: RaftState, message: Message): void {
    const term = message.kind === 'pre-vote-request' ? state.term + 1 : state.term
    if (message.term !== term) this.fail(`${state.self} is in term ${state.term} and sends ${message.term}`)
  }

  /** A server votes at most once per term, across restarts. */
  checkVote(message: Message): void {
    const { from, term, kind } = message
    const vote = kind === 'vote-reply' && message.granted ? message.to : kind === 'vote-request' ? from : null
    if (vote === null) return
    let votes = this.#votes.get(from)
    if (votes === undefined) this.#votes.set(from, (votes = new Map<Term, PeerId>()))
    const before = votes.get(term)
    if (before !== undefined && before !== vote) this.fail(`${from} votes twice in term ${term}`)
    votes.set(term, vote)
  }

  /** Log matching by induction (thesis 3.5): index and term identify one entry and the term of the entry before it. */
  appended(entries: readonly Entry[], termBefore: number | undefined): void {
    let before = termBefore
    for (const entry of entries) {
      const seen = this.#seen[entry.index] ?? []
      this.#seen[entry.index] = seen
      const known = seen.find(other => other.entry.term === entry.term)
      if (known === undefined) seen.push({ entry, termBefore: before })
      else if (!isSame(known.entry, entry) || known.termBefore !== before)
        this.fail(`log matching: two entries ${entry.index} of term ${entry.term}`)
      before = entry.term
    }
  }

  /** State-machine safety: all servers apply the same entry at an index. @returns the expected outcome */
  applied({ self: who, term }: RaftState, entry: Entry): Outcome | null {
    const known = this.committed[entry.index - 1]
    if (known !== undefined) {
      if (known.entry !== entry && (known.entry.term !== entry.term || !isSame(known.entry, entry)))
        this.fail(`${who} applies a different entry ${entry.index}`)
      return known.outcome
    }
    if (entry.index !== this.committed.length + 1) this.fail(`${who} applies ${entry.index}, which was never committed`)
    const outcome = this.#reference.apply(entry)
    this.committed.push({ entry, outcome, digest: this.#reference.digest, inTerm: term })
    if (entry.kind === 'config') this.#configs.push(entry)
    return outcome
  }

  /** Equal state at equal index, whether from the log or from a snapshot. */
  checkState(who: PeerId, index: LogIndex, machine: Machine): void {
    if (index === 0) return
    const known = this.committed[index - 1]
    if (known === undefined) this.fail(`${who} has the state of ${index}, which was never committed`)
    else if (known.digest !== machine.digest) this.fail(`${who} has a different state at ${index}`)
  }

  /** A snapshot carries the configuration at its last index. */
  checkSnapshot(who: PeerId, { lastIndex, configuration }: SnapshotMeta): void {
    const entry = this.#configs.findLast(config => config.index <= lastIndex)
    const expected = entry === undefined ? null : Buffer.from(entry.data)
    if (expected !== null && !expected.equals(encodeConfiguration(configuration)))
      this.fail(`${who} has a snapshot at ${lastIndex} with a different configuration`)
  }

  checkHardState(who: PeerId, before: HardState, after: HardState): void {
    if (after.term < before.term) this.fail(`${who}: the term on disk goes back`)
    if (after.term === before.term && before.votedFor !== null && after.votedFor !== before.votedFor) {
      this.fail(`${who}: the vote of term ${after.term} on disk changes`)
    }
  }

  /** The configuration in force is the last one in the log (thesis 4.1). */
  checkConfiguration({ self, log, configuration }: RaftState): void {
    if (log.configurationAt(log.lastIndex) !== configuration)
      this.fail(`${self} uses a configuration other than the last one in its log`)
  }

  /**
   * Check-quorum: a leader steps down within three election timeouts without replies from a majority, within two when its
   * disk hangs, and when its removal is committed (thesis 4.2.2).
   */
  checkLeader(p: {
    readonly state: RaftState
    readonly lastReplyMs: ReadonlyMap<PeerId, number>
    readonly nowMs: number
    readonly writingSinceMs: number
  }): void {
    const { configuration, options, self, term, log, commitIndex } = p.state
    if (p.nowMs - p.writingSinceMs > 2 * options.electionTimeoutMs) this.fail(`${self} leads and its disk hangs`)
    if (log.lastConfigIndex <= commitIndex && !isVoter(configuration, self)) this.fail(`${self} leads and is removed`)
    const since = p.nowMs - 3 * options.electionTimeoutMs
    let active = 0
    for (const voter of configuration.voters) {
      if (voter === self || (p.lastReplyMs.get(voter) ?? -Infinity) >= since) active += 1
    }
    if (active < quorumSize(configuration)) this.fail(`${self} leads term ${term} although no majority replies`)
  }

  /**
   * Linearizability, with the log order as witness: an operation takes effect after everything that any client had
   * observed before it started, and its result is that of executing the commands in log order.
   */
  acknowledged(p: { readonly entryIndex: LogIndex; readonly outcome: Outcome; readonly seenBefore: number }): void {
    const { index, result } = p.outcome
    const known = this.committed[p.entryIndex - 1]?.outcome ?? null
    if (known?.index !== index || known.result !== result) this.fail(`the answer for ${index} is not its outcome`)
    if (index <= p.seenBefore)
      this.fail(`${index} took effect before its request: ${p.seenBefore} was already observed`)
    this.observedIndex = Math.max(this.observedIndex, index)
  }

  /** A read returned the state at an index. */
  read(index: LogIndex, seenBefore: number): void {
    if (index < seenBefore) this.fail(`a stale read at ${index}: ${seenBefore} was already observed`)
    this.observedIndex = Math.max(this.observedIndex, index)
  }
}

function isSame(a: Entry, b: Entry): boolean {
  return a === b || (a.kind === b.kind && Buffer.compare(a.data, b.data) === 0)
}
