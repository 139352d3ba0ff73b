// The way of a leader's snapshot into a voter. Raft's core counts a snapshot as received once it has its ticket; so the
// ticket is withheld, and only heartbeats of the transfer pass, until the state that it stands for is on this host's disk
// and built beside the one in use. Meanwhile the core votes, and answers its leader in time.

import { asVxmeshError, VxmeshError } from '#model/errors.ts'
import type { LogIndex, PeerId } from '#model/ids.ts'
import type { Clock } from '#platform/clock.ts'
import type { Logger } from '#platform/log.ts'
import type { Message } from '#raft/types.ts'
import { ticketOf } from '../feed/ticket.ts'
import { prepareSnapshot, type IntakeOptions, type PreparedSnapshot } from './snapshot-intake.ts'

type InstallRequest = Extract<Message, { readonly kind: 'install-request' }>

export type VoterIntakeOptions = IntakeOptions & {
  /** Servers to fetch from, besides the leader. */
  readonly servers: () => readonly PeerId[]
  /** Gives a message to the core. */
  readonly receive: (message: Message) => void
  readonly commitIndex: () => LogIndex
  readonly fatal: (err: Error) => void
  readonly clock: Clock
  readonly logger: Logger
}

const EMPTY = new Uint8Array()
/** After a transfer that failed. */
const RETRY_MS = 500

export class VoterIntake {
  readonly #options: VoterIntakeOptions
  readonly #stopping = new AbortController()
  #prepared: PreparedSnapshot | null = null
  #installing: PreparedSnapshot | null = null
  #fetching: Promise<void> | null = null
  /** The latest request that was withheld. */
  #last: InstallRequest | null = null
  #failedMs = -Infinity

  constructor(options: VoterIntakeOptions) {
    this.#options = options
  }

  /** The message as the core may see it now. */
  filter(message: Message): Message {
    if (message.kind !== 'install-request') return message
    const { clock, commitIndex } = this.#options
    const { lastIndex } = message.meta
    if (lastIndex <= commitIndex()) return message
    if (this.#prepared !== null && this.#prepared.meta.lastIndex >= lastIndex) {
      // From a server that is ahead of a leader of an earlier term: the next leader will ask.
      if (this.#prepared.meta.lastTerm > message.term) return { ...message, offset: 0, data: EMPTY }
      return withTicket(message, this.#prepared)
    }
    this.#last = message
    if (this.#fetching === null && clock.nowMs() - this.#failedMs >= RETRY_MS) {
      this.#fetching = this.#fetch(message).finally(() => {
        this.#fetching = null
      })
    }
    return { ...message, offset: 0, data: EMPTY }
  }

  /** The core installs: the state changes now, the disk when `save` is called. */
  adopt(lastIndex: LogIndex): void {
    const prepared = this.#prepared
    if (prepared?.meta.lastIndex !== lastIndex) throw new Error(`snapshot ${lastIndex} is installed and not prepared`)
    this.#prepared = null
    this.#installing = prepared
    prepared.adopt()
  }

  /** @throws ERR_STORAGE */
  async save(lastIndex: LogIndex): Promise<void> {
    const installing = this.#installing
    if (installing?.meta.lastIndex !== lastIndex) throw new Error(`snapshot ${lastIndex} is saved and not installed`)
    await installing.save()
    if (this.#installing === installing) this.#installing = null
  }

  /** Entries were applied: a prepared snapshot that covers no more than them is of no use. */
  applied(index: LogIndex): void {
    if (this.#prepared === null || this.#prepared.meta.lastIndex > index) return
    void this.#prepared.discard()
    this.#prepared = null
  }

  async stop(): Promise<void> {
    this.#stopping.abort()
    await this.#fetching
    await this.#prepared?.discard()
    this.#prepared = null
  }

  async #fetch({ from, meta }: InstallRequest): Promise<void> {
    const { clock, fatal, logger, receive, servers } = this.#options
    try {
      const { signal } = this.#stopping
      const others = servers().filter(peer => peer !== from)
      const prepared = await prepareSnapshot(this.#options, {
        servers: [from, ...others],
        atLeast: meta.lastIndex,
        signal
      })
      await this.#prepared?.discard()
      this.#prepared = prepared
      logger.info({ lastIndex: prepared.meta.lastIndex, bytes: prepared.received.size }, 'snapshot received')
      // The leader repeats the ticket only after a while.
      if (!signal.aborted && this.#last !== null) receive(this.filter(this.#last))
    } catch (err) {
      this.#failedMs = clock.nowMs()
      if (err instanceof VxmeshError) logger.warn({ peer: from, err }, 'snapshot not received; it is tried again')
      else fatal(asVxmeshError(err))
    }
  }
}

/** A snapshot of committed entries replaces any that ends earlier, whoever took it. */
function withTicket(message: InstallRequest, { meta, received }: PreparedSnapshot): InstallRequest {
  const data = ticketOf(received)
  return { ...message, meta, size: data.byteLength, offset: 0, data }
}
