// Dumps of one network namespace: devices, addresses, routes of the main table, neighbour entries.

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

/** @throws ERR_KERNEL */
export function readTables(socket: NetlinkSocket): KernelTables {
  const neighbours = read(socket, { request: getNeighbours(), answer: RTM_NEWNEIGH, decode: decodeNeighbour })
  return { ...readRouteTables(socket), neighbours }
}

/** @throws ERR_KERNEL */
export function readRouteTables(socket: NetlinkSocket): RouteTables {
  const links = new Map(readLinks(socket, getLinks()).map(link => [link.name, link]))
  const addresses = readAddresses(socket)
  const all = read(socket, { request: getRoutes(), answer: RTM_NEWROUTE, decode: decodeRoute })
  return {
    links,
    addresses,
    routes: all.filter(({ table }) => table === RT_TABLE_MAIN),
    otherRoutes: all.filter(({ table }) => table !== RT_TABLE_MAIN)
  }
}

/** @throws ERR_KERNEL */
export function readAddresses(socket: NetlinkSocket): readonly AddressInfo[] {
  return read(socket, { request: getAddresses(), answer: RTM_NEWADDR, decode: decodeAddress })
}

type Dump<T> = { request: Message; answer: number; decode: (payload: Uint8Array) => T | null }

function read<T>(socket: NetlinkSocket, { request, answer, decode }: Dump<T>): T[] {
  const one = (type: number, payload: Uint8Array): T | undefined =>
    type === answer ? (decode(payload) ?? undefined) : undefined
  return socket.dump(request, one, 'read addresses, routes and neighbours')
}
