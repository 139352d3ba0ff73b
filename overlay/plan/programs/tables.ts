// The tables of our programs as the agent plans them: keys and values in the terms of the state, which compare by value, and
// their form as bytes. Pure.

import type { Vni } from '#model/ids.ts'
import type { Ipv4 } from '#model/ipv4.ts'
import type { Mac } from '#model/mac.ts'
import { addressKey, addressWord, neighbourValue, readMac, stationKey, word } from './entries.ts'

/** The tables that follow from the state, in the order in which they are written: a port's own entry comes last. */
export const TABLES = [
  'settings',
  'underlays',
  'locals',
  'vteps',
  'neighbours',
  'tunnels',
  'stations',
  'ports'
] as const
export type Table = (typeof TABLES)[number]
/** The tables by ifindex, which is one entry whichever network it is of: a device may become another network's. */
export const BY_IFINDEX: readonly Table[] = ['tunnels', 'ports']

/**
 * | table | key | value |
 * |---|---|---|
 * | settings | 0 | the bytes, as text |
 * | underlays | ifindex | bytes of the link-layer header |
 * | locals, vteps | address | 1 |
 * | neighbours | address | MAC |
 * | tunnels | ifindex | network |
 * | stations | MAC; the bytes, as text, of a key that is padded with anything but zeros | see stationWord |
 * | ports | ifindex | the bytes, as text |
 */
export type Key = number | string
export type Value = number | string
export type Entries = ReadonlyMap<Key, Value>
/** What one network (or, null, the host itself) has in each table. */
export type TableSet = Readonly<Record<Table, Entries>>
export type Tables = ReadonlyMap<Vni | null, TableSet>

export type MutableTableSet = Record<Table, Map<Key, Value>>

export function emptyTables(): MutableTableSet {
  const empty = (): Map<Key, Value> => new Map()
  return {
    ...{ settings: empty(), underlays: empty(), locals: empty(), vteps: empty(), neighbours: empty() },
    ...{ tunnels: empty(), stations: empty(), ports: empty() }
  }
}

/** Other than a MAC's, which has 17 characters. */
const STATION_KEY_BYTES = 12

/** An entry as the map holds it. */
export type Bytes = { readonly key: Uint8Array; readonly value: Uint8Array }

export function encodeKey(table: Table, vni: Vni | null, key: Key): Uint8Array {
  const network = vni ?? (0 as Vni)
  switch (table) {
    case 'settings':
    case 'underlays':
    case 'tunnels':
    case 'ports':
      return word(Number(key))
    case 'locals':
      return addressWord(key as Ipv4)
    case 'vteps':
    case 'neighbours':
      return addressKey(network, key as Ipv4)
    case 'stations':
      return String(key).length === STATION_KEY_BYTES ? bytesOf(String(key)) : stationKey(network, key as Mac)
  }
}

export function encodeValue(table: Table, value: Value): Uint8Array {
  switch (table) {
    case 'settings':
    case 'ports':
      return bytesOf(String(value))
    case 'underlays':
    case 'locals':
    case 'vteps':
    case 'tunnels':
      return word(Number(value))
    case 'neighbours':
      return neighbourValue(value as Mac)
    case 'stations': {
      const { ifindex, how } = stationOf(Number(value))
      const bytes = new Uint8Array(8)
      const view = new DataView(bytes.buffer)
      view.setUint32(0, ifindex, true)
      view.setUint32(4, how, true)
      return bytes
    }
  }
}

/** The inverse of both; `vni` is null for an entry of the host itself. */
export function decodeEntry(
  table: Table,
  { key, value }: Bytes
): { readonly vni: Vni | null; readonly key: Key; readonly value: Value } {
  const [k, v] = [viewOf(key), viewOf(value)]
  const first = k.getUint32(0, true)
  switch (table) {
    case 'settings':
      return { vni: null, key: first, value: textOf(value) }
    case 'underlays':
      return { vni: null, key: first, value: v.getUint32(0, true) }
    case 'locals':
      return { vni: null, key: k.getUint32(0), value: v.getUint32(0, true) }
    case 'vteps':
      return { vni: first as Vni, key: k.getUint32(4), value: v.getUint32(0, true) }
    case 'neighbours':
      return { vni: first as Vni, key: k.getUint32(4), value: readMac(value, 0) }
    case 'tunnels': {
      const network = v.getUint32(0, true)
      return { vni: network as Vni, key: first, value: network }
    }
    case 'stations':
      return {
        vni: first as Vni,
        // A key of another program's that no packet has is deleted as the key that it is.
        key: k.getUint16(10) === 0 ? readMac(key, 4) : textOf(key),
        value: stationWord({ ifindex: v.getUint32(0, true), how: v.getUint32(4, true) })
      }
    case 'ports':
      return { vni: v.getUint32(0, true) as Vni, key: first, value: textOf(value) }
  }
}

/** Ifindex and way of a station in one number. A way that there is not is 7, whatever it was. */
export function stationWord({ ifindex, how }: { readonly ifindex: number; readonly how: number }): number {
  return ifindex * 8 + Math.min(how, 7)
}

export function stationOf(value: number): { readonly ifindex: number; readonly how: number } {
  return { ifindex: Math.floor(value / 8), how: value % 8 }
}

/** A character a byte. */
export function textOf(bytes: Uint8Array): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length).toString('latin1')
}

export function bytesOf(text: string): Uint8Array {
  return Buffer.from(text, 'latin1')
}

function viewOf(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.length)
}
