// What the host's filters must accept: local containers sending from their own MAC and address, VXLAN from the hosts in the
// replicated state, gossip from members. Pure.

import type { IfName } from '#model/ids.ts'
import type { Ip } from '#model/ip.ts'
import type { Mac } from '#model/mac.ts'
import type { DesiredHost } from '../network/desired.ts'
import { vtepsOf } from '../underlay/peers.ts'

/** A container's port and the only source addresses it may use: one for each subnet of its network. */
export type PortBinding = { readonly device: IfName; readonly mac: Mac; readonly addresses: readonly Ip[] }

export type DesiredFilter = {
  /** By host interface, whether or not the device exists yet. */
  readonly ports: ReadonlyMap<IfName, PortBinding>
  /** The tunnel addresses of the peers. */
  readonly vteps: ReadonlySet<Ip>
  /** The addresses of all other hosts of the cluster: tunnel addresses and those that Serf uses. */
  readonly members: ReadonlySet<Ip>
}

/** Each set is computed when it is read: O(local endpoints), O(hosts). */
export function desiredFilter(host: DesiredHost): DesiredFilter {
  return {
    get ports() {
      return portsOf(host)
    },
    get vteps() {
      return vtepsOf(host.peers)
    },
    get members() {
      const members = new Set(vtepsOf(host.peers))
      for (const address of host.memberAddresses ?? []) members.add(address)
      return members
    }
  }
}

function portsOf(host: DesiredHost): ReadonlyMap<IfName, PortBinding> {
  const ports = new Map<IfName, PortBinding>()
  for (const network of host.networks.values()) {
    for (const { device, mac, addresses } of network.endpoints.values()) ports.set(device, { device, mac, addresses })
  }
  return ports
}
