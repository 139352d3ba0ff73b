// What must hold after every event, checked as it happens: each check costs O(1) an event or an entry.

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
  /** Of the server that applied it first: no earlier than the one in which it was committed. */
  readonly inTerm: Term
}

export class Invariants {
  violation: string | null = null
  readonly #leaderOf = new Map<Term, PeerId>()
  readonly #votes = new Map<PeerId, Map<Term, PeerId>>()
  /** By index: the entries of each term that were ever there. */
  readonly #seen: Seen[][] = []
  /** By index - 1, with what one machine that applies all of it in order answers. */
  readonly committed: Committed[] = []
  readonly #reference = new Machine()
  readonly #configs: Entry[] = []
  /** The highest index whose effect somebody outside has seen. */
  seenIndex = 0

  /** Of the last committed config entry. */
  get committedConfigIndex(): LogIndex {
    return this.#configs.at(-1)?.index ?? (0 as LogIndex)
  }

  fail(what: string): void {
    this.violation ??= what
  }

  /** Election safety, and leader completeness. */
  becameLeader(state: RaftState): void {
    const other = this.#leaderOf.get(state.term)
    if (other !== undefined && other !== state.self)
      this.fail(`two leaders in term ${state.term}: ${other}, ${state.self}`)
    this.#leaderOf.set(state.term, state.self)
    // Of what was committed in earlier terms: a leader of the past, elected by late votes, leads nobody.
    let last = this.committed.length
    while ((this.committed[last - 1]?.inTerm ?? 0) >= state.term) last -= 1
    const committed = this.committed[last - 1]
    if (committed !== undefined && state.log.termAt(last as LogIndex) !== committed.entry.term) {
      this.fail(`leader completeness: ${state.self} leads term ${state.term} without committed entry ${last}`)
    }
  }

  /** Whoever is asked answers for the term that it is in: else a leader of the past is never deposed. */
  speaks(state: RaftState, message: Message): void {
    const term = message.kind === 'pre-vote-request' ? state.term + 1 : state.term
    if (message.term !== term) this.fail(`${state.self} is in term ${state.term} and speaks for ${message.term}`)
  }

  /** One vote a term and server, over all of its lives. */
  sent(message: Message): void {
    const { from, term, kind } = message
    const vote = kind === 'vote-reply' && message.granted ? message.to : kind === 'vote-request' ? from : null
    if (vote === null) return
    let votes = this.#votes.get(from)
    if (votes === undefined) this.#votes.set(from, (votes = new Map<Term, PeerId>()))
    const before = votes.get(term)
    if (before !== undefined && before !== vote) this.fail(`${from} votes twice in term ${term}`)
    votes.set(term, vote)
  }

  /** Log matching, step by step (thesis 3.5): an index and term name one entry, and one entry before it. */
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

  /** State-machine safety: nobody ever applies another entry at an index. @returns what the answer must be */
  applied({ self: who, term }: RaftState, entry: Entry): Outcome | null {
    const known = this.committed[entry.index - 1]
    if (known !== undefined) {
      if (known.entry !== entry && (known.entry.term !== entry.term || !isSame(known.entry, entry)))
        this.fail(`${who} applies another entry ${entry.index}`)
      return known.outcome
    }
    if (entry.index !== this.committed.length + 1) this.fail(`${who} applies ${entry.index}, which was never committed`)
    const outcome = this.#reference.apply(entry)
    this.committed.push({ entry, outcome, digest: this.#reference.digest, inTerm: term })
    if (entry.kind === 'config') this.#configs.push(entry)
    return outcome
  }

  /** Equal state at equal index, however it came about. */
  stateAt(who: PeerId, index: LogIndex, machine: Machine): void {
    if (index === 0) return
    const known = this.committed[index - 1]
    if (known === undefined) this.fail(`${who} has the state of ${index}, which was never committed`)
    else if (known.digest !== machine.digest) this.fail(`${who} has another state at ${index}`)
  }

  /** A snapshot says which servers there were at its last index. */
  snapshotAt(who: PeerId, { lastIndex, configuration }: SnapshotMeta): void {
    const entry = this.#configs.findLast(config => config.index <= lastIndex)
    const expected = entry === undefined ? null : Buffer.from(entry.data)
    if (expected !== null && !expected.equals(encodeConfiguration(configuration)))
      this.fail(`${who} has a snapshot of ${lastIndex} with another configuration`)
  }

  wrote(who: PeerId, before: HardState, after: HardState): void {
    if (after.term < before.term) this.fail(`${who}: the term on disk goes back`)
    if (after.term === before.term && before.votedFor !== null && after.votedFor !== before.votedFor) {
      this.fail(`${who}: the vote of term ${after.term} on disk changes`)
    }
  }

  /** In force is the last configuration of the log (thesis 4.1). */
  configured({ self, log, configuration }: RaftState): void {
    if (log.configurationAt(log.lastIndex) !== configuration)
      this.fail(`${self} goes by another configuration than its log's`)
  }

  /**
   * Check-quorum: a leader that no majority has answered for three election timeouts does not lead any more; nor one whose
   * write is under way for two, nor one whose removal is committed (thesis 4.2.2).
   */
  leads(p: {
    readonly state: RaftState
    readonly heard: ReadonlyMap<PeerId, number>
    readonly nowMs: number
    readonly writingSinceMs: number
  }): void {
    const { configuration, options, self, term, log, commitIndex } = p.state
    if (p.nowMs - p.writingSinceMs > 2 * options.electionTimeoutMs) this.fail(`${self} leads and its disk hangs`)
    if (log.lastConfigIndex <= commitIndex && !isVoter(configuration, self)) this.fail(`${self} leads and is removed`)
    const since = p.nowMs - 3 * options.electionTimeoutMs
    let heard = 0
    for (const voter of configuration.voters) {
      if (voter === self || (p.heard.get(voter) ?? -Infinity) >= since) heard += 1
    }
    if (heard < quorumSize(configuration)) this.fail(`${self} leads term ${term} although no majority answers`)
  }

  /**
   * Linearizability, with the log's order as the witness: an operation took effect after everything that somebody had
   * seen before it was asked, and its answer is what the commands in that order give.
   */
  acknowledged(p: { readonly entryIndex: LogIndex; readonly outcome: Outcome; readonly seenBefore: number }): void {
    const { index, result } = p.outcome
    const known = this.committed[p.entryIndex - 1]?.outcome ?? null
    if (known?.index !== index || known.result !== result) this.fail(`the answer to ${index} is not what it did`)
    if (index <= p.seenBefore) this.fail(`${index} took effect before it was asked: ${p.seenBefore} was seen already`)
    this.seenIndex = Math.max(this.seenIndex, index)
  }

  /** A read is of the state at an index. */
  read(index: LogIndex, seenBefore: number): void {
    if (index < seenBefore) this.fail(`a stale read: ${index} although ${seenBefore} was seen before`)
    this.seenIndex = Math.max(this.seenIndex, index)
  }
}

function isSame(a: Entry, b: Entry): boolean {
  return a === b || (a.kind === b.kind && Buffer.compare(a.data, b.data) === 0)
}
