// The pool of a network's addresses. Never allocated: the network address, the broadcast address and the gateway.

import { ipv4Of, subnetSize, type Ip, type Subnet } from '#model/ip.ts'
import { broadcastAddress, type Ipv4 } from '#model/ipv4.ts'
import { Pool } from './pool.ts'

export function addressPool(subnet: Subnet, gateway: Ip): Pool {
  const base = ipv4Of(subnet.base)
  const reserved = [base, ipv4Of(gateway), broadcastAddress({ base, prefixLength: subnet.prefixLength })]
  return new Pool({ base, size: subnetSize(subnet), reserved, firstAutomatic: base + 1 })
}

/** The default gateway: the first host address, as in the paper. */
export function defaultGateway(subnet: Subnet): Ip {
  return (ipv4Of(subnet.base) + 1) as Ipv4
}
