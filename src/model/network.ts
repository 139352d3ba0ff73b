// A tenant network: one isolated layer-2 segment with one VNI and one IPv4 subnet.

import type { NetworkName, Vni } from './ids.ts'
import type { Ipv4, Subnet } from './ipv4.ts'

export type Network = {
  readonly name: NetworkName
  readonly vni: Vni
  readonly subnet: Subnet
  /** Anycast gateway address, the same on every host; never given to a container. */
  readonly gateway: Ipv4
  /** Limit of the network's traffic to the outside, bits/s; 0 is unlimited. */
  readonly egressRate: number
  /** MTU of the containers' interfaces in bytes; 0 follows each host's underlay. */
  readonly mtu: number
  /** May containers reach the outside through the gateway? */
  readonly egress: boolean
  /** May a host reach its own endpoints of this network (kubelet probes)? */
  readonly hostAccess: boolean
  /** The caller's idempotency key, if it gave one. */
  readonly requestId?: string
}

/** MTU bounds: RFC 791's minimum, and what VXLAN leaves of a jumbo frame of 65,535. */
export const MTU_MIN = 576
export const MTU_MAX = 65_485

/** Who wants to leave the network, and its host to enter it, goes by a router. */
export function hasRouter({ egress, hostAccess }: Pick<Network, 'egress' | 'hostAccess'>): boolean {
  return egress || hostAccess
}
