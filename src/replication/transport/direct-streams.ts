// Direct streams between hosts: each is one TCP connection to the mesh port with TLS by Node, instead of a stream in libp2p's
// muxer, for what requests wait for. Hosts are admitted as libp2p admits them, and again in each round of keep-alives.

import type { PrivateKey } from '@libp2p/interface'
import { connect, type Socket } from 'node:net'
import { VxmeshError } from '#model/errors.ts'
import type { PeerId } from '#model/ids.ts'
import { formatIp, type Ip } from '#model/ip.ts'
import type { Cancel, Clock } from '#platform/clock.ts'
import type { Logger } from '#platform/log.ts'
import type { Admission } from './admission.ts'
import { acceptHandshake, dialHandshake, HandshakeError, type DirectIdentity } from './direct-handshake.ts'
import { DirectStream } from './direct-stream.ts'
import { preSharedKeyOf } from './direct-tls.ts'
import type { Refusal } from './host-proof.ts'
import type { PeerAddress } from './mesh-port.ts'
import { PreambleError } from './preamble.ts'
import type { Refusals } from './refusals.ts'

/** A round of keep-alives: a lost peer is noticed within five. */
const ROUND_MS = 2_500
/** Inbound streams of one peer and protocol: one, or a few while it reconnects. The oldest is closed for one more. */
const MAX_STREAMS = 4

type StreamHandler = (peer: PeerId, stream: DirectStream) => void

type DirectOptions = {
  readonly self: PeerId
  readonly privateKey: PrivateKey
  /** The address to dial from. */
  readonly bind: Ip
  /** 32 bytes; null admits whoever is known, without a secret. */
  readonly preSharedKey: Uint8Array | null
  /** @throws ERR_PEER */
  readonly addressOf: (peer: PeerId) => PeerAddress
  readonly isKnown: (peer: PeerId) => boolean
  readonly admission: Pick<Admission, 'startProof'>
  readonly refusals: Refusals
  readonly clock: Clock
  readonly logger: Logger
}

export class DirectStreams {
  readonly #options: DirectOptions
  readonly #identity: DirectIdentity
  readonly #handlers = new Map<string, StreamHandler>()
  /** Oldest first. */
  readonly #streams = new Set<DirectStream>()
  readonly #handshaking = new Set<Socket>()
  readonly #cancelRounds: Cancel
  #stopped = false

  constructor(options: DirectOptions) {
    this.#options = options
    const { self, privateKey, preSharedKey } = options
    const clusterKey = preSharedKey ?? new Uint8Array(32)
    this.#identity = { self, privateKey, clusterKey, psk: preSharedKeyOf(clusterKey) }
    this.#cancelRounds = options.clock.every(ROUND_MS, () => this.#keepAlive())
  }

  /** Serves a protocol to known peers. */
  handle(protocol: string, handler: StreamHandler): void {
    this.#handlers.set(protocol, handler)
  }

  /** @throws ERR_PEER */
  async open(peer: PeerId, protocol: string): Promise<DirectStream> {
    const { addressOf, bind, clock, isKnown, refusals } = this.#options
    const at = addressOf(peer)
    if (!isKnown(peer)) throw new VxmeshError('ERR_PEER', `peer ${peer} is not known`)
    const host = formatIp(at.address)
    const raw = this.#track(connect({ host, port: at.port, localAddress: formatIp(bind), noDelay: true }))
    try {
      const socket = await dialHandshake(raw, { ...this.#identity, peer, protocol, clock })
      return this.#keep(new DirectStream(socket, { peer, protocol, direction: 'outbound' }))
    } catch (err) {
      if (err instanceof PreambleError) refusals.count(err.fault, host, err.message)
      const why = err instanceof Error ? err.message : String(err)
      throw new VxmeshError('ERR_PEER', `peer ${peer} cannot be reached: ${why}`, { cause: err })
    } finally {
      this.#handshaking.delete(raw)
    }
  }

  /** Takes a connection to the mesh port that began as a direct stream. */
  async accept(raw: Socket): Promise<void> {
    const { admission, clock, refusals, logger } = this.#options
    const address = raw.remoteAddress ?? ''
    const endProof = admission.startProof(address)
    this.#track(raw)
    try {
      const refuses = (peer: PeerId, protocol: string): Refusal | null => this.#refuses(peer, protocol)
      const { socket, peer, protocol } = await acceptHandshake(raw, { ...this.#identity, refuses, clock })
      const stream = this.#keep(new DirectStream(socket, { peer, protocol, direction: 'inbound' }))
      this.#closeSurplus(stream)
      this.#handlers.get(protocol)?.(peer, stream)
    } catch (err) {
      if (err instanceof PreambleError || err instanceof HandshakeError) {
        refusals.count(err.fault, address, err.message)
      } else logger.debug({ address, err }, 'direct stream ended in its handshake')
    } finally {
      endProof()
      this.#handshaking.delete(raw)
    }
  }

  /** The addresses from which an authenticated peer has streams open, as text. */
  addressesOf(peer: PeerId): readonly string[] {
    return [...this.#streams].filter(stream => stream.peer === peer).map(stream => stream.remoteAddress)
  }

  stop(): void {
    this.#stopped = true
    this.#cancelRounds()
    for (const socket of this.#handshaking) socket.destroy()
    for (const stream of [...this.#streams]) stream.abort()
  }

  #refuses(peer: PeerId, protocol: string): Refusal | null {
    if (!this.#options.isKnown(peer)) return 'unknown host'
    return this.#handlers.has(protocol) ? null : 'not served'
  }

  #track(raw: Socket): Socket {
    // Reported by `close`, and by the handshake.
    raw.on('error', () => undefined)
    if (this.#stopped) raw.destroy()
    else this.#handshaking.add(raw)
    return raw
  }

  #keep(stream: DirectStream): DirectStream {
    this.#streams.add(stream)
    stream.addEventListener('close', () => this.#streams.delete(stream))
    if (this.#stopped) stream.abort()
    return stream
  }

  #closeSurplus({ peer, protocol }: DirectStream): void {
    const same = [...this.#streams].filter(s => s.direction === 'inbound' && s.peer === peer && s.protocol === protocol)
    for (const stream of same.slice(0, -MAX_STREAMS)) stream.abort()
  }

  #keepAlive(): void {
    for (const stream of [...this.#streams]) {
      // A host that was removed, or has left.
      if (this.#options.isKnown(stream.peer)) stream.keepAlive()
      else stream.abort()
    }
  }
}
