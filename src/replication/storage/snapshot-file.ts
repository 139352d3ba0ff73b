// A snapshot file, version 2: 'VXSN', u16 version, u16 zero, u32 header length, the header (msgpack: cluster id, last index,
// last term, configuration), sections, each a u32 length and its bytes, a zero length, and the SHA-256 of everything
// before: a hash rather than a CRC, because backups are copied between machines. Big-endian. Sections are opaque: the state
// machine encodes them. Version 1 has a u48 data length after the header length, and its data is one section.

import { createHash, type Hash } from 'node:crypto'
import { VxmeshError } from '#model/errors.ts'
import type { ClusterId } from '#model/ids.ts'
import { bufferOf } from '#platform/bytes.ts'
import { decodeMsgpack, encodeMsgpack } from '#platform/msgpack.ts'
import type { SnapshotMeta } from '#raft/types.ts'
import { MAX_SNAPSHOT_BYTES } from '../codec/limits.ts'
import { metaFromTuple, metaToTuple } from '../codec/meta-codec.ts'

export type SnapshotHead = { readonly clusterId: ClusterId; readonly meta: SnapshotMeta }

/** What is known of a whole snapshot file. */
export type SnapshotInfo = SnapshotHead & {
  readonly version: number
  /** Content id, 16 hex digits derived from all bytes: equal ids mean equal files. */
  readonly id: string
  /** Of the file. */
  readonly size: number
}

export const SNAPSHOT_FILE_VERSION = 2
/** The encoded rows of a section are far below it; it bounds what a damaged length makes a reader gather. */
const MAX_SECTION_BYTES = 16 * 1024 * 1024
const MAX_HEADER_BYTES = 1024 * 1024

const MAGIC = Buffer.from('VXSN')
const PREAMBLE_BYTES = 12
const DIGEST_BYTES = 32
const OLD_VERSION = 1

/** @param digest the last 32 bytes of the file, which cover all others */
export function contentId(digest: Uint8Array): string {
  return createHash('sha256').update(digest).digest('hex').slice(0, 16)
}

/** The bytes of a snapshot file, section by section. @throws what `sections` throws */
export async function* snapshotFileBytes(
  head: SnapshotHead,
  sections: AsyncIterable<Uint8Array> | Iterable<Uint8Array>
): AsyncGenerator<Uint8Array> {
  const hash = createHash('sha256')
  const hashed = (bytes: Uint8Array): Uint8Array => {
    hash.update(bytes)
    return bytes
  }
  const header = encodeMsgpack([head.clusterId, ...metaToTuple(head.meta)])
  const preamble = Buffer.alloc(PREAMBLE_BYTES)
  MAGIC.copy(preamble)
  preamble.writeUInt16BE(SNAPSHOT_FILE_VERSION, 4)
  preamble.writeUInt32BE(header.byteLength, 8)
  yield hashed(preamble)
  yield hashed(header)
  for await (const section of sections) {
    if (section.byteLength === 0 || section.byteLength > MAX_SECTION_BYTES) {
      throw new VxmeshError('ERR_TOO_LARGE', `a section of a snapshot of ${section.byteLength} bytes`)
    }
    yield hashed(u32(section.byteLength))
    yield hashed(section)
  }
  yield hashed(u32(0))
  yield hash.digest()
}

type Stage = 'preamble' | 'old-size' | 'header' | 'length' | 'section' | 'digest' | 'end'

/** Takes a file's bytes in pieces of any size and returns its sections. Nothing may be used before `finish` returns. */
export class SnapshotParser {
  readonly #what: string
  readonly #hash: Hash = createHash('sha256')
  #stage: Stage = 'preamble'
  /** Of the item that is being gathered. */
  #missing = PREAMBLE_BYTES
  #pieces: Uint8Array[] = []
  #version = 0
  #headerBytes = 0
  /** Of the data of version 1. */
  #oldBytes = 0
  #head: SnapshotHead | null = null
  #size = 0
  #id = ''

  /** @param what names the file in errors */
  constructor(what: string) {
    this.#what = what
  }

