// The bytes of a snapshot file: 'VXSN', u16 version, u16 zero, u32 header length, u48 data length, the header (msgpack:
// cluster id, last index, last term, configuration), the data, SHA-256 of everything before. SHA-256 rather than a CRC,
// because backups are copied between machines. Big-endian. The data is opaque: the state machine encodes it.

import { createHash, type Hash } from 'node:crypto'
import { setImmediate as nextTurn } from 'node:timers/promises'
import { VxmeshError } from '#model/errors.ts'
import type { ClusterId } from '#model/ids.ts'
import { decodeMsgpack, encodeMsgpack } from '#platform/msgpack.ts'
import type { FileLayer, OpenFile } from '#platform/file-layer.ts'
import type { SnapshotMeta } from '#raft/types.ts'
import { metaFromTuple, metaToTuple } from '../codec/meta-codec.ts'

export type ClusterSnapshot = { readonly clusterId: ClusterId; readonly meta: SnapshotMeta; readonly data: Uint8Array }

const MAGIC = Buffer.from('VXSN')
export const SNAPSHOT_FILE_VERSION = 1
const PREAMBLE_BYTES = 18
const DIGEST_BYTES = 32
/** Hashed and written at a time: about a millisecond of work, after which the event loop gets a turn. */
const CHUNK_BYTES = 1024 * 1024
/** Synced at a time: the log's own syncs wait behind a larger amount, longer than followers wait for a leader. */
const SYNC_BYTES = 8 * CHUNK_BYTES

/** Writes a new file, syncs and closes it; a partial file is removed. The data must not change during the call. */
export async function writeSnapshotFile(files: FileLayer, path: string, snapshot: ClusterSnapshot): Promise<void> {
  const file = await files.create(path)
  try {
    await writeAll(file, snapshot)
    await file.sync()
  } catch (err) {
    await file.close()
    await files.remove(path)
    throw err
  }
  await file.close()
}

async function writeAll(file: OpenFile, snapshot: ClusterSnapshot): Promise<void> {
  let offset = 0
  let syncedTo = 0
  for (const chunk of snapshotFileChunks(snapshot)) {
    await file.write(chunk, offset)
    offset += chunk.byteLength
    if (offset - syncedTo < SYNC_BYTES) continue
    await file.sync()
    syncedTo = offset
  }
}

/** The bytes of a snapshot file, in chunks of about a millisecond of work each. */
export function* snapshotFileChunks({ clusterId, meta, data }: ClusterSnapshot): Generator<Uint8Array> {
  const header = encodeMsgpack([clusterId, ...metaToTuple(meta)])
  const preamble = Buffer.alloc(PREAMBLE_BYTES)
  MAGIC.copy(preamble)
  preamble.writeUInt16BE(SNAPSHOT_FILE_VERSION, 4)
  preamble.writeUInt32BE(header.byteLength, 8)
  preamble.writeUIntBE(data.byteLength, 12, 6)
  const hash = createHash('sha256')
  for (const part of [preamble, header, data]) {
    for (const chunk of chunksOf(part)) {
      hash.update(chunk)
      yield chunk
    }
  }
  yield hash.digest()
}

/**
 * Parses the bytes of a snapshot file; the returned data is a view of them.
 * @throws ERR_STORAGE when any byte is damaged or the version is unknown
 */
export async function parseSnapshotFile(path: string, bytes: Buffer): Promise<ClusterSnapshot> {
  const fail = (why: string): VxmeshError => new VxmeshError('ERR_STORAGE', `${path} is not a usable snapshot: ${why}`)
  if (bytes.byteLength < PREAMBLE_BYTES + DIGEST_BYTES || !bytes.subarray(0, 4).equals(MAGIC)) {
    throw fail('it does not start with a snapshot header')
  }
  const dataStart = PREAMBLE_BYTES + bytes.readUInt32BE(8)
  const dataEnd = dataStart + bytes.readUIntBE(12, 6)
  if (dataEnd + DIGEST_BYTES !== bytes.byteLength) throw fail('its length does not match its header')
  const digest = await finishDigest(createHash('sha256'), bytes.subarray(0, dataEnd))
  if (!digest.equals(bytes.subarray(dataEnd))) throw fail('its checksum does not match')
  const version = bytes.readUInt16BE(4)
  if (version !== SNAPSHOT_FILE_VERSION)
    throw fail(`it has version ${version}, and this program reads ${SNAPSHOT_FILE_VERSION}`)
  const parts = decodeMsgpack(bytes.subarray(PREAMBLE_BYTES, dataStart), 'ERR_STORAGE')
  const [clusterId, ...meta] = Array.isArray(parts) ? (parts as unknown[]) : []
  if (typeof clusterId !== 'string') throw fail('its header is malformed')
  try {
    const data = bytes.subarray(dataStart, dataEnd)
    return { clusterId: clusterId as ClusterId, meta: metaFromTuple(meta), data }
  } catch {
    throw fail('its header is malformed')
  }
}

async function finishDigest(hash: Hash, bytes: Buffer): Promise<Buffer> {
  for (const chunk of chunksOf(bytes)) {
    hash.update(chunk)
    if (chunk.byteLength === CHUNK_BYTES) await nextTurn()
  }
  return hash.digest()
}

function* chunksOf(bytes: Uint8Array): Generator<Uint8Array> {
  for (let at = 0; at < bytes.byteLength; at += CHUNK_BYTES) yield bytes.subarray(at, at + CHUNK_BYTES)
}
