// The upstream resolvers, asked in turn: the configured ones, or those of the host's resolv.conf, which is read again when it changes. A
// local stub such as systemd-resolved's at 127.0.0.53 is one like any other, since it is asked from the host.

import { readFileSync, statSync } from 'node:fs'
import type { Clock } from '#platform/clock.ts'
import type { Random } from '#platform/random.ts'
import { askByTcp, askByUdp } from './exchange.ts'
import { isFailure, isTruncated, upstreamQuery, type ForeignAnswer } from './foreign-answer.ts'
import type { Query } from './query.ts'
import { nameServersIn, upstreamOf, type Upstream } from './resolv-conf.ts'

/** Of one try. Clients wait 5 s. */
const TRY_MS = 1_500
const TRIES = 3
/** How often it is looked whether resolv.conf has changed. */
const LOOK_MS = 1_000

export type UpstreamsOptions = {
  /** ADDRESS:PORT; none: those of the file. */
  readonly configured: () => readonly string[]
  readonly file?: string
  readonly clock: Clock
  readonly random: Pick<Random, 'unit'>
}

export class Upstreams {
  readonly #options: UpstreamsOptions
  /** The last one that answered: a dead one must not delay each question. */
  #last: string | null = null
  #read: { readonly atMs: number; readonly version: string; readonly servers: readonly Upstream[] } | null = null

  constructor(options: UpstreamsOptions) {
    this.#options = options
  }

  /** In the order in which they are asked. */
  servers(): readonly Upstream[] {
    const configured = this.#options.configured().map(upstreamOf)
    const servers = configured.length > 0 ? configured : this.#ofFile()
    const first = servers.findIndex(one => nameOf(one) === this.#last)
    return first <= 0 ? servers : [...servers.slice(first), ...servers.slice(0, first)]
  }

  /** The answer; if all fail, the failure that one of them reports, or null. @throws Error when a socket cannot be made */
  async ask(query: Query): Promise<ForeignAnswer | null> {
    const servers = this.servers()
    let failure: ForeignAnswer | null = null
    for (let tries = 0; tries < TRIES; tries++) {
      const upstream = servers[tries % Math.max(1, servers.length)]
      if (upstream === undefined) break
      const answer = await this.#askOne(upstream, query)
      if (answer !== null && !isFailure(answer)) {
        this.#last = nameOf(upstream)
        return answer
      }
      failure = answer ?? failure
      if (answer !== null && servers.length === 1) break
    }
    return failure
  }

  async #askOne(upstream: Upstream, query: Query): Promise<ForeignAnswer | null> {
    const { clock, random } = this.#options
    const sent = upstreamQuery(query, Math.floor(random.unit() * 0x10000))
    const exchange = { upstream, sent, timeoutMs: TRY_MS, clock }
    const answer = await askByUdp(exchange)
    if (answer === null || !isTruncated(answer)) return answer
    return (await askByTcp(exchange)) ?? answer
  }

  #ofFile(): readonly Upstream[] {
    const { clock, file = '/etc/resolv.conf' } = this.#options
    const nowMs = clock.nowMs()
    if (this.#read !== null && nowMs - this.#read.atMs < LOOK_MS) return this.#read.servers
    try {
      const { ino, mtimeMs, size } = statSync(file)
      const version = `${ino} ${mtimeMs} ${size}`
      const isSame = this.#read?.version === version
      const servers = isSame ? this.#read?.servers : nameServersIn(readFileSync(file, 'utf8'))
      this.#read = { atMs: nowMs, version, servers: servers ?? [] }
    } catch {
      this.#read = { atMs: nowMs, version: '', servers: [] }
    }
    return this.#read.servers
  }
}

function nameOf({ address, port }: Upstream): string {
  return `${address} ${port}`
}
