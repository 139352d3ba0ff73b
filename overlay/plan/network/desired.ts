// What this host's kernel must hold, computed from the replicated state and the membership view (design section 4). A
// network has devices here only while it has local endpoints; its entries point to the hosts of the others. Pure.

import type { Endpoint, Shaping } from '#model/endpoint.ts'
import type { Host } from '#model/host.ts'
import type { IfName, NetworkName, PeerId, Vni } from '#model/ids.ts'
import type { Ip } from '#model/ip.ts'
import { macOf, type Mac } from '#model/mac.ts'
import type { MemberStatus } from '#model/member.ts'
import { hasRouter, type Network } from '#model/network.ts'
import { bridgeMac, bridgeName, endpointAlias, networkAlias, routerPortName, vethName, vxlanName } from './names.ts'

export type DesiredInput = {
  readonly self: PeerId
  /** This host's own tunnel address: the source of its VXLAN packets. */
  readonly selfVtep: Ip
  /** At least those with local endpoints; others are skipped. */
  readonly networks: Iterable<Network>
  /** All endpoints of a network. Read only for `networks`. */
  readonly endpoints: Pick<ReadonlyMap<NetworkName, readonly Endpoint[]>, 'get'>
  readonly hosts: readonly Host[]
  /** Null while the membership is unknown: then every host counts as alive. */
  readonly memberStatus: ReadonlyMap<PeerId, MemberStatus> | null
  /** Underlay MTU less 50 bytes of encapsulation. */
  readonly overlayMtu: number
  /** UDP port of VXLAN. */
  readonly vxlanPort: number
}

/** The host side of a local endpoint. Attach creates the veth; the plan only maintains it. */
export type DesiredEndpoint = {
  readonly device: IfName
  readonly alias: string
  readonly mac: Mac
  readonly address: Ip
  readonly shaping: Shaping
}

export type DesiredNetwork = {
  readonly vni: Vni
  readonly name: NetworkName
  readonly alias: string
  readonly bridge: IfName
  readonly bridgeMac: Mac
  readonly vxlan: IfName
  readonly vtep: Ip
  readonly port: number
  readonly mtu: number
  /** VTEPs that receive broadcast, multicast and unknown unicast. */
  readonly flood: ReadonlySet<Ip>
  /** Unicast FDB entries: the remote endpoints. */
  readonly entries: ReadonlyMap<Mac, Ip>
  /** Neighbour entries from which the bridge answers ARP. Includes local endpoints, so that no ARP for them is flooded. */
  readonly neighbours: ReadonlyMap<Ip, Mac>
  /** The local endpoints by host interface. */
  readonly endpoints: ReadonlyMap<IfName, DesiredEndpoint>
  /** The bridge port of this host's router and its MAC; null without a router. */
  readonly router: { readonly port: IfName; readonly mac: Mac } | null
}

export type DesiredHost = {
  readonly networks: ReadonlyMap<Vni, DesiredNetwork>
  /** The tunnel addresses of all other hosts that may send: VXLAN from anyone else is dropped. */
  readonly vteps: ReadonlySet<Ip>
}

/** The whole desired state of this host. O(hosts + endpoints of `networks`). */
export function desired(input: DesiredInput): DesiredHost {
  const hosts = new Map<PeerId, Host>()
  for (const host of input.hosts) hosts.set(host.peerId, host)
  const networks = new Map<Vni, DesiredNetwork>()
  for (const network of input.networks) {
    const endpoints = input.endpoints.get(network.name) ?? []
    if (endpoints.some(endpoint => endpoint.host === input.self)) {
      networks.set(network.vni, desiredNetwork({ input, network, endpoints, hosts }))
    }
  }
  return { networks, vteps: tunnelSources(input) }
}

/**
 * A host may send from its registration until it leaves gracefully or is removed. Neither a failure nor a partition of the
 * control plane withdraws it (design section 4). A member that is not registered may not send.
 */
function tunnelSources(input: DesiredInput): ReadonlySet<Ip> {
  const vteps = new Set<Ip>()
  for (const { peerId, vtep } of input.hosts) {
    if (peerId === input.self || vtep === input.selfVtep) continue
    if (reachOf(input.memberStatus, peerId) !== 'none') vteps.add(vtep)
  }
  return vteps
}

/** Which entries a host gets: flood and unicast, unicast only, or none. */
export type Reach = 'all' | 'unicast' | 'none'

/**
 * A host that has failed, or is missing from the view, gets no flooded frames but keeps its unicast entries: a partition
 * of the control plane must not partition containers. Only a host that left loses both, after a grace (leave-grace.ts).
 */
export function reachOf(statuses: ReadonlyMap<PeerId, MemberStatus> | null, peer: PeerId): Reach {
  if (statuses === null) return 'all'
  switch (statuses.get(peer)) {
    case 'alive':
    case 'leaving':
      return 'all'
    case 'left':
      return 'none'
    case 'failed':
    case undefined:
      return 'unicast'
  }
}

function desiredNetwork(p: {
  input: DesiredInput
  network: Network
  endpoints: readonly Endpoint[]
  hosts: ReadonlyMap<PeerId, Host>
}): DesiredNetwork {
  const { input, network } = p
  const flood = new Set<Ip>()
  const entries = new Map<Mac, Ip>()
  const neighbours = new Map<Ip, Mac>()
  const local = new Map<IfName, DesiredEndpoint>()
  // The gateway is the local router on every host: no ARP for it may be flooded.
  if (hasRouter(network)) neighbours.set(network.gateway, macOf(network.vni, network.gateway))
  for (const endpoint of p.endpoints) {
    if (endpoint.host === input.self) {
      const device = vethName(endpoint.containerId, endpoint.ifname)
      const alias = endpointAlias(endpoint.containerId, endpoint.ifname)
      const { mac, address, ingressRate, egressRate, delayUs } = endpoint
      local.set(device, { device, alias, mac, address, shaping: { ingressRate, egressRate, delayUs } })
      neighbours.set(endpoint.address, endpoint.mac)
      continue
    }
    const vtep = p.hosts.get(endpoint.host)?.vtep
    const reach = reachOf(input.memberStatus, endpoint.host)
    // An entry for a remote host that claims our own VTEP would loop packets back to us.
    if (vtep === undefined || vtep === input.selfVtep || reach === 'none') continue
    if (reach === 'all') flood.add(vtep)
    entries.set(endpoint.mac, vtep)
    neighbours.set(endpoint.address, endpoint.mac)
  }
  return {
    vni: network.vni,
    name: network.name,
    alias: networkAlias(network.name, network.vni),
    bridge: bridgeName(network.vni),
    bridgeMac: bridgeMac(network.vni),
    vxlan: vxlanName(network.vni),
    vtep: input.selfVtep,
    port: input.vxlanPort,
    mtu: network.mtu === 0 ? input.overlayMtu : network.mtu,
    flood,
    entries,
    neighbours,
    endpoints: local,
    router: hasRouter(network) ? { port: routerPortName(network.vni), mac: macOf(network.vni, network.gateway) } : null
  }
}
