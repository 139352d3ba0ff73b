// What must hold for whole hosts. A reference state machine applies each entry when the first host does; every other
// host must apply the same entry at the same index and get the same outcome. Answers to clients are checked against it.

import { digestOf } from '#allocator/digest.ts'
import { ClusterState } from '#allocator/state-machine.ts'
import { rulesNeeded, rulesOfVersion, type Outcome, type Request } from '#model/command.ts'
import type { LogIndex, PeerId, Term } from '#model/ids.ts'
import { encodeMsgpack } from '#platform/msgpack.ts'
import type { Entry } from '#raft/types.ts'
import { didHarm, FALSE_TERM } from './hostile.ts'

/** Higher than any honest election leads. */
const HIGHEST_TERM = FALSE_TERM

type Applied = { readonly request: string | null; readonly outcome: string; readonly digest: string }

export class Oracle {
  violation: string | null = null
  /** The highest index whose effect a client has observed. */
  observedIndex = 0
  readonly state = new ClusterState()
  rulesRaised: () => void = () => undefined
  /** By index - 1. */
  readonly #applied: Applied[] = []
  readonly #leaders = new Map<Term, PeerId>()
  /** By request id. */
  readonly #answers = new Map<string, string>()

  get index(): number {
    return this.#applied.length
  }

  fail(violation: string): void {
    this.violation ??= violation
  }

  /** A host applies an entry; null for entries without a command. `after`: the index that it had applied before. */
  applied(
    host: string,
    p: { readonly index: LogIndex; readonly after: number; readonly request: Request | null }
  ): void {
    const { index, after } = p
    if (index !== after + 1) this.fail(`${host} applies entry ${index} after ${after}`)
    const request = p.request === null ? null : textOf(p.request)
    const known = this.#applied[index - 1]
    if (known !== undefined) {
      if (known.request !== request) this.fail(`${host} applies a different entry ${index}`)
      return
    }
    if (index !== this.index + 1) {
      this.fail(`${host} applies entry ${index}, and no host has applied ${this.index + 1}`)
      return
    }
    let outcome = ''
    if (p.request === null) this.state.skip(index)
    else {
      const { rules } = this.state
      const result = this.state.apply(index, p.request)
      outcome = textOf(result)
      this.#checkRules({ index, request: p.request, before: rules })
      if (didHarm(p.request, result)) this.fail(`a forged ${p.request.command.kind} takes effect at entry ${index}`)
    }
    this.#applied.push({ request, outcome, digest: digestOf(this.state) })
  }

  /** Nothing is in the log that a registered host does not know (docs/adr/0054). */
  #checkRules(p: {
    readonly index: LogIndex
    readonly request: Request
    /** The rules of the cluster before this entry. */
    readonly before: number
  }): void {
    const { index, request, before } = p
    const { rules } = this.state
    const old = this.state.presentHosts().find(({ version }) => rulesOfVersion(version) < rules)
    if (old !== undefined)
      this.fail(`entry ${index}: the rules are ${rules}, and ${old.name} has version ${old.version}`)
    if (rules < before) this.fail(`entry ${index} lowers the rules`)
    if ((request.rules ?? 0) > before)
      this.fail(`entry ${index} names rules ${request.rules ?? 0} in a cluster of ${before}`)
    const needed = rulesNeeded(request.command)
    if (needed > before)
      this.fail(`entry ${index}, a ${request.command.kind}, needs rules ${needed}, before they are raised`)
    if (rules > before) this.rulesRaised()
  }

  outcome(host: string, index: LogIndex, outcome: Outcome): void {
    if (this.#applied[index - 1]?.outcome !== textOf(outcome))
      this.fail(`${host} has a different outcome of entry ${index}`)
  }

  /** Equal state at equal index, whether from the log or from a snapshot. */
  checkState(host: string, state: ClusterState): void {
    const { appliedIndex } = state
    if (appliedIndex === 0) return
    const known = this.#applied[appliedIndex - 1]
    if (known === undefined) this.fail(`${host} has the state of entry ${appliedIndex}, which no host has applied`)
    else if (known.digest !== digestOf(state)) this.fail(`${host} has a different state at entry ${appliedIndex}`)
  }

  /** A host has adopted a term. */
  term(host: string, term: Term): void {
    if (term >= HIGHEST_TERM) this.fail(`${host} adopts term ${term}, which nobody has led`)
  }

  /** A term has at most one leader. */
  leads(host: PeerId, term: Term): void {
    const other = this.#leaders.get(term)
    if (other !== undefined && other !== host) this.fail(`two leaders in term ${term}: ${other} and ${host}`)
    this.#leaders.set(term, host)
  }

  /**
   * A client got an answer: it must be the outcome of an entry that was appended after the request, and the same for
   * every retry of the request.
   */
  answered(p: {
    readonly requestId: string
    readonly index: LogIndex
    readonly result: unknown
    readonly answer: string
    readonly seenBefore: number
  }): void {
    const { requestId, index, result, answer, seenBefore } = p
    if (this.#applied[index - 1]?.outcome !== textOf({ ok: true, result }))
      this.fail(`the answer to ${requestId} is not the outcome of entry ${index}`)
    if (index <= seenBefore) this.fail(`${requestId} took effect at ${index}, but ${seenBefore} was observed before it`)
    const first = this.#answers.get(requestId) ?? answer
    if (first !== answer) this.fail(`a retry of ${requestId} got ${answer}, and the first answer was ${first}`)
    this.#answers.set(requestId, first)
    this.observedIndex = Math.max(this.observedIndex, index)
  }

  read(index: LogIndex, seenBefore: number): void {
    if (index < seenBefore) this.fail(`a stale read index: ${index}, although ${seenBefore} was observed before`)
    this.observedIndex = Math.max(this.observedIndex, index)
  }

  /** The committed entries on a host's disk are the log's. */
  checkDisk(host: string, entries: readonly Entry[], decode: (data: Uint8Array) => Request): void {
    for (const { index, kind, data } of entries) {
      const known = this.#applied[index - 1]
      const request = kind === 'command' ? textOf(decode(data)) : null
      if (known?.request !== request) this.fail(`${host} has a different entry ${index} on its disk`)
    }
  }
}

function textOf(value: unknown): string {
  return encodeMsgpack(value).toString('latin1')
}
