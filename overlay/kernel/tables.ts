// Dumps of one network namespace: devices, addresses, routes of the main table, neighbour entries.

import { FAMILIES, type Family } from '#model/ip.ts'
import type { NetlinkSocket } from '#platform/netlink-socket.ts'
import { readLinks } from './kernel.ts'
import {
  decodeAddress,
  decodeRoute,
  getAddresses,
  getRoutes,
  type AddressInfo,
  type RouteInfo
} from '../netlink/address.ts'
import type { Message } from '../netlink/bytes.ts'
import { RT_TABLE_MAIN, RTM_NEWADDR, RTM_NEWNEIGH, RTM_NEWROUTE } from '../netlink/constants.ts'
import type { LinkInfo } from '../netlink/link-info.ts'
import { getLinks } from '../netlink/link.ts'
import { decodeNeighbour, getNeighbours, type NeighbourInfo } from '../netlink/neighbour.ts'

export type KernelTables = {
  readonly links: ReadonlyMap<string, LinkInfo>
  readonly addresses: readonly AddressInfo[]
  /** Of the main table. */
  readonly routes: readonly RouteInfo[]
  /** Of the other tables, which rules of the administrator may select. */
  readonly otherRoutes: readonly RouteInfo[]
  readonly neighbours: readonly NeighbourInfo[]
}

/** Without neighbour entries. */
export type RouteTables = Omit<KernelTables, 'neighbours'>

const IPV4: readonly Family[] = ['ipv4']

/**
 * The families that these hold; `hasIpv6` must be false where the kernel has none. Asked for a family that it does not know,
 * it would answer with all others.
 */
export function familiesWith(hasIpv6: boolean): readonly Family[] {
  return hasIpv6 ? FAMILIES : IPV4
}

/** @throws ERR_KERNEL */
export function readTables(socket: NetlinkSocket, families = IPV4): KernelTables {
  const neighbours = families.flatMap(family =>
    read(socket, { request: getNeighbours(family), answer: RTM_NEWNEIGH, decode: decodeNeighbour })
  )
  return { ...readRouteTables(socket, families), neighbours }
}

/** @throws ERR_KERNEL */
export function readRouteTables(socket: NetlinkSocket, families = IPV4): RouteTables {
  const links = new Map(readLinks(socket, getLinks()).map(link => [link.name, link]))
  const addresses = families.flatMap(family => readAddresses(socket, family))
  const all = families.flatMap(family =>
    read(socket, { request: getRoutes(family), answer: RTM_NEWROUTE, decode: decodeRoute })
  )
  return {
    links,
    addresses,
    routes: all.filter(({ table }) => table === RT_TABLE_MAIN),
    otherRoutes: all.filter(({ table }) => table !== RT_TABLE_MAIN)
  }
}

/** @throws ERR_KERNEL */
export function readAddresses(socket: NetlinkSocket, family: Family = 'ipv4'): readonly AddressInfo[] {
  return read(socket, { request: getAddresses(family), answer: RTM_NEWADDR, decode: decodeAddress })
}

type Dump<T> = { request: Message; answer: number; decode: (payload: Uint8Array) => T | null }

function read<T>(socket: NetlinkSocket, { request, answer, decode }: Dump<T>): T[] {
  const one = (type: number, payload: Uint8Array): T | undefined =>
    type === answer ? (decode(payload) ?? undefined) : undefined
  return socket.dump(request, one, 'read addresses, routes and neighbours')
}
