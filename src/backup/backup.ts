// Backup files, without a running agent: inspects one, and restores one into an empty data directory. A file from another
// host is accepted only if every checksum, digest and row in it is valid.

import { readdir, readFile } from 'node:fs/promises'
import { digestOf } from '#allocator/digest.ts'
import type { ClusterState } from '#allocator/state-machine.ts'
import { vacated } from '#allocator/vacate.ts'
import { VxmeshError } from '#model/errors.ts'
import type { SnapshotView } from '#model/views.ts'
import { diskFiles } from '#platform/file-layer.ts'
import { ensureDirectory } from '#platform/files.ts'
import { lockDirectory } from '#platform/lock.ts'
import { writeSeed } from '#replication/cluster/seed.ts'
import { SnapshotParser, type SnapshotInfo } from '#replication/storage/snapshot-file.ts'
import { stateFrom, stateSections } from './state-bytes.ts'

/** A data directory with only these counts as empty: our own lock, and what a new file system contains. */
const IGNORED: ReadonlySet<string> = new Set(['agent.lock', 'lost+found'])

/** Describes a backup's content. @throws ERR_STORAGE saying what is wrong with it */
export async function inspectBackup(file: string, bytes: Buffer): Promise<SnapshotView> {
  const { snapshot, state } = await parse(file, bytes)
  return view(file, snapshot, state)
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
 * Restores a backup into the data directory of a host that is to found a cluster from it (docs/adr/0026). Networks and
 * allocations stay; the hosts of the backup become vacant. Durable when it resolves.
 * @throws ERR_STORAGE if the file is damaged; ERR_CONFIG naming dataDir if that is in use or not empty
 */
export async function restoreBackup(p: { readonly file: string; readonly dataDir: string }): Promise<SnapshotView> {
  const { file, dataDir } = p
  const bytes = await readBackup(file)
  const { snapshot, state } = await parse(file, bytes)
  await ensureDirectory(dataDir)
  const lock = await lockDirectory(dataDir)
  try {
    const there = (await readdir(dataDir)).filter(name => !IGNORED.has(name))
    if (there.length > 0) {
      const what = `${dataDir} is not empty (${there.sort().slice(0, 5).join(', ')}): a backup goes into a new one alone`
      throw new VxmeshError('ERR_CONFIG', `dataDir: ${what}`, { field: 'dataDir' })
    }
    const { clusterId, meta } = snapshot
    await writeSeed({ dataDir, files: diskFiles }, { clusterId, meta, sections: stateSections(vacated(state)) })
  } finally {
    await lock.release()
  }
  return view(file, snapshot, state)
}

async function parse(file: string, bytes: Buffer): Promise<{ snapshot: SnapshotInfo; state: ClusterState }> {
  const parser = new SnapshotParser(file)
  const sections = parser.push(bytes)
  const snapshot = parser.finish()
  const state = await stateFrom(sections)
  const { lastIndex } = snapshot.meta
  if (state.appliedIndex === lastIndex) return { snapshot, state }
  const what = `its head says entry ${lastIndex}, its state entry ${state.appliedIndex}`
  throw new VxmeshError('ERR_STORAGE', `${file} is not a usable snapshot: ${what}`)
}

function view(file: string, { clusterId, meta, size, version }: SnapshotInfo, state: ClusterState): SnapshotView {
  return {
    file,
    bytes: size,
    version,
    cluster: clusterId,
    index: meta.lastIndex,
    term: meta.lastTerm,
    digest: digestOf(state),
    servers: meta.configuration.voters.map(peer => state.host(peer)?.name ?? peer).sort(),
    hosts: state.hostCount,
    networks: state.networkCount,
    endpoints: state.endpointCount,
    namespaces: [...state.namespaces()].length,
    services: state.serviceCount,
    policies: state.policyCount
  }
}
