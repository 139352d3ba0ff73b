// An element of one of our sets in both of its forms: nft's text and the kernel's bytes (each part padded to a
// multiple of the 4-byte register). Pure.

import { formatIpv4, parseIpv4, type Ipv4 } from '#model/ipv4.ts'
import { familyOf, formatIp, isIpv4, parseIp, type Family, type Ip } from '#model/ip.ts'
import { bytesOfIpv6, ipv6OfNumber } from '#model/ipv6.ts'
import { parseIfName, type IfName } from '#model/ids.ts'
import { parseMac, type Mac } from '#model/mac.ts'
import type { DesiredFilter, PortBinding } from './desired-filter.ts'
import type { FilterTable, SetName } from './ruleset.ts'

export type Element = {
  readonly set: SetName
  /** Identifies it within its table. */
  readonly text: string
  readonly key: Uint8Array
}

export type Elements = ReadonlyMap<string, Element>

/** @param known elements of an earlier state: with many hosts most of them are the same, and need not be made again */
export function elementsOf(
  table: FilterTable,
  desired: DesiredFilter,
  known: Map<string, Element> | null = null
): Map<string, Element> {
  switch (table.set) {
    case 'ports':
      return byText([...desired.ports.values()].flatMap(portElements))
    case 'vteps':
      return ofAddresses(desired.vteps, known, { set: table.set, family: table.addresses })
    case 'members':
      return ofAddresses(desired.members, known, { set: table.set, family: table.addresses })
    case 'doors':
      return byText((table.doors ?? []).map(doorElement))
  }
}

function byText(elements: readonly Element[]): Map<string, Element> {
  return new Map(elements.map(element => [element.text, element]))
}

/** The addresses for which elements were made, with those of the other family, which have none. */
const addressesOf = new WeakMap<Elements, ReadonlySet<Ip>>()

function ofAddresses(
  addresses: ReadonlySet<Ip>,
  known: Map<string, Element> | null,
  { set, family }: { readonly set: SetName; readonly family: Family | undefined }
): Map<string, Element> {
  const before = known === null ? undefined : addressesOf.get(known)
  if (known !== null && before?.size === addresses.size && before.isSubsetOf(addresses)) return known
  const elements = new Map(before === undefined ? [] : known)
  for (const address of addresses) {
    if (before?.has(address) === true || familyOf(address) !== family) continue
    const element = addressElement(set, address)
    elements.set(element.text, element)
  }
  for (const address of before ?? []) if (!addresses.has(address)) elements.delete(addressText(set, address))
  addressesOf.set(elements, addresses)
  return elements
}

/**
 * Parses an element of one of the table's sets listed by nft; null when vxmesh would not have made it (a timeout, a comment,
 * another form).
 */
export function parseElement(set: SetName, listed: unknown): Element | null {
  try {
    if (set === 'doors') return typeof listed === 'number' ? doorElement(listed) : null
    if (set === 'vteps' || set === 'members') {
      if (typeof listed !== 'string') return null
      const isNumber = set === 'vteps' && listed.startsWith('0x')
      return addressElement(set, isNumber ? ipv6OfNumber(integer(listed)) : parseIp(listed))
    }
    const parts: unknown = typeof listed === 'object' && listed !== null && 'concat' in listed ? listed.concat : null
    if (!Array.isArray(parts) || parts.length !== 3) return null
    const [device, mac, address] = parts as readonly unknown[]
    return portElement({
      device: parseIfName(String(device)),
      mac: set === 'ports6' ? macOfNumber(integer(mac)) : parseMac(String(mac)),
      address: set === 'ports6' ? ipv6OfNumber(integer(address)) : parseIpv4(String(address))
    })
  } catch {
    return null
  }
}

/** Can the table's set hold it? An element of another underlay's family was left by an agent that had an address of that. */
export function fits({ addresses }: FilterTable, { key }: Element): boolean {
  return addresses === undefined || key.length === (addresses === 'ipv4' ? 4 : 16)
}

/** Does the element belong to that port? */
export function isOfPort(element: Element, device: IfName): boolean {
  return element.text.startsWith(`${device} `)
}

const IFNAME_BYTES = 16
/** Of a MAC and what fills its last register. */
const MAC_BYTES = 8

/** One for each address of the port. */
export function portElements({ device, mac, addresses }: PortBinding): readonly Element[] {
  return addresses.map(address => portElement({ device, mac, address }))
}

function portElement(p: { readonly device: IfName; readonly mac: Mac; readonly address: Ip }): Element {
  const { device, mac, address } = p
  const hardware = Buffer.from(mac.replaceAll(':', ''), 'hex')
  const source = isIpv4(address) ? ipv4Bytes(address) : bytesOfIpv6(address)
  const key = new Uint8Array(IFNAME_BYTES + MAC_BYTES + source.length)
  new TextEncoder().encodeInto(device, key)
  key.set(hardware, IFNAME_BYTES)
  key.set(source, IFNAME_BYTES + MAC_BYTES)
  if (isIpv4(address)) return { set: 'ports', text: [device, mac, formatIpv4(address)].join(' . '), key }
  return { set: 'ports6', text: [device, hexOf(hardware), hexOf(source)].join(' . '), key }
}

function hexOf(bytes: Uint8Array): string {
  return `0x${Buffer.from(bytes).toString('hex')}`
}

/** Of a set of plain integers, nft lists those of more than 64 bits in hexadecimal. @throws SyntaxError, TypeError */
function integer(listed: unknown): bigint {
  if (typeof listed === 'number' && Number.isSafeInteger(listed)) return BigInt(listed)
  if (typeof listed === 'string') return BigInt(listed)
  throw new TypeError('no exact integer')
}

function macOfNumber(value: bigint): Mac {
  const digits = value.toString(16).padStart(12, '0')
  return parseMac(digits.replace(/..(?!$)/g, '$&:'))
}

function addressElement(set: SetName, address: Ip): Element {
  const key = isIpv4(address) ? ipv4Bytes(address) : bytesOfIpv6(address)
  return { set, text: addressText(set, address), key }
}

/** IPv6 tunnel addresses are plain integers, like the addresses of ports. */
function addressText(set: SetName, address: Ip): string {
  return set === 'vteps' && !isIpv4(address) ? hexOf(bytesOfIpv6(address)) : formatIp(address)
}

function ipv4Bytes(address: Ipv4): Uint8Array {
  const bytes = new Uint8Array(4)
  new DataView(bytes.buffer).setUint32(0, address)
  return bytes
}

function doorElement(port: number): Element {
  const key = new Uint8Array(2)
  new DataView(key.buffer).setUint16(0, port)
  return { set: 'doors', text: String(port), key }
}
