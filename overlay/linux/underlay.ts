// The device that holds the host's own tunnel address, and what it leaves to containers.

import { VxmeshError } from '#model/errors.ts'
import { formatIpv4, type Ipv4 } from '#model/ipv4.ts'
import { MTU_MIN } from '#model/network.ts'
import type { NetlinkSocket } from '#platform/netlink-socket.ts'
import { decodeAddress, getAddresses } from '../netlink/address.ts'
import { RTM_NEWADDR } from '../netlink/constants.ts'
import { readLink } from '../kernel/kernel.ts'

/** Outer Ethernet is the underlay's own; inner Ethernet 14 + VXLAN 8 + UDP 8 + IPv4 20 (RFC 7348 section 5). */
export const ENCAPSULATION_BYTES = 50

export type Underlay = {
  readonly device: string
  readonly ifindex: number
  readonly mtu: number
  readonly overlayMtu: number
}

/** @throws ERR_CONFIG naming `bind` when no device has the address or its MTU is too small */
export function readUnderlay(socket: NetlinkSocket, address: Ipv4): Underlay {
  const [holder] = socket.dump(
    getAddresses(),
    (type, payload) => {
      const found = type === RTM_NEWADDR ? decodeAddress(payload) : null
      return found?.address === address ? found : undefined
    },
    'read addresses'
  )
  const link = holder === undefined ? null : readLink(socket, holder.ifindex)
  if (link === null) {
    throw new VxmeshError('ERR_CONFIG', `bind: no device of this host has the address ${formatIpv4(address)}`, {
      field: 'bind'
    })
  }
  // The loopback device's MTU of 65,536 would give more than a VXLAN device takes.
  const overlayMtu = Math.min(link.mtu, 65_535) - ENCAPSULATION_BYTES
  if (overlayMtu < MTU_MIN) {
    throw new VxmeshError('ERR_CONFIG', `bind: the MTU ${link.mtu} of ${link.name} is too small for an overlay`, {
      field: 'bind'
    })
  }
  return { device: link.name, ifindex: link.ifindex, mtu: link.mtu, overlayMtu }
}
