// Our libp2p node: TCP, the cluster's pre-shared key, Noise, yamux, gossipsub, and a gate that lets in only peers that
// the agent knows. The only file that builds libp2p; the rest sees peer ids, streams and one gossip topic.

import { gossipsub, StrictSign, type GossipSub } from '@chainsafe/libp2p-gossipsub'
import { identify } from '@libp2p/identify'
import type { PeerId as Libp2pPeerId, PrivateKey, Stream } from '@libp2p/interface'
import { noise } from '@libp2p/noise'
import { peerIdFromString } from '@libp2p/peer-id'
import { tcp } from '@libp2p/tcp'
import { yamux } from '@libp2p/yamux'
import { multiaddr } from '@multiformats/multiaddr'
import { createLibp2p, type Libp2p } from 'libp2p'
import { asVxmeshError, VxmeshError } from '#model/errors.ts'
import type { PeerId } from '#model/ids.ts'
import { formatIpv4, type Ipv4 } from '#model/ipv4.ts'
import type { Clock } from '#platform/clock.ts'
import type { Logger } from '#platform/log.ts'
import { clusterProtector } from './protector.ts'

export type PeerAddress = { readonly address: Ipv4; readonly port: number }

export type MeshOptions = {
  readonly privateKey: PrivateKey
  readonly bind: Ipv4
  readonly port: number
  /** 32 bytes, or null to run without (insecure). */
  readonly preSharedKey: Uint8Array | null
  readonly topic: string
  /** Is this a peer of the cluster? Asked for every connection, both ways. */
  readonly isKnown: (peer: PeerId) => boolean
  readonly clock: Clock
  readonly logger: Logger
}

export type Verdict = 'accept' | 'ignore' | 'reject'

type Services = { pubsub: GossipSub; identify: unknown }

/** Streams of one protocol that one connection may hold; ours are long-lived, a reconnect may briefly hold two. */
const MAX_STREAMS = 16
/** A feed message is at most 64 KiB of entries; signatures and framing come on top. */
const MAX_GOSSIP_BYTES = 256 * 1024
const DIAL_TIMEOUT_MS = 2_000

export class Mesh {
  readonly #node: Libp2p<Services>
  readonly #options: MeshOptions
  readonly #addresses = new Map<PeerId, PeerAddress>()

  private constructor(node: Libp2p<Services>, options: MeshOptions) {
    this.#node = node
    this.#options = options
  }

  /** @throws ERR_PEER when the port cannot be bound */
  static async start(options: MeshOptions): Promise<Mesh> {
    const known = (peer: Libp2pPeerId): boolean => options.isKnown(peer.toString() as PeerId)
    try {
      const node = await createLibp2p<Services>({
        privateKey: options.privateKey,
        addresses: { listen: [`/ip4/${formatIpv4(options.bind)}/tcp/${options.port}`] },
        transports: [tcp({ inboundSocketInactivityTimeout: 60_000, outboundSocketInactivityTimeout: 60_000 })],
        connectionEncrypters: [noise()],
        streamMuxers: [yamux({ enableKeepAlive: true, keepAliveInterval: 5_000 })],
        ...(options.preSharedKey === null
          ? {}
          : { connectionProtector: clusterProtector({ key: options.preSharedKey, clock: options.clock }) }),
        connectionManager: {
          maxConnections: 2_048,
          inboundConnectionThreshold: 50,
          maxIncomingPendingConnections: 128,
          dialTimeout: DIAL_TIMEOUT_MS,
          maxParallelDials: 64
        },
        connectionMonitor: { enabled: true, pingInterval: 5_000, abortConnectionOnPingFailure: true },
        connectionGater: {
          denyDialMultiaddr: () => false,
          denyDialPeer: peer => !known(peer),
          denyInboundEncryptedConnection: peer => !known(peer)
        },
        services: {
          identify: identify(),
          pubsub: gossipsub({
            allowedTopics: [options.topic],
            allowPublishToZeroTopicPeers: true,
            fallbackToFloodsub: false,
            floodPublish: true,
            doPX: false,
            emitSelf: false,
            globalSignaturePolicy: StrictSign,
            maxInboundDataLength: MAX_GOSSIP_BYTES
          })
        }
      })
      return new Mesh(node, options)
    } catch (err) {
      const text = err instanceof Error ? err.message : String(err)
      throw new VxmeshError('ERR_PEER', `libp2p cannot listen on port ${options.port}: ${text}`, { cause: err })
    }
  }

