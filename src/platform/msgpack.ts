// MessagePack with one set of settings: plain maps (what Serf and we ourselves speak), bounded by the caller's frames.

import { Packr, UnpackrStream } from 'msgpackr'
import { VxmeshError, type ErrorCode } from '#model/errors.ts'

const packr = new Packr({ useRecords: false, mapsAsObjects: true, int64AsType: 'number' })

export function encodeMsgpack(value: unknown): Buffer {
  return packr.pack(value)
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
