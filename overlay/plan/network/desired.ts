// What this host's kernel must hold, computed from the replicated state and the membership view (design section 4). A
// network has devices here only while it has local endpoints; its entries point to the hosts of the others. Pure.

import type { Endpoint, Shaping } from '#model/endpoint.ts'
import type { IfName, NetworkName, Vni } from '#model/ids.ts'
import type { Ip } from '#model/ip.ts'
import { macOf, type Mac } from '#model/mac.ts'
import { hasRouter, type Network } from '#model/network.ts'
import { peersOf, type PeersInput, type UnderlayPeers } from '../underlay/peers.ts'
import { bridgeMac, bridgeName, endpointAlias, networkAlias, routerPortName, vethName, vxlanName } from './names.ts'

export type DesiredInput = PeersInput & {
  /** The result of `peersOf`, if the caller has it already. */
  readonly peers?: UnderlayPeers
  /** At least those with local endpoints; others are skipped. */
  readonly networks: Iterable<Network>
  /** All endpoints of a network. Read only for `networks`. */
  readonly endpoints: Pick<ReadonlyMap<NetworkName, readonly Endpoint[]>, 'get'>
  /** The underlay's MTU less its encapsulation, in bytes. */
  readonly overlayMtu: number
  /** The addresses that Serf's members gossip from, this host's among them; absent while the membership is unknown. */
  readonly memberAddresses?: readonly Ip[]
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
  readonly peers: UnderlayPeers
  /** See DesiredInput. */
  readonly memberAddresses?: readonly Ip[]
}

/** The whole desired state of this host. O(endpoints of `networks`), and O(hosts) without `peers`. */
export function desired(input: DesiredInput): DesiredHost {
  const { peers = peersOf(input) } = input
  const networks = new Map<Vni, DesiredNetwork>()
  for (const network of input.networks) {
    const endpoints = input.endpoints.get(network.name) ?? []
    if (endpoints.some(endpoint => endpoint.host === input.self)) {
      networks.set(network.vni, desiredNetwork({ input, network, endpoints, peers }))
    }
  }
  const { memberAddresses = [] } = input
  return { networks, peers, memberAddresses }
}

function desiredNetwork(p: {
  input: DesiredInput
  network: Network
  endpoints: readonly Endpoint[]
  peers: UnderlayPeers
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
    const peer = p.peers.get(endpoint.host)
    if (peer === undefined) continue
    if (peer.reach === 'all') flood.add(peer.vtep)
    entries.set(endpoint.mac, peer.vtep)
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
