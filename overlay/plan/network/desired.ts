// What this host's kernel must hold, computed from the replicated state and the membership view (design section 4). A
// network has devices here only while it has local endpoints; its entries point to the hosts of the others. Pure.

import { addressesOf, gatewayMacOf, gatewaysOf, subnetsOf } from '#model/addresses.ts'
import type { Endpoint, Shaping } from '#model/endpoint.ts'
import type { IfName, NetworkName, PeerId, Vni } from '#model/ids.ts'
import type { Ip, Subnet } from '#model/ip.ts'
import type { Mac } from '#model/mac.ts'
import { hasRouter, type Network } from '#model/network.ts'
import { withoutFailed } from '../services/failed-hosts.ts'
import type { DesiredService } from '../services/service.ts'
import { peersOf, type PeersInput, type UnderlayPeer, type UnderlayPeers } from '../underlay/peers.ts'
import { bridgeMac, bridgeName, endpointAlias, networkAlias, routerPortName, vethName, vxlanName } from './names.ts'
import { Telling, tellsBit, toldSubnet, type ToldSubnet } from './tells.ts'

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
  /** Of networks that have some. */
  readonly services?: Pick<ReadonlyMap<NetworkName, readonly DesiredService[]>, 'get'>
}

/** The host side of a local endpoint. Attach creates the veth; the plan only maintains it. */
export type DesiredEndpoint = {
  readonly device: IfName
  readonly alias: string
  readonly mac: Mac
  /** One for each subnet of the network, the IPv4 one first. */
  readonly addresses: readonly Ip[]
  readonly shaping: Shaping
}

/** The endpoints on other hosts, in two lists: their MACs, and in the same place the VTEPs of their hosts. There may be many. */
export type Remote = { readonly macs: readonly Mac[]; readonly vteps: readonly Ip[] }

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
  readonly remote: Remote
  /** The hosts of those. */
  readonly vteps: ReadonlySet<Ip>
  /** The same as unicast FDB entries. */
  readonly entries: ReadonlyMap<Mac, Ip>
  /** Neighbour entries from which the bridge answers ARP and ND. Includes local endpoints, so that nothing for them is flooded. */
  readonly neighbours: ReadonlyMap<Ip, Mac>
  /** Those of them that no endpoint's MAC tells, from which programs answer (tells.ts). */
  readonly noted: ReadonlyMap<Ip, Mac>
  /** What an endpoint's MAC tells, and what it tells of those that do not tell the usual. */
  readonly tells: { readonly usual: number; readonly unusual: ReadonlyMap<Mac, number> }
  /** Null without IPv6. */
  readonly told: ToldSubnet | null
  /** The IPv4 one first. */
  readonly subnets: readonly Subnet[]
  readonly services: readonly DesiredService[]
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

type NetworkInput = {
  readonly input: DesiredInput
  readonly network: Network
  readonly endpoints: readonly Endpoint[]
  readonly peers: UnderlayPeers
}

function desiredNetwork(p: NetworkInput): DesiredNetwork {
  const { input, network } = p
  const [macs, vteps]: [Mac[], Ip[]] = [[], []]
  const hosts = new Set<UnderlayPeer>()
  const noted = new Map<Ip, Mac>()
  const unusual = new Map<Mac, number>()
  const telling = new Telling(network)
  const local = new Map<IfName, DesiredEndpoint>()
  // The gateway is the local router on every host: no ARP for it may be flooded.
  const routerMac = gatewayMacOf(network)
  const gateways = hasRouter(network) ? gatewaysOf(network) : []
  for (const gateway of gateways) noted.set(gateway, routerMac)
  const note = (endpoint: Endpoint): void => {
    const tells = telling.of(endpoint)
    if (tells === telling.usual) return
    unusual.set(endpoint.mac, tells)
    for (const address of addressesOf(network, endpoint)) {
      if ((tells & tellsBit(address)) === 0) noted.set(address, endpoint.mac)
    }
  }
  for (const endpoint of p.endpoints) {
    if (endpoint.host === input.self) {
      const device = vethName(endpoint.containerId, endpoint.ifname)
      const alias = endpointAlias(endpoint.containerId, endpoint.ifname)
      const { mac, ingressRate, egressRate, delayUs } = endpoint
      const addresses = addressesOf(network, endpoint)
      local.set(device, { device, alias, mac, addresses, shaping: { ingressRate, egressRate, delayUs } })
      note(endpoint)
      continue
    }
    const peer = p.peers.get(endpoint.host)
    if (peer === undefined) continue
    hosts.add(peer)
    macs.push(endpoint.mac)
    vteps.push(peer.vtep)
    note(endpoint)
  }
  let entries: ReadonlyMap<Mac, Ip> | null = null
  let neighbours: ReadonlyMap<Ip, Mac> | null = null
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
    flood: new Set([...hosts].filter(({ reach }) => reach === 'all').map(({ vtep }) => vtep)),
    remote: { macs, vteps },
    vteps: new Set([...hosts].map(({ vtep }) => vtep)),
    // Not every driver wants these two, and they may be large.
    get entries() {
      return (entries ??= entriesOf({ macs, vteps }))
    },
    get neighbours() {
      return (neighbours ??= neighboursOf(p, { gateways, routerMac }))
    },
    noted,
    tells: { usual: telling.usual, unusual },
    told: toldSubnet(network),
    subnets: subnetsOf(network),
    services: servicesOf(p),
    endpoints: local,
    router: hasRouter(network) ? { port: routerPortName(network.vni), mac: routerMac } : null
  }
}

/** O(hosts), and O(endpoints) while a host has failed. */
function servicesOf({ input, network, endpoints }: NetworkInput): readonly DesiredService[] {
  const services = input.services?.get(network.name) ?? []
  const hasFailed = (host: PeerId): boolean => input.memberStatus?.get(host) === 'failed'
  if (services.length === 0 || !input.hosts.some(({ peerId }) => hasFailed(peerId))) return services
  const onFailed = endpoints.filter(({ host }) => hasFailed(host))
  return withoutFailed(services, new Set(onFailed.flatMap(endpoint => addressesOf(network, endpoint))))
}

function neighboursOf(
  { input, network, endpoints, peers }: NetworkInput,
  { gateways, routerMac }: { readonly gateways: readonly Ip[]; readonly routerMac: Mac }
): ReadonlyMap<Ip, Mac> {
  const neighbours = new Map<Ip, Mac>(gateways.map(gateway => [gateway, routerMac]))
  for (const endpoint of endpoints) {
    if (endpoint.host !== input.self && peers.get(endpoint.host) === undefined) continue
    for (const address of addressesOf(network, endpoint)) neighbours.set(address, endpoint.mac)
  }
  return neighbours
}

function entriesOf(remote: Remote): ReadonlyMap<Mac, Ip> {
  const entries = new Map<Mac, Ip>()
  eachRemote(remote, (mac, vtep) => entries.set(mac, vtep))
  return entries
}

/** Without an object for each. */
export function eachRemote({ macs, vteps }: Remote, take: (mac: Mac, vtep: Ip) => void): void {
  for (const [i, vtep] of vteps.entries()) {
    const mac = macs[i]
    if (mac !== undefined) take(mac, vtep)
  }
}
