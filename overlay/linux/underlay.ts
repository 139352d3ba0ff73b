// Finds the device that has this host's tunnel address, and what it leaves to containers.

import { VxmeshError } from '#model/errors.ts'
import { familyOf, formatIp, ipv4Of, isIpv4, subnetContains, type Ip } from '#model/ip.ts'
import { broadcastAddress, networkAddress, type Ipv4 } from '#model/ipv4.ts'
import type { Ipv6Subnet } from '#model/ipv6.ts'
import { MTU_MIN } from '#model/quantity.ts'
import type { NetlinkSocket } from '#platform/netlink-socket.ts'
import { readLink, readLinks } from '../kernel/kernel.ts'
import { readAddresses, readRouteTables } from '../kernel/tables.ts'
import type { LinkInfo } from '../netlink/link-info.ts'
import { getLinks } from '../netlink/link.ts'
import { OVERLAY_GROUP } from '../plan/network/names.ts'
import type { UnderlayDevice } from '../plan/programs/desired-programs.ts'
import type { Underlay, UnderlaySpec } from '../plan/underlay/underlay.ts'

const ETHERNET_HEADER_BYTES = 14
const LIMITED_BROADCAST = 0xffffffff as Ipv4

/** The loopback device's MTU of 65,536 would leave more than a VXLAN device takes. */
export const UNDERLAY_MTU_MAX = 65_535

/**
 * The devices by which VXLAN arrives: the one with the tunnel address, or, when that is no way into this host (an address on
 * the loopback or a dummy device, reached by routing), each of the host's other devices that is up.
 */
export function underlayDevices(socket: NetlinkSocket, underlay: Underlay): readonly UnderlayDevice[] {
  const holder = readLink(socket, underlay.ifindex)
  const isWay = ({ name, kind }: LinkInfo): boolean => name !== 'lo' && kind !== 'dummy'
  const ways =
    holder === null || isWay(holder)
      ? [holder]
      : readLinks(socket, getLinks()).filter(
          link => link.up && link.master === 0 && isWay(link) && link.group !== OVERLAY_GROUP
        )
  return ways
    .filter(link => link !== null)
    .map(({ name, ifindex, mac }) => ({ name, ifindex, linkBytes: mac === null ? 0 : ETHERNET_HEADER_BYTES }))
}

/** The ifindex of the device by which all VXLAN leaves: an Ethernet device, if it is the only one; or else 0. */
export function exitOf(devices: readonly UnderlayDevice[]): number {
  const [first, ...others] = devices
  return first !== undefined && others.length === 0 && first.linkBytes === ETHERNET_HEADER_BYTES ? first.ifindex : 0
}

/** Where packets reach this host besides its tunnel address: its other addresses, and all broadcast addresses. */
export function otherAddresses(socket: NetlinkSocket, vtep: Ip): readonly Ip[] {
  const all = readAddresses(socket).flatMap(({ address, prefixLength }) => {
    const subnet = { base: networkAddress(ipv4Of(address), prefixLength), prefixLength }
    return prefixLength > 30 ? [address] : [address, broadcastAddress(subnet)]
  })
  return [...new Set([...all, LIMITED_BROADCAST])].filter(address => address !== vtep)
}

/** The addresses on the link of an IPv6 tunnel address, as the host's routes tell them; null if none is known, or over IPv4. */
export function linkPrefix(socket: NetlinkSocket, vtep: Ip): Ipv6Subnet | null {
  if (isIpv4(vtep)) return null
  const { addresses, routes } = readRouteTables(socket, ['ipv6'])
  const holder = addresses.find(({ address }) => address === vtep)
  for (const { destination, prefixLength, ifindex, gateway, rejects } of routes) {
    if (ifindex !== holder?.ifindex || gateway !== null || rejects || destination === null || isIpv4(destination))
      continue
    const prefix = { base: destination, prefixLength }
    if (subnetContains(prefix, vtep)) return prefix
  }
  return null
}

/** @throws ERR_CONFIG naming `bind` when no device has the address or its MTU is too small */
export function readUnderlay(socket: NetlinkSocket, spec: UnderlaySpec): Underlay {
  const address = formatIp(spec.local)
  const holder = readAddresses(socket, familyOf(spec.local)).find(({ address }) => address === spec.local)
  const link = holder === undefined ? null : readLink(socket, holder.ifindex)
  if (link === null) {
    throw new VxmeshError('ERR_CONFIG', `bind: no device of this host has the address ${address}`, { field: 'bind' })
  }
  if (holder?.unusable !== undefined) {
    const why =
      holder.unusable === 'duplicate' ? 'another host on the link has it' : 'it is still being checked for duplicates'
    throw new VxmeshError('ERR_CONFIG', `bind: ${address} of ${link.name} cannot be used: ${why}`, { field: 'bind' })
  }
  const mtu = Math.min(link.mtu, UNDERLAY_MTU_MAX)
  const overlayMtu = mtu - spec.overheadBytes
  if (overlayMtu < MTU_MIN) {
    throw new VxmeshError('ERR_CONFIG', `bind: the MTU ${link.mtu} of ${link.name} is too small for an overlay`, {
      field: 'bind'
    })
  }
  return { ...spec, device: link.name, ifindex: link.ifindex, mtu, overlayMtu }
}
