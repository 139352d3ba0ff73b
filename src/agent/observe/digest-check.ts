// The same log must give the same state on every host. Every so many entries each host notes its state's digest, and now
// and then compares with what the leader noted. A difference is a bug, or memory that lies: it is shown with its index
// and never mended by itself, for nobody knows who is right.

import { VxmeshError } from '#model/errors.ts'
import type { LogIndex, PeerId } from '#model/ids.ts'
import type { Logger } from '#platform/log.ts'

/** Entries between two notes. */
const EVERY = 64
/** Notes kept: a host that is further behind compares when it has caught up. */
const KEPT = 256
const COMPARE_MS = 5_000
const METHOD = 'digests'

export type DigestNote = readonly [index: number, digest: string]

export type DigestCheckOptions = {
  /** Of the state as it is now. O(networks). */
  readonly digest: () => string
  readonly leader: () => PeerId | null
  readonly self: PeerId
  readonly ask: (peer: PeerId, method: string) => Promise<unknown>
  readonly serve: (method: string, answer: () => unknown) => void
  readonly logger: Logger
}

export class DigestCheck {
  readonly #options: DigestCheckOptions
  readonly #noted = new Map<number, string>()
  #timer: NodeJS.Timeout | null = null
  #differsAt: LogIndex | null = null

  constructor(options: DigestCheckOptions) {
    this.#options = options
  }

  /** The first index at which this host's state was seen to differ from the leader's. */
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
    this.#timer = setInterval(() => void this.#compareWithLeader(), COMPARE_MS)
  }

  stop(): void {
    if (this.#timer !== null) clearInterval(this.#timer)
  }

  /** Compares with notes of another host at the same indexes; the rest says nothing. */
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
