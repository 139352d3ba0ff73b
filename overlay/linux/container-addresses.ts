// The addresses and default routes of a container's interface, inside its namespace.

import { familyOf, isIpv4, type Family, type Ip } from '#model/ip.ts'
import { broadcastAddress, networkAddress } from '#model/ipv4.ts'
import { errnoOf } from '#platform/netlink-error.ts'
import { NetlinkSocket } from '#platform/netlink-socket.ts'
import { writeSysctls } from '#platform/netns.ts'
import type { AttachRequest, ContainerAddress } from '../driver.ts'
import { sendAll, tolerate } from '../kernel/kernel.ts'
import {
  addDefaultRoute,
  decodeAddress,
  decodeRoute,
  getAddresses,
  getMainRoutes,
  replaceDefaultRoute,
  setAddress,
  type AddressInfo,
  type AddressSpec,
  type RouteInfo
} from '../netlink/address.ts'
import { DEFAULT_METRICS, RT_TABLE_MAIN, RTM_NEWADDR, RTM_NEWROUTE } from '../netlink/constants.ts'
import { setLink } from '../netlink/link.ts'

/** Devices, or addresses of one, that a container may have: reading them blocks the event loop, some 20 ms for so many. */
const ROWS_READ = 4_096
/** Routes of a container that are read in search of a default route. */
const ROUTES_READ = 256

/** A container's namespace, open, and what its interface must have. */
export type Inside = {
  readonly inside: NetlinkSocket
  readonly netnsFd: number
  readonly request: Pick<AttachRequest, 'ifname' | 'addresses'>
}

type Opened = Pick<Inside, 'inside' | 'netnsFd'>

/** Those that it must have and has not. */
export function missingAddresses(
  target: Inside,
  ifindex: number,
  found = readAddressesOf(target, ifindex)
): readonly ContainerAddress[] {
  return target.request.addresses.filter(
    wanted => !found.some(one => one.address === wanted.address && one.prefixLength === wanted.prefixLength)
  )
}

/** Of the families that are wanted. */
export function readAddressesOf({ inside, request }: Inside, ifindex: number): readonly AddressInfo[] {
  const families = new Set(request.addresses.map(({ address }) => familyOf(address)))
  return [...families].flatMap(family =>
    inside
      .dump(
        getAddresses(family, ifindex),
        (type, payload) => (type === RTM_NEWADDR ? (decodeAddress(payload) ?? undefined) : undefined),
        'read addresses of the container'
      )
      .filter(one => one.ifindex === ifindex)
  )
}

export function setAddresses(
  { inside, netnsFd, request }: Inside,
  ifindex: number,
  addresses: readonly ContainerAddress[]
): void {
  const { ifname } = request
  if (addresses.some(({ address }) => !isIpv4(address))) ownIpv6Alone({ inside, netnsFd }, { ifindex, ifname })
  sendAll(
    inside,
    `set the addresses of ${ifname} in the container`,
    addresses.map(each => setAddress(addressOn(ifindex, each)))
  )
}

export function setDefaultRoutes(
  { inside, netnsFd, request }: Inside,
  ifindex: number,
  addresses: readonly ContainerAddress[]
): void {
  for (const { gateway } of addresses) {
    if (gateway !== null) ensureDefaultRoute({ inside, netnsFd }, { ifindex, ifname: request.ifname, gateway })
  }
}

/**
 * An interface with IPv6 has the addresses of its endpoint and no others: neither of router advertisements, which would be a
 * neighbour's, nor a link-local one. It keeps them while it is down, as it keeps those of IPv4. Its own namespace may have
 * switched IPv6 off for new interfaces.
 */
function ownIpv6Alone({ inside, netnsFd }: Opened, p: { readonly ifindex: number; readonly ifname: string }): void {
  inside.request(setLink(p.ifindex, { addrGenNone: true }), `switch IPv6 address generation of ${p.ifname} off`)
  const values = { accept_ra: '0', autoconf: '0', use_tempaddr: '0', keep_addr_on_down: '1', disable_ipv6: '0' }
  writeSysctls(
    pathOf(netnsFd),
    Object.entries(values).map(([key, value]) => ({ key: `net/ipv6/conf/${p.ifname}/${key}`, value }))
  )
}

function addressOn(ifindex: number, { address, prefixLength }: ContainerAddress): AddressSpec {
  if (!isIpv4(address)) return { ifindex, address, prefixLength }
  const broadcast = broadcastAddress({ base: networkAddress(address, prefixLength), prefixLength })
  return { ifindex, address, prefixLength, broadcast }
}

function ensureDefaultRoute(
  { inside, netnsFd }: Opened,
  { ifindex, ifname, gateway }: { readonly ifindex: number; readonly ifname: string; readonly gateway: Ip }
): void {
  try {
    inside.request(addDefaultRoute({ ifindex, gateway }), `add the default route of the container by ${ifname}`)
  } catch (err) {
    if (errnoOf(err) !== 'EEXIST') throw err
    // The default route of another interface was there first and stays; ours may have an old gateway.
    const mine = defaultRoutes({ netnsFd }, familyOf(gateway)).find(route => route.ifindex === ifindex)
    if (mine === undefined || mine.gateway === gateway) return
    sendAll(inside, `replace the default route of the container by ${ifname}`, [
      replaceDefaultRoute({ ifindex, gateway })
    ])
  }
}

/** Those among the first routes of the main table. A container may have any number of routes; the default ones come early. */
export function defaultRoutes({ netnsFd }: Pick<Inside, 'netnsFd'>, family: Family): readonly RouteInfo[] {
  const found: RouteInfo[] = []
  const socket = openInside(netnsFd, ROUTES_READ)
  const take = (type: number, payload: Uint8Array): undefined => {
    const route = type === RTM_NEWROUTE ? decodeRoute(payload) : null
    if (route?.table === RT_TABLE_MAIN && route.prefixLength === 0 && route.priority === DEFAULT_METRICS[family])
      found.push(route)
  }
  try {
    // ENOENT: no route was ever added to the table.
    tolerate(['E2BIG', 'ENOENT'], () => void socket.dump(getMainRoutes(family), take, 'read routes of the container'))
  } finally {
    socket.close()
  }
  return found
}

export function openInside(netnsFd: number, most = ROWS_READ): NetlinkSocket {
  return NetlinkSocket.openBounded(pathOf(netnsFd), most)
}

function pathOf(netnsFd: number): string {
  return `/proc/thread-self/fd/${netnsFd}`
}
