// Appends frames to the open segment, each durable once written: one system call writes and syncs it. So a frame's header
// proves every frame before it durable, and nothing else need be written before an append is acknowledged. Not safe for
// concurrent use: the log runs one job at a time.

import { randomInt } from 'node:crypto'
import type { FileLayer, SyncedFile } from '#platform/file-layer.ts'
import { segmentPath, type Segment, type SegmentEnd } from './segment.ts'
import { encodePreamble, FRAME_HEADER_BYTES, sealFrame } from './wal-frame.ts'
import { RecordBuffer, type LogRecord, type SegmentHead } from './wal-record.ts'

type SegmentWriterOptions = {
  readonly files: FileLayer
  readonly dir: string
  /** Zeros are written this far ahead, so that a sync need not update the file's length and block map. */
  readonly reserveBytes: number
  /** The next frame's number. */
  readonly sequence: number
}

export class SegmentWriter {
  readonly #files: FileLayer
  readonly #dir: string
  readonly #reserve: Buffer
  readonly #buffer = new RecordBuffer(FRAME_HEADER_BYTES)
  #current: { readonly file: SyncedFile; readonly salt: number } | null = null
  #offset = 0
  #reservedTo = 0
  #sequence: number
  #unproven = false

  constructor({ files, dir, reserveBytes, sequence }: SegmentWriterOptions) {
    this.#files = files
    this.#dir = dir
    this.#reserve = Buffer.alloc(reserveBytes)
    this.#sequence = sequence
  }

  /** Bytes in the open segment. */
  get offset(): number {
    return this.#offset
  }

  /** Is the last append one that no later frame proves durable? */
  get unproven(): boolean {
    return this.#unproven
  }

  /**
   * Continues at the end of a segment that was read: cuts off a torn append and rewrites the frames that nothing proves
   * durable. After a failed sync the page cache may show data that is not on the disk, and mark it clean.
   */
  async resume({ path, bytes, salt }: Segment, { offset, cutBytes, unproven }: SegmentEnd): Promise<void> {
    const file = await this.#files.open(path)
    try {
      if (cutBytes > 0) await file.truncate(offset)
      if (unproven < offset) await file.write(bytes.subarray(unproven, offset), unproven)
      await file.sync()
    } finally {
      await file.close()
    }
    this.#offset = offset
    this.#reservedTo = cutBytes > 0 ? offset : bytes.byteLength
    this.#current = { file: await this.#files.openSynced(path), salt }
    if (unproven < offset) await this.mark()
  }

  /** Closes the open segment and starts another, which gets its final name only once its head is durable. */
  async begin(number: number, head: SegmentHead): Promise<void> {
    await this.close()
    const path = segmentPath(this.#dir, number)
    const salt = randomInt(1, 2 ** 32)
    const start = Buffer.concat([encodePreamble(salt), this.#seal(this.#encode([{ kind: 'segment', head }]), salt)])
    await this.#files.remove(`${path}.new`)
    const file = await this.#files.create(`${path}.new`)
    try {
      await file.write(Buffer.concat([start, this.#reserve]), 0)
      await file.sync()
    } finally {
      await file.close()
    }
    await this.#files.rename(`${path}.new`, path)
    await this.#files.syncDirectory(this.#dir)
    this.#offset = start.byteLength
    this.#reservedTo = start.byteLength + this.#reserve.byteLength
    this.#current = { file: await this.#files.openSynced(path), salt }
  }

  /** Appends records as one frame; durable once it resolves. */
  async append(records: Iterable<LogRecord>): Promise<void> {
    await this.#put(this.#encode(records))
    this.#unproven = true
  }

  /**
   * Appends an empty frame, a sync marker: its header proves the last append durable, so that later damage to that append
   * cannot pass for a torn one.
   */
  async mark(): Promise<void> {
    await this.#put(Buffer.alloc(FRAME_HEADER_BYTES))
    this.#unproven = false
  }

  /** Closes cleanly: the last append is proved durable, and the reserved space is cut off. */
  async close(): Promise<void> {
    if (this.#current === null) return
    try {
      if (this.#unproven) await this.mark()
      await this.#current.file.truncate(this.#offset)
    } finally {
      await this.abandon()
    }
  }

  /** Closes the file without writing anything more. */
  async abandon(): Promise<void> {
    const current = this.#current
    this.#current = null
    await current?.file.close()
  }

  #encode(records: Iterable<LogRecord>): Buffer {
    this.#buffer.clear()
    for (const record of records) this.#buffer.push(record)
    return this.#buffer.bytes
  }

  #seal(frame: Buffer, salt: number): Buffer {
    const sealed = sealFrame(frame, { salt, sequence: this.#sequence, synced: this.#sequence - 1 })
    this.#sequence += 1
    return sealed
  }

  /** Writes a frame, and the next zeros with it when the space for it and a marker behind it runs out. */
  async #put(frame: Buffer): Promise<void> {
    if (this.#current === null) throw new Error('no segment is open')
    const { file, salt } = this.#current
    const end = this.#offset + frame.byteLength
    const extend = end + FRAME_HEADER_BYTES > this.#reservedTo
    this.#seal(frame, salt)
    await file.write(extend ? [frame, this.#reserve] : [frame], this.#offset)
    this.#offset = end
    if (extend) this.#reservedTo = end + this.#reserve.byteLength
  }
}