  /** The next bytes; they must not change afterwards. @returns the sections that they complete @throws ERR_STORAGE */
  push(bytes: Uint8Array): Uint8Array[] {
    const sections: Uint8Array[] = []
    this.#size += bytes.byteLength
    if (this.#size > MAX_SNAPSHOT_BYTES) throw this.#unusable(`it is over ${MAX_SNAPSHOT_BYTES} bytes`)
    for (let at = 0; at < bytes.byteLength;) {
      if (this.#stage === 'end') throw this.#unusable('it goes on after its end')
      const piece = bytes.subarray(at, at + this.#missing)
      at += piece.byteLength
      this.#missing -= piece.byteLength
      this.#pieces.push(piece)
      if (this.#missing > 0) break
      const [first = piece] = this.#pieces
      const item = this.#pieces.length === 1 ? bufferOf(first) : Buffer.concat(this.#pieces)
      this.#pieces = []
      if (this.#stage !== 'digest') this.#hash.update(item)
      this.#take(item, sections)
    }
    return sections
  }

  /** @throws ERR_STORAGE unless the file was whole and undamaged */
  finish(): SnapshotInfo {
    if (this.#size < PREAMBLE_BYTES) throw this.#unusable('it does not start with a snapshot header')
    if (this.#stage !== 'end' || this.#head === null) throw this.#unusable('its length does not match its header')
    return { ...this.#head, version: this.#version, id: this.#id, size: this.#size }
  }

  #take(item: Buffer, sections: Uint8Array[]): void {
    switch (this.#stage) {
      case 'preamble':
        this.#takePreamble(item)
        return
      case 'old-size':
        this.#oldBytes = item.readUIntBE(0, 6)
        this.#gather('header', this.#headerBytes)
        return
      case 'header':
        this.#head = this.#headOf(item)
        if (this.#version !== OLD_VERSION) this.#gather('length', 4)
        else if (this.#oldBytes === 0) this.#gather('digest', DIGEST_BYTES)
        else this.#gather('section', this.#oldBytes)
        return
      case 'length': {
        const length = item.readUInt32BE()
        if (length > MAX_SECTION_BYTES) throw this.#unusable(`it has a section of ${length} bytes`)
        if (length === 0) this.#gather('digest', DIGEST_BYTES)
        else this.#gather('section', length)
        return
      }
      case 'section':
        sections.push(item)
        if (this.#version === OLD_VERSION) this.#gather('digest', DIGEST_BYTES)
        else this.#gather('length', 4)
        return
      case 'digest':
        if (!this.#hash.digest().equals(item)) throw this.#unusable('its checksum does not match')
        this.#id = contentId(item)
        this.#stage = 'end'
        return
      case 'end':
    }
  }

  #takePreamble(item: Buffer): void {
    if (!item.subarray(0, 4).equals(MAGIC)) throw this.#unusable('it does not start with a snapshot header')
    this.#version = item.readUInt16BE(4)
    if (this.#version !== OLD_VERSION && this.#version !== SNAPSHOT_FILE_VERSION) {
      const known = `${OLD_VERSION} and ${SNAPSHOT_FILE_VERSION}`
      throw this.#unusable(`it has version ${this.#version}, and this program reads ${known}`)
    }
    this.#headerBytes = item.readUInt32BE(8)
    if (this.#headerBytes === 0 || this.#headerBytes > MAX_HEADER_BYTES) throw this.#unusable('its header is malformed')
    if (this.#version === OLD_VERSION) this.#gather('old-size', 6)
    else this.#gather('header', this.#headerBytes)
  }

  #headOf(header: Buffer): SnapshotHead {
    try {
      const parts = decodeMsgpack(header, 'ERR_STORAGE')
      const [clusterId, ...meta] = Array.isArray(parts) ? (parts as unknown[]) : []
      if (typeof clusterId === 'string') return { clusterId: clusterId as ClusterId, meta: metaFromTuple(meta) }
    } catch {
      // Said below.
    }
    throw this.#unusable('its header is malformed')
  }

  #gather(stage: Stage, bytes: number): void {
    this.#stage = stage
    this.#missing = bytes
  }

  #unusable(why: string): VxmeshError {
    return new VxmeshError('ERR_STORAGE', `${this.#what} is not a usable snapshot: ${why}`)
  }
}

function u32(value: number): Buffer {
  const bytes = Buffer.alloc(4)
  bytes.writeUInt32BE(value)
  return bytes
}
