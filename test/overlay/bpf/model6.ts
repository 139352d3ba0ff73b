// The part of the model for IPv6: what a container may send, and the answer to a neighbour solicitation. Pure.

import { onesSum } from './ones-sum.ts'

type Hex = string

/** `address6` is absent in a network without IPv6. */
export type Sender6 = { readonly address6?: Hex; readonly mac: Hex }

const [TCP, UDP, FRAGMENT, ESP, ICMPV6, SCTP] = [6, 17, 44, 50, 58, 132]
/** Ports of DHCP (RFC 8415) and VXLAN. */
const [BANNED_SOURCES, BANNED_DESTINATIONS] = [
  [546, 547],
  [546, 547, 4789]
]
const [ERRORS, ECHOES] = [
  [1, 2, 3, 4],
  [128, 129]
]
const [SOLICITATION, ADVERTISEMENT] = [135, 136]
const HEADER_BYTES = 40

/** What follows the headers of the network layer. `message` is null after the first fragment. */
type Upper = { readonly protocol: number; readonly at: number; readonly message: Buffer | null }

/** @param ip the frame's content after its Ethernet header */
export function maySendIpv6(
  ip: Buffer,
  { sender, segmentBytes, vxlanPort }: { sender: Sender6; segmentBytes: number; vxlanPort: number }
): boolean {
  if (ip.length < HEADER_BYTES || ip.readUInt8(0) >> 4 !== 6 || ip.toString('hex', 8, 24) !== sender.address6)
    return false
  const bytes = ip.readUInt16BE(4)
  // Above 64 KiB, RFC 2675 has a length of 0.
  if (bytes === 0 ? segmentBytes === 0 : HEADER_BYTES + bytes > ip.length) return false
  const upper = upperOf(wholeOf(ip))
  if (upper === null) return false
  const { protocol, at, message } = upper
  if (message === null) return [TCP, UDP, ICMPV6, ESP, SCTP].includes(protocol)
  if (protocol === TCP) return message.length >= 20
  if (protocol === ESP || protocol === SCTP) return true
  if (![UDP, ICMPV6].includes(protocol) || message.length < 8) return false
  if (protocol === UDP) {
    const [from, to] = [message.readUInt16BE(0), message.readUInt16BE(2)]
    return !BANNED_SOURCES.includes(from) && ![...BANNED_DESTINATIONS, vxlanPort].includes(to)
  }
  const type = message.readUInt8(0)
  if (ECHOES.includes(type) || at > HEADER_BYTES) return ECHOES.includes(type)
  // RFC 4443, section 2.4: the packet that it is about follows eight bytes.
  if (ERRORS.includes(type)) return message.length >= 48 && message.toString('hex', 32, 48) === sender.address6
  // RFC 4861, section 7.1: 255 has not been forwarded.
  return bytes > 0 && ip.readUInt8(7) === 255 && isOwnDiscovery(message, sender)
}

/** Of an allowed packet: the bytes that each of its segments has. */
export function headerBytes6(ip: Buffer): number {
  const upper = upperOf(wholeOf(ip))
  if (upper === null) return 0
  const { protocol, at, message } = upper
  if (message === null) return at
  if (protocol === TCP) return at + (message.readUInt8(12) >> 4) * 4
  return protocol === UDP ? at + 8 : at
}

/** The frame that answers an allowed one; null when it asks for nobody's MAC or gives no MAC of its own to answer to. */
export function answerSolicitation(
  frame: Buffer,
  { sender, macOf }: { sender: Sender6; macOf: (address: Hex) => Hex | undefined }
): Buffer | null {
  const ip = frame.subarray(14)
  const upper = upperOf(wholeOf(ip))
  const { protocol, message } = upper ?? {}
  if (protocol !== ICMPV6 || message?.length !== 32 || message.readUInt8(0) !== SOLICITATION) return null
  const asked = message.toString('hex', 8, 24)
  const mac = asked === sender.address6 ? undefined : macOf(asked)
  if (mac === undefined) return null
  const addresses = Buffer.from(`${asked}${sender.address6 ?? ''}`, 'hex')
  // Solicited and overriding: RFC 4861, sections 4.4 and 4.6.1.
  const reply = Buffer.from(`8800000060000000${asked}0201${mac}`, 'hex')
  const pseudo = Buffer.from('000000200000003a', 'hex')
  reply.writeUInt16BE(0xffff - onesSum(Buffer.concat([addresses, pseudo, reply])), 2)
  const ethernet = Buffer.from(`${sender.mac}${mac}86dd`, 'hex')
  return Buffer.concat([ethernet, ip.subarray(0, 8), addresses, reply, ip.subarray(HEADER_BYTES + reply.length)])
}

/** Without what the frame has after its end. */
function wholeOf(ip: Buffer): Buffer {
  const bytes = ip.readUInt16BE(4)
  return bytes === 0 ? ip : ip.subarray(0, HEADER_BYTES + bytes)
}

/** RFC 8200, section 4.5; null when the header of a fragment is cut short. */
function upperOf(ip: Buffer): Upper | null {
  const protocol = ip.readUInt8(6)
  if (protocol !== FRAGMENT) return { protocol, at: HEADER_BYTES, message: ip.subarray(HEADER_BYTES) }
  const [header, at] = [ip.subarray(HEADER_BYTES), HEADER_BYTES + 8]
  if (header.length < 8) return null
  const isLater = header.readUInt16BE(2) >> 3 !== 0
  return { protocol: header.readUInt8(0), at, message: isLater ? null : ip.subarray(at) }
}

function isOwnDiscovery(message: Buffer, { address6, mac }: Sender6): boolean {
  const [type, code, target] = [message.readUInt8(0), message.readUInt8(1), message.toString('hex', 8, 24)]
  const options = message.toString('hex', 24)
  if (code !== 0 || message.length < 24) return false
  if (type === SOLICITATION) return options === `0101${mac}`
  return type === ADVERTISEMENT && target === address6 && ['', `0201${mac}`].includes(options)
}
