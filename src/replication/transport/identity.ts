// A host's identity: an Ed25519 key, generated once and kept in the data directory; the peer id encodes its public half.
// A host whose disk was wiped gets a new identity, so it cannot vote twice in a term under the old one.

import { generateKeyPair, privateKeyFromRaw } from '@libp2p/crypto/keys'
import type { PrivateKey } from '@libp2p/interface'
import { peerIdFromPrivateKey } from '@libp2p/peer-id'
import { join } from 'node:path'
import { VxmeshError } from '#model/errors.ts'
import type { PeerId } from '#model/ids.ts'
import { readIfExists, writeDurably } from '#platform/files.ts'

type Identity = { readonly privateKey: PrivateKey; readonly peerId: PeerId }

const ED25519_RAW_BYTES = 64

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
  if (stored === null) await writeDurably(path, privateKey.raw)
  return { privateKey, peerId: peerIdFromPrivateKey(privateKey).toString() as PeerId }
}
