// Makes a socket a direct stream: the preamble of the cluster key, TLS by a key derived from it, then a proof of identity
// from either end. Until the last of them at most MAX_PROOF_BYTES of the peer's are held, and HANDSHAKE_MS is the bound.

import type { PrivateKey } from '@libp2p/interface'
import type { Socket } from 'node:net'
import type { TLSSocket } from 'node:tls'
import { VxmeshError } from '#model/errors.ts'
import type { PeerId } from '#model/ids.ts'
import type { Clock } from '#platform/clock.ts'
import { exportedSecret, secure } from './direct-tls.ts'
import { encodeFrame } from './frame.ts'
import {
  encodeRefusal,
  explainRefusal,
  isSignedBy,
  MAX_PROOF_BYTES,
  proveDialler,
  proveListener,
  readDiallerProof,
  readListenerProof,
  type Refusal
} from './host-proof.ts'
import { Preamble } from './preamble.ts'

/** Time for a whole handshake: four round trips, and an event loop that is busy starting. */
export const HANDSHAKE_MS = 2_000
const LENGTH_BYTES = 4

export type DirectIdentity = {
  readonly self: PeerId
  readonly privateKey: PrivateKey
  /** 32 bytes; of no secret on a host without a cluster key. */
  readonly clusterKey: Uint8Array
  /** Derived from the cluster key, see preSharedKeyOf. */
  readonly psk: Uint8Array
}

export type DirectFault =
  'wrong TLS key' | 'not a proof of identity' | 'no handshake in time' | 'closed early' | Refusal

export class HandshakeError extends Error {
  readonly fault: DirectFault

  constructor(fault: DirectFault, options: { readonly why?: string; readonly cause?: unknown } = {}) {
    super(options.why ?? fault, { cause: options.cause })
    this.fault = fault
  }
}

/** Proves this host to the listener at `peer`'s address, and checks that it is `peer`. @throws PreambleError, HandshakeError */
export function dialHandshake(
  raw: Socket,
  p: DirectIdentity & { readonly peer: PeerId; readonly protocol: string; readonly clock: Clock }
): Promise<TLSSocket> {
  return bounded(raw, p.clock, async () => {
    await prove(raw, new Preamble({ key: p.clusterKey, role: 'dialler', purpose: 'direct' }))
    const socket = await secureOf(raw, 'dialler', p.psk)
    const { self: dialler, peer: listener, protocol } = p
    const session = { secret: exportedSecret(socket), dialler, listener, protocol }
    socket.write(encodeFrame(await proveDialler(p.privateKey, session)))
    const answer = await proofOf(socket, readListenerProof)
    if (typeof answer === 'string') throw new HandshakeError(answer, { why: explainRefusal(answer) })
    if (!(await isSignedBy('listener', session, answer))) throw new HandshakeError('wrong signature')
    return socket
  })
}

export type Accepted = { readonly socket: TLSSocket; readonly peer: PeerId; readonly protocol: string }

/** Checks a dialler; `refuses` decides on a host that has proved who it is. @throws PreambleError, HandshakeError */
export function acceptHandshake(
  raw: Socket,
  p: DirectIdentity & { readonly refuses: (peer: PeerId, protocol: string) => Refusal | null; readonly clock: Clock }
): Promise<Accepted> {
  return bounded(raw, p.clock, async () => {
    await prove(raw, new Preamble({ key: p.clusterKey, role: 'listener', purpose: 'direct' }))
    const socket = await secureOf(raw, 'listener', p.psk)
    const { dialler, listener, protocol, signature } = await proofOf(socket, readDiallerProof)
    const session = { secret: exportedSecret(socket), dialler, listener, protocol }
    const isProved = await isSignedBy('dialler', session, signature)
    const refusal = !isProved ? 'wrong signature' : listener === p.self ? p.refuses(dialler, protocol) : 'another host'
    if (refusal !== null) {
      await new Promise(resolve => socket.end(encodeFrame(encodeRefusal(refusal)), () => resolve(null)))
      throw new HandshakeError(refusal)
    }
    socket.write(encodeFrame(await proveListener(p.privateKey, session)))
    return { socket, peer: dialler, protocol }
  })
}

/** Rejects, with the socket destroyed, when `run` does, when the socket ends, and after HANDSHAKE_MS. */
async function bounded<T>(raw: Socket, clock: Clock, run: () => Promise<T>): Promise<T> {
  const broken = new Promise<never>((_, reject) => {
    raw.once('error', reject)
    raw.once('close', () => reject(new HandshakeError('closed early', { why: 'it closed the connection' })))
  })
  const late = (): HandshakeError => new HandshakeError('no handshake in time')
  try {
    return await clock.within(Promise.race([run(), broken]), HANDSHAKE_MS, late)
  } catch (err) {
    raw.destroy()
    throw err
  }
}

/** Ends with the socket paused, and with what followed the preamble still to be read. */
function prove(raw: Socket, preamble: Preamble): Promise<void> {
  return new Promise((resolve, reject) => {
    const received = (chunk: Buffer): void => {
      try {
        const { reply, established } = preamble.push(chunk)
        if (reply !== null) raw.write(reply)
        if (established === null) return
        stopReading(raw, received)
        if (established.rest.byteLength > 0) raw.unshift(established.rest)
        resolve()
      } catch (err) {
        stopReading(raw, received)
        reject(err instanceof Error ? err : new Error(String(err)))
      }
    }
    const opening = preamble.opening()
    if (opening !== null) raw.write(opening)
    raw.on('data', received).resume()
  })
}

async function secureOf(raw: Socket, role: 'dialler' | 'listener', psk: Uint8Array): Promise<TLSSocket> {
  try {
    return await secure(raw, { role, psk })
  } catch (cause) {
    throw new HandshakeError('wrong TLS key', { why: 'TLS cannot be agreed on', cause })
  }
}

/** Reads one frame of at most MAX_PROOF_BYTES; ends with the socket paused, and with what follows still to be read. */
function proofOf<T>(socket: TLSSocket, decode: (frame: Uint8Array) => T): Promise<T> {
  return new Promise((resolve, reject) => {
    let held = Buffer.alloc(0)
    const received = (chunk: Buffer): void => {
      held = Buffer.concat([held, chunk])
      if (held.byteLength < LENGTH_BYTES) return
      const end = LENGTH_BYTES + held.readUInt32BE(0)
      const isTooLong = end > LENGTH_BYTES + MAX_PROOF_BYTES
      if (held.byteLength < end && !isTooLong) return
      stopReading(socket, received)
      try {
        if (isTooLong) throw new VxmeshError('ERR_PEER', 'a proof of identity that is too long')
        const proof = decode(held.subarray(LENGTH_BYTES, end))
        if (held.byteLength > end) socket.unshift(held.subarray(end))
        resolve(proof)
      } catch (cause) {
        reject(new HandshakeError('not a proof of identity', { cause }))
      }
    }
    socket.on('data', received).resume()
  })
}

function stopReading(socket: Socket, received: (chunk: Buffer) => void): void {
  socket.off('data', received)
  socket.pause()
}
