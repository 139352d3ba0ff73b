// The pool of a network's addresses. Never allocated: the network address, the broadcast address and the gateway.

import { broadcastAddress, subnetSize, type Ipv4, type Subnet } from '#model/ipv4.ts'
import { Pool } from './pool.ts'

export function addressPool(subnet: Subnet, gateway: Ipv4): Pool {
  const reserved = [subnet.base, gateway, broadcastAddress(subnet)]
  return new Pool({ base: subnet.base, size: subnetSize(subnet), reserved, firstAutomatic: subnet.base + 1 })
}

/** The default gateway: the first host address, as in the paper. */
export function defaultGateway(subnet: Subnet): Ipv4 {
  return (subnet.base + 1) as Ipv4
}
