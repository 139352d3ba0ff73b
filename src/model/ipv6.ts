// IPv6 addresses as text in canonical form (RFC 5952), and their arithmetic. Parsing is strict: a zone (`%eth0`) is not part
// of an address, and a dotted tail has four decimal octets without leading zeros. Code that does not depend on IPv6 uses
// ip.ts instead.

import type { Brand } from './brand.ts'
import { invalid } from './errors.ts'
import { quote } from './ids.ts'

/** An IPv6 address in canonical form: lower case, no leading zeros, the first longest run of zero groups as `::`. */
export type Ipv6 = Brand<string, 'Ipv6'>

/** The network address (host bits zero) and the prefix length. */
export type Ipv6Subnet = { readonly base: Ipv6; readonly prefixLength: number }

/** Eight numbers of 16 bits. */
type Groups = readonly number[]

const GROUPS = 8
const GROUP_BITS = 16
const GROUP_VALUES = 0x10000
const COLON = 58
/** Longer than any address. */
const TEXT_MAX = 45
const GROUP = /^[0-9a-fA-F]{1,4}$/
const DOTTED = /^(0|[1-9][0-9]{0,2})\.(0|[1-9][0-9]{0,2})\.(0|[1-9][0-9]{0,2})\.(0|[1-9][0-9]{0,2})$/

/** @throws ERR_INVALID naming the field */
export function parseIpv6(text: string, field = 'address'): Ipv6 {
  const groups = groupsIn(text)
  if (groups === null) throw invalid(field, `must be an IPv6 address like fd00:1::5, got ${quote(text)}`)
  return textOf(groups)
}

/** None of the unspecified and loopback addresses, those that stand for IPv4 ones (::/96, ::ffff:0:0/96) and multicast. */
export function isUnicastIpv6(address: Ipv6): boolean {
  const groups = groupsOf(address)
  const first = groups[0] ?? 0
  const standsForIpv4 = groups.slice(0, 5).every(group => group === 0) && [0, 0xffff].includes(groups[5] ?? 0)
  return first < 0xff00 && !standsForIpv4
}

/** fe80::/10: valid on one link only. */
export function isLinkLocalIpv6(address: Ipv6): boolean {
  return ((groupsOf(address)[0] ?? 0) & 0xffc0) === 0xfe80
}

export function networkAddressIpv6(address: Ipv6, prefixLength: number): Ipv6 {
  const masked = groupsOf(address).map((group, at) => group & mask(prefixLength - at * GROUP_BITS))
  return textOf(masked)
}

// Numbers instead of bigints, here and below: an attach does these, and a new subnet does them for each endpoint.

/** The address so many after the network address. @param offset less than the size of the subnet */
export function ipv6At({ base }: Ipv6Subnet, offset: number): Ipv6 {
  const groups = groupsOf(base)
  for (let [at, rest] = [GROUPS - 1, offset]; rest > 0; at--, rest = Math.floor(rest / GROUP_VALUES))
    groups[at] = (groups[at] ?? 0) + (rest % GROUP_VALUES)
  return textOf(groups)
}

export function lastAddressIpv6({ base, prefixLength }: Ipv6Subnet): Ipv6 {
  return textOf(groupsOf(base).map((group, at) => group | (0xffff ^ mask(prefixLength - at * GROUP_BITS))))
}

/** How many addresses after the network address; negative, or at least the size, when it is outside. From 2^53 on, rounded. */
export function offsetOfIpv6({ base }: Ipv6Subnet, address: Ipv6): number {
  const [from, to] = [groupsOf(base), groupsOf(address)]
  let offset = 0
  for (let at = 0; at < GROUPS; at++) offset = offset * GROUP_VALUES + ((to[at] ?? 0) - (from[at] ?? 0))
  return offset
}

/** The lowest 32 bits, unsigned. */
export function lowBitsOfIpv6(address: Ipv6): number {
  const groups = groupsOf(address)
  return (groups[GROUPS - 2] ?? 0) * GROUP_VALUES + (groups[GROUPS - 1] ?? 0)
}

/** For sorting: ascending by value. */
export function compareIpv6(a: Ipv6, b: Ipv6): number {
  const [left, right] = [groupsOf(a), groupsOf(b)]
  for (let at = 0; at < GROUPS; at++) {
    const difference = (left[at] ?? 0) - (right[at] ?? 0)
    if (difference !== 0) return difference
  }
  return 0
}

