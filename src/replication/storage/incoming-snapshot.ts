// A snapshot of another host on its way to this host's disk: checked while it is written, and durable before it is used.

import type { FileLayer, OpenFile } from '#platform/file-layer.ts'
import { storageError } from '#platform/storage-error.ts'
import { SnapshotParser } from './snapshot-file.ts'
import { SyncedWriter, type SavedSnapshot } from './snapshot-reading.ts'

/** A whole snapshot in a temporary file, durable, until the store adopts or the receiver discards it. */
export type ReceivedSnapshot = SavedSnapshot

export class IncomingSnapshot {
  readonly #files: FileLayer
  readonly #path: string
  readonly #file: OpenFile
  readonly #writer: SyncedWriter
  readonly #parser: SnapshotParser
  #closed = false

  private constructor(files: FileLayer, path: string, file: OpenFile) {
    this.#files = files
    this.#path = path
    this.#file = file
    this.#writer = new SyncedWriter(file)
    this.#parser = new SnapshotParser('the snapshot of another host')
  }

  /** @throws ERR_STORAGE */
  static async create(files: FileLayer, path: string): Promise<IncomingSnapshot> {
    try {
      await files.remove(path)
      return new IncomingSnapshot(files, path, await files.create(path))
    } catch (err) {
      throw storageError(`${path} cannot be written`, err)
    }
  }

  /** Takes the next bytes, which must not change afterwards. @throws ERR_STORAGE when they cannot be right, or the disk fails */
  async write(bytes: Uint8Array): Promise<void> {
    this.#parser.push(bytes)
    try {
      await this.#writer.write(bytes)
    } catch (err) {
      throw storageError(`${this.#path} cannot be written`, err)
    }
  }

  /** @throws ERR_STORAGE unless the snapshot is whole, undamaged and durable */
  async finish(): Promise<ReceivedSnapshot> {
    const info = this.#parser.finish()
    try {
      await this.#writer.done()
      await this.#close()
    } catch (err) {
      throw storageError(`${this.#path} cannot be written`, err)
    }
    return { ...info, path: this.#path }
  }

  /** Removes the file, whatever state it is in. Never rejects: what is left goes with the next start. */
  async discard(): Promise<void> {
    try {
      await this.#close()
      await this.#files.remove(this.#path)
    } catch {
      // The disk is failing; whoever needs it finds out.
    }
  }

  async #close(): Promise<void> {
    if (this.#closed) return
    this.#closed = true
    await this.#file.close()
  }
}
