// Raft messages over direct streams: one outgoing channel per peer, kept open and reopened with back-off. Messages sent while a
// channel opens are held for it, since two followers have no channel until one of them requests a vote. Messages to a peer
// in back-off are dropped; the core retries. A broken connection is reported at once, a slow one never.

import type { PeerId } from '#model/ids.ts'
import type { Cancel, Clock } from '#platform/clock.ts'
import type { Logger } from '#platform/log.ts'
import { VxmeshError } from '#model/errors.ts'
import { whyMalformed } from '#raft/impossible.ts'
import type { Entry, Message } from '#raft/types.ts'
import { Channel } from './channel.ts'
import { RAFT_PROTOCOL, type MeshPort } from './mesh-port.ts'
import { Outbox } from './outbox.ts'
import { decodeRaftMessage, encodeRaftMessage } from '../codec/raft-codec.ts'

const BACKOFF_MIN_MS = 50
const BACKOFF_MAX_MS = 1_000
/** Newest frames held while a channel opens: a leader sends one per heartbeat, and a dial may take two seconds. */
const MAX_HELD = 16
/** How long a heartbeat is delayed so that it can be merged with an append-request that has entries. */
const COALESCE_MS = 3
/** Errors that prove the connection broken. A timeout proves nothing. */
const BROKEN: ReadonlySet<unknown> = new Set(['ECONNREFUSED', 'ECONNRESET', 'EPIPE'])

type Link = {
  channel: Channel | null
  opening: boolean
  retryAtMs: number
  backoffMs: number
  held: Uint8Array[]
  readonly outbox: Outbox
  /** When the outbox is flushed: at the end of the turn, or by a timer; null when it is empty. */
  flushing: 'this turn' | Cancel | null
}

type RaftTransportOptions = {
  readonly mesh: MeshPort
  readonly clock: Clock
  readonly self: PeerId
  /** May this peer take part in consensus? Noise authenticates it but does not authorise it. */
  readonly isServer: (peer: PeerId) => boolean
  /** @throws ERR_PEER when no replica can apply the entry */
  readonly checkEntry: (entry: Entry) => void
  readonly receive: (message: Message) => void
  /** A connection or channel to or from a peer broke or was refused; called for each. */
  readonly lost: (peer: PeerId) => void
  readonly logger: Logger
}

export class RaftTransport {
  readonly #options: RaftTransportOptions
  readonly #links = new Map<PeerId, Link>()
  readonly #incoming = new Map<PeerId, Set<Channel>>()
  #refused = 0
  #stopped = false

  constructor(options: RaftTransportOptions) {
    this.#options = options
  }

  async start(): Promise<void> {
    const { mesh, logger } = this.#options
    mesh.watch((peer, connected) => {
      const link = this.#links.get(peer)
      if (connected && link !== undefined) this.#resetBackoff(link)
      if (!connected) this.#lost(peer)
    })
    await mesh.handle(RAFT_PROTOCOL, (from, stream) => {
      const channels = this.#incoming.get(from) ?? new Set()
      this.#incoming.set(from, channels)
      const channel = new Channel(stream, {
        frame: payload => this.receive(from, [payload]),
        closed: reason => {
          channels.delete(channel)
          if (reason !== null) logger.warn({ peer: from, err: reason }, 'raft channel closed')
          this.#lost(from)
        }
      })
      channels.add(channel)
    })
  }

  /** Messages that were refused: of hosts that are no servers, malformed or impossible ones. */
  get refused(): number {
    return this.#refused
  }

