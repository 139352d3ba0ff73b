// Netlink frames (netlink(7)): messages back to back, each with a 16-byte header and padded to 4 bytes, and the error
// message. Host byte order; all supported machines are little-endian. Pure.

/** A request; `body` holds the protocol's fixed struct and attributes. */
export type NetlinkRequest = { readonly type: number; readonly flags: number; readonly body: Uint8Array }

/** One received message. The payload is a view of the receive buffer, valid until the next receive. */
export type NetlinkFrame = {
  readonly type: number
  readonly flags: number
  readonly seq: number
  /** Port id of the socket whose request caused the message; 0 for the kernel itself. */
  readonly portId: number
  readonly payload: Uint8Array
}

export const NLM_F_REQUEST = 0x1
export const NLM_F_ACK = 0x4
export const NLM_F_DUMP_INTR = 0x10
export const NLM_F_DUMP = 0x300
const NLM_F_CAPPED = 0x100
const NLM_F_ACK_TLVS = 0x200

export const NLMSG_NOOP = 1
export const NLMSG_ERROR = 2
export const NLMSG_DONE = 3
export const NLMSG_OVERRUN = 4

export const HEADER_BYTES = 16

/** Writes one message at `offset`; the buffer must have room. @returns the offset of the next message */
export function writeFrame(p: {
  into: Uint8Array
  offset: number
  request: NetlinkRequest
  flags: number
  seq: number
}): number {
  const { into, offset, request } = p
  const length = HEADER_BYTES + request.body.length
  const view = new DataView(into.buffer, into.byteOffset + offset, HEADER_BYTES)
  view.setUint32(0, length, true)
  view.setUint16(4, request.type, true)
  view.setUint16(6, p.flags, true)
  view.setUint32(8, p.seq, true)
  view.setUint32(12, 0, true)
  into.set(request.body, offset + HEADER_BYTES)
  into.fill(0, offset + length, offset + align4(length))
  return offset + align4(length)
}

/** Splits a datagram into its messages. @throws RangeError when a length exceeds it */
export function readFrames(bytes: Uint8Array): readonly NetlinkFrame[] {
  const frames: NetlinkFrame[] = []
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length)
  let offset = 0
  while (offset < bytes.length) {
    const length = bytes.length - offset < HEADER_BYTES ? 0 : view.getUint32(offset, true)
    if (length < HEADER_BYTES || offset + length > bytes.length) {
      throw new RangeError(`netlink message at byte ${offset} of ${bytes.length} has a bad length`)
    }
    frames.push({
      type: view.getUint16(offset + 4, true),
      flags: view.getUint16(offset + 6, true),
      seq: view.getUint32(offset + 8, true),
      portId: view.getUint32(offset + 12, true),
      payload: bytes.subarray(offset + HEADER_BYTES, offset + length)
    })
    offset += align4(length)
  }
  return frames
}

/** The errno of an NLMSG_ERROR or NLMSG_DONE (0 is success) and the kernel's extended error text, if any. */
export function readStatus(frame: NetlinkFrame): { readonly errno: number; readonly text: string } {
  const { payload } = frame
  if (payload.length < 4) return { errno: 0, text: '' }
  const view = new DataView(payload.buffer, payload.byteOffset, payload.length)
  const errno = -view.getInt32(0, true)
  if ((frame.flags & NLM_F_ACK_TLVS) === 0) return { errno, text: '' }
  let offset = 4
  if (frame.type === NLMSG_ERROR) {
    // The request is echoed first; only its header when capped.
    const echoed = (frame.flags & NLM_F_CAPPED) !== 0 ? HEADER_BYTES : payload.length < 8 ? 0 : view.getUint32(4, true)
    offset += align4(echoed)
  }
  return { errno, text: extendedText(payload, view, offset) }
}

/** The text of the attribute NLMSGERR_ATTR_MSG (1), which ends with a zero byte. */
function extendedText(payload: Uint8Array, view: DataView, from: number): string {
  for (let offset = from; offset + 4 <= payload.length;) {
    const length = view.getUint16(offset, true)
    if (length < 4 || offset + length > payload.length) return ''
    if ((view.getUint16(offset + 2, true) & 0x3fff) === 1) {
      const text = payload.subarray(offset + 4, offset + length)
      const end = text.indexOf(0)
      return new TextDecoder().decode(end === -1 ? text : text.subarray(0, end))
    }
    offset += align4(length)
  }
  return ''
}

export function align4(length: number): number {
  return (length + 3) & ~3
}
