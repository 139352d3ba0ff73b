// The first frame of each end of a direct stream: an Ed25519 signature by the host's identity, over a secret that only the
// two ends of this TLS session have (RFC 5705), the sender's role, both peer ids and the protocol. So a signature that is
// recorded, reflected, relayed or meant for another host proves nothing. Who may connect is for the caller to decide.

import type { PrivateKey } from '@libp2p/interface'
import { peerIdFromString } from '@libp2p/peer-id'
import type { PeerId } from '#model/ids.ts'
import { decodeMsgpack, encodeMsgpack } from '#platform/msgpack.ts'
import { malformed } from '../codec/entry-codec.ts'
import type { Role } from './preamble.ts'

const LABEL = 'vxmesh direct stream 1'
/** Label and length of the secret that TLS exports. */
export const EXPORTER = { label: 'EXPORTER-vxmesh-direct-stream-1', bytes: 32 } as const
/** Longest first frame: two peer ids of 52 characters, a protocol and a signature of 64 bytes. */
export const MAX_PROOF_BYTES = 512

/** What both ends of a direct stream agree on. */
export type Session = {
  /** Known to the two ends of this TLS session alone. */
  readonly secret: Uint8Array
  readonly dialler: PeerId
  readonly listener: PeerId
  readonly protocol: string
}

/** What a dialler claims, and its proof. */
export type DiallerProof = Omit<Session, 'secret'> & { readonly signature: Uint8Array }

/** Why a listener that was proved the cluster key refuses a host, as a code on the wire. */
export type Refusal = 'another host' | 'unknown host' | 'wrong signature' | 'not served'

const REFUSALS: Readonly<Record<Refusal, string>> = {
  'another host': 'another host listens at its address',
  'unknown host': 'it does not know this host',
  'wrong signature': 'it takes the proof of this host’s identity for wrong',
  'not served': 'it does not serve this yet'
}

export function explainRefusal(refusal: Refusal): string {
  return REFUSALS[refusal]
}

export async function proveDialler(key: PrivateKey, session: Session): Promise<Uint8Array> {
  const { dialler, listener, protocol } = session
  return encodeMsgpack([dialler, listener, protocol, await key.sign(signedBytes('dialler', session))])
}

/** @throws ERR_PEER on anything malformed; nothing is verified */
export function readDiallerProof(frame: Uint8Array): DiallerProof {
  const [dialler, listener, protocol, signature] = asArray(decodeMsgpack(frame))
  if (typeof dialler !== 'string' || typeof listener !== 'string') throw malformed('proof of identity')
  if (typeof protocol !== 'string' || !(signature instanceof Uint8Array)) throw malformed('proof of identity')
  return { dialler: dialler as PeerId, listener: listener as PeerId, protocol, signature }
}

export async function proveListener(key: PrivateKey, session: Session): Promise<Uint8Array> {
  return encodeMsgpack([await key.sign(signedBytes('listener', session))])
}

export function encodeRefusal(refusal: Refusal): Uint8Array {
  return encodeMsgpack([refusal])
}

/** The listener's signature, or why it refuses. @throws ERR_PEER on anything malformed; nothing is verified */
export function readListenerProof(frame: Uint8Array): Uint8Array | Refusal {
  const [answer] = asArray(decodeMsgpack(frame))
  if (answer instanceof Uint8Array) return answer
  if (typeof answer !== 'string' || !(answer in REFUSALS)) throw malformed('proof of identity')
  return answer as Refusal
}

/** Did this end's host sign the session? False also for a peer id that is none. */
export async function isSignedBy(prover: Role, session: Session, signature: Uint8Array): Promise<boolean> {
  try {
    const { type, publicKey } = peerIdFromString(prover === 'dialler' ? session.dialler : session.listener)
    return type === 'Ed25519' && (await publicKey.verify(signedBytes(prover, session), signature))
  } catch {
    return false
  }
}

/** Each part with its length before it, so that no two sessions have the same bytes. */
function signedBytes(prover: Role, { secret, dialler, listener, protocol }: Session): Uint8Array {
  const parts = [LABEL, prover, secret, dialler, listener, protocol].map(part => Buffer.from(part))
  return Buffer.concat(parts.flatMap(part => [Buffer.from([part.byteLength >> 8, part.byteLength & 0xff]), part]))
}

function asArray(value: unknown): readonly unknown[] {
  if (!Array.isArray(value)) throw malformed('proof of identity')
  return value
}
