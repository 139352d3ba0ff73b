// A client's side of the feed: validates messages, puts their entries in order, fetches what is missing from a server
// over a stream, and delivers each entry once.

import { asVxmeshError, VxmeshError } from '#model/errors.ts'
import type { ClusterId, LogIndex, PeerId, Term } from '#model/ids.ts'
import type { Cancel, Clock } from '#platform/clock.ts'
import type { Logger } from '#platform/log.ts'
import type { Entry, SnapshotMeta } from '#raft/types.ts'
import type { Verdict } from '../transport/mesh-port.ts'
import type { Rpc } from '../transport/rpc.ts'
import { decodeFeed, type FeedMessage, type FeedNote } from './feed-message.ts'
import { FeedOrder } from './feed-order.ts'
import { BEAT_MS } from './feed-publisher.ts'
import { fetchEntries } from './fetch.ts'

const FETCH_RETRY_MS = 200
/** Rounds after which an index that no server has counts as false: 10 s, far longer than servers lag behind their leader. */
const UNCONFIRMED_ROUNDS = 50
/** After this much silence a follower fetches: it may be cut off from the leader and still reach other servers. */
const SILENCE_MS = 3 * BEAT_MS

/** Why a message changed nothing. */
export type FeedRefusal = 'malformed' | 'foreignCluster' | 'notServer'

/** A snapshot that is ready to replace all entries up to its end. */
export type PreparedInstall = {
  readonly meta: SnapshotMeta
  /** Persists it, and goes on from its state. */
  readonly install: () => Promise<void>
  readonly discard: () => Promise<void>
}

export type FeedFollowerOptions = {
  readonly rpc: Rpc
  /** The cluster that this host belongs to, or null before its first contact. */
  readonly clusterId: () => ClusterId | null
  readonly isServer: (peer: PeerId) => boolean
  /** Servers to fetch from, the best first. */
  readonly servers: () => readonly PeerId[]
  readonly applied: LogIndex
  /** The last entry beyond the commit index on the disk of a former voter that it may have acted upon; null: there is none. */
  readonly unconfirmed: { readonly index: LogIndex; readonly term: Term } | null
  /** Persists and applies entries in order. */
  readonly deliver: (entries: readonly Entry[]) => Promise<void>
  /** Fetches a snapshot that covers an entry, and builds its state beside the one in use. @throws as prepareSnapshot */
  readonly prepare: (p: {
    readonly servers: readonly PeerId[]
    readonly atLeast: LogIndex
    readonly signal: AbortSignal
  }) => Promise<PreparedInstall>
  /** An accepted message names the leader and its term. */
  readonly leaderSeen: (leader: PeerId, term: Term) => void
  /** What the author of an accepted message notes of its state. */
  readonly noted: (author: PeerId, notes: readonly FeedNote[]) => void
  readonly refused: (reason: FeedRefusal, author: PeerId) => void
  /** @throws ERR_PEER when no replica can apply the entry */
  readonly checkEntry: (entry: Entry) => void
  readonly fatal: (err: Error) => void
  readonly clock: Clock
  readonly logger: Logger
}

export class FeedFollower {
  readonly #options: FeedFollowerOptions
  readonly #order: FeedOrder
  readonly #stopping = new AbortController()
  #delivering: Promise<void> = Promise.resolve()
  #fetching = false
  /** The last entry that was delivered, or that an installed snapshot covers, and its term. */
  #delivered: LogIndex
  #deliveredTerm = 0 as Term
  /** Rounds in which no server had what was announced. */
  #emptyRounds = 0
  #cancelSilence: Cancel | null = null

  constructor(options: FeedFollowerOptions) {
    this.#options = options
    this.#order = new FeedOrder(options.applied)
    this.#delivered = options.applied
  }

