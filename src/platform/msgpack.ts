// MessagePack with one set of settings: plain maps (what Serf and we ourselves speak), bounded by the caller's frames.

import { Packr, UnpackrStream } from 'msgpackr'

const packr = new Packr({ useRecords: false, mapsAsObjects: true, int64AsType: 'number' })

export function encodeMsgpack(value: unknown): Buffer {
  return packr.pack(value)
}

/** @throws whatever msgpackr throws on malformed bytes; the caller wraps it with what it was reading. */
export function decodeMsgpack(bytes: Uint8Array): unknown {
  return packr.unpack(bytes)
}

/** An object stream that takes bytes and gives values laid back to back without a length prefix. */
export function msgpackValueStream(): UnpackrStream {
  return new UnpackrStream({ useRecords: false, mapsAsObjects: true, int64AsType: 'number' })
}
