// The preamble of a connection: both ends prove that they hold the cluster key, before either reads anything else. The
// dialler sends a hello (magic, purpose, salt), the listener answers with its own and a proof, the dialler proves itself. A
// proof is an HMAC over purpose, role and both salts, so that a replayed or reflected one fails. A state machine without
// I/O: at most ANSWER_BYTES are held, and the first wrong byte is an error.

import { createHmac, hkdfSync, randomBytes, timingSafeEqual } from 'node:crypto'

/** Version of the wire format, in the magic and in every key derived from the cluster key. */
export const VERSION = 3
const NAME = Buffer.from('vxmesh\0')
const MAGIC = Buffer.from([...NAME, VERSION])
const SALT_BYTES = 32
const PROOF_BYTES = 32
/** Magic and purpose: what tells a listener who takes the connection. */
export const PREFIX_BYTES = MAGIC.byteLength + 1
const HELLO_BYTES = PREFIX_BYTES + SALT_BYTES
const ANSWER_BYTES = HELLO_BYTES + PROOF_BYTES
/** Version 1 had no magic: both ends opened with a salt alone. */
const VERSION_1_BYTES = 32

export type Role = 'dialler' | 'listener'
/** What the connection carries after the preamble. */
export type Purpose = 'libp2p' | 'direct'

const PURPOSE_BYTES: Readonly<Record<Purpose, number>> = { libp2p: 0x4c, direct: 0x44 }

/** Why a connection is refused before it carries data. */
export type PreambleFault =
  'not a preamble' | 'version 1' | 'another version' | 'another purpose' | 'wrong proof' | 'early data'

const EXPLANATIONS: Readonly<Record<PreambleFault, string>> = {
  'not a preamble': 'what it sends is no preamble of vxmesh',
  'version 1':
    'it sends the preamble of an older release of vxmesh; all hosts of a cluster must run this release or later',
  'another version':
    'its release of vxmesh speaks another version of the preamble; all hosts must run the same release',
  'another purpose': 'it takes the connection for one of another purpose',
  'wrong proof': 'it holds another cluster key',
  'early data': 'it sends data before the preamble has ended'
}

export class PreambleError extends Error {
  readonly fault: PreambleFault

  constructor(fault: PreambleFault) {
    super(EXPLANATIONS[fault])
    this.fault = fault
  }
}

/** What follows from a chunk. */
export type PreambleStep = {
  /** Bytes to send now. */
  readonly reply: Uint8Array | null
  /** Set once the peer has proved itself: both salts, the dialler's first, and the bytes that follow the preamble. */
  readonly established: { readonly salts: Uint8Array; readonly rest: Uint8Array } | null
}

/** The first PREFIX_BYTES of a hello. */
export function prefixOf(purpose: Purpose): Buffer {
  return Buffer.from([...MAGIC, PURPOSE_BYTES[purpose]])
}

const NOTHING_YET: PreambleStep = { reply: null, established: null }

export class Preamble {
  readonly #role: Role
  readonly #purpose: Purpose
  readonly #prefix: Buffer
  readonly #proofKey: Uint8Array
  readonly #salt = randomBytes(SALT_BYTES)
  readonly #expects: 'hello' | 'answer'
  #held = Buffer.alloc(0)
  /** Both salts, once the listener has answered. */
  #answered: Buffer | null = null

  constructor({ key, role, purpose }: { readonly key: Uint8Array; readonly role: Role; readonly purpose: Purpose }) {
    this.#role = role
    this.#purpose = purpose
    this.#prefix = prefixOf(purpose)
    this.#proofKey = new Uint8Array(hkdfSync('sha256', key, '', `vxmesh preamble ${VERSION}: proofs`, PROOF_BYTES))
    this.#expects = role === 'listener' ? 'hello' : 'answer'
  }

  /** What this end sends before it has received anything: a listener stays silent. */
  opening(): Uint8Array | null {
    return this.#role === 'dialler' ? Buffer.concat([this.#prefix, this.#salt]) : null
  }

  /** Takes the next bytes of the peer. @throws PreambleError as soon as they are wrong; the connection must then be closed */
  push(chunk: Uint8Array): PreambleStep {
    if (this.#answered !== null) return this.#takeDiallerProof(chunk, this.#answered)
    const wanted = this.#expects === 'hello' ? HELLO_BYTES : ANSWER_BYTES
    const surplus = this.#hold(chunk, wanted)
    this.#checkPrefix(chunk.byteLength)
    // The peer has to wait for our next bytes, so nothing may follow.
    if (surplus.byteLength > 0) throw new PreambleError('early data')
    if (this.#held.byteLength < wanted) return NOTHING_YET
    const theirs = this.#held.subarray(PREFIX_BYTES, HELLO_BYTES)
    return this.#expects === 'hello' ? this.#answer(theirs) : this.#prove(theirs, this.#held.subarray(HELLO_BYTES))
  }

  #answer(theirs: Uint8Array): PreambleStep {
    const salts = Buffer.concat([theirs, this.#salt])
    this.#answered = salts
    this.#held = Buffer.alloc(0)
    return { reply: Buffer.concat([this.#prefix, this.#salt, this.#proof('listener', salts)]), established: null }
  }

  #prove(theirs: Uint8Array, proof: Uint8Array): PreambleStep {
    const salts = Buffer.concat([this.#salt, theirs])
    this.#verify('listener', salts, proof)
    return { reply: this.#proof('dialler', salts), established: { salts, rest: new Uint8Array(0) } }
  }

  #takeDiallerProof(chunk: Uint8Array, salts: Uint8Array): PreambleStep {
    const rest = this.#hold(chunk, PROOF_BYTES)
    if (this.#held.byteLength < PROOF_BYTES) return NOTHING_YET
    this.#verify('dialler', salts, this.#held)
    return { reply: null, established: { salts, rest } }
  }

  /** Holds what is missing up to `wanted` bytes. @returns the rest of the chunk */
  #hold(chunk: Uint8Array, wanted: number): Uint8Array {
    const missing = wanted - this.#held.byteLength
    this.#held = Buffer.concat([this.#held, chunk.subarray(0, missing)])
    return chunk.subarray(missing)
  }

  #checkPrefix(chunkBytes: number): void {
    const prefix = this.#held.subarray(0, PREFIX_BYTES)
    if (prefix.equals(this.#prefix.subarray(0, prefix.byteLength))) return
    if (prefix.subarray(0, MAGIC.byteLength).equals(MAGIC)) throw new PreambleError('another purpose')
    if (prefix.subarray(0, NAME.byteLength).equals(NAME)) throw new PreambleError('another version')
    throw new PreambleError(chunkBytes === VERSION_1_BYTES ? 'version 1' : 'not a preamble')
  }

  #proof(prover: Role, salts: Uint8Array): Buffer {
    return createHmac('sha256', this.#proofKey)
      .update(`vxmesh preamble ${VERSION} for ${this.#purpose}: the ${prover} holds the key`)
      .update(salts)
      .digest()
  }

  #verify(prover: Role, salts: Uint8Array, proof: Uint8Array): void {
    if (!timingSafeEqual(proof, this.#proof(prover, salts))) throw new PreambleError('wrong proof')
  }
}
