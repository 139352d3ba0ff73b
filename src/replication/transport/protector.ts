// Keeps strangers out before any handshake (libp2p's connection protector): each side sends 32 random bytes, and from
// then on each direction is a ChaCha20 stream whose key follows from the cluster's key and both sides' bytes. It
// authenticates nothing: who has not the key sends and reads garbage, and Noise above it tells garbage from a peer.

import { createCipheriv, createDecipheriv, hkdfSync, randomBytes, type Cipheriv, type Decipheriv } from 'node:crypto'
import type { ConnectionProtector, MessageStream } from '@libp2p/interface'
import { AbstractMultiaddrConnection, byteStream } from '@libp2p/utils'
import type { Cancel, Clock } from '#platform/clock.ts'

/** Of the form on the wire: another one derives other keys, and its peers get nowhere. */
const LABEL = 'vxmesh protector 1'
const CIPHER = 'chacha20'
const SALT_BYTES = 32
const KEY_BYTES = 32
/** OpenSSL's form of ChaCha20: the block counter and the nonce, neither ever reused, because no key is. */
const IV_BYTES = 16
/** A peer that connects and then says nothing. */
const HANDSHAKE_MS = 2_000
/**
 * A Noise packet (length, tag) around a frame of yamux that is a header alone: a window update after each message, a
 * ping. It carries nothing that anybody waits for, and alone it costs as much as a message on its way through the kernel.
 */
const BARE_FRAME_BYTES = 2 + 12 + 16
/** So long it waits for company. */
const COMPANY_MS = 5

export type ProtectorOptions = {
  /** 32 bytes that all hosts of the cluster share. */
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
      // A key a direction: what one side sent, played back to it, is garbage too.
      const [there, back] = [cipherOf(key, salt, 'from the dialler'), cipherOf(key, salt, 'to the dialler')]
      const [outbound, inbound] = dials ? [there, back] : [back, there]
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
  #waiting: Uint8Array[] = []
  #company: Cancel | null = null

  constructor(below: MessageStream, { clock, outbound, inbound }: ConnectionOptions) {
    const { direction, inactivityTimeout, maxReadBufferLength } = below
    // What libp2p protects is always a connection: the types say only what any message stream has.
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
      this.#leave()
      if (error === undefined) this.onTransportClosed()
      else if (local === true) this.abort(error)
      else this.onRemoteReset()
    })
  }

  sendData(
    data: Parameters<AbstractMultiaddrConnection['sendData']>[0]
  ): ReturnType<AbstractMultiaddrConnection['sendData']> {
    const sentBytes = data.byteLength
    this.#waiting.push(data.subarray())
    if (sentBytes !== BARE_FRAME_BYTES) return { sentBytes, canSendMore: this.#flush() }
    this.#company ??= this.#clock.after(COMPANY_MS, () => this.#flush())
    return { sentBytes, canSendMore: true }
  }

  async sendClose(options?: { signal?: AbortSignal }): Promise<void> {
    this.#flush()
    await this.#below.close(options)
  }

  sendReset(err: Error): void {
    this.#leave()
    this.#below.abort(err)
  }

  sendPause(): void {
    this.#below.pause()
  }

  sendResume(): void {
    this.#below.resume()
  }

  /** All that waits, in one write. @returns whether more may follow at once */
  #flush(): boolean {
    const [first, ...more] = this.#leave()
    if (first === undefined || this.#below.status !== 'open') return true
    return this.#below.send(this.#outbound.update(more.length === 0 ? first : Buffer.concat([first, ...more])))
  }

  #leave(): Uint8Array[] {
    this.#company?.()
    this.#company = null
    const waiting = this.#waiting
    this.#waiting = []
    return waiting
  }
}
