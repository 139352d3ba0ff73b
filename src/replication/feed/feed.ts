// The feed: how committed entries reach every host. The leader publishes them by gossipsub; a host that finds a gap
// pulls the missing range from a server over a stream. A message is msgpack [cluster, term, commitIndex, entries].

import { asVxmeshError, VxmeshError } from '#model/errors.ts'
import type { ClusterId, LogIndex, PeerId, Term } from '#model/ids.ts'
import { sleep } from '#platform/clock.ts'
import type { Logger } from '#platform/log.ts'
import { decodeMsgpack, encodeMsgpack } from '#platform/msgpack.ts'
import type { Entry, Snapshot } from '#raft/types.ts'
import { committedEntries, entryToTuple, isCount, malformed } from '../codec/entry-codec.ts'
import { FeedOrder } from './feed-order.ts'
import type { Mesh, Verdict } from '../transport/mesh.ts'
import { fetchEntries, fetchSnapshot } from './fetch.ts'
import type { Rpc } from '../transport/rpc.ts'

/** Bytes of entries in one message: gossip is copied along many paths, so large ranges go by stream instead. */
const MAX_MESSAGE_BYTES = 48 * 1024
/** The least time between two messages: a busy leader's entries share one, and its signature and copies. */
const GATHER_MS = 10
/** Of what is gathered, so many go along with an answer. */
const WORD_ENTRIES = 4
/** How often a quiet leader repeats its commit index, so that a lost last message is noticed. */
const BEAT_MS = 500
const FETCH_RETRY_MS = 200
/** After so much silence a follower asks: the leader may be out of its sight while other servers are not. */
const SILENCE_MS = 3 * BEAT_MS

/** Splits a range into messages; pure. */
export function encodeFeed(p: {
  readonly clusterId: ClusterId
  readonly term: Term
  readonly commitIndex: LogIndex
  readonly entries: readonly Entry[]
}): Uint8Array[] {
  const messages: Uint8Array[] = []
  let batch: Entry[] = []
  let bytes = 0
  const flush = (): void => {
    messages.push(encodeMsgpack([p.clusterId, p.term, p.commitIndex, batch.map(entryToTuple)]))
    batch = []
    bytes = 0
  }
  for (const entry of p.entries) {
    batch.push(entry)
    bytes += entry.data.byteLength + 32
    if (bytes >= MAX_MESSAGE_BYTES) flush()
  }
  if (batch.length > 0 || messages.length === 0) flush()
  return messages
}

export type FeedMessage = {
  readonly clusterId: string
  readonly term: Term
  readonly commitIndex: LogIndex
  readonly entries: readonly Entry[]
}

/** @throws ERR_PEER on anything malformed */
export function decodeFeed(data: Uint8Array): FeedMessage {
  const parts: unknown = decodeMsgpack(data)
  if (!Array.isArray(parts) || parts.length !== 4) throw malformed('feed message')
  const [clusterId, term, commitIndex, entries] = parts as unknown[]
  if (typeof clusterId !== 'string' || !isCount(term) || !isCount(commitIndex) || !Array.isArray(entries)) {
    throw malformed('feed message')
  }
  return {
    clusterId,
    term: term as Term,
    commitIndex: commitIndex as LogIndex,
    entries: committedEntries(entries, commitIndex)
  }
}

/** The leader's side: publishes what it commits, at once or with what follows closely, and beats when it is quiet. */
export class FeedPublisher {
  readonly #mesh: Mesh
  readonly #clusterId: ClusterId
  readonly #logger: Logger
  #leading: { readonly term: Term; readonly beat: NodeJS.Timeout } | null = null
  #commitIndex = 0 as LogIndex
  #gathered: Entry[] = []
  #gathering: NodeJS.Timeout | null = null

  constructor(mesh: Mesh, clusterId: ClusterId, logger: Logger) {
    this.#mesh = mesh
    this.#clusterId = clusterId
    this.#logger = logger
  }

  lead(term: Term): void {
    this.stop()
    this.#leading = { term, beat: setInterval(() => this.#publish([]), BEAT_MS) }
  }

