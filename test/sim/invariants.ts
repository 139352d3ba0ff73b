// What must hold after every event, checked as it happens: each check costs O(1) an event or an entry.

import type { LogIndex, PeerId, Term } from '#model/ids.ts'
import { quorumSize } from '#raft/configuration.ts'
import type { RaftState } from '#raft/raft.ts'
import type { Entry, HardState, Message } from '#raft/types.ts'

export class Invariants {
  violation: string | null = null
  readonly #leaderOf = new Map<Term, PeerId>()
  readonly #votes = new Map<string, PeerId>()
  /** By (index, term): the entry's content and the term before it. Log matching, step by step (thesis 3.5). */
  readonly #entries = new Map<string, string>()
  /** Committed entries by index - 1. */
  readonly committed: { readonly term: Term; readonly content: string }[] = []
  highestAcked = 0

  fail(what: string): void {
    this.violation ??= what
  }

  /** Election safety, and leader completeness. */
  becameLeader(state: RaftState): void {
    const other = this.#leaderOf.get(state.term)
    if (other !== undefined && other !== state.self)
      this.fail(`two leaders in term ${state.term}: ${other}, ${state.self}`)
    this.#leaderOf.set(state.term, state.self)
    const last = this.committed.length as LogIndex
    const committed = this.committed.at(-1)
    if (committed !== undefined && state.log.termAt(last) !== committed.term) {
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
    const vote =
      message.kind === 'vote-reply' && message.granted
        ? message.to
        : message.kind === 'vote-request'
          ? message.from
          : null
    if (vote === null) return
    const key = `${message.term} ${message.from}`
    const before = this.#votes.get(key)
    if (before !== undefined && before !== vote) this.fail(`${message.from} votes twice in term ${message.term}`)
    this.#votes.set(key, vote)
  }

  appended(entries: readonly Entry[], termBefore: number | undefined): void {
    let previous: number | undefined = termBefore
    for (const entry of entries) {
      const key = `${entry.index} ${entry.term}`
      const content = `${previous ?? '?'} ${contentOf(entry)}`
      const known = this.#entries.get(key)
      if (known !== undefined && known !== content)
        this.fail(`log matching: two entries ${entry.index} of term ${entry.term}`)
      this.#entries.set(key, content)
      previous = entry.term
    }
  }

  /** State-machine safety: in order, each once in a life, and nobody ever applies another entry at an index. */
  applied(who: PeerId, appliedBefore: LogIndex, entries: readonly Entry[]): void {
    for (const [at, entry] of entries.entries()) {
      if (entry.index !== appliedBefore + at + 1) this.fail(`${who} applies ${entry.index} after ${appliedBefore + at}`)
      const content = contentOf(entry)
      const known = this.committed[entry.index - 1]
      if (known === undefined) {
        this.committed.push({ term: entry.term, content })
      } else if (known.term !== entry.term || known.content !== content) {
        this.fail(`${who} applies another entry ${entry.index}`)
      }
    }
  }

  wrote(who: PeerId, before: HardState, after: HardState): void {
    if (after.term < before.term) this.fail(`${who}: the term on disk goes back`)
    if (after.term === before.term && before.votedFor !== null && after.votedFor !== before.votedFor) {
      this.fail(`${who}: the vote of term ${after.term} on disk changes`)
    }
  }

  /** Check-quorum: a leader that no majority has answered for three election timeouts does not lead any more. */
  leads(p: { readonly state: RaftState; readonly heard: ReadonlyMap<PeerId, number>; readonly nowMs: number }): void {
    const { configuration, options, self, term } = p.state
    const since = p.nowMs - 3 * options.electionTimeoutMs
    const heard = configuration.voters.filter(voter => voter === self || (p.heard.get(voter) ?? -Infinity) >= since)
    if (heard.length < quorumSize(configuration)) this.fail(`${self} leads term ${term} although no majority answers`)
  }

  /** What a client was told is there must be there, as it was told. */
  acknowledged(index: LogIndex, content: string): void {
    const entry = this.committed[index - 1]
    if (entry?.content !== content)
      this.fail(`entry ${index} was acknowledged as "${content}" and is ${entry?.content ?? 'nothing'}`)
    this.highestAcked = Math.max(this.highestAcked, index)
  }

  /** A read must see everything that was acknowledged before it was asked. */
  read(index: LogIndex, ackedBefore: number): void {
    if (index < ackedBefore) this.fail(`a stale read: ${index} although ${ackedBefore} was acknowledged before`)
  }
}

export function contentOf(entry: Pick<Entry, 'kind' | 'data'>): string {
  return `${entry.kind} ${Buffer.from(entry.data).toString('latin1')}`
}
