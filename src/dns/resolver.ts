// The resolver of one network: a query in, an answer out. Own names are answered at once from the state; others are forwarded if the
// network may reach the outside, within limits that keep one container, or one network, from slowing the others.

import type { Clock } from '#platform/clock.ts'
import { AnswerCache } from './answer-cache.ts'
import { replyWith, type ForeignAnswer } from './foreign-answer.ts'
import { FORWARDED, InFlight } from './limits.ts'
import { answerOwn, type OwnNames } from './own-names.ts'
import { keyOf, parseQuery, type Query } from './query.ts'
import { encodeReply } from './reply.ts'
import type { Upstreams } from './upstreams.ts'
import { RCODES, type Rcode } from './wire.ts'

/** What became of queries. `limited`: too many in flight. */
export const OUTCOMES = ['own', 'cached', 'forwarded', 'failed', 'refused', 'limited', 'malformed'] as const
export type QueryOutcome = (typeof OUTCOMES)[number]

/** What all resolvers of a host share. */
export type ResolverHost = {
  readonly upstreams: Pick<Upstreams, 'ask'>
  readonly cacheBytes: number
  readonly forwarded: { count: number }
  readonly connections: { count: number }
  readonly counts: Record<QueryOutcome, number>
  readonly clock: Clock
}

export type ResolverOptions = ResolverHost & {
  /** The network as it is now; null: it is gone. */
  readonly own: () => OwnNames | null
  /** May names of others be asked for? */
  readonly forwards: () => boolean
}

export class Resolver {
  readonly #options: ResolverOptions
  readonly #cache: AnswerCache
  readonly #inFlight: InFlight
  /** Questions that are being asked: whoever asks the same meanwhile shares the answer. */
  readonly #asking = new Map<string, Promise<ForeignAnswer | null>>()

  constructor(options: ResolverOptions) {
    this.#options = options
    this.#cache = new AnswerCache(options.cacheBytes)
    this.#inFlight = new InFlight(FORWARDED, options.forwarded)
  }

  get cacheBytes(): number {
    return this.#cache.bytes
  }

  /** Never throws or rejects. @param from the container's address @returns null: there is nothing to answer */
  handle(message: Buffer, from: string, transport: 'udp' | 'tcp'): Buffer | null | Promise<Buffer> {
    const parsed = parseQuery(message, transport)
    if (parsed.kind !== 'query') this.#count('malformed')
    if (parsed.kind === 'nothing') return null
    const { query } = parsed
    if (parsed.kind === 'error') return encodeReply(query, { rcode: parsed.rcode })
    const own = this.#options.own()
    const reply = own === null ? { rcode: RCODES.refused } : answerOwn(own, query)
    if (reply !== null) {
      this.#count('own')
      return encodeReply(query, reply)
    }
    if (!this.#options.forwards()) return this.#refuse(query, 'refused', RCODES.refused)
    return this.#foreign(query, from)
  }

  #foreign(query: Query, from: string): Buffer | Promise<Buffer> {
    const key = keyOf(query)
    const cached = this.#cache.get(key, this.#options.clock.nowMs())
    if (cached !== null) {
      this.#count('cached')
      return replyWith(cached.answer, query, cached.ageS)
    }
    const leave = this.#inFlight.enter(from)
    if (leave === null) return this.#refuse(query, 'limited', RCODES.failed)
    return this.#forward(key, query).finally(leave)
  }

  async #forward(key: string, query: Query): Promise<Buffer> {
    const asking = this.#asking.get(key) ?? this.#ask(key, query)
    const answer = await asking
    if (answer === null) return this.#refuse(query, 'failed', RCODES.failed)
    this.#count('forwarded')
    return replyWith(answer, query, 0)
  }

  #ask(key: string, query: Query): Promise<ForeignAnswer | null> {
    const { upstreams, clock } = this.#options
    const asking = upstreams
      .ask(query)
      // No room for another socket, for example.
      .catch(() => null)
      .then(answer => {
        this.#asking.delete(key)
        if (answer !== null) this.#cache.put(key, answer, clock.nowMs())
        return answer
      })
    this.#asking.set(key, asking)
    return asking
  }

  #refuse(query: Query, outcome: QueryOutcome, rcode: Rcode): Buffer {
    this.#count(outcome)
    return encodeReply(query, { rcode })
  }

  #count(outcome: QueryOutcome): void {
    this.#options.counts[outcome] += 1
  }
}
