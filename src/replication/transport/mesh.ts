// The libp2p node: TCP, the cluster's pre-shared key, Noise, yamux, gossipsub, and a connection gater that admits only
// known peers. The only file that configures libp2p; all others see peer ids, streams and one gossip topic. Streams of the
// protocols that requests wait for are direct: they share libp2p's port, and nothing else of it.

import { gossipsub, StrictSign, type GossipSub } from '@chainsafe/libp2p-gossipsub'
import { identify } from '@libp2p/identify'
import type { PeerId as Libp2pPeerId, PrivateKey } from '@libp2p/interface'
import { noise } from '@libp2p/noise'
import { peerIdFromPrivateKey, peerIdFromString } from '@libp2p/peer-id'
import type { TCPSocketOptions } from '@libp2p/tcp'
import { multiaddr } from '@multiformats/multiaddr'
import { createLibp2p, type Libp2p } from 'libp2p'
import { asVxmeshError, VxmeshError } from '#model/errors.ts'
import type { PeerId } from '#model/ids.ts'
import { formatIp, isIpv4, type Ip } from '#model/ip.ts'
import type { Clock } from '#platform/clock.ts'
import type { Logger } from '#platform/log.ts'
import { Admission } from './admission.ts'
import { DirectStreams } from './direct-streams.ts'
import { liveYamux } from './live-muxer.ts'
import { isDirect, type MeshPort, type MeshStream, type PeerAddress, type Verdict } from './mesh-port.ts'
import { ipIn } from './multiaddr-ip.ts'
import { PeerAddresses, reportedIps } from './peer-addresses.ts'
import { PortSorter, sharedTcp } from './port-sorter.ts'
import { clusterProtector } from './protector.ts'
import { Refusals } from './refusals.ts'

export type MeshOptions = {
  readonly privateKey: PrivateKey
  readonly bind: Ip
  readonly port: number
  /** 32 bytes, or null to run without a pre-shared key (insecure). */
  readonly preSharedKey: Uint8Array | null
  readonly topic: string
  /** Is this a peer of the cluster? Checked for every connection, inbound and outbound. */
  readonly isKnown: (peer: PeerId) => boolean
  readonly clock: Clock
  readonly logger: Logger
}

type Services = { pubsub: GossipSub; identify: unknown }

type MeshParts = {
  readonly node: Libp2p<Services>
  readonly options: MeshOptions
  readonly addresses: PeerAddresses
  readonly refusals: Refusals
  readonly direct: DirectStreams
  readonly sorter: PortSorter
}

/** Streams of one protocol per connection. Ours are long-lived; during a reconnect there may be two. */
const MAX_STREAMS = 16
/** A feed message holds about 48 KiB of entries, or one larger entry, plus signature and framing. */
const MAX_GOSSIP_BYTES = 256 * 1024
const DIAL_TIMEOUT_MS = 2_000
/** Connections that the kernel queues until the event loop accepts them: what a flood sends while it is busy elsewhere. */
const ACCEPT_BACKLOG = 4_096
/**
 * libp2p's own bounds on inbound connections, a second and in negotiation: above those of `Admission`, which unlike these
 * tell members from strangers.
 */
const MAX_INBOUND_PER_SECOND = 1_024
const MAX_NEGOTIATING = 4_096

export class Mesh implements MeshPort {
  readonly #node: Libp2p<Services>
  readonly #options: MeshOptions
  readonly #addresses: PeerAddresses
  readonly #refusals: Refusals
  readonly #direct: DirectStreams
  readonly #sorter: PortSorter
  /** Asked about twice a second and host; to look one up in libp2p takes its parsed id. */
  readonly #connected = new Set<PeerId>()

  private constructor(p: MeshParts) {
    this.#node = p.node
    this.#options = p.options
    this.#addresses = p.addresses
    this.#refusals = p.refusals
    this.#direct = p.direct
    this.#sorter = p.sorter
    this.watch((peer, connected) => {
      if (connected) this.#connected.add(peer)
      else this.#connected.delete(peer)
    })
  }

