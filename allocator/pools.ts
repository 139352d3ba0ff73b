// The two kinds of pool: the VNIs of the cluster, and the addresses of one subnet.

import { VNI_MAX } from '#model/ids.ts'
import { broadcastAddress, subnetSize, type Ipv4, type Subnet } from '#model/ipv4.ts'
import { Pool } from './pool.ts'

/** Automatic VNIs start here; below is left to people. */
export const FIRST_AUTOMATIC_VNI = 4_096

/** VNI 0 is never given; automatic ones count up from 4096 and reach the low ones last. */
export function vniPool(): Pool {
  return new Pool({ base: 0, size: VNI_MAX + 1, reserved: [0], first: FIRST_AUTOMATIC_VNI })
}

/** Never given: the network address, the broadcast address and the gateway. */
export function addressPool(subnet: Subnet, gateway: Ipv4): Pool {
  const reserved = [subnet.base, gateway, broadcastAddress(subnet)]
  return new Pool({ base: subnet.base, size: subnetSize(subnet), reserved, first: subnet.base + 1 })
}
