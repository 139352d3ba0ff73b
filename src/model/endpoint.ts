// An endpoint: a container's attachment to a network.

import type { ContainerId, IfName, NetworkName, PeerId, Vni } from './ids.ts'
import type { Ipv4 } from './ipv4.ts'
import type { Mac } from './mac.ts'

export type Endpoint = {
  readonly network: NetworkName
  readonly vni: Vni
  readonly containerId: ContainerId
  readonly ifname: IfName
  /** The container's own name, for people; may be empty. */
  readonly name: string
  /** The host that holds the container. */
  readonly host: PeerId
  readonly address: Ipv4
  readonly mac: Mac
  /** Into the container, bits/s; 0 is unlimited. */
  readonly ingressRate: number
  /** Out of the container, bits/s; 0 is unlimited. */
  readonly egressRate: number
  /** Added in each direction, microseconds. */
  readonly delayUs: number
  readonly requestId?: string
}

/** What an endpoint's traffic is limited to and held up by. */
export type Shaping = Pick<Endpoint, 'ingressRate' | 'egressRate' | 'delayUs'>

/** A container has one interface of a name, in whatever network: the pair is unique in the cluster. */
export type EndpointKey = string

export function endpointKey(containerId: ContainerId, ifname: IfName): EndpointKey {
  return `${containerId}/${ifname}`
}
