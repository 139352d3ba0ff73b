// What the host's filters must let through: its own containers with their one MAC and address each, and VXLAN from the
// hosts of the replicated state.

import type { IfName } from '#model/ids.ts'
import type { Ipv4 } from '#model/ipv4.ts'
import type { Mac } from '#model/mac.ts'
import type { DesiredHost } from '../network/desired.ts'

/** A container's port and the only source that it may have. */
export type PortBinding = { readonly device: IfName; readonly mac: Mac; readonly address: Ipv4 }

export type DesiredFilter = {
  /** By host interface, whether the device is there yet or not. */
  readonly ports: ReadonlyMap<IfName, PortBinding>
  /** The tunnel addresses of all other hosts. */
  readonly vteps: ReadonlySet<Ipv4>
}

export function desiredFilter(host: DesiredHost): DesiredFilter {
  const ports = new Map<IfName, PortBinding>()
  for (const network of host.networks.values()) {
    for (const { device, mac, address } of network.endpoints.values()) ports.set(device, { device, mac, address })
  }
  return { ports, vteps: host.vteps }
}
