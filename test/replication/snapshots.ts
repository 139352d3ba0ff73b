// Snapshots for tests: their sections, the bytes of their files, and the part of a state machine that makes and takes them.

import { createHash } from 'node:crypto'
import { stateFrom, stateSections } from '#backup/state-bytes.ts'
import type { ClusterState } from '#allocator/state-machine.ts'
import type { FileLayer } from '#platform/file-layer.ts'
import { encodeMsgpack } from '#platform/msgpack.ts'
import { metaToTuple } from '#replication/codec/meta-codec.ts'
import type { StateMachine } from '#replication/consensus/applied-log.ts'
import { snapshotFileBytes, type SnapshotHead } from '#replication/storage/snapshot-file.ts'
import { sectionsOf } from '#replication/storage/snapshot-reading.ts'

export async function* sections(...all: readonly (Uint8Array | string)[]): AsyncGenerator<Uint8Array> {
  for (const each of all) yield await Promise.resolve(typeof each === 'string' ? Buffer.from(each) : each)
}

export async function joined(parts: AsyncIterable<Uint8Array>): Promise<Buffer> {
  const all: Uint8Array[] = []
  for await (const part of parts) all.push(part)
  return Buffer.concat(all)
}

/** All sections of a snapshot file, joined; empty without one. */
export function contentOf(files: FileLayer, saved: { readonly path: string } | null): Promise<Buffer> {
  return saved === null ? Promise.resolve(Buffer.alloc(0)) : joined(sectionsOf(files, saved.path))
}

/** The bytes of a snapshot file. */
export function snapshotBytes(head: SnapshotHead, ...content: readonly (Uint8Array | string)[]): Promise<Buffer> {
  return joined(snapshotFileBytes(head, sections(...content)))
}

/** How the real machine snapshots a state and takes one. */
export function snapshotPart(state: () => ClusterState): Pick<StateMachine, 'snapshot' | 'prepare'> {
  return {
    snapshot: () => stateSections(state()),
    prepare: async given => {
      const built = await stateFrom(given)
      return { adopt: () => state().become(built) }
    }
  }
}

/** The bytes of a snapshot file of version 1, as earlier releases wrote it: the whole state is one value. */
export function oldSnapshotBytes({ clusterId, meta }: SnapshotHead, data: Uint8Array): Buffer {
  const header = encodeMsgpack([clusterId, ...metaToTuple(meta)])
  const preamble = Buffer.alloc(18)
  preamble.write('VXSN')
  preamble.writeUInt16BE(1, 4)
  preamble.writeUInt32BE(header.byteLength, 8)
  preamble.writeUIntBE(data.byteLength, 12, 6)
  const body = Buffer.concat([preamble, header, data])
  return Buffer.concat([body, createHash('sha256').update(body).digest()])
}
