// The cluster key: 32 random bytes that all hosts of a cluster share. Serf's gossip key and libp2p's pre-shared key are
// derived from it by HKDF-SHA256 (RFC 5869) with different labels, so that one file is enough.

import { hkdfSync } from 'node:crypto'
import { VxmeshError } from '#model/errors.ts'
import type { PeerId } from '#model/ids.ts'
import { readSmallFile } from '#platform/small-file.ts'
import { randomKey } from '#platform/random.ts'

const KEY_BYTES = 32
/** Of the file, which holds one line of 44 characters. */
const MAX_FILE_BYTES = 4_096

/** Two keys of 32 bytes each. */
export type ClusterKeys = { readonly serf: Uint8Array; readonly p2p: Uint8Array }

/** A new cluster key: one line of base64. */
export function generateClusterKey(): string {
  return randomKey(KEY_BYTES).toString('base64')
}

/** @throws ERR_CONFIG unless the text is base64 of 32 bytes */
export function deriveKeys(text: string): ClusterKeys {
  const line = text.trim()
  const key = /^[A-Za-z0-9+/]{43}=$/.test(line) ? Buffer.from(line, 'base64') : Buffer.alloc(0)
  if (key.byteLength !== KEY_BYTES) {
    throw keyError('must hold one line of base64 of 32 bytes; create one with: vxmesh keygen')
  }
  const derive = (label: string): Uint8Array =>
    new Uint8Array(hkdfSync('sha256', key, '', `vxmesh ${label}`, KEY_BYTES))
  return { serf: derive('serf gossip 1'), p2p: derive('libp2p psk 1') }
}

/**
 * The token of a host's Serf RPC, for hosts whose kernel cannot keep local users from the port. Derived from the libp2p
 * key, so that it does not reveal the gossip key, and differs from host to host.
 */
export function serfRpcToken({ p2p }: ClusterKeys, peer: PeerId): string {
  return Buffer.from(hkdfSync('sha256', p2p, peer, 'vxmesh serf rpc 1', KEY_BYTES)).toString('base64url')
}

/** Reads the key file. @throws ERR_CONFIG when it is missing, malformed, readable by others, or owned by another user */
export async function readClusterKeys(path: string): Promise<ClusterKeys> {
  let text: string
  try {
    const { text: content, stats } = await readSmallFile(path, MAX_FILE_BYTES)
    const { mode, uid } = stats
    if ((mode & 0o077) !== 0) throw keyError(`${path} is readable by others; run: chmod 600 ${path}`)
    if (uid !== 0 && uid !== process.geteuid?.())
      throw keyError(`${path} belongs to another user; run: chown 0 ${path}`)
    text = content
  } catch (err) {
    if (err instanceof VxmeshError) throw err
    const why = err instanceof Error ? err.message : String(err)
    throw keyError(`cannot be read (${why}); create one with: (umask 077; vxmesh keygen > ${path})`)
  }
  return deriveKeys(text)
}

function keyError(message: string): VxmeshError {
  return new VxmeshError('ERR_CONFIG', `clusterKeyFile: ${message}`, { field: 'clusterKeyFile' })
}
