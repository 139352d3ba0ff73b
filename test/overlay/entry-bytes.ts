// Single entries of our maps as the product writes them, for tests; entries.test.ts has their bytes written out by hand.

import type { Vni } from '#model/ids.ts'
import { isIpv4, type Ip } from '#model/ip.ts'
import type { Ipv4 } from '#model/ipv4.ts'
import type { Mac } from '#model/mac.ts'
import { HOW, NETWORK_BYTES, PORT_BYTES, SETTINGS_BYTES, type StationEntry } from '#overlay/plan/programs/entries.ts'
import { BACKEND_BYTES, SERVICE_BYTES, SERVICE_KEY_BYTES } from '#overlay/plan/programs/service-entries.ts'
import {
  keyWriter,
  stationWord,
  valueWriter,
  type Entries,
  type Key,
  type Table,
  type Value
} from '#overlay/plan/programs/tables.ts'

/** Bytes of a key and of a value: see programs/maps.h. */
export const SIZES: Readonly<Record<Table, readonly [key: number, value: number]>> = {
  ...{ settings: [4, SETTINGS_BYTES], underlays: [4, 4], locals: [4, 4], vteps: [8, 4], neighbours: [8, 8] },
  ...{ backends: [SERVICE_KEY_BYTES, BACKEND_BYTES], services: [SERVICE_KEY_BYTES, SERVICE_BYTES] },
  ...{ neighbours6: [20, 8], tunnels: [4, 4], networks: [4, NETWORK_BYTES], stations: [12, 8], ports: [4, PORT_BYTES] }
}

export function encodeKey(table: Table, vni: Vni | null, key: Key): Uint8Array {
  const bytes = new Uint8Array(SIZES[table][0])
  keyWriter(table, vni, bytes)(0, key)
  return bytes
}

export function encodeValue(table: Table, value: Value): Uint8Array {
  const bytes = new Uint8Array(SIZES[table][1])
  valueWriter(table, bytes)(0, value)
  return bytes
}

export function stationKey(network: Vni, mac: Mac): Uint8Array {
  return encodeKey('stations', network, mac)
}

export function stationValue({ to, how, tells }: StationEntry): Uint8Array {
  return encodeValue('stations', stationWord({ to, how: HOW[how], tells }))
}

/** Of a local address. */
export function addressWord(address: Ipv4): Uint8Array {
  return encodeKey('locals', null, address)
}

/** Of a neighbour, in the table of its family, and of a VTEP. */
export function addressKey(network: Vni, address: Ip): Uint8Array {
  return encodeKey(isIpv4(address) ? 'neighbours' : 'neighbours6', network, address)
}

export function neighbourValue(mac: Mac): Uint8Array {
  return encodeValue('neighbours', mac)
}

/** As a list, in the order in which they are planned. */
export function pairsOf(entries: Entries): readonly (readonly [Key, Value])[] {
  const pairs: [Key, Value][] = []
  entries.forEach((value, key) => pairs.push([key, value]))
  return pairs
}
