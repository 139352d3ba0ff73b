// Keeps hosts without the cluster key away from libp2p's parsers (libp2p's connection protector). Both ends first prove
// that they hold the key (preamble.ts); until then a peer may send a preamble and nothing else. After that each direction
// is a ChaCha20 stream whose key is derived from the cluster key and both salts. The Noise handshake above authenticates.

import { createCipheriv, createDecipheriv, hkdfSync, type Cipheriv, type Decipheriv } from 'node:crypto'
import type { ConnectionProtector, MessageStream } from '@libp2p/interface'
import { AbstractMultiaddrConnection } from '@libp2p/utils'
import type { Cancel, Clock } from '#platform/clock.ts'
import type { Admission } from './admission.ts'
import { ipIn } from './multiaddr-ip.ts'
import { Preamble, PreambleError, VERSION, type Role } from './preamble.ts'
import type { RefusalReason, Refusals } from './refusals.ts'

const LABEL = `vxmesh protector ${VERSION}`
const CIPHER = 'chacha20'
const KEY_BYTES = 32
/** OpenSSL's ChaCha20 IV: block counter and nonce. Never reused, because no key is. */
const IV_BYTES = 16
/** Time for a peer to prove the key: two round trips, and an event loop that is busy starting. */
export const PREAMBLE_MS = 2_000
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
  readonly admission: Pick<Admission, 'startProof'>
  readonly refusals: Refusals
  readonly clock: Clock
}

/** A preamble that timed out or was cut short; the bytes received were right. */
class UnfinishedPreamble extends Error {
  readonly reason: RefusalReason

  constructor(reason: 'no preamble in time' | 'closed early') {
    super(reason === 'closed early' ? 'it closed the connection before it proved the cluster key' : reason)
    this.reason = reason
  }
}

export function clusterProtector(options: ProtectorOptions): () => ConnectionProtector {
  const { admission, refusals } = options
  return () => ({
    async protect(connection, { signal } = {}): Promise<MessageStream> {
      const inbound = connection.direction === 'inbound'
      const address = ipIn(asConnection(connection).remoteAddr)
      const endProof = inbound ? admission.startProof(address) : () => undefined
      try {
        return await proveAndProtect(connection, options, signal)
      } catch (err) {
        const reason = err instanceof PreambleError ? err.fault : err instanceof UnfinishedPreamble ? err.reason : null
        // The dialler reports its own failures. That a peer has another release or key is counted in both directions.
        if (reason !== null && (inbound || err instanceof PreambleError)) {
          refusals.count(reason, address, err instanceof Error ? err.message : reason)
        }
        throw err
      } finally {
        endProof()
      }
    }
  })
}

/** Rejects, with the connection closed, on the first wrong byte, after PREAMBLE_MS, and when the connection or `signal` ends. */
function proveAndProtect(
  connection: MessageStream,
  { key, clock }: ProtectorOptions,
  signal: AbortSignal | undefined
): Promise<MessageStream> {
  const role: Role = connection.direction === 'inbound' ? 'listener' : 'dialler'
  const preamble = new Preamble({ key, role, purpose: 'libp2p' })
  return new Promise((resolve, reject) => {
    let established: ProtectedConnection | null = null
    const stop = (): void => {
      cancelTimeout()
      connection.removeEventListener('close', closed)
      signal?.removeEventListener('abort', aborted)
    }
    const fail = (err: Error): void => {
      stop()
      connection.removeEventListener('message', received)
      connection.abort(err)
      reject(err)
    }
    const closed = (): void => fail(new UnfinishedPreamble('closed early'))
    const aborted = (): void => fail(new UnfinishedPreamble('no preamble in time'))
    const received = ({ data }: { readonly data: Chunks }): void => {
      if (established !== null) {
        established.received(data)
        return
      }
      try {
        const step = preamble.push(data.subarray())
        if (step.reply !== null) connection.send(step.reply)
        if (step.established === null) return
        const { salts, rest } = step.established
        stop()
        established = new ProtectedConnection(connection, { clock, ...ciphersOf({ key, salts, role }) })
        established.received(rest)
        resolve(established)
      } catch (err) {
        fail(err instanceof Error ? err : new Error(String(err)))
      }
    }
    const cancelTimeout = clock.after(PREAMBLE_MS, aborted)
    if (signal?.aborted === true) {
      aborted()
      return
    }
    signal?.addEventListener('abort', aborted, { once: true })
    connection.addEventListener('close', closed)
    connection.addEventListener('message', received)
    const opening = preamble.opening()
    try {
      if (opening !== null) connection.send(opening)
    } catch (err) {
      fail(err instanceof Error ? err : new Error(String(err)))
    }
  })
}

/** A key per direction: traffic reflected back to its sender decrypts to garbage. */
function ciphersOf(p: { key: Uint8Array; salts: Uint8Array; role: Role }): { outbound: Cipheriv; inbound: Decipheriv } {
  const secret = (direction: string): readonly [string, Uint8Array, Uint8Array] => {
    const bytes = new Uint8Array(hkdfSync('sha256', p.key, p.salts, `${LABEL}: ${direction}`, KEY_BYTES + IV_BYTES))
    return [CIPHER, bytes.subarray(0, KEY_BYTES), bytes.subarray(KEY_BYTES)]
  }
  const [toListener, toDialler] = [secret('from the dialler'), secret('to the dialler')]
  const [outbound, inbound] = p.role === 'dialler' ? [toListener, toDialler] : [toDialler, toListener]
  return { outbound: createCipheriv(...outbound), inbound: createDecipheriv(...inbound) }
}

// libp2p protects only connections, although the type is that of any message stream.
function asConnection(stream: MessageStream): Pick<AbstractMultiaddrConnection, 'remoteAddr'> {
  return stream as unknown as Pick<AbstractMultiaddrConnection, 'remoteAddr'>
}

/** Bytes as libp2p's streams deliver them. */
type Chunks = Uint8Array | (Iterable<Uint8Array> & { readonly subarray: () => Uint8Array })

type ConnectionOptions = { readonly clock: Clock; readonly outbound: Cipheriv; readonly inbound: Decipheriv }

class ProtectedConnection extends AbstractMultiaddrConnection {
  readonly #below: MessageStream
  readonly #outbound: Cipheriv
  readonly #inbound: Decipheriv
  readonly #clock: Clock
  #queue: Uint8Array[] = []
  #cancelFlush: Cancel | null = null

  constructor(below: MessageStream, { clock, outbound, inbound }: ConnectionOptions) {
    const { direction, inactivityTimeout, maxReadBufferLength } = below
    const { remoteAddr } = asConnection(below)
    super({ remoteAddr, direction, inactivityTimeout, maxReadBufferLength, log: below.log.newScope('protector') })
    this.#below = below
    this.#outbound = outbound
    this.#inbound = inbound
    this.#clock = clock
    below.addEventListener('drain', () => this.safeDispatchEvent('drain'))
    below.addEventListener('remoteCloseWrite', () => this.onRemoteCloseWrite())
    below.addEventListener('close', ({ error, local }) => {
      this.#takeQueue()
      if (error === undefined) this.onTransportClosed()
      else if (local === true) this.abort(error)
      else this.onRemoteReset()
    })
  }

  /** Takes bytes of the connection below. */
  received(data: Chunks): void {
    for (const chunk of data instanceof Uint8Array ? [data] : data) this.onData(this.#inbound.update(chunk))
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
