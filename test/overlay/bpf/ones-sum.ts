// The sum of the Internet's checksums.

/** RFC 1071, without the complement: of a whole header 0xffff when its checksum is right. @param header an even number of bytes */
export function onesSum(header: Buffer): number {
  let sum = 0
  for (let at = 0; at < header.length; at += 2) sum += header.readUInt16BE(at)
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >>> 16)
  return sum
}
