// Writes frames to the open segment and tracks which of them are durable. Not safe for concurrent use: the log runs one
// job at a time.

import { randomInt } from 'node:crypto'
import type { FileLayer, OpenFile } from '#platform/file-layer.ts'
import { segmentPath, type Segment, type SegmentEnd } from './segment.ts'
import { encodePreamble, FRAME_HEADER_BYTES, PREAMBLE_BYTES, sealFrame } from './wal-frame.ts'
import { RecordBuffer, type LogRecord, type SegmentHead } from './wal-record.ts'

type SegmentWriterOptions = {
  readonly files: FileLayer
  readonly dir: string
  /** Zeros are written this far ahead, so that a sync need not update the file's length and block map. */
  readonly reserveBytes: number
  /** The next frame's number; all frames before it count as durable once `resume` has returned. */
  readonly sequence: number
}

export class SegmentWriter {
  readonly #files: FileLayer
  readonly #dir: string
  readonly #reserve: Buffer
  readonly #buffer = new RecordBuffer(FRAME_HEADER_BYTES)
  #current: { readonly file: OpenFile; readonly salt: number } | null = null
  #offset = 0
  #reservedTo = 0
  #sequence: number
  #synced: number

  constructor({ files, dir, reserveBytes, sequence }: SegmentWriterOptions) {
    this.#files = files
    this.#dir = dir
    this.#reserve = Buffer.alloc(reserveBytes)
    this.#sequence = sequence
    this.#synced = sequence - 1
  }

  /** Bytes in the open segment. */
  get offset(): number {
    return this.#offset
  }

  /**
   * Continues at the end of a segment that was read: cuts off a torn append and rewrites the frames that nothing proves
   * durable. After a failed sync the page cache may show data that is not on the disk, and mark it clean.
   */
  async resume({ path, bytes, salt }: Segment, { offset, cutBytes, unproven }: SegmentEnd): Promise<void> {
    const file = await this.#files.open(path)
    this.#current = { file, salt }
    this.#offset = offset
    this.#reservedTo = cutBytes > 0 ? offset : bytes.byteLength
    if (cutBytes > 0) await file.truncate(offset)
    if (unproven < offset) await file.write(bytes.subarray(unproven, offset), unproven)
    await file.sync()
    if (unproven === offset) return
    await this.#put(Buffer.alloc(FRAME_HEADER_BYTES))
    await file.sync()
  }

  /** Closes the open segment and starts another, which gets its final name only once its head is durable. */
  async begin(number: number, head: SegmentHead): Promise<void> {
    await this.#finish()
    const path = segmentPath(this.#dir, number)
    await this.#files.remove(`${path}.new`)
    const file = await this.#files.create(`${path}.new`)
    const salt = randomInt(1, 2 ** 32)
    this.#current = { file, salt }
    await file.write(encodePreamble(salt), 0)
    this.#offset = PREAMBLE_BYTES
    this.#reservedTo = 0
    await this.write([{ kind: 'segment', head }])
    await file.sync()
    await this.#files.rename(`${path}.new`, path)
    await this.#files.syncDirectory(this.#dir)
    this.#synced = this.#sequence - 1
  }

  /** Writes records as one frame. */
  async write(records: Iterable<LogRecord>): Promise<void> {
    this.#buffer.clear()
    for (const record of records) this.#buffer.push(record)
    await this.#put(this.#buffer.bytes)
  }

  /**
   * Syncs, then appends an empty frame that records the sync, before the write is acknowledged. Later damage to the
   * synced frames can then not pass for a torn append. That marker becomes durable with the next sync; only a power cut
   * before it can lose it.
   */
  async sync(): Promise<void> {
    const { file } = this.#open()
    if (this.#offset + FRAME_HEADER_BYTES > this.#reservedTo) {
      await file.write(this.#reserve, this.#offset)
      this.#reservedTo = this.#offset + this.#reserve.byteLength
    }
    await file.sync()
    this.#synced = this.#sequence - 1
    await this.#put(Buffer.alloc(FRAME_HEADER_BYTES))
  }

  /** Closes cleanly: reserved space is truncated, and the last sync marker is durable. */
  async close(): Promise<void> {
    try {
      await this.#finish()
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

  async #finish(): Promise<void> {
    if (this.#current === null) return
    const { file } = this.#current
    await file.truncate(this.#offset)
    await file.sync()
    this.#synced = this.#sequence - 1
    await this.abandon()
  }

  async #put(frame: Buffer): Promise<void> {
    const { file, salt } = this.#open()
    await file.write(sealFrame(frame, { salt, sequence: this.#sequence, synced: this.#synced }), this.#offset)
    this.#sequence += 1
    this.#offset += frame.byteLength
  }

  #open(): { readonly file: OpenFile; readonly salt: number } {
    if (this.#current === null) throw new Error('no segment is open')
    return this.#current
  }
}
