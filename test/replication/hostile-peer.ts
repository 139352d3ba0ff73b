// A member without a vote that says what it likes: messages of Raft, requests and gossip, over a connection that
// authenticates it as itself.

import type { ClusterId, LogIndex, PeerId, Term } from '#model/ids.ts'
import type { Clock } from '#platform/clock.ts'
import type { Entry, Message } from '#raft/types.ts'
import { PROPOSE_METHOD } from '#replication/consensus/propose-rpc.ts'
import { encodeRaftMessage } from '#replication/codec/raft-codec.ts'
import { encodeFeed } from '#replication/feed/feed-message.ts'
import { Channel } from '#replication/transport/channel.ts'
import { LEADER_PROTOCOL, RAFT_PROTOCOL, type MeshPort } from '#replication/transport/mesh-port.ts'
import { Rpc } from '#replication/transport/rpc.ts'
import { answerIn, frameOf } from './proposals.ts'

/** Served on streams of their own. */
const LEADER_METHODS: readonly string[] = [PROPOSE_METHOD, 'read-index']

type Body<M> = M extends Message ? Omit<M, 'clusterId' | 'from' | 'to' | 'incarnation'> : never

export class HostilePeer {
  readonly mesh: MeshPort
  readonly rpc: Rpc
  readonly #clusterId: ClusterId
  readonly #leaderRpc: Rpc
  readonly #channels = new Map<PeerId, Channel>()

  constructor(p: { readonly mesh: MeshPort; readonly clock: Clock; readonly clusterId: ClusterId }) {
    this.mesh = p.mesh
    this.rpc = new Rpc(p)
    this.#leaderRpc = new Rpc({ ...p, protocol: LEADER_PROTOCOL })
    this.#clusterId = p.clusterId
  }

  /** @returns whether the receiver has closed the channel that the message before used */
  async raft(to: PeerId, body: Body<Message>): Promise<void> {
    const message = { ...body, clusterId: this.#clusterId, from: this.mesh.self, to, incarnation: 0 } as Message
    await this.raftFrame(to, encodeRaftMessage(message))
  }

  async raftFrame(to: PeerId, frame: Uint8Array): Promise<void> {
    const open = this.#channels.get(to)
    if (open?.send(frame) === true) return
    const stream = await this.mesh.openStream(to, RAFT_PROTOCOL)
    const channel = new Channel(stream, {
      frame: () => undefined,
      closed: () => {
        if (this.#channels.get(to) === channel) this.#channels.delete(to)
      }
    })
    this.#channels.set(to, channel)
    channel.send(frame)
  }

  /** Is a channel to that peer open? */
  isHeard(to: PeerId): boolean {
    return this.#channels.has(to)
  }

  request(to: PeerId, method: string, body: unknown): Promise<unknown> {
    const rpc = LEADER_METHODS.includes(method) ? this.#leaderRpc : this.rpc
    return rpc.call({ peer: to, method, body, timeoutMs: 2_000 })
  }

  /** Proposes one request, whatever it is. @returns `{ applied }` or `{ leader }` */
  async propose(to: PeerId, request: unknown): Promise<unknown> {
    return answerIn(await this.request(to, PROPOSE_METHOD, frameOf(request)))
  }

  async gossip(p: { term: number; commitIndex: number; entries?: readonly Entry[] }): Promise<void> {
    const { term, commitIndex, entries = [] } = p
    const clusterId = this.#clusterId
    for (const message of encodeFeed({
      clusterId,
      term: term as Term,
      commitIndex: commitIndex as LogIndex,
      entries
    })) {
      await this.mesh.publish(message)
    }
  }
}
