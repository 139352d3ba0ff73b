// What becomes of a checksum when some of what it covers changes.

/** Of 16 bits each. */
export type Words = readonly number[]

/** The words of an address. */
export function fold(address: string): Words {
  return (address.match(/.{4}/g) ?? []).map(word => Number.parseInt(word, 16))
}

/** RFC 1624, equation 3: HC' = ~(~HC + ~m + m'), in sums of which none is zero. */
export function replaced(checksum: number, before: Words, after: Words): number {
  let sum = 0xffff + (0xffff - checksum)
  for (const word of before) sum += 0xffff - word
  for (const word of after) sum += word
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >>> 16)
  return 0xffff - sum
}