/** The sixteen bytes, in network order. */
export function bytesOfIpv6(address: Ipv6): Uint8Array {
  const bytes = new Uint8Array(GROUPS * 2)
  const view = new DataView(bytes.buffer)
  groupsOf(address).forEach((group, at) => view.setUint16(at * 2, group))
  return bytes
}

/** @param bytes sixteen, in network order. @throws RangeError when there are fewer */
export function ipv6OfBytes(bytes: Uint8Array): Ipv6 {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  return textOf(Array.from({ length: GROUPS }, (_, at) => view.getUint16(at * 2)))
}

/** As an unsigned number of 128 bits. */
export function numberOfIpv6(address: Ipv6): bigint {
  return groupsOf(address).reduce((sum, group) => (sum << 16n) | BigInt(group), 0n)
}

/** @param value 0 to 2^128 - 1 */
export function ipv6OfNumber(value: bigint): Ipv6 {
  return textOf(Array.from({ length: GROUPS }, (_, at) => Number((value >> BigInt((GROUPS - 1 - at) * 16)) & 0xffffn)))
}

/** Of an address in canonical form, in one pass. */
function groupsOf(address: Ipv6): number[] {
  const groups = new Array<number>(GROUPS).fill(0)
  let [count, gap, value, isOpen] = [0, -1, 0, false]
  for (let at = 0; at < address.length; at++) {
    const code = address.charCodeAt(at)
    if (code !== COLON) {
      value = value * 16 + (code < COLON ? code - 48 : code - 87)
      isOpen = true
      continue
    }
    if (isOpen) groups[count++] = value
    value = 0
    isOpen = false
    if (address.charCodeAt(at + 1) === COLON) gap = count
  }
  if (isOpen) groups[count++] = value
  if (gap < 0 ? count !== GROUPS : count >= GROUPS) throw new Error(`${address} is no IPv6 address`)
  // What is behind the gap belongs to the end.
  if (gap >= 0) groups.copyWithin(GROUPS - count + gap, gap, count).fill(0, gap, GROUPS - count + gap)
  return groups
}

/** The groups that a text stands for; null when it is no address. */
function groupsIn(text: string): Groups | null {
  if (text.length > TEXT_MAX) return null
  const [before = '', after, ...more] = text.split('::')
  if (more.length > 0) return null
  const head = listed(before, after === undefined)
  if (after === undefined) return head?.length === GROUPS ? head : null
  const tail = listed(after, true)
  // `::` stands for one group at least.
  if (head === null || tail === null || head.length + tail.length >= GROUPS) return null
  return [...head, ...new Array<number>(GROUPS - head.length - tail.length).fill(0), ...tail]
}

/** Groups between colons; null when one is malformed. @param isLast only there the last may be a dotted IPv4 address */
function listed(text: string, isLast: boolean): number[] | null {
  if (text === '') return []
  const groups: number[] = []
  const parts = text.split(':')
  for (const [at, part] of parts.entries()) {
    const octets = isLast && at === parts.length - 1 ? DOTTED.exec(part)?.slice(1).map(Number) : undefined
    if (octets !== undefined) {
      const [a = 0, b = 0, c = 0, d = 0] = octets
      if (octets.some(octet => octet > 255)) return null
      groups.push(a * 256 + b, c * 256 + d)
    } else if (GROUP.test(part)) groups.push(Number.parseInt(part, 16))
    else return null
  }
  return groups
}

function textOf(groups: Groups): Ipv6 {
  const { start, length } = longestZeros(groups)
  const hex = groups.map(group => group.toString(16))
  if (length < 2) return hex.join(':') as Ipv6
  return `${hex.slice(0, start).join(':')}::${hex.slice(start + length).join(':')}` as Ipv6
}

/** The first of the longest runs of zero groups. */
function longestZeros(groups: Groups): { readonly start: number; readonly length: number } {
  let longest = { start: 0, length: 0 }
  let start = 0
  for (let at = 0; at < GROUPS; at++) {
    if (groups[at] !== 0) start = at + 1
    else if (at - start + 1 > longest.length) longest = { start, length: at - start + 1 }
  }
  return longest
}

/** Of a group, the highest bits. @param bits how many; below 0 is none, above 16 all */
function mask(bits: number): number {
  const kept = Math.max(0, Math.min(GROUP_BITS, bits))
  return (0xffff << (GROUP_BITS - kept)) & 0xffff
}
