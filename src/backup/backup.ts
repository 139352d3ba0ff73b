// Backups as files, without a running agent: what is in one, and putting one into an empty data directory. What another
// host has written is believed only when every checksum, digest and row of it is right.

import { readdir, readFile } from 'node:fs/promises'
import { digestOf } from '#allocator/digest.ts'
import { decodeState, encodeState } from '#allocator/snapshot.ts'
import type { ClusterState } from '#allocator/state-machine.ts'
import { vacated } from '#allocator/vacate.ts'
import { VxmeshError } from '#model/errors.ts'
import type { SnapshotView } from '#model/views.ts'
import { diskFiles } from '#platform/file-layer.ts'
import { ensureDirectory } from '#platform/files.ts'
import { lockDirectory } from '#platform/lock.ts'
import { decodeMsgpack, encodeMsgpack } from '#platform/msgpack.ts'
import { writeSeed } from '#replication/cluster/seed.ts'
import {
  parseSnapshotFile,
  SNAPSHOT_FILE_VERSION,
  snapshotFileChunks,
  type ClusterSnapshot
} from '#replication/storage/snapshot-file.ts'

/** What may lie in a data directory that counts as empty: our own lock, and what a file system of its own has. */
const NOTHING: ReadonlySet<string> = new Set(['agent.lock', 'lost+found'])

/** What is in a backup's bytes. @throws ERR_STORAGE saying what is wrong with it */
export async function inspectBackup(file: string, bytes: Buffer): Promise<SnapshotView> {
  const { snapshot, state } = await parse(file, bytes)
  return view(file, bytes, snapshot, state)
}

/** @throws ERR_STORAGE */
export async function readBackup(file: string): Promise<Buffer> {
  try {
    return await readFile(file)
  } catch (cause) {
    const why = cause instanceof Error ? cause.message : String(cause)
    throw new VxmeshError('ERR_STORAGE', `${file} cannot be read: ${why}`, { cause })
  }
}

/**
 * Puts a backup into the data directory of a host that is to found a cluster with it (docs/adr/0026): networks and
 * allocations stay, the hosts of then become vacant. Durable when it resolves.
 * @throws ERR_STORAGE when the file is damaged; ERR_CONFIG naming dataDir when that is in use, or not empty
 */
export async function restoreBackup(p: { readonly file: string; readonly dataDir: string }): Promise<SnapshotView> {
  const { file, dataDir } = p
  const bytes = await readBackup(file)
  const { snapshot, state } = await parse(file, bytes)
  await ensureDirectory(dataDir)
  const lock = await lockDirectory(dataDir)
  try {
    const there = (await readdir(dataDir)).filter(name => !NOTHING.has(name))
    if (there.length > 0) {
      const what = `${dataDir} is not empty (${there.sort().slice(0, 5).join(', ')}): a backup goes into a new one alone`
      throw new VxmeshError('ERR_CONFIG', `dataDir: ${what}`, { field: 'dataDir' })
    }
    const data = encodeMsgpack(encodeState(vacated(state)))
    await writeSeed({ dataDir, files: diskFiles }, Buffer.concat([...snapshotFileChunks({ ...snapshot, data })]))
  } finally {
    await lock.release()
  }
  return view(file, bytes, snapshot, state)
}

async function parse(file: string, bytes: Buffer): Promise<{ snapshot: ClusterSnapshot; state: ClusterState }> {
  const snapshot = await parseSnapshotFile(file, bytes)
  const state = decodeState(decodeMsgpack(snapshot.data))
  const { lastIndex } = snapshot.meta
  if (state.appliedIndex === lastIndex) return { snapshot, state }
  const what = `its head says entry ${lastIndex}, its state entry ${state.appliedIndex}`
  throw new VxmeshError('ERR_STORAGE', `${file} is not a usable snapshot: ${what}`)
}

function view(file: string, bytes: Buffer, { clusterId, meta }: ClusterSnapshot, state: ClusterState): SnapshotView {
  return {
    file,
    bytes: bytes.byteLength,
    version: SNAPSHOT_FILE_VERSION,
    cluster: clusterId,
    index: meta.lastIndex,
    term: meta.lastTerm,
    digest: digestOf(state),
    servers: meta.configuration.voters.map(peer => state.host(peer)?.name ?? peer).sort(),
    hosts: state.hostCount,
    networks: state.networkCount,
    endpoints: state.endpointCount,
    namespaces: [...state.namespaces()].length
  }
}
