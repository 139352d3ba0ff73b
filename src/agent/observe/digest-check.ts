// The same log must give the same state on every host. Each host notes its state's digest every few entries, and compares
// its notes with the leader's periodically. A difference is a bug or faulty memory. It is reported with its index and never
// repaired automatically, because it does not show which host is right.

import { VxmeshError } from '#model/errors.ts'
import type { LogIndex, PeerId } from '#model/ids.ts'
import type { Cancel, Clock } from '#platform/clock.ts'
import type { Logger } from '#platform/log.ts'

/** Entries between two notes. */
const EVERY = 64
/** Notes kept: a host that lags further compares once it has caught up. */
const KEPT = 256
const COMPARE_MS = 5_000
const METHOD = 'digests'

export type DigestNote = readonly [index: number, digest: string]

export type DigestCheckOptions = {
  /** Digest of the current state. O(networks). */
  readonly digest: () => string
  readonly leader: () => PeerId | null
  readonly self: PeerId
  readonly ask: (peer: PeerId, method: string) => Promise<unknown>
  readonly serve: (method: string, answer: () => unknown) => void
  readonly clock: Clock
  readonly logger: Logger
}

export class DigestCheck {
  readonly #options: DigestCheckOptions
  readonly #noted = new Map<number, string>()
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
    const [oldest] = this.#noted.keys()
    if (this.#noted.size > KEPT && oldest !== undefined) this.#noted.delete(oldest)
  }

  start(): void {
    this.#options.serve(METHOD, () => [...this.#noted])
    this.#cancel = this.#options.clock.every(COMPARE_MS, () => void this.#compareWithLeader())
  }

  stop(): void {
    this.#cancel()
  }

  /** Compares with another host's notes; only indexes that both have noted count. */
  compare(theirs: readonly DigestNote[]): void {
    if (this.#differsAt !== null) return
    const different = theirs.filter(([index, digest]) => (this.#noted.get(index) ?? digest) !== digest)
    const [index, digest] = different.sort(([a], [b]) => a - b)[0] ?? []
    if (index === undefined) return
    this.#differsAt = index as LogIndex
    const facts = { index, leaders: digest, ours: this.#noted.get(index) }
    this.#options.logger.error(facts, 'the state of this host differs from the leader’s')
  }

  async #compareWithLeader(): Promise<void> {
    const { leader, self, ask, logger } = this.#options
    const peer = leader()
    if (peer === null || peer === self || this.#noted.size === 0) return
    try {
      this.compare(readNotes(await ask(peer, METHOD)))
    } catch (err) {
      logger.debug({ err, peer }, 'digests not compared')
    }
  }
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
