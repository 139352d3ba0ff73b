// What this host's kernel must hold, from the replicated state and the membership view (design section 4).
// A network's devices exist here only while it has endpoints here; everything else follows from who holds the others.

import type { Endpoint, Shaping } from '#model/endpoint.ts'
import type { Host } from '#model/host.ts'
import type { IfName, NetworkName, PeerId, Vni } from '#model/ids.ts'
import type { Ipv4 } from '#model/ipv4.ts'
import { macOf, type Mac } from '#model/mac.ts'
import type { MemberStatus } from '#model/member.ts'
import { hasRouter, type Network } from '#model/network.ts'
import { bridgeMac, bridgeName, endpointAlias, networkAlias, routerPortName, vethName, vxlanName } from './names.ts'

export type DesiredInput = {
  readonly self: PeerId
  /** This host's own tunnel address: the source of its VXLAN packets. */
  readonly selfVtep: Ipv4
  readonly networks: Iterable<Network>
  readonly endpoints: ReadonlyMap<NetworkName, readonly Endpoint[]>
  readonly hosts: readonly Host[]
  /** Null while the membership is not known yet: then every host counts as alive. */
  readonly memberStatus: ReadonlyMap<PeerId, MemberStatus> | null
  /** Underlay MTU less 50 bytes of encapsulation. */
  readonly overlayMtu: number
  /** UDP port of VXLAN. */
  readonly vxlanPort: number
}

/** A local endpoint's host side. Its veth is made by attach; the plan only keeps it right. */
export type DesiredEndpoint = {
  readonly device: IfName
  readonly alias: string
  readonly mac: Mac
  readonly address: Ipv4
  readonly shaping: Shaping
}

export type DesiredNetwork = {
  readonly vni: Vni
  readonly name: NetworkName
  readonly alias: string
  readonly bridge: IfName
  readonly bridgeMac: Mac
  readonly vxlan: IfName
  readonly vtep: Ipv4
  readonly port: number
  readonly mtu: number
  /** VTEPs that get broadcast, multicast and unknown unicast. */
  readonly flood: ReadonlySet<Ipv4>
  /** Unicast FDB entries: the remote endpoints. */
  readonly entries: ReadonlyMap<Mac, Ipv4>
  /** Neighbour entries from which the bridge answers ARP, local endpoints included so that they are not asked for remotely. */
  readonly neighbours: ReadonlyMap<Ipv4, Mac>
  /** The local endpoints by host interface. */
  readonly endpoints: ReadonlyMap<IfName, DesiredEndpoint>
  /** Where this host's router is connected, and its MAC; null without one. */
  readonly router: { readonly port: IfName; readonly mac: Mac } | null
}

export type DesiredHost = {
  readonly networks: ReadonlyMap<Vni, DesiredNetwork>
  /** The tunnel addresses of all other hosts that may send: VXLAN is heard from nobody else. */
  readonly vteps: ReadonlySet<Ipv4>
}

/** The whole desired state of this host. O(endpoints of the networks that are present here). */
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
 * A host may send from the entry on that registered it until it says goodbye or is removed: neither its failure nor a
 * cut of the control plane withdraws it (design section 4). Members that the state does not know may not.
 */
function tunnelSources(input: DesiredInput): ReadonlySet<Ipv4> {
  const vteps = new Set<Ipv4>()
  for (const { peerId, vtep } of input.hosts) {
    if (peerId === input.self || vtep === input.selfVtep) continue
    if (reachOf(input.memberStatus, peerId) !== 'none') vteps.add(vtep)
  }
  return vteps
}

/** What a member's status leaves of its host's entries. */
export type Reach = 'all' | 'unicast' | 'none'

/**
 * A failed host, or one that a known view lacks, gets no floods but keeps its unicast entries: a cut of the control
 * plane must not cut containers. Only a host that said goodbye loses both.
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
  const flood = new Set<Ipv4>()
  const entries = new Map<Mac, Ipv4>()
  const neighbours = new Map<Ipv4, Mac>()
  const local = new Map<IfName, DesiredEndpoint>()
  // Each host's own router answers for it: it must not be asked for remotely.
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
    // A remote host that claims our own VTEP would make the tunnel send to itself.
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
