// A host's identity: an Ed25519 key, generated once and kept in the data directory; the peer id encodes its public half.
// A host whose disk was wiped gets a new identity, so it cannot vote twice in a term under the old one.

import { generateKeyPair, privateKeyFromRaw } from '@libp2p/crypto/keys'
import type { Ed25519PrivateKey, PrivateKey } from '@libp2p/interface'
import { peerIdFromPrivateKey } from '@libp2p/peer-id'
import { createPrivateKey, sign } from 'node:crypto'
import { join } from 'node:path'
import { VxmeshError } from '#model/errors.ts'
import type { PeerId } from '#model/ids.ts'
import { readIfExists, writeDurably } from '#platform/files.ts'

type Identity = { readonly privateKey: PrivateKey; readonly peerId: PeerId }

const ED25519_RAW_BYTES = 64
/** The first half of the raw key; the second is the public key. */
const SEED_BYTES = 32

/** Reads `identity.key` of the data directory, or generates it. @throws ERR_STORAGE when unreadable or damaged */
export async function loadIdentity(dataDir: string): Promise<Identity> {
  const path = join(dataDir, 'identity.key')
  const stored = await readIfExists(path)
  if (stored !== null && stored.byteLength !== ED25519_RAW_BYTES) {
    throw new VxmeshError(
      'ERR_STORAGE',
      `${path} is damaged: ${stored.byteLength} bytes instead of ${ED25519_RAW_BYTES}`
    )
  }
  const privateKey = stored === null ? await generateKeyPair('Ed25519') : privateKeyFromRaw(stored)
  if (privateKey.type !== 'Ed25519') throw new VxmeshError('ERR_STORAGE', `${path} is no Ed25519 key`)
  if (stored === null) await writeDurably(path, privateKey.raw)
  const peerId = peerIdFromPrivateKey(privateKey).toString() as PeerId
  return { privateKey: importedOnce(privateKey), peerId }
}

/** libp2p imports the key anew for each signature, which takes longer than the signature; a leader signs a hundred a second. */
function importedOnce(key: Ed25519PrivateKey): PrivateKey {
  const text = (bytes: Uint8Array): string => Buffer.from(bytes).toString('base64url')
  const jwk = { kty: 'OKP', crv: 'Ed25519', d: text(key.raw.subarray(0, SEED_BYTES)), x: text(key.publicKey.raw) }
  const imported = createPrivateKey({ key: jwk, format: 'jwk' })
  return Object.assign(key, {
    sign: (message: Uint8Array | { readonly subarray: () => Uint8Array }) => sign(null, message.subarray(), imported)
  })
}
