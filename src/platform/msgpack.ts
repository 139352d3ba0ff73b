// MessagePack with one set of options: plain maps, as Serf uses them. The caller limits the size.

import { Packr, UnpackrStream } from 'msgpackr'
import { VxmeshError, type ErrorCode } from '#model/errors.ts'

const packr = new Packr({ useRecords: false, mapsAsObjects: true, int64AsType: 'number' })

export function encodeMsgpack(value: unknown): Buffer {
  return packr.pack(value)
}

/** The header of an array that is assembled from encoded elements. */
export function msgpackArrayHeader(length: number): Buffer {
  return header(0xdd, length)
}

/** The header of a map that is assembled from encoded keys and values. */
export function msgpackMapHeader(size: number): Buffer {
  return header(0xdf, size)
}

/** The encoded elements of an array, without its header. */
export function encodeMsgpackElements(values: readonly unknown[]): Buffer {
  const bytes = encodeMsgpack(values)
  return bytes.subarray(values.length < 16 ? 1 : values.length < 65_536 ? 3 : 5)
}

function header(type: number, count: number): Buffer {
  const bytes = Buffer.alloc(5, type)
  bytes.writeUInt32BE(count, 1)
  return bytes
}

/** @param code of the error; names the source of the bytes @throws that code when they are not exactly one value */
export function decodeMsgpack(bytes: Uint8Array, code: ErrorCode = 'ERR_PEER'): unknown {
  try {
    return packr.unpack(bytes)
  } catch (cause) {
    throw new VxmeshError(code, 'bytes that are not a MessagePack value', { cause })
  }
}

/** A transform stream from bytes to the values that are encoded in them back to back. */
export function msgpackValueStream(): UnpackrStream {
  return new UnpackrStream({ useRecords: false, mapsAsObjects: true, int64AsType: 'number' })
}
