// Raft messages over libp2p: one outgoing channel a peer, kept open, reopened with back-off. Between two followers there
// may be none until one of them asks for a vote: what is sent while a channel opens waits for it. Other messages that
// cannot go now are dropped: the core repeats what matters. A connection that broke is told at once, a slow one never.

import type { PeerId } from '#model/ids.ts'
import type { Cancel, Clock } from '#platform/clock.ts'
import type { Logger } from '#platform/log.ts'
import type { Message } from '#raft/types.ts'
import { Channel } from './channel.ts'
import type { Mesh } from './mesh.ts'
import { Outbox } from './outbox.ts'
import { decodeRaftMessage, encodeRaftMessage } from '../codec/raft-codec.ts'

const PROTOCOL = '/vxmesh/raft/1'
const BACKOFF_MIN_MS = 50
const BACKOFF_MAX_MS = 1_000
/** Frames that wait for a channel, the newest; a leader repeats one a heartbeat, and a dial is given two seconds. */
const MAX_HELD = 16
/** So long a bare append-request waits for one with entries, which comes soon where there is work. */
const BARE_MS = 3
/** What the system says when nobody is there. A time that ran out says nothing. */
const BROKEN: ReadonlySet<unknown> = new Set(['ECONNREFUSED', 'ECONNRESET', 'EPIPE'])

type Link = {
  channel: Channel | null
  opening: boolean
  retryAtMs: number
  backoffMs: number
  held: Uint8Array[]
  readonly outbox: Outbox
  /** Of what waits in the outbox: at the end of the turn, or a little later. */
  leaving: 'at once' | Cancel | null
}

export type RaftTransportOptions = {
  readonly mesh: Mesh
  readonly clock: Clock
  readonly self: PeerId
  /** May this peer take part in consensus? Noise proves who it is, not what it may do. */
  readonly isServer: (peer: PeerId) => boolean
  readonly receive: (message: Message) => void
  /** A connection or channel to or from a peer broke, or was refused; said again for each. */
  readonly lost: (peer: PeerId) => void
  readonly logger: Logger
}

export class RaftTransport {
  readonly #options: RaftTransportOptions
  readonly #links = new Map<PeerId, Link>()
  #stopped = false

  constructor(options: RaftTransportOptions) {
    this.#options = options
  }

  async start(): Promise<void> {
    const { mesh, logger } = this.#options
    mesh.watch((peer, connected) => {
      const link = this.#links.get(peer)
      // It has come back: there is nothing to wait for.
      if (connected && link !== undefined) this.#forgive(link)
      if (!connected) this.#lost(peer)
    })
    await mesh.handle(PROTOCOL, (from, stream) => {
      new Channel(stream, {
        frame: payload => this.receive(from, [payload]),
        closed: reason => {
          if (reason !== null) logger.warn({ peer: from, err: reason }, 'raft channel closed')
          this.#lost(from)
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
      link.leaving?.()
      link.leaving = 'at once'
      queueMicrotask(() => this.#flush(message.to, link))
    } else link.leaving ??= this.#options.clock.after(BARE_MS, () => this.#flush(message.to, link))
  }

  /** What waits for company to go to this peer: something else goes there now, and takes it along. */
  takeAlong(peer: PeerId): readonly Uint8Array[] {
    const link = this.#links.get(peer)
    if (link === undefined || link.channel === null || link.leaving === null || link.leaving === 'at once') return []
    link.leaving()
    link.leaving = null
    return link.outbox.take().map(encodeRaftMessage)
  }

  /** What came by a channel of ours, or was brought along by another message. @throws ERR_PEER on anything malformed */
  receive(from: PeerId, frames: readonly Uint8Array[]): void {
    const { self, isServer, receive } = this.#options
    for (const frame of frames) {
      if (isServer(from)) receive(decodeRaftMessage(frame, { from, to: self }))
    }
  }

  stop(): void {
    this.#stopped = true
    for (const link of this.#links.values()) {
      if (link.leaving !== null && link.leaving !== 'at once') link.leaving()
      link.channel?.close(null)
    }
  }

  #flush(peer: PeerId, link: Link): void {
    link.leaving = null
    const frames = link.outbox.take().map(encodeRaftMessage)
    if (link.channel !== null) {
      for (const frame of frames) link.channel.send(frame)
      link.channel.flush()
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
      const channel = new Channel(stream, {
        frame: () => undefined,
        closed: () => {
          link.channel = null
          this.#lost(peer)
        }
      })
      link.channel = channel
      this.#forgive(link)
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

  #forgive(link: Link): void {
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
