// The part of the model for packets to a service's port that leads nowhere: the container gets the answer of a closed port. Pure.

import { replaced } from './checksums.ts'
import { SERVICE_MAC } from './model-services.ts'
import { onesSum } from './ones-sum.ts'

const [TCP, UDP] = [6, 17]
const [SYN, RST, ACK] = [2, 4, 16]

/** @param mac of the container @returns null when there is no answer */
export function refused(frame: Buffer, mac: string): Buffer | null {
  const isSix = frame.readUInt16BE(12) === 0x86dd
  const ip = frame.subarray(14)
  const headerBytes = isSix ? 40 : (ip.readUInt8(0) & 15) * 4
  const protocol = ip.readUInt8(isSix ? 6 : 9)
  const ethernet = Buffer.concat([Buffer.from(mac + SERVICE_MAC, 'hex'), frame.subarray(12, 14)])
  const [source, bytes] = isSix ? [8, 16] : [12, 4]
  const ends = [ip.subarray(source + bytes, source + 2 * bytes), ip.subarray(source, source + bytes)]
  const payload = ip.subarray(headerBytes)
  if (protocol === TCP) {
    const segment = resetOf(payload)
    if (segment === null) return null
    const header = Buffer.concat([ip.subarray(0, source), ...ends, ip.subarray(source + 2 * bytes, headerBytes)])
    return Buffer.concat([ethernet, header, segment])
  }
  if (protocol !== UDP || (!isSix && headerBytes !== 20)) return null
  const error = Buffer.concat([
    Buffer.from(isSix ? '0104000000000000' : '0303000000000000', 'hex'),
    ip.subarray(0, headerBytes + 8)
  ])
  if (isSix) {
    const pseudo = Buffer.concat([...ends, Buffer.from([0, 0, 0, error.length, 0, 0, 0, 58])])
    error.writeUInt16BE(0xffff - onesSum(Buffer.concat([pseudo, error])), 2)
    return Buffer.concat([ethernet, Buffer.from([0x60, 0, 0, 0, 0, error.length, 58, 64]), ...ends, error])
  }
  error.writeUInt16BE(0xffff - onesSum(error), 2)
  const header = Buffer.concat([Buffer.from([0x45, 0, 0, 20 + error.length, 0, 0, 0, 0, 64, 1, 0, 0]), ...ends])
  header.writeUInt16BE(0xffff - onesSum(header), 10)
  return Buffer.concat([ethernet, header, error])
}

/** RFC 9293, section 3.5.2, group 1. Options and data stay. */
function resetOf(segment: Buffer): Buffer | null {
  const flags = segment.readUInt8(13)
  if ((flags & RST) !== 0) return null
  const reset = Buffer.from(segment)
  segment.copy(reset, 0, 2, 4)
  segment.copy(reset, 2, 0, 2)
  reset.writeUInt32BE((flags & ACK) !== 0 ? segment.readUInt32BE(8) : 0, 4)
  const next = (segment.readUInt32BE(4) + ((flags & SYN) !== 0 ? 1 : 0)) >>> 0
  reset.writeUInt32BE((flags & ACK) !== 0 ? 0 : next, 8)
  reset.writeUInt8(segment.readUInt8(12) & 0xf0, 12)
  reset.writeUInt8((flags & ACK) !== 0 ? RST : RST | ACK, 13)
  reset.writeUInt16BE(0, 14)
  const words = (of: Buffer): number[] => [4, 6, 8, 10, 12, 14].map(at => of.readUInt16BE(at))
  reset.writeUInt16BE(replaced(segment.readUInt16BE(16), words(segment), words(reset)), 16)
  return reset
}
