// The leader's side of the feed: publishes what it commits by gossipsub, coalesced while it is busy, and repeats the
// commit index while it is quiet.

import type { ClusterId, LogIndex, Term } from '#model/ids.ts'
import type { Cancel, Clock } from '#platform/clock.ts'
import type { Logger } from '#platform/log.ts'
import type { Entry } from '#raft/types.ts'
import type { MeshPort } from '../transport/mesh-port.ts'
import { encodeFeed, type FeedNote } from './feed-message.ts'

/** The least time between two messages: a busy leader's entries share a message, its signature and its copies. */
const COALESCE_MS = 20
/** Max buffered entries piggybacked on a reply. */
const MAX_PIGGYBACKED_ENTRIES = 4
/** How often a quiet leader repeats its commit index, so that followers notice the loss of its last message. */
export const BEAT_MS = 500
/** Every so many beats one carries notes of the state: 5 s. */
export const NOTES_BEATS = 10

export type FeedPublisherOptions = {
  readonly mesh: Pick<MeshPort, 'publish'>
  readonly clusterId: ClusterId
  /** Of the applied state; see FeedNote. */
  readonly notes: () => readonly FeedNote[]
  readonly clock: Clock
  readonly logger: Logger
}

export class FeedPublisher {
  readonly #options: FeedPublisherOptions
  #leading: { readonly term: Term; readonly stopBeat: Cancel } | null = null
  #beats = 0
  #commitIndex = 0 as LogIndex
  #buffered: Entry[] = []
  #cancelFlush: Cancel | null = null

  constructor(options: FeedPublisherOptions) {
    this.#options = options
  }

  lead(term: Term): void {
    this.stop()
    this.#leading = { term, stopBeat: this.#options.clock.every(BEAT_MS, () => this.#beat()) }
  }

  /** Drops what is buffered: followers see a gap when the next leader publishes, and fill it. */
  stop(): void {
    this.#leading?.stopBeat()
    this.#cancelFlush?.()
    this.#leading = null
    this.#cancelFlush = null
    this.#buffered = []
  }

  /** Called for every committed range; only a leader publishes it. A proposer that awaits the commit is answered first. */
  committed(entries: readonly Entry[]): void {
    const last = entries.at(-1)
    if (last === undefined) return
    this.#commitIndex = last.index
    if (this.#leading === null) return
    this.#buffered.push(...entries)
    if (this.#cancelFlush === null) this.#flushAfter(0)
  }

  /** Unpublished entries to attach to a reply; empty if there are too many, because their message follows closely then. */
  unpublished(): readonly Uint8Array[] {
    if (this.#leading === null || this.#buffered.length > MAX_PIGGYBACKED_ENTRIES) return []
    const { term } = this.#leading
    return this.#buffered.length === 0 ? [] : this.#encode(term, this.#buffered)
  }

  #encode(term: Term, entries: readonly Entry[], notes: readonly FeedNote[] = []): Uint8Array[] {
    const { clusterId } = this.#options
    return encodeFeed({ clusterId, term, commitIndex: this.#commitIndex, entries, notes })
  }

  #beat(): void {
    this.#beats += 1
    this.#publish([], this.#beats % NOTES_BEATS === 0 ? this.#options.notes() : [])
  }

  #flushAfter(ms: number): void {
    this.#cancelFlush = this.#options.clock.after(ms, () => {
      this.#cancelFlush = null
      if (this.#buffered.length === 0) return
      const entries = this.#buffered
      this.#buffered = []
      this.#flushAfter(COALESCE_MS)
      this.#publish(entries)
    })
  }

  #publish(entries: readonly Entry[], notes: readonly FeedNote[] = []): void {
    if (this.#leading === null) return
    const { mesh, logger } = this.#options
    for (const message of this.#encode(this.#leading.term, entries, notes)) {
      mesh.publish(message).catch((err: unknown) => logger.debug({ err }, 'feed message not published'))
    }
  }
}
