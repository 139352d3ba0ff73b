// A tenant network: one isolated layer-2 segment with one VNI, and a subnet of either family or one of each.

import type { NetworkName, Vni } from './ids.ts'
import type { Ip, Subnet } from './ip.ts'
import { NETWORK_SETTINGS, type EgressV6, type NetworkSettings } from './settings.ts'

export type Network = NetworkSettings & {
  readonly name: NetworkName
  readonly vni: Vni
  readonly subnet: Subnet
  /** Of IPv6, beside an IPv4 `subnet`; its addresses mirror those of `subnet` (addresses.ts). */
  readonly subnet6?: Subnet
  /** In `subnet`. Anycast gateway address, the same on every host; never allocated to a container. */
  readonly gateway: Ip
  /** It was of IPv6 alone before it got its IPv4 subnet. */
  readonly wasIpv6?: true
  /** The caller's idempotency key, if it gave one. */
  readonly requestId?: string
}

export function egressV6Of({ egressV6 }: Pick<Network, 'egressV6'>): EgressV6 {
  return egressV6 ?? NETWORK_SETTINGS.egressV6.fallback
}

/** Whether the network has a router on each host: for traffic to the outside, and from the host into the network. */
export function hasRouter({ egress, hostAccess }: Pick<Network, 'egress' | 'hostAccess'>): boolean {
  return egress || hostAccess
}
