// An endpoint: a container's attachment to a network.

import type { ContainerId, IfName, NetworkName, PeerId, Vni } from './ids.ts'
import type { Ip } from './ip.ts'
import type { Ipv6 } from './ipv6.ts'
import { NO_LABELS, type Labels } from './labels.ts'
import type { Mac } from './mac.ts'
import type { EndpointSettings, SHAPING_SETTINGS, ValuesOf } from './settings.ts'

export type Endpoint = EndpointSettings & {
  readonly network: NetworkName
  readonly vni: Vni
  readonly containerId: ContainerId
  readonly ifname: IfName
  /** The container's display name; may be empty. */
  readonly name: string
  /** The host that the container runs on. */
  readonly host: PeerId
  /** In the network's `subnet`. */
  readonly address: Ip
  /** In `subnet6`, if it was asked for; otherwise it is the mirror of `address` (addresses.ts). */
  readonly address6?: Ipv6
  readonly mac: Mac
  readonly requestId?: string
  /** Absent in a row without labels: it takes no more memory than before there were any. */
  readonly labels?: Labels
}

export function labelsOf({ labels }: Pick<Endpoint, 'labels'>): Labels {
  return labels ?? NO_LABELS
}

/** How an endpoint's traffic is limited and delayed. */
export type Shaping = ValuesOf<typeof SHAPING_SETTINGS>

/** Container id and interface name; unique in the cluster, across all networks. */
export type EndpointKey = string

export function endpointKey(containerId: ContainerId, ifname: IfName): EndpointKey {
  return `${containerId}/${ifname}`
}
