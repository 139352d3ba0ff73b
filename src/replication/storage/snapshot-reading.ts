// Reads and writes snapshot files piece by piece, so that a large one neither fills the memory nor holds the event loop.

import { VxmeshError } from '#model/errors.ts'
import type { FileLayer, OpenFile } from '#platform/file-layer.ts'
import { MAX_SNAPSHOT_BYTES } from '../codec/limits.ts'
import {
  contentId,
  SNAPSHOT_FILE_VERSION,
  SnapshotParser,
  snapshotFileBytes,
  type SnapshotHead,
  type SnapshotInfo
} from './snapshot-file.ts'

/** A whole snapshot file on the disk. */
export type SavedSnapshot = SnapshotInfo & { readonly path: string }

/** Read at a time: well below a millisecond of work. */
export const PIECE_BYTES = 256 * 1024
/** Synced at a time: the log's own syncs wait behind a larger amount, longer than followers wait for a leader. */
const SYNC_BYTES = 8 * 1024 * 1024
/** Small pieces are written together. */
const WRITE_BYTES = 64 * 1024

/** Writes a file from its beginning and syncs it now and then; `done` syncs the rest. */
export class SyncedWriter {
  readonly #file: OpenFile
  #pieces: Uint8Array[] = []
  #gathered = 0
  #written = 0
  #synced = 0

  constructor(file: OpenFile) {
    this.#file = file
  }

  /** The bytes must not change afterwards. */
  async write(bytes: Uint8Array): Promise<void> {
    this.#pieces.push(bytes)
    this.#gathered += bytes.byteLength
    if (this.#gathered < WRITE_BYTES) return
    await this.#flush()
    if (this.#written - this.#synced < SYNC_BYTES) return
    this.#synced = this.#written
    await this.#file.sync()
  }

  async done(): Promise<void> {
    await this.#flush()
    await this.#file.sync()
  }

  async #flush(): Promise<void> {
    if (this.#gathered === 0) return
    const bytes = Buffer.concat(this.#pieces)
    this.#pieces = []
    this.#gathered = 0
    await this.#file.write(bytes, this.#written)
    this.#written += bytes.byteLength
  }
}

/** Writes a new file, syncs and closes it; a partial file is removed. */
export async function writeSnapshotFile(
  files: FileLayer,
  path: string,
  snapshot: SnapshotHead & { readonly sections: AsyncIterable<Uint8Array> }
): Promise<SavedSnapshot> {
  const file = await files.create(path)
  try {
    const writer = new SyncedWriter(file)
    let size = 0
    let digest: Uint8Array = new Uint8Array()
    for await (const bytes of snapshotFileBytes(snapshot, snapshot.sections)) {
      size += bytes.byteLength
      if (size > MAX_SNAPSHOT_BYTES) throw new VxmeshError('ERR_TOO_LARGE', `a snapshot of over ${size} bytes`)
      digest = bytes
      await writer.write(bytes)
    }
    await writer.done()
    await file.close()
    const { clusterId, meta } = snapshot
    return { clusterId, meta, version: SNAPSHOT_FILE_VERSION, id: contentId(digest), size, path }
  } catch (err) {
    await file.close()
    await files.remove(path)
    throw err
  }
}

/** The sections of a file. @throws ERR_STORAGE at its end at the latest, when any byte is damaged */
export async function* sectionsOf(files: FileLayer, path: string): AsyncGenerator<Uint8Array, SnapshotInfo> {
  const parser = new SnapshotParser(path)
  const file = await files.open(path)
  try {
    for await (const piece of piecesOf(file)) yield* parser.push(piece)
  } finally {
    await file.close()
  }
  return parser.finish()
}

/** Checks every byte of a file. @throws ERR_STORAGE when any is damaged */
export async function checkSnapshotFile(files: FileLayer, path: string): Promise<SavedSnapshot> {
  const parser = new SnapshotParser(path)
  const file = await files.open(path)
  try {
    for await (const piece of piecesOf(file)) parser.push(piece)
  } finally {
    await file.close()
  }
  return { ...parser.finish(), path }
}

/** The bytes of an open file. */
export async function* piecesOf(file: OpenFile): AsyncGenerator<Buffer> {
  for (let at = 0; ;) {
    const piece = await file.read(at, PIECE_BYTES)
    if (piece.byteLength > 0) yield piece
    at += piece.byteLength
    if (piece.byteLength < PIECE_BYTES) return
  }
}