  get self(): PeerId {
    return this.#node.peerId.toString() as PeerId
  }

  /** Says where a peer listens; the newest word counts. */
  setAddress(peer: PeerId, address: PeerAddress): void {
    this.#addresses.set(peer, address)
  }

  /** Opens a stream, connecting first where needed. @throws ERR_PEER */
  async openStream(peer: PeerId, protocol: string): Promise<Stream> {
    try {
      const id = peerIdFromString(peer)
      if (this.#node.getConnections(id).length === 0) await this.connect(peer)
      return await this.#node.dialProtocol(id, protocol, { signal: AbortSignal.timeout(DIAL_TIMEOUT_MS) })
    } catch (err) {
      throw peerError(peer, err)
    }
  }

  /** Connects to a peer whose address is known; does nothing when connected. @throws ERR_PEER */
  async connect(peer: PeerId): Promise<void> {
    const at = this.#addresses.get(peer)
    if (at === undefined) throw new VxmeshError('ERR_PEER', `no address is known for peer ${peer}`)
    try {
      const target = multiaddr(`/ip4/${formatIpv4(at.address)}/tcp/${at.port}/p2p/${peer}`)
      await this.#node.dial(target, { signal: AbortSignal.timeout(DIAL_TIMEOUT_MS) })
    } catch (err) {
      throw peerError(peer, err)
    }
  }

  isConnected(peer: PeerId): boolean {
    return this.#node.getConnections(peerIdFromString(peer)).length > 0
  }

  /** Says of each peer when its first connection is there, and when its last one is gone. */
  watch(tell: (peer: PeerId, connected: boolean) => void): void {
    this.#node.addEventListener('peer:connect', ({ detail }) => tell(detail.toString() as PeerId, true))
    this.#node.addEventListener('peer:disconnect', ({ detail }) => tell(detail.toString() as PeerId, false))
  }

  /** Serves a protocol to known peers. */
  async handle(protocol: string, handler: (peer: PeerId, stream: Stream) => void): Promise<void> {
    await this.#node.handle(
      protocol,
      (stream, connection) => {
        const peer = connection.remotePeer.toString() as PeerId
        // Known at the handshake, but perhaps removed since: ask again at every stream.
        if (this.#options.isKnown(peer)) handler(peer, stream)
        else stream.abort(new Error('unknown peer'))
      },
      { maxInboundStreams: MAX_STREAMS, maxOutboundStreams: MAX_STREAMS }
    )
  }

  /** Hears the topic: `judge` decides before anything is forwarded, `deliver` gets what was accepted. */
  subscribe(judge: (author: PeerId, data: Uint8Array) => Verdict): void {
    const { pubsub } = this.#node.services
    pubsub.topicValidators.set(this.#options.topic, (_from, message) => {
      const verdict = message.type === 'signed' ? judge(message.from.toString() as PeerId, message.data) : 'reject'
      return verdict as never
    })
    pubsub.subscribe(this.#options.topic)
  }

  /** Hears the topic no more; publishing goes on. */
  unsubscribe(): void {
    this.#node.services.pubsub.unsubscribe(this.#options.topic)
  }

  /** Best effort: no order, no replay, silent loss; the feed's gap detection makes up for it. */
  async publish(data: Uint8Array): Promise<void> {
    await this.#node.services.pubsub.publish(this.#options.topic, data)
  }

  async stop(): Promise<void> {
    await this.#node.stop()
  }
}

/** In words, whatever libp2p has thrown. */
export function peerError(peer: PeerId, cause: unknown): VxmeshError {
  if (cause instanceof VxmeshError) return cause
  // libp2p rejects with the event of a stream that was closed: with its error, or without a word.
  const why = cause instanceof Event ? (cause as Event & { readonly error?: unknown }).error : cause
  const text = why === undefined ? 'it closed the stream' : asVxmeshError(why).message
  return new VxmeshError('ERR_PEER', `peer ${peer} cannot be reached: ${text}`, { cause })
}
