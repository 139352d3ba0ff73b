// The role of a client: it keeps the committed entries of the feed on its disk and applies them.

import type { LogIndex, PeerId, Term } from '#model/ids.ts'
import type { Clock } from '#platform/clock.ts'
import type { Logger } from '#platform/log.ts'
import type { Entry } from '#raft/types.ts'
import { checkEntry } from '../consensus/entry-request.ts'
import { FeedFollower } from '../feed/feed-follower.ts'
import { UnsettledTail } from '../storage/unsettled-tail.ts'
import type { Origin } from '../storage/wal-record.ts'
import type { MeshPort } from '../transport/mesh-port.ts'
import type { Rpc } from '../transport/rpc.ts'
import type { Replica } from './replica.ts'
import { prepareSnapshot, type PreparedSnapshot } from './snapshot-intake.ts'

/** No entry is of a later one. */
const LAST_TERM = Number.MAX_SAFE_INTEGER as Term

export type FollowerOptions = {
  readonly origin: Origin
  /** See RoleFactory.make. */
  readonly removedAt: LogIndex | null
  readonly replica: Replica
  readonly mesh: MeshPort
  readonly rpc: Rpc
  readonly isServer: (peer: PeerId) => boolean
  /** Servers to fetch from, the best first. */
  readonly servers: () => readonly PeerId[]
  readonly leaderSeen: (leader: PeerId, term: Term) => void
  /** The applied state, and perhaps the configuration with it, has changed. */
  readonly advanced: () => void
  readonly fatal: (err: Error) => void
  readonly clock: Clock
  readonly logger: Logger
}

export class Follower {
  readonly kind = 'follower'
  readonly feed: FeedFollower
  readonly #options: FollowerOptions
  readonly #committed: readonly Entry[]
  #refused = 0
  /** Entries beyond the commit index, of a host that was a voter. */
  readonly #tail: UnsettledTail

  constructor(options: FollowerOptions) {
    this.#options = options
    const { origin, removedAt, replica, rpc, isServer, servers, leaderSeen, fatal, clock, logger } = options
    const { entries, commitIndex, snapshot } = replica.storage.recovered.durable
    this.#committed = entries.filter(({ index }) => index <= commitIndex)
    const tail = entries.slice(this.#committed.length)
    this.#tail = new UnsettledTail(tail)
    this.feed = new FeedFollower({
      rpc,
      clusterId: () => origin.clusterId,
      isServer,
      servers,
      applied: (this.#committed.at(-1)?.index ?? snapshot?.lastIndex ?? 0) as LogIndex,
      // A voter applies what is committed before it is on its own disk, and after a power cut its log may lack it. It was removed later.
      unconfirmed: removedAt === null ? (tail.at(-1) ?? null) : { index: removedAt, term: LAST_TERM },
      deliver: batch => this.#deliver(batch),
      prepare: async wanted => {
        const prepared = await prepareSnapshot({ rpc, clusterId: origin.clusterId, replica }, wanted)
        return {
          meta: prepared.meta,
          install: () => this.#install(prepared),
          discard: () => prepared.discard()
        }
      },
      leaderSeen,
      noted: (author, notes) => replica.applied.noted(author, notes),
      refused: (reason, author) => {
        this.#refused += 1
        logger.debug({ reason, author }, 'feed message refused')
      },
      checkEntry,
      fatal,
      clock,
      logger
    })
  }

  /** Applies what is on the disk and follows the feed from there. */
  start(): void {
    this.#apply(this.#committed)
    // Voters have the log itself: they publish on the topic and do not subscribe.
    this.#options.mesh.subscribe((author, data) => this.feed.judge(author, data))
    this.feed.start()
  }

  /** Messages of the feed that were refused. */
  get refused(): number {
    return this.#refused
  }

  stop(): Promise<void> {
    return this.feed.stop()
  }

  async #deliver(entries: readonly Entry[]): Promise<void> {
    const last = entries.at(-1)
    if (last === undefined) return
    const { wal } = this.#options.replica.storage
    await wal.append([...this.#tail.settle(entries), { kind: 'commit', index: last.index }])
    this.#apply(entries)
  }

  async #install(prepared: PreparedSnapshot): Promise<void> {
    const { replica, advanced } = this.#options
    await prepared.save()
    if (this.#tail.yieldsTo(prepared.meta)) await replica.storage.wal.reset(prepared.meta)
    prepared.adopt()
    advanced()
  }

  #apply(entries: readonly Entry[]): void {
    this.#options.replica.apply(entries)
    this.#options.advanced()
  }
}
