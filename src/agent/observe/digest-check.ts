// The same log must give the same state on every host. Each host notes its state's digest every few entries. A client compares
// with the notes in the leader's beats; a server, which does not follow the feed, asks the leader. A difference is a bug,
// faulty memory, or an entry that was never committed. A client replaces its state by a server's; a server reports the
// difference, because it does not show which host is right.

import { VxmeshError } from '#model/errors.ts'
import type { LogIndex, PeerId } from '#model/ids.ts'
import type { Cancel, Clock } from '#platform/clock.ts'
import type { Logger } from '#platform/log.ts'

/** Entries between two notes. */
const EVERY = 64
/** Notes kept: a host that lags further compares once it has caught up. */
const KEPT = 256
const COMPARE_MS = 5_000
/** Of this version of the digest (allocator/digest.ts): hosts of other releases are not compared. */
const METHOD = 'digests-2'
const VERSION = '2 '

export type DigestNote = readonly [index: number, digest: string]

export type DigestCheckOptions = {
  /** Digest of the current state. */
  readonly digest: () => string
  /** Of the last applied entry. */
  readonly index: () => LogIndex
  /** Replaces this host's state by a server's. @throws ERR_UNSUPPORTED on a server, ERR_PEER */
  readonly repair: () => Promise<void>
  readonly leader: () => PeerId | null
  /** Does this host follow the feed, in which the leader's notes are? */
  readonly followsFeed: () => boolean
  readonly self: PeerId
  readonly ask: (peer: PeerId, method: string) => Promise<unknown>
  readonly serve: (method: string, answer: () => unknown) => void
  readonly clock: Clock
  readonly logger: Logger
}

export class DigestCheck {
  readonly #options: DigestCheckOptions
  readonly #noted = new Map<number, string>()
  /** The leader's notes of indexes that this host has not applied yet. */
  readonly #ahead = new Map<number, string>()
  #repairing = false
  #cancel: Cancel = () => undefined
  #differsAt: LogIndex | null = null

  constructor(options: DigestCheckOptions) {
    this.#options = options
  }

  /** The lowest index at which this host's state was found to differ from the leader's. */
  get differsAt(): LogIndex | null {
    return this.#differsAt
  }

  /** Called after each applied entry. */
  applied(index: LogIndex): void {
    if (index % EVERY !== 0) return
    this.#noted.set(index, this.#options.digest())
    dropOldest(this.#noted)
    const theirs = this.#ahead.get(index)
    if (theirs === undefined) return
    this.#ahead.delete(index)
    this.compare([[index, theirs]])
  }

  /** For the feed: the last note, and that of the last applied entry. */
  latest(): readonly DigestNote[] {
    const notes = [...[...this.#noted].slice(-1), ...this.#latest()]
    return notes.map(([index, digest]) => [index, `${VERSION}${digest}`] as const)
  }

  /** Notes from the feed; only the leader's count, and those of another version of the digest do not. */
  heard(author: PeerId, notes: readonly DigestNote[]): void {
    if (author !== this.#options.leader()) return
    const known = notes
      .filter(([, text]) => text.startsWith(VERSION))
      .map(([index, text]) => [index, text.slice(VERSION.length)] as const)
    const applied = this.#options.index()
    for (const [index, digest] of known) if (index > applied && index % EVERY === 0) this.#ahead.set(index, digest)
    dropOldest(this.#ahead)
    this.compare(known)
    if (this.#differsAt !== null) void this.#repair(this.#differsAt)
  }

  start(): void {
    // With the last entry: a quiet cluster would not reach the next note.
    this.#options.serve(METHOD, () => [...this.#noted, ...this.#latest()].slice(-KEPT))
    this.#cancel = this.#options.clock.every(COMPARE_MS, () => void this.#compareWithLeader())
  }

  stop(): void {
    this.#cancel()
  }

  /** Compares with another host's notes; only indexes that both have noted count. */
  compare(theirs: readonly DigestNote[]): void {
    if (this.#differsAt !== null) return
    const ours = new Map([...this.#noted, ...this.#latest()])
    const different = theirs.filter(([index, digest]) => (ours.get(index) ?? digest) !== digest)
    const [index, digest] = different.sort(([a], [b]) => a - b)[0] ?? []
    if (index === undefined) return
    this.#differsAt = index as LogIndex
    const facts = { index, leaders: digest, ours: ours.get(index) }
    this.#options.logger.error(facts, 'the state of this host differs from the leader’s')
  }

  /** The note of the last applied entry; none when it is among the others. */
  #latest(): DigestNote[] {
    const index = this.#options.index()
    return index === 0 || this.#noted.has(index) ? [] : [[index, this.#options.digest()]]
  }

  /** Tries again at the next comparison when it fails. */
  async #repair(index: LogIndex): Promise<void> {
    const { logger, repair } = this.#options
    if (this.#repairing) return
    this.#repairing = true
    try {
      await repair()
    } catch (err) {
      logger.debug({ err }, 'not repaired')
      return
    } finally {
      this.#repairing = false
    }
    this.#noted.clear()
    this.#ahead.clear()
    this.#differsAt = null
    logger.warn({ index }, 'the state of this host was replaced by a server’s')
  }

  async #compareWithLeader(): Promise<void> {
    const { leader, self, ask, logger } = this.#options
    const peer = leader()
    if (peer === null || peer === self || this.#options.index() === 0 || this.#options.followsFeed()) return
    try {
      this.compare(readNotes(await ask(peer, METHOD)))
      if (this.#differsAt !== null) await this.#repair(this.#differsAt)
    } catch (err) {
      logger.debug({ err, peer }, 'digests not compared')
    }
  }
}

function dropOldest(notes: Map<number, string>): void {
  const [oldest] = notes.keys()
  if (notes.size > KEPT && oldest !== undefined) notes.delete(oldest)
}

/** @throws ERR_PEER on anything but notes */
function readNotes(answer: unknown): readonly DigestNote[] {
  const rows: readonly unknown[] = Array.isArray(answer) ? answer : []
  if (!Array.isArray(answer) || rows.length > KEPT || !rows.every(isNote)) {
    throw new VxmeshError('ERR_PEER', 'malformed digests')
  }
  return rows
}

function isNote(row: unknown): row is DigestNote {
  return Array.isArray(row) && Number.isSafeInteger(row[0]) && typeof row[1] === 'string'
}