  /** @throws ERR_PEER when the port cannot be bound */
  static async start(options: MeshOptions): Promise<Mesh> {
    const { clock, logger, preSharedKey: key } = options
    const known = (peer: Libp2pPeerId): boolean => options.isKnown(peer.toString() as PeerId)
    const addresses = new PeerAddresses(options.bind)
    const refusals = new Refusals({ clock, logger })
    const admission = new Admission({ isMember: address => addresses.has(address), refusals, clock })
    const direct = new DirectStreams({
      ...options,
      self: peerIdFromPrivateKey(options.privateKey).toString() as PeerId,
      addressOf: peer => addresses.to(peer),
      admission,
      refusals
    })
    const sorter = new PortSorter({ admission, refusals, clock, direct: socket => void direct.accept(socket) })
    // libp2p passes these on to net.createServer and net.connect, but its type lists only some.
    const listenOpts = { blockList: admission.asBlockList() } as TCPSocketOptions
    // Others know this host by the address that it binds, and believe that it is there because it connects from there.
    const dialOpts = { localAddress: formatIp(options.bind) } as TCPSocketOptions
    try {
      const node = await createLibp2p<Services>({
        privateKey: options.privateKey,
        addresses: { listen: [multiaddrOf({ address: options.bind, port: options.port })] },
        transports: [
          sharedTcp(
            {
              inboundSocketInactivityTimeout: 60_000,
              outboundSocketInactivityTimeout: 60_000,
              backlog: ACCEPT_BACKLOG,
              dialOpts,
              listenOpts
            },
            sorter
          )
        ],
        connectionEncrypters: [noise()],
        streamMuxers: [liveYamux(clock)],
        ...(key === null ? {} : { connectionProtector: clusterProtector({ key, admission, refusals, clock }) }),
        connectionManager: {
          maxConnections: 2_048,
          inboundConnectionThreshold: MAX_INBOUND_PER_SECOND,
          maxIncomingPendingConnections: MAX_NEGOTIATING,
          dialTimeout: DIAL_TIMEOUT_MS,
          maxParallelDials: 64
        },
        connectionMonitor: { enabled: false },
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
            maxInboundDataLength: MAX_GOSSIP_BYTES,
            // Members are authenticated, and many may share an address: by default more than ten of them are silenced.
            scoreParams: { IPColocationFactorWeight: 0 }
          })
        }
      })
      return new Mesh({ node, options, addresses, refusals, direct, sorter })
    } catch (err) {
      direct.stop()
      const text = err instanceof Error ? err.message : String(err)
      throw new VxmeshError('ERR_PEER', `libp2p cannot listen on port ${options.port}: ${text}`, { cause: err })
    }
  }

  get self(): PeerId {
    return this.#node.peerId.toString() as PeerId
  }

  /** Inbound connections refused before or in the handshake, by reason, since the start. */
  get refused(): Readonly<Record<string, number>> {
    return this.#refusals.totals
  }

  /** Sets where a peer listens; a later call replaces the address. */
  setAddress(peer: PeerId, address: PeerAddress): void {
    this.#addresses.set(peer, address)
  }

  /** Opens a stream, connecting first if necessary. @throws ERR_PEER */
  async openStream(peer: PeerId, protocol: string): Promise<MeshStream> {
    if (isDirect(protocol)) return this.#direct.open(peer, protocol)
    try {
      const id = peerIdFromString(peer)
      if (this.#node.getConnections(id).length === 0) await this.connect(peer)
      return await this.#node.dialProtocol(id, protocol, { signal: AbortSignal.timeout(DIAL_TIMEOUT_MS) })
    } catch (err) {
      throw peerError(peer, err)
    }
  }

  /** Connects to a peer whose address is known; does nothing when already connected. @throws ERR_PEER */
  async connect(peer: PeerId): Promise<void> {
    const at = this.#addresses.to(peer)
    try {
      const target = multiaddr(`${multiaddrOf(at)}/p2p/${peer}`)
      await this.#node.dial(target, { signal: AbortSignal.timeout(DIAL_TIMEOUT_MS) })
    } catch (err) {
      throw peerError(peer, err)
    }
  }

  isConnected(peer: PeerId): boolean {
    return this.#connected.has(peer)
  }

  addressesOf(peer: PeerId): readonly Ip[] {
    const connections = this.#node.getConnections(peerIdFromString(peer))
    const ours = connections.map(({ remoteAddr }) => ipIn(remoteAddr))
    return reportedIps([...ours, ...this.#direct.addressesOf(peer)])
  }

  /** Reports when a peer's first connection opens and when its last one closes. */
  watch(listener: (peer: PeerId, connected: boolean) => void): void {
    this.#node.addEventListener('peer:connect', ({ detail }) => listener(detail.toString() as PeerId, true))
    this.#node.addEventListener('peer:disconnect', ({ detail }) => listener(detail.toString() as PeerId, false))
  }

  /** Serves a protocol to known peers. */
  async handle(protocol: string, handler: (peer: PeerId, stream: MeshStream) => void): Promise<void> {
    if (isDirect(protocol)) {
      this.#direct.handle(protocol, handler)
      return
    }
    await this.#node.handle(
      protocol,
      (stream, connection) => {
        const peer = connection.remotePeer.toString() as PeerId
        // The peer was known at the handshake, but may have been removed since.
        if (this.#options.isKnown(peer)) handler(peer, stream)
        else stream.abort(new Error('unknown peer'))
      },
      { maxInboundStreams: MAX_STREAMS, maxOutboundStreams: MAX_STREAMS }
    )
  }

  /** Subscribes to the topic. `validate` receives each message and decides whether gossipsub forwards it. */
  subscribe(validate: (author: PeerId, data: Uint8Array) => Verdict): void {
    const { pubsub } = this.#node.services
    pubsub.topicValidators.set(this.#options.topic, (_from, message) => {
      const verdict = message.type === 'signed' ? validate(message.from.toString() as PeerId, message.data) : 'reject'
      return verdict as never
    })
    pubsub.subscribe(this.#options.topic)
  }

  /** Unsubscribes from the topic; publishing still works. */
  unsubscribe(): void {
    this.#node.services.pubsub.unsubscribe(this.#options.topic)
  }

  /** Best effort: unordered, lossy, without replay. The feed detects gaps and fetches what is missing. */
  async publish(data: Uint8Array): Promise<void> {
    await this.#node.services.pubsub.publish(this.#options.topic, data)
  }

  async stop(): Promise<void> {
    this.#sorter.stop()
    this.#direct.stop()
    await this.#node.stop()
  }
}

function multiaddrOf({ address, port }: PeerAddress): string {
  return `/${isIpv4(address) ? 'ip4' : 'ip6'}/${formatIp(address)}/tcp/${port}`
}

/** Wraps anything that libp2p throws. */
export function peerError(peer: PeerId, cause: unknown): VxmeshError {
  if (cause instanceof VxmeshError) return cause
  // libp2p rejects with the close event of a stream, which may carry an error.
  const why = cause instanceof Event ? (cause as Event & { readonly error?: unknown }).error : cause
  const text = why === undefined ? 'it closed the stream' : asVxmeshError(why).message
  return new VxmeshError('ERR_PEER', `peer ${peer} cannot be reached: ${text}`, { cause })
}
