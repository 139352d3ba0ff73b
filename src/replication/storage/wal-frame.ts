// Frames, one a write, in a segment file. A segment starts with a preamble: 'VXWL', u16 version, u16 zero, u32 salt, u32
// CRC-32 of those. Each frame is u32 salt, u32 body length, u48 sequence number, u48 number of the last frame known to
// be synced when it was written, u32 CRC-32 of the body, u32 CRC-32 of this header, and the body. Big-endian.
//
// The salt is random per segment, so that no entry's data can pass for a frame. The synced number tells a torn append from
// damage (Alagappan et al., "Protocol-Aware Recovery", FAST '18): a frame that a later header proves synced may have been
// acknowledged, so damage to it is fatal; one that no later header proves was never acknowledged and may be cut off.

import { crc32 } from 'node:zlib'

export const PREAMBLE_BYTES = 16
export const FRAME_HEADER_BYTES = 28
export const SEGMENT_VERSION = 2

const MAGIC = Buffer.from('VXWL')

export function encodePreamble(salt: number): Buffer {
  const out = Buffer.alloc(PREAMBLE_BYTES)
  MAGIC.copy(out)
  out.writeUInt16BE(SEGMENT_VERSION, 4)
  out.writeUInt32BE(salt, 8)
  out.writeUInt32BE(crc32(out.subarray(0, 12)), 12)
  return out
}

export function hasMagic(bytes: Buffer): boolean {
  return bytes.subarray(0, 4).equals(MAGIC)
}

/** @returns null when damaged */
export function readPreamble(bytes: Buffer): { readonly version: number; readonly salt: number } | null {
  if (bytes.byteLength < PREAMBLE_BYTES) return null
  if (crc32(bytes.subarray(0, 12)) !== bytes.readUInt32BE(12)) return null
  return { version: bytes.readUInt16BE(4), salt: bytes.readUInt32BE(8) }
}

type FrameNumbers = {
  readonly salt: number
  readonly sequence: number
  /** The last frame known to be durable when this one was written. */
  readonly synced: number
}

/** Fills in the header of a frame whose body is already in place. */
export function sealFrame(frame: Buffer, { salt, sequence, synced }: FrameNumbers): Buffer {
  frame.writeUInt32BE(salt, 0)
  frame.writeUInt32BE(frame.byteLength - FRAME_HEADER_BYTES, 4)
  frame.writeUIntBE(sequence, 8, 6)
  frame.writeUIntBE(synced, 14, 6)
  frame.writeUInt32BE(crc32(frame.subarray(FRAME_HEADER_BYTES)), 20)
  frame.writeUInt32BE(crc32(frame.subarray(0, 24)), 24)
  return frame
}

type ReadFrame =
  | {
      readonly kind: 'frame'
      readonly sequence: number
      readonly synced: number
      readonly body: Buffer
      readonly end: number
    }
  /** Only zeros follow: reserved space. */
  | { readonly kind: 'end' }
  | { readonly kind: 'broken'; readonly why: string }

export function readFrame(bytes: Buffer, offset: number, salt: number): ReadFrame {
  const header = readHeader(bytes, offset, salt)
  if (header === null) {
    return isZero(bytes, offset) ? { kind: 'end' } : { kind: 'broken', why: 'no frame where one is expected' }
  }
  const start = offset + FRAME_HEADER_BYTES
  const end = start + header.length
  if (end > bytes.byteLength) return { kind: 'broken', why: 'a truncated frame' }
  const body = bytes.subarray(start, end)
  if (crc32(body) !== header.bodyCrc) return { kind: 'broken', why: 'a checksum mismatch' }
  return { kind: 'frame', sequence: header.sequence, synced: header.synced, body, end }
}

/** Does any frame header after the offset prove that the frame of this number was durable? */
export function provesSynced(
  bytes: Buffer,
  p: { readonly from: number; readonly salt: number; readonly sequence: number }
): boolean {
  const mark = Buffer.alloc(4)
  mark.writeUInt32BE(p.salt)
  for (let at = bytes.indexOf(mark, p.from); at !== -1; at = bytes.indexOf(mark, at + 1)) {
    if ((readHeader(bytes, at, p.salt)?.synced ?? -1) >= p.sequence) return true
  }
  return false
}

function readHeader(
  bytes: Buffer,
  offset: number,
  salt: number
): {
  readonly length: number
  readonly sequence: number
  readonly synced: number
  readonly bodyCrc: number
} | null {
  if (bytes.byteLength - offset < FRAME_HEADER_BYTES || bytes.readUInt32BE(offset) !== salt) return null
  if (crc32(bytes.subarray(offset, offset + 24)) !== bytes.readUInt32BE(offset + 24)) return null
  return {
    length: bytes.readUInt32BE(offset + 4),
    sequence: bytes.readUIntBE(offset + 8, 6),
    synced: bytes.readUIntBE(offset + 14, 6),
    bodyCrc: bytes.readUInt32BE(offset + 20)
  }
}

const ZEROS = Buffer.alloc(64 * 1024)

function isZero(bytes: Buffer, from: number): boolean {
  for (let at = from; at < bytes.byteLength; at += ZEROS.byteLength) {
    const part = bytes.subarray(at, at + ZEROS.byteLength)
    if (!part.equals(ZEROS.subarray(0, part.byteLength))) return false
  }
  return true
}
