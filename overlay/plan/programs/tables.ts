// The tables of our programs as the agent plans them: keys and values in the terms of the state, which compare by value, and
// their form as bytes. Pure.

import type { Vni } from '#model/ids.ts'
import { bytesOfIpv6, ipv6OfBytes, type Ipv6 } from '#model/ipv6.ts'
import { macAt, type Mac } from '#model/mac.ts'
import { HOW, readStation, writeMac, writeStationKey, type StationNumbers } from './entries.ts'

/** The tables that follow from the state, in the order in which they are written: a port's own entry comes last. */
export const TABLES = [
  'settings',
  'underlays',
  'locals',
  'vteps',
  'neighbours',
  'neighbours6',
  'backends',
  'services',
  'tunnels',
  'networks',
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
 * | neighbours, neighbours6 | address | MAC |
 * | backends, services | the bytes, as text | the bytes, as text |
 * | tunnels | ifindex | network |
 * | networks | network | the bytes, as text |
 * | stations | MAC; the bytes, as text, of a key that is padded with anything but zeros | see stationWord |
 * | ports | ifindex | the bytes, as text |
 */
export type Key = number | string
export type Value = number | string
export type Entries = Pick<ReadonlyMap<Key, Value>, 'get' | 'has' | 'keys' | 'size'> & {
  /** Without an object an entry. */
  forEach(take: (value: Value, key: Key) => void): void
}
/** Entries to be written: each key, and its value. No map, for they are many, and each is read once. */
export type Changes = { readonly keys: readonly Key[]; readonly values: readonly Value[] }
/** What one network (or, null, the host itself) has in each table. */
export type TableSet = Readonly<Record<Table, Entries>>
export type Tables = ReadonlyMap<Vni | null, TableSet>

export type MutableTableSet = Record<Table, Map<Key, Value>>

export function emptyTables(): MutableTableSet {
  const empty = (): Map<Key, Value> => new Map()
  return {
    ...{ settings: empty(), underlays: empty(), locals: empty(), vteps: empty(), neighbours: empty() },
    ...{
      neighbours6: empty(),
      backends: empty(),
      services: empty(),
      tunnels: empty(),
      networks: empty(),
      stations: empty(),
      ports: empty()
    }
  }
}

/** Other than a MAC's, which has 17 characters. */
const STATION_KEY_BYTES = 12

/** An entry as the map holds it. */
export type Bytes = { readonly key: Uint8Array; readonly value: Uint8Array }

/** Writes keys or values into a buffer, each at an offset: there may be a hundred thousand. */
type Writer<T> = (at: number, what: T) => void

export function keyWriter(table: Table, vni: Vni | null, into: Uint8Array): Writer<Key> {
  const view = viewOf(into)
  const network = vni ?? 0
  switch (table) {
    case 'settings':
    case 'underlays':
    case 'tunnels':
    case 'networks':
    case 'ports':
      return (at, key) => view.setUint32(at, Number(key), true)
    case 'locals':
      return (at, key) => view.setUint32(at, Number(key))
    case 'vteps':
    case 'neighbours':
      return (at, key) => {
        view.setUint32(at, network, true)
        view.setUint32(at + 4, Number(key))
      }
    case 'neighbours6':
      return (at, key) => {
        view.setUint32(at, network, true)
        into.set(bytesOfIpv6(key as Ipv6), at + 4)
      }
    case 'backends':
    case 'services':
      return (at, key) => into.set(bytesOf(String(key)), at)
    case 'stations':
      return (at, key) => {
        const text = String(key)
        if (text.length === STATION_KEY_BYTES) into.set(bytesOf(text), at)
        else writeStationKey(view, at, { network, mac: text as Mac })
      }
  }
}

export function valueWriter(table: Table, into: Uint8Array): Writer<Value> {
  const view = viewOf(into)
  switch (table) {
    case 'settings':
    case 'networks':
    case 'ports':
    case 'backends':
    case 'services':
      return (at, value) => into.set(bytesOf(String(value)), at)
    case 'underlays':
    case 'locals':
    case 'vteps':
    case 'tunnels':
      return (at, value) => view.setUint32(at, Number(value), true)
    case 'neighbours':
    case 'neighbours6':
      return (at, value) => writeMac(view, at, value as Mac)
    case 'stations':
      return (at, value) => writeStation(view, at, Number(value))
  }
}

/** Without objects in between. */
function writeStation(view: DataView, at: number, value: number): void {
  const how = value % 8
  view.setUint32(at, Math.floor(value / 256), how !== HOW.tunnel)
  view.setUint16(at + 4, how, true)
  view.setUint8(at + 6, Math.floor(value / 8) % 8)
  view.setUint8(at + 7, Math.floor(value / 64) % 4)
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
      return { vni: first as Vni, key: k.getUint32(4), value: macAt(value, 0) }
    case 'neighbours6':
      return { vni: first as Vni, key: ipv6OfBytes(key.subarray(4)), value: macAt(value, 0) }
    case 'backends':
    case 'services':
      return { vni: first as Vni, key: textOf(key), value: textOf(value) }
    case 'tunnels': {
      const network = v.getUint32(0, true)
      return { vni: network as Vni, key: first, value: network }
    }
    case 'networks':
      return { vni: first as Vni, key: first, value: textOf(value) }
    case 'stations':
      return {
        vni: first as Vni,
        // A key of another program's that no packet has is deleted as the key that it is.
        key: k.getUint16(10) === 0 ? macAt(key, 4) : textOf(key),
        value: stationWord(readStation(value))
      }
    case 'ports':
      return { vni: v.getUint32(0, true) as Vni, key: first, value: textOf(value) }
  }
}

/** What a station's value holds (entries.ts), in one number. A way that there is not is 7, whatever it was; the rest likewise. */
export function stationWord({ to, how, tells, awaits = 0 }: StationNumbers): number {
  return to * 256 + Math.min(awaits, 3) * 64 + Math.min(tells, 7) * 8 + Math.min(how, 7)
}

export function stationOf(value: number): Required<StationNumbers> {
  const [tells, awaits] = [Math.floor(value / 8) % 8, Math.floor(value / 64) % 4]
  return { to: Math.floor(value / 256), how: value % 8, tells, awaits }
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
