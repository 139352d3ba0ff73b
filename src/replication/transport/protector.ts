// Rejects hosts without the cluster key before any handshake (libp2p's connection protector). Each side sends a 32-byte
// salt; after that each direction is a ChaCha20 stream whose key is derived from the cluster key and both salts. It does
// not authenticate: without the key both directions decrypt to garbage, which the Noise handshake above it rejects.

import { createCipheriv, createDecipheriv, hkdfSync, randomBytes, type Cipheriv, type Decipheriv } from 'node:crypto'
import type { ConnectionProtector, MessageStream } from '@libp2p/interface'
import { AbstractMultiaddrConnection, byteStream } from '@libp2p/utils'
import type { Cancel, Clock } from '#platform/clock.ts'

/** Version of the wire format. It is part of the key derivation, so versions cannot talk to each other. */
const LABEL = 'vxmesh protector 1'
const CIPHER = 'chacha20'
const SALT_BYTES = 32
const KEY_BYTES = 32
/** OpenSSL's ChaCha20 IV: block counter and nonce. Never reused, because no key is. */
const IV_BYTES = 16
/** Time for a peer to send its salt. */
const HANDSHAKE_MS = 2_000
/**
 * A Noise packet (length, tag) around a yamux frame that is only a header: a window update after each message, or a ping.
 * Nothing waits for it, and sent alone it costs the kernel as much as a message.
 */
const HEADER_ONLY_BYTES = 2 + 12 + 16
/** How long a header-only frame is delayed so that it can be coalesced. */
const COALESCE_MS = 5

type ProtectorOptions = {
  /** 32 bytes, shared by all hosts of the cluster. */
  readonly key: Uint8Array
  readonly clock: Clock
}

export function clusterProtector({ key, clock }: ProtectorOptions): () => ConnectionProtector {
  return () => ({
    async protect(connection, options): Promise<MessageStream> {
      const limit = AbortSignal.timeout(HANDSHAKE_MS)
      const signal = options?.signal === undefined ? limit : AbortSignal.any([options.signal, limit])
      const ours = randomBytes(SALT_BYTES)
      const bytes = byteStream(connection)
      const [read] = await Promise.all([bytes.read({ bytes: SALT_BYTES, signal }), bytes.write(ours, { signal })])
      const theirs = read.subarray()
      const dials = connection.direction === 'outbound'
      const salt = dials ? Buffer.concat([ours, theirs]) : Buffer.concat([theirs, ours])
      // A key per direction: traffic reflected back to its sender decrypts to garbage, too.
      const [toListener, toDialler] = [cipherOf(key, salt, 'from the dialler'), cipherOf(key, salt, 'to the dialler')]
      const [outbound, inbound] = dials ? [toListener, toDialler] : [toDialler, toListener]
      return new ProtectedConnection(bytes.unwrap(), {
        clock,
        outbound: createCipheriv(CIPHER, outbound.key, outbound.iv),
        inbound: createDecipheriv(CIPHER, inbound.key, inbound.iv)
      })
    }
  })
}

function cipherOf(key: Uint8Array, salt: Uint8Array, direction: string): { key: Uint8Array; iv: Uint8Array } {
  const bytes = new Uint8Array(hkdfSync('sha256', key, salt, `${LABEL}: ${direction}`, KEY_BYTES + IV_BYTES))
  return { key: bytes.subarray(0, KEY_BYTES), iv: bytes.subarray(KEY_BYTES) }
}

type ConnectionOptions = { readonly clock: Clock; readonly outbound: Cipheriv; readonly inbound: Decipheriv }

class ProtectedConnection extends AbstractMultiaddrConnection {
  readonly #below: MessageStream
  readonly #outbound: Cipheriv
  readonly #clock: Clock
  #queue: Uint8Array[] = []
  #cancelFlush: Cancel | null = null

  constructor(below: MessageStream, { clock, outbound, inbound }: ConnectionOptions) {
    const { direction, inactivityTimeout, maxReadBufferLength } = below
    // libp2p protects only connections, although the type is that of any message stream.
    const { remoteAddr } = below as unknown as Pick<AbstractMultiaddrConnection, 'remoteAddr'>
    super({ remoteAddr, direction, inactivityTimeout, maxReadBufferLength, log: below.log.newScope('protector') })
    this.#below = below
    this.#outbound = outbound
    this.#clock = clock
    below.addEventListener('message', ({ data }) => {
      for (const chunk of data instanceof Uint8Array ? [data] : data) this.onData(inbound.update(chunk))
    })
    below.addEventListener('drain', () => this.safeDispatchEvent('drain'))
    below.addEventListener('remoteCloseWrite', () => this.onRemoteCloseWrite())
    below.addEventListener('close', ({ error, local }) => {
      this.#takeQueue()
      if (error === undefined) this.onTransportClosed()
      else if (local === true) this.abort(error)
      else this.onRemoteReset()
    })
  }

  sendData(
    data: Parameters<AbstractMultiaddrConnection['sendData']>[0]
  ): ReturnType<AbstractMultiaddrConnection['sendData']> {
    const sentBytes = data.byteLength
    this.#queue.push(data.subarray())
    if (sentBytes !== HEADER_ONLY_BYTES) return { sentBytes, canSendMore: this.#flush() }
    this.#cancelFlush ??= this.#clock.after(COALESCE_MS, () => this.#flush())
    return { sentBytes, canSendMore: true }
  }

  async sendClose(options?: { signal?: AbortSignal }): Promise<void> {
    this.#flush()
    await this.#below.close(options)
  }

  sendReset(err: Error): void {
    this.#takeQueue()
    this.#below.abort(err)
  }

  sendPause(): void {
    this.#below.pause()
  }

  sendResume(): void {
    this.#below.resume()
  }

  /** Writes the queued frames as one. @returns whether the connection can take more */
  #flush(): boolean {
    const [first, ...more] = this.#takeQueue()
    if (first === undefined || this.#below.status !== 'open') return true
    return this.#below.send(this.#outbound.update(more.length === 0 ? first : Buffer.concat([first, ...more])))
  }

  #takeQueue(): Uint8Array[] {
    this.#cancelFlush?.()
    this.#cancelFlush = null
    const queued = this.#queue
    this.#queue = []
    return queued
  }
}
