// An element of one of our sets in both of its forms: nft's text and the kernel's bytes (each part padded to a
// multiple of the 4-byte register). Pure.

import { formatIpv4, parseIpv4 } from '#model/ipv4.ts'
import { ipv4Of, type Ip } from '#model/ip.ts'
import { parseIfName, type IfName } from '#model/ids.ts'
import { parseMac } from '#model/mac.ts'
import type { DesiredFilter, PortBinding } from './desired-filter.ts'
import type { FilterTable } from './ruleset.ts'

export type Element = {
  /** Identifies it within its set. */
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
      return byText([...desired.ports.values()].map(portElement))
    case 'vteps':
      return ofAddresses(desired.vteps, known)
    case 'members':
      return ofAddresses(desired.members, known)
    case 'doors':
      return byText((table.doors ?? []).map(doorElement))
  }
}

function byText(elements: readonly Element[]): Map<string, Element> {
  return new Map(elements.map(element => [element.text, element]))
}

/** The addresses of elements that were made for a set of addresses. */
const addressesOf = new WeakMap<Elements, ReadonlySet<Ip>>()

function ofAddresses(addresses: ReadonlySet<Ip>, known: Map<string, Element> | null): Map<string, Element> {
  const before = known === null ? undefined : addressesOf.get(known)
  if (known !== null && before?.size === addresses.size && before.isSubsetOf(addresses)) return known
  const elements = new Map(before === undefined ? [] : known)
  for (const address of addresses) {
    if (before?.has(address) === true) continue
    const element = addressElement(address)
    elements.set(element.text, element)
  }
  for (const address of before ?? []) if (!addresses.has(address)) elements.delete(formatIpv4(ipv4Of(address)))
  addressesOf.set(elements, addresses)
  return elements
}

/** Parses an element listed by nft; null when vxmesh would not have made it (a timeout, a comment, another form). */
export function parseElement(table: FilterTable, listed: unknown): Element | null {
  try {
    if (table.set === 'doors') return typeof listed === 'number' ? doorElement(listed) : null
    if (table.set !== 'ports') return typeof listed === 'string' ? addressElement(parseIpv4(listed)) : null
    const parts: unknown = typeof listed === 'object' && listed !== null && 'concat' in listed ? listed.concat : null
    if (!Array.isArray(parts)) return null
    const [device, mac, address] = parts.map(String)
    return portElement({
      device: parseIfName(device ?? ''),
      mac: parseMac(mac ?? ''),
      address: parseIpv4(address ?? '')
    })
  } catch {
    return null
  }
}

/** Does the element belong to that port? */
export function isOfPort(element: Element, device: IfName): boolean {
  return element.text.startsWith(`${device} `)
}

const IFNAME_BYTES = 16
const MAC_BYTES = 8

export function portElement({ device, mac, address }: PortBinding): Element {
  const parts = [device, mac, formatIpv4(ipv4Of(address))]
  const key = new Uint8Array(IFNAME_BYTES + MAC_BYTES + 4)
  new TextEncoder().encodeInto(device, key)
  key.set(Buffer.from(mac.replaceAll(':', ''), 'hex'), IFNAME_BYTES)
  new DataView(key.buffer).setUint32(IFNAME_BYTES + MAC_BYTES, ipv4Of(address))
  return { text: parts.join(' . '), key }
}

function addressElement(address: Ip): Element {
  const text = formatIpv4(ipv4Of(address))
  const key = new Uint8Array(4)
  new DataView(key.buffer).setUint32(0, ipv4Of(address))
  return { text, key }
}

function doorElement(port: number): Element {
  const key = new Uint8Array(2)
  new DataView(key.buffer).setUint16(0, port)
  return { text: String(port), key }
}
