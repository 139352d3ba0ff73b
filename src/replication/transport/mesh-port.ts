// What replication needs of the network between hosts. `Mesh` (mesh.ts) provides it over libp2p and direct streams; tests and
// the simulator provide it in memory.

import type { PeerId } from '#model/ids.ts'
import type { Ip } from '#model/ip.ts'

export type PeerAddress = { readonly address: Ip; readonly port: number }

/** The verdict on a gossip message: forward it, drop it, or drop it and penalise its sender. */
export type Verdict = 'accept' | 'ignore' | 'reject'

/** Raft's messages. */
export const RAFT_PROTOCOL = '/vxmesh/raft/2'
/** Proposals and read indexes: requests to the leader that a caller waits for. */
export const LEADER_PROTOCOL = '/vxmesh/leader/1'

/** Has a stream of this protocol a connection of its own, instead of a place in libp2p's? */
export function isDirect(protocol: string): boolean {
  return protocol === RAFT_PROTOCOL || protocol === LEADER_PROTOCOL
}

/** One end of a byte stream, in order and reliable until it closes; a libp2p `Stream` is one. */
export type MeshStream = {
  /** 'open' while bytes can be sent. */
  readonly status: string
  /** Bytes accepted by `send` that have not left yet. */
  readonly writeBufferLength: number
  /** Does an empty frame only say that the peer is alive? */
  readonly hasKeepAlives?: boolean
  send(bytes: Uint8Array): unknown
  /** Closes both directions at once; bytes that have not left are lost. */
  abort(err: Error): void
  addEventListener(
    type: 'message',
    listener: (event: { readonly data: { readonly subarray: () => Uint8Array } }) => void
  ): void
  /** `remoteCloseWrite`: the other end will send no more. */
  addEventListener(type: 'close' | 'remoteCloseWrite', listener: () => void): void
}

export type MeshPort = {
  readonly self: PeerId
  /** Sets where a peer listens; the latest call counts. */
  setAddress(peer: PeerId, address: PeerAddress): void
  /** Connects to a peer whose address is known; does nothing when connected. @throws ERR_PEER */
  connect(peer: PeerId): Promise<void>
  isConnected(peer: PeerId): boolean
  /** The addresses at which an authenticated peer is connected: nobody can speak from another one over TCP. */
  addressesOf(peer: PeerId): readonly Ip[]
  /** Reports each peer when its first connection opens and when its last one closes. */
  watch(report: (peer: PeerId, connected: boolean) => void): void
  /** Opens a stream, connecting first where needed. @throws ERR_PEER */
  openStream(peer: PeerId, protocol: string): Promise<MeshStream>
  /** Serves a protocol to known peers. */
  handle(protocol: string, handler: (peer: PeerId, stream: MeshStream) => void): Promise<void>
  /** Subscribes to the topic; `judge` decides on each message before it is forwarded. */
  subscribe(judge: (author: PeerId, data: Uint8Array) => Verdict): void
  /** Ends the subscription; publishing still works. */
  unsubscribe(): void
  /** Best effort: unordered, no replay, silent loss; the feed detects gaps. */
  publish(data: Uint8Array): Promise<void>
}