  /** What was gathered and not sent is a gap for those who hear the next leader, and gaps are filled. */
  stop(): void {
    if (this.#leading !== null) clearInterval(this.#leading.beat)
    if (this.#gathering !== null) clearTimeout(this.#gathering)
    this.#leading = null
    this.#gathering = null
    this.#gathered = []
  }

  /** Called for every committed range; only a leader speaks. Whoever waits for the commit is answered first. */
  committed(entries: readonly Entry[]): void {
    const last = entries.at(-1)
    if (last === undefined) return
    this.#commitIndex = last.index
    if (this.#leading === null) return
    this.#gathered.push(...entries)
    if (this.#gathering === null) this.#gather(0)
  }

  /** What is about to be published, for one who is told of it now anyway. A busy leader's message follows closely enough. */
  word(): readonly Uint8Array[] {
    if (this.#leading === null || this.#gathered.length > WORD_ENTRIES) return []
    const { term } = this.#leading
    return this.#gathered.length === 0 ? [] : this.#encode(term, this.#gathered)
  }

  #encode(term: Term, entries: readonly Entry[]): Uint8Array[] {
    return encodeFeed({ clusterId: this.#clusterId, term, commitIndex: this.#commitIndex, entries })
  }

  #gather(ms: number): void {
    this.#gathering = setTimeout(() => {
      this.#gathering = null
      if (this.#gathered.length === 0) return
      const entries = this.#gathered
      this.#gathered = []
      this.#gather(GATHER_MS)
      this.#publish(entries)
    }, ms)
  }

  #publish(entries: readonly Entry[]): void {
    if (this.#leading === null) return
    const { term } = this.#leading
    for (const message of this.#encode(term, entries)) {
      this.#mesh.publish(message).catch((err: unknown) => this.#logger.debug({ err }, 'feed message not published'))
    }
  }
}

export type FeedFollowerOptions = {
  readonly rpc: Rpc
  /** The cluster that this host belongs to, or null before its first contact. */
  readonly clusterId: () => ClusterId | null
  readonly isServer: (peer: PeerId) => boolean
  /** Servers to ask, the best first. */
  readonly servers: () => readonly PeerId[]
  readonly applied: LogIndex
  /** Persists and applies entries in order. */
  readonly deliver: (entries: readonly Entry[]) => Promise<void>
  /** Persists a snapshot in the place of all entries up to its end, and takes its state. */
  readonly install: (snapshot: Snapshot) => Promise<void>
  /** An accepted message tells who leads. */
  readonly heard: (leader: PeerId, term: Term) => void
  readonly fatal: (err: Error) => void
  readonly logger: Logger
}

/** The side of a host that is no voter: judges, orders, fills gaps, delivers. */
export class FeedFollower {
  readonly #options: FeedFollowerOptions
  readonly #order: FeedOrder
  readonly #stopping = new AbortController()
  #delivering: Promise<void> = Promise.resolve()
  #fetching = false
  #silence: NodeJS.Timeout | null = null
  /** Messages that changed nothing, by reason. */
  readonly refused = { malformed: 0, foreignCluster: 0, notServer: 0 }

  constructor(options: FeedFollowerOptions) {
    this.#options = options
    this.#order = new FeedOrder(options.applied)
  }

  /** Judges a message before it is forwarded, and takes it when it is good. */
  judge(author: PeerId, data: Uint8Array): Verdict {
    if (!this.#options.isServer(author)) {
      this.refused.notServer += 1
      return 'ignore'
    }
    let message: FeedMessage
    try {
      message = decodeFeed(data)
    } catch {
      this.refused.malformed += 1
      return 'reject'
    }
    if (message.clusterId !== this.#options.clusterId()) {
      this.refused.foreignCluster += 1
      return 'ignore'
    }
    this.#silence?.refresh()
    this.#options.heard(author, message.term)
    this.#take(message.entries, message.commitIndex)
    return 'accept'
  }

  /** Does this host hold the cluster's state, be it of some time ago? Always at least what it has acted upon. */
  get current(): boolean {
    return this.#order.next > 1 && !(this.#order.missing && this.#options.applied === 0)
  }

  /** The highest index that it knows to be committed. */
  get highest(): LogIndex {
    return this.#order.highest
  }

  /** Catches up, and from then on whenever nothing is heard for a while. */
  start(): void {
    this.#silence = setInterval(() => this.catchUp(), SILENCE_MS)
    this.catchUp()
  }

  /** Looks at the servers now: also when one is newly reachable. */
  catchUp(): void {
    if (!this.#fetching) void this.#fetch()
  }

  async stop(): Promise<void> {
    this.#stopping.abort()
    if (this.#silence !== null) clearInterval(this.#silence)
    await this.#delivering
  }

  #take(entries: readonly Entry[], commitIndex: LogIndex): void {
    if (this.#stopping.signal.aborted) return
    const ready = this.#order.accept(entries, commitIndex)
    if (ready.length > 0) {
      this.#delivering = this.#delivering
        .then(() => this.#options.deliver(ready))
        .catch((err: unknown) => this.#options.fatal(asVxmeshError(err)))
    }
    if (this.#order.missing) this.catchUp()
  }

  async #takeSnapshot(snapshot: Snapshot): Promise<void> {
    if (snapshot.meta.lastIndex < this.#order.next) return
    this.#delivering = this.#delivering
      .then(() => this.#options.install(snapshot))
      .catch((err: unknown) => this.#options.fatal(asVxmeshError(err)))
    this.#order.skipTo(snapshot.meta.lastIndex)
    await this.#delivering
    this.#take([], snapshot.meta.lastIndex)
  }

  /** Pulls pages until nothing is missing. One loop at a time. */
  async #fetch(): Promise<void> {
    this.#fetching = true
    const { signal } = this.#stopping
    try {
      do {
        if (!(await this.#fetchOnce()) && this.#order.missing) await sleep(FETCH_RETRY_MS, signal)
      } while (!signal.aborted && this.#order.missing)
    } finally {
      this.#fetching = false
    }
  }

  /** Asks servers in turn until one has news; false when none has. A server may be behind, or cut off with us. */
  async #fetchOnce(): Promise<boolean> {
    const clusterId = this.#options.clusterId()
    for (const server of this.#options.servers()) {
      if (clusterId === null || this.#stopping.signal.aborted) return false
      try {
        const { rpc } = this.#options
        const from = this.#order.next
        const page = await fetchEntries(rpc, server, { clusterId, from })
        // What is wanted is compacted there: the state itself comes instead.
        if (page.firstIndex > from) await this.#takeSnapshot(await fetchSnapshot(rpc, server, clusterId))
        else this.#take(page.entries, page.commitIndex)
        if (this.#order.next > from) return true
      } catch (err) {
        if (!(err instanceof VxmeshError)) throw err
        this.#options.logger.debug({ server, err }, 'catch-up failed')
      }
    }
    return false
  }
}
