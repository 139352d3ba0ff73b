// TLS 1.3 on a socket whose preamble is done, by an external pre-shared key and X25519: without the key the handshake ends
// before a byte of ours is sent. There are no certificates; host-proof.ts says who is at the other end.

import { hkdfSync } from 'node:crypto'
import type { Socket } from 'node:net'
import { connect, createSecureContext, TLSSocket, type PSKCallbackNegotation, type TLSSocketOptions } from 'node:tls'
import { EXPORTER } from './host-proof.ts'
import type { Role } from './preamble.ts'

const IDENTITY = 'vxmesh'
/** The only suite that OpenSSL uses with a pre-shared key that a callback returns. */
const SUITE = 'TLS_AES_128_GCM_SHA256'
/** No authority is trusted, so that a certificate cannot stand in for the key. */
const CONTEXT = createSecureContext({
  minVersion: 'TLSv1.3',
  maxVersion: 'TLSv1.3',
  ciphers: SUITE,
  ecdhCurve: 'X25519',
  ca: []
})

export function preSharedKeyOf(clusterKey: Uint8Array): Uint8Array {
  return new Uint8Array(hkdfSync('sha256', clusterKey, '', 'vxmesh direct stream 1: TLS', 32))
}

/** Resolves once the peer has proved that it has the key; rejects with OpenSSL's error. */
export function secure(raw: Socket, p: { readonly role: Role; readonly psk: Uint8Array }): Promise<TLSSocket> {
  return new Promise((resolve, reject) => {
    const socket = p.role === 'listener' ? listen(raw, p.psk) : dial(raw, p.psk)
    socket.once(p.role === 'listener' ? 'secure' : 'secureConnect', () => resolve(socket))
    socket.once('error', (err: Error) => {
      reject(err)
      raw.destroy()
    })
    // Either socket may be the one that learns of the end.
    socket.once('close', () => raw.destroy())
    raw.once('close', () => socket.destroy())
  })
}

/** A secret that only the two ends of this session have. */
export function exportedSecret(socket: TLSSocket): Uint8Array {
  return socket.exportKeyingMaterial(EXPORTER.bytes, EXPORTER.label, Buffer.alloc(0))
}

function dial(raw: Socket, psk: Uint8Array): TLSSocket {
  return connect({
    socket: raw,
    secureContext: CONTEXT,
    pskCallback: (): PSKCallbackNegotation => ({ identity: IDENTITY, psk }),
    // There is no certificate, and so no name in it.
    checkServerIdentity: () => undefined
  })
}

function listen(raw: Socket, psk: Uint8Array): TLSSocket {
  // The constructor takes it, although its type does not list it.
  const options: TLSSocketOptions & { pskCallback: (socket: TLSSocket, identity: string) => Uint8Array | null } = {
    isServer: true,
    secureContext: CONTEXT,
    pskCallback: (_socket, identity) => (identity === IDENTITY ? psk : null)
  }
  return new TLSSocket(raw, options)
}