  /** Closes the channels of a server that sent what no correct server sends. */
  refuse(from: PeerId, why: string): void {
    this.#refused += 1
    const reason = new VxmeshError('ERR_PEER', `an impossible message of Raft: ${why}`)
    for (const channel of [...(this.#incoming.get(from) ?? [])]) channel.close(reason)
  }

  /** Queues a message; all messages of one turn leave in one write. */
  send(message: Message): void {
    const link = this.#linkTo(message.to)
    link.outbox.push(message)
    if (link.flushing === 'this turn') return
    if (link.outbox.urgent) {
      link.flushing?.()
      link.flushing = 'this turn'
      queueMicrotask(() => this.#flush(message.to, link))
    } else link.flushing ??= this.#options.clock.after(COALESCE_MS, () => this.#flush(message.to, link))
  }

  /** Takes the delayed messages for this peer, encoded, so that the caller can send them with its own. */
  takeDelayed(peer: PeerId): readonly Uint8Array[] {
    const link = this.#links.get(peer)
    if (link === undefined || link.channel === null || link.flushing === null || link.flushing === 'this turn')
      return []
    link.flushing()
    link.flushing = null
    return link.outbox.take().map(encodeRaftMessage)
  }

  /** Delivers frames from a channel or from another message that carried them. @throws ERR_PEER on one that is refused */
  receive(from: PeerId, frames: readonly Uint8Array[]): void {
    for (const frame of frames) {
      // Its channel stays open: a server that this host does not know yet may become one.
      if (this.#options.isServer(from)) this.#options.receive(this.#decode(from, frame))
      else this.#refused += 1
    }
  }

  stop(): void {
    this.#stopped = true
    for (const link of this.#links.values()) {
      if (link.flushing !== null && link.flushing !== 'this turn') link.flushing()
      link.channel?.close(null)
    }
  }

  #decode(from: PeerId, frame: Uint8Array): Message {
    const { self, checkEntry } = this.#options
    try {
      const message = decodeRaftMessage(frame, { from, to: self })
      const why = whyMalformed(message)
      if (why !== null) throw new VxmeshError('ERR_PEER', `a malformed message of Raft: ${why}`)
      if (message.kind === 'append-request') message.entries.forEach(checkEntry)
      return message
    } catch (err) {
      this.#refused += 1
      throw err
    }
  }

  #flush(peer: PeerId, link: Link): void {
    link.flushing = null
    const frames = link.outbox.take().map(encodeRaftMessage)
    const { channel } = link
    if (channel !== null) {
      // The first frame may show that the stream has closed, and then the link has no channel any more.
      for (const frame of frames) channel.send(frame)
      channel.flush()
      return
    }
    if (this.#stopped || (!link.opening && this.#options.clock.nowMs() < link.retryAtMs)) return
    link.held = [...link.held, ...frames].slice(-MAX_HELD)
    if (!link.opening) void this.#open(peer, link)
  }

  #linkTo(peer: PeerId): Link {
    let link = this.#links.get(peer)
    if (link === undefined) {
      link = {
        channel: null,
        opening: false,
        retryAtMs: 0,
        backoffMs: BACKOFF_MIN_MS,
        held: [],
        outbox: new Outbox(),
        flushing: null
      }
      this.#links.set(peer, link)
    }
    return link
  }

  async #open(peer: PeerId, link: Link): Promise<void> {
    link.opening = true
    try {
      const stream = await this.#options.mesh.openStream(peer, RAFT_PROTOCOL)
      const channel = new Channel(stream, {
        frame: () => undefined,
        closed: () => {
          link.channel = null
          this.#lost(peer)
        }
      })
      link.channel = channel
      this.#resetBackoff(link)
      for (const frame of link.held) channel.send(frame)
      channel.flush()
    } catch (err) {
      this.#options.logger.debug({ peer, err }, 'raft channel cannot be opened')
      link.retryAtMs = this.#options.clock.nowMs() + link.backoffMs
      link.backoffMs = Math.min(link.backoffMs * 2, BACKOFF_MAX_MS)
      if (isBroken(err)) this.#lost(peer)
    } finally {
      link.held = []
      link.opening = false
    }
  }

  #resetBackoff(link: Link): void {
    link.backoffMs = BACKOFF_MIN_MS
    link.retryAtMs = 0
  }

  #lost(peer: PeerId): void {
    if (!this.#stopped) this.#options.lost(peer)
  }
}

function isBroken(err: unknown): boolean {
  for (let at = err; at instanceof Error; at = at.cause) if (BROKEN.has((at as NodeJS.ErrnoException).code)) return true
  return false
}
