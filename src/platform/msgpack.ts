// MessagePack with one set of settings: plain maps (what Serf and we ourselves speak), bounded by the caller's frames.

import { Packr, UnpackrStream } from 'msgpackr'
import { VxmeshError, type ErrorCode } from '#model/errors.ts'

const packr = new Packr({ useRecords: false, mapsAsObjects: true, int64AsType: 'number' })

export function encodeMsgpack(value: unknown): Buffer {
  return packr.pack(value)
}

/** What stands before the elements of an array that is put together from encoded pieces. */
export function msgpackArrayHeader(length: number): Buffer {
  return header(0xdd, length)
}

/** What stands before the keys and values of a map that is put together from encoded pieces. */
export function msgpackMapHeader(size: number): Buffer {
  return header(0xdf, size)
}

/** The elements of an array, one after the other, without what stands before them. */
export function encodeMsgpackElements(values: readonly unknown[]): Buffer {
  const bytes = encodeMsgpack(values)
  return bytes.subarray(values.length < 16 ? 1 : values.length < 65_536 ? 3 : 5)
}

function header(type: number, count: number): Buffer {
  const bytes = Buffer.alloc(5, type)
  bytes.writeUInt32BE(count, 1)
  return bytes
}

/** @throws ERR_PEER, or the code that says where else the bytes came from, when they are not one value */
export function decodeMsgpack(bytes: Uint8Array, code: ErrorCode = 'ERR_PEER'): unknown {
  try {
    return packr.unpack(bytes)
  } catch (cause) {
    throw new VxmeshError(code, 'bytes that are no MessagePack value', { cause })
  }
}

/** An object stream that takes bytes and gives values laid back to back without a length prefix. */
export function msgpackValueStream(): UnpackrStream {
  return new UnpackrStream({ useRecords: false, mapsAsObjects: true, int64AsType: 'number' })
}