  /** Validates a message before it is forwarded, and takes a valid one. */
  judge(author: PeerId, data: Uint8Array): Verdict {
    const { clusterId, isServer, leaderSeen } = this.#options
    if (!isServer(author)) return this.#refuse('notServer', author)
    let message: FeedMessage
    try {
      message = decodeFeed(data)
      // Those that this host has were checked when they came first.
      for (const entry of message.entries) if (entry.index >= this.#order.next) this.#options.checkEntry(entry)
    } catch {
      return this.#refuse('malformed', author)
    }
    if (message.clusterId !== clusterId()) return this.#refuse('foreignCluster', author)
    if (this.#cancelSilence !== null) this.#restartSilence()
    leaderSeen(author, message.term)
    this.#take(message.entries, message.commitIndex)
    if (message.notes.length > 0) this.#options.noted(author, message.notes)
    return 'accept'
  }

  /**
   * Takes entries that a server reports as committed. They are this host's own, so they are not checked.
   * @returns false when others before them are missing
   */
  committed(author: PeerId, term: Term, entries: readonly Entry[]): boolean {
    const last = entries.at(-1)
    if (last === undefined || !this.#options.isServer(author)) return false
    if (this.#cancelSilence !== null) this.#restartSilence()
    this.#options.leaderSeen(author, term)
    this.#take(entries, last.index)
    return this.#order.next > last.index
  }

  /** Is an entry known to be committed that has not arrived yet? */
  get isBehind(): boolean {
    return this.#order.missing
  }

  /**
   * Is the state at least as new as any that this host has acted on? A former voter's recorded commit index may be too
   * low. So it must first apply past the entries beyond that index, or apply an entry of a later term, which follows
   * everything committed in theirs. What has arrived may still be on its way to the disk, and does not count.
   */
  get current(): boolean {
    const { applied, unconfirmed } = this.#options
    const delivered = this.#delivered
    if (unconfirmed !== null && delivered < unconfirmed.index && this.#deliveredTerm <= unconfirmed.term) return false
    return delivered > 0 && !(delivered < this.#order.highest && applied === 0)
  }

  /** The highest index known to be committed. */
  get highest(): LogIndex {
    return this.#order.highest
  }

  /** Catches up now, and again after every silence. */
  start(): void {
    this.#restartSilence()
    this.catchUp()
  }

  /** Fetches from the servers now; called also when one becomes reachable. */
  catchUp(): void {
    if (!this.#fetching) void this.#fetch()
  }

  /**
   * Replaces the state, which differs from the servers', by that of a server as it is now.
   * @throws ERR_PEER when no server gives one that is at least as far
   */
  async repair(): Promise<void> {
    const { fatal, prepare, servers } = this.#options
    const { signal } = this.#stopping
    // Entries that arrive meanwhile wait: each would move the state on, and out of reach of the snapshot.
    const preparing = this.#delivering.then(() => prepare({ servers: servers(), atLeast: this.#delivered, signal }))
    const installing = preparing.then(prepared => this.#install(prepared))
    this.#delivering = installing.catch((err: unknown) => {
      if (!(err instanceof VxmeshError) || err.code === 'ERR_STORAGE') fatal(asVxmeshError(err))
    })
    try {
      await installing
    } catch (cause) {
      if (!(cause instanceof VxmeshError)) throw cause
      throw new VxmeshError('ERR_PEER', 'no server gave an image of the state', { cause })
    }
  }

  async stop(): Promise<void> {
    this.#stopping.abort()
    this.#cancelSilence?.()
    this.#cancelSilence = null
    await this.#delivering
  }

  /** Only a malformed message lowers the score of the peer that forwarded it. */
  #refuse(reason: FeedRefusal, author: PeerId): Verdict {
    this.#options.refused(reason, author)
    return reason === 'malformed' ? 'reject' : 'ignore'
  }

  #restartSilence(): void {
    this.#cancelSilence?.()
    this.#cancelSilence = this.#options.clock.every(SILENCE_MS, () => this.catchUp())
  }

  #take(entries: readonly Entry[], commitIndex: LogIndex): void {
    if (this.#stopping.signal.aborted) return
    const ready = this.#order.accept(entries, commitIndex)
    if (ready.length > 0) {
      this.#delivering = this.#delivering
        .then(() => this.#deliver(ready))
        .catch((err: unknown) => this.#options.fatal(asVxmeshError(err)))
    }
    if (this.#order.missing) this.catchUp()
  }

  async #deliver(ready: readonly Entry[]): Promise<void> {
    const entries = ready.filter(({ index }) => index > this.#delivered)
    const last = entries.at(-1)
    if (last === undefined) return
    await this.#options.deliver(entries)
    this.#delivered = last.index
    this.#deliveredTerm = last.term
  }

  /** Installs a snapshot after what was delivered before. */
  async #takeSnapshot(prepared: PreparedInstall): Promise<void> {
    this.#delivering = this.#delivering
      .then(() => this.#install(prepared))
      .catch((err: unknown) => this.#options.fatal(asVxmeshError(err)))
    await this.#delivering
  }

  async #install(prepared: PreparedInstall): Promise<void> {
    const { lastIndex, lastTerm } = prepared.meta
    if (lastIndex < this.#delivered || this.#stopping.signal.aborted) {
      await prepared.discard()
      return
    }
    await prepared.install()
    this.#delivered = lastIndex
    this.#deliveredTerm = lastTerm
    if (lastIndex < this.#order.next) return
    this.#order.skipTo(lastIndex)
    this.#take([], lastIndex)
  }

  /** From this server, or whoever has the same snapshot. */
  async #catchUpBySnapshot(server: PeerId, atLeast: LogIndex): Promise<void> {
    const { prepare, servers } = this.#options
    const others = servers().filter(peer => peer !== server)
    const { signal } = this.#stopping
    await this.#takeSnapshot(await prepare({ servers: [server, ...others], atLeast, signal }))
  }

  /** Fetches pages until nothing is missing. One loop at a time. */
  async #fetch(): Promise<void> {
    this.#fetching = true
    const { signal } = this.#stopping
    try {
      do {
        if (!(await this.#fetchOnce()) && this.#order.missing) {
          await this.#options.clock.sleep(FETCH_RETRY_MS, signal)
        }
      } while (!signal.aborted && this.#order.missing)
    } finally {
      this.#fetching = false
    }
  }

  /** Tries the servers in turn until one has news; false when none has. A server may be behind, or cut off too. */
  async #fetchOnce(): Promise<boolean> {
    const clusterId = this.#options.clusterId()
    let confirmed = -1
    for (const server of this.#options.servers()) {
      if (clusterId === null || this.#stopping.signal.aborted) return false
      try {
        const { checkEntry, rpc } = this.#options
        const from = this.#order.next
        const page = await fetchEntries(rpc, server, { clusterId, from })
        page.entries.forEach(checkEntry)
        confirmed = Math.max(confirmed, page.commitIndex)
        // The wanted entries are compacted there: fetch the state itself.
        if (page.firstIndex > from) await this.#catchUpBySnapshot(server, from)
        else this.#take(page.entries, page.commitIndex)
        if (this.#order.next > from) {
          this.#emptyRounds = 0
          return true
        }
      } catch (err) {
        if (!(err instanceof VxmeshError)) throw err
        this.#options.logger.debug({ server, err }, 'catch-up failed')
      }
    }
    if (confirmed >= 0) this.#emptyRounds += 1
    if (this.#emptyRounds >= UNCONFIRMED_ROUNDS) this.#order.confirm(confirmed as LogIndex)
    return false
  }
}
