// Finds the device that has this host's tunnel address, and what it leaves to containers.

import { VxmeshError } from '#model/errors.ts'
import { formatIp } from '#model/ip.ts'
import { MTU_MIN } from '#model/quantity.ts'
import type { NetlinkSocket } from '#platform/netlink-socket.ts'
import { readLink } from '../kernel/kernel.ts'
import { readAddresses } from '../kernel/tables.ts'
import type { Underlay, UnderlaySpec } from '../plan/underlay/underlay.ts'

/** The loopback device's MTU of 65,536 would leave more than a VXLAN device takes. */
export const UNDERLAY_MTU_MAX = 65_535

/** @throws ERR_CONFIG naming `bind` when no device has the address or its MTU is too small */
export function readUnderlay(socket: NetlinkSocket, spec: UnderlaySpec): Underlay {
  const holder = readAddresses(socket).find(({ address }) => address === spec.local)
  const link = holder === undefined ? null : readLink(socket, holder.ifindex)
  if (link === null) {
    throw new VxmeshError('ERR_CONFIG', `bind: no device of this host has the address ${formatIp(spec.local)}`, {
      field: 'bind'
    })
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
