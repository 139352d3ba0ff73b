// Raft messages over libp2p: one outgoing channel a peer, kept open, reopened with back-off. A message that cannot
// go now is dropped: the core repeats what matters.

import type { PeerId } from '#model/ids.ts'
import { monotonicMs } from '#platform/clock.ts'
import type { Logger } from '#platform/log.ts'
import type { Message } from '#raft/types.ts'
import { Channel } from './channel.ts'
import type { Mesh } from './mesh.ts'
import { Outbox } from './outbox.ts'
import { decodeRaftMessage, encodeRaftMessage } from './raft-codec.ts'

const PROTOCOL = '/vxmesh/raft/1'
const BACKOFF_MIN_MS = 50
const BACKOFF_MAX_MS = 1_000
/** So long a bare append-request waits for one with entries, which comes soon where there is work. */
const BARE_MS = 3

type Link = {
  channel: Channel | null
  opening: boolean
  retryAtMs: number
  backoffMs: number
  readonly outbox: Outbox
  /** Of what waits in the outbox: at the end of the turn, or a little later. */
  leaving: 'at once' | NodeJS.Timeout | null
}

export type RaftTransportOptions = {
  readonly mesh: Mesh
  readonly self: PeerId
  /** May this peer take part in consensus? Noise proves who it is, not what it may do. */
  readonly isServer: (peer: PeerId) => boolean
  readonly receive: (message: Message) => void
  readonly logger: Logger
}

export class RaftTransport {
  readonly #options: RaftTransportOptions
  readonly #links = new Map<PeerId, Link>()
  /** Frames from peers that may not take part. */
  refused = 0

  constructor(options: RaftTransportOptions) {
    this.#options = options
  }

  async start(): Promise<void> {
    const { mesh, self, isServer, receive, logger } = this.#options
    await mesh.handle(PROTOCOL, (from, stream) => {
      new Channel(stream, {
        frame: payload => {
          if (isServer(from)) receive(decodeRaftMessage(payload, { from, to: self }))
          else this.refused += 1
        },
        closed: reason => {
          if (reason !== null) logger.warn({ peer: from, err: reason }, 'raft channel closed')
        }
      })
    })
  }

  /** What the core says in one turn leaves in one write. */
  send(message: Message): void {
    const link = this.#linkTo(message.to)
    link.outbox.push(message)
    if (link.leaving === 'at once') return
    if (link.outbox.urgent) {
      if (link.leaving !== null) clearTimeout(link.leaving)
      link.leaving = 'at once'
      queueMicrotask(() => this.#flush(message.to, link))
    } else link.leaving ??= setTimeout(() => this.#flush(message.to, link), BARE_MS)
  }

  stop(): void {
    for (const link of this.#links.values()) {
      if (link.leaving !== null && link.leaving !== 'at once') clearTimeout(link.leaving)
      link.channel?.close(null)
    }
  }

  #flush(peer: PeerId, link: Link): void {
    link.leaving = null
    for (const message of link.outbox.take()) link.channel?.send(encodeRaftMessage(message))
    link.channel?.flush()
    if (link.channel === null && !link.opening && monotonicMs() >= link.retryAtMs) void this.#open(peer, link)
  }

  #linkTo(peer: PeerId): Link {
    let link = this.#links.get(peer)
    if (link === undefined) {
      link = {
        channel: null,
        opening: false,
        retryAtMs: 0,
        backoffMs: BACKOFF_MIN_MS,
        outbox: new Outbox(),
        leaving: null
      }
      this.#links.set(peer, link)
    }
    return link
  }

  async #open(peer: PeerId, link: Link): Promise<void> {
    link.opening = true
    try {
      const stream = await this.#options.mesh.openStream(peer, PROTOCOL)
      link.channel = new Channel(stream, { frame: () => undefined, closed: () => (link.channel = null) })
      link.backoffMs = BACKOFF_MIN_MS
    } catch (err) {
      this.#options.logger.debug({ peer, err }, 'raft channel cannot be opened')
      link.retryAtMs = monotonicMs() + link.backoffMs
      link.backoffMs = Math.min(link.backoffMs * 2, BACKOFF_MAX_MS)
    } finally {
      link.opening = false
    }
  }
}
