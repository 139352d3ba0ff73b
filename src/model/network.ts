// A tenant network: one isolated layer-2 segment with one VNI and one IPv4 subnet.

import type { NetworkName, Vni } from './ids.ts'
import type { Ip, Subnet } from './ip.ts'
import type { NetworkSettings } from './settings.ts'

export type Network = NetworkSettings & {
  readonly name: NetworkName
  readonly vni: Vni
  readonly subnet: Subnet
  /** Anycast gateway address, the same on every host; never allocated to a container. */
  readonly gateway: Ip
  /** The caller's idempotency key, if it gave one. */
  readonly requestId?: string
}

/** Whether the network has a router on each host: for traffic to the outside, and from the host into the network. */
export function hasRouter({ egress, hostAccess }: Pick<Network, 'egress' | 'hostAccess'>): boolean {
  return egress || hostAccess
}
