// The routers that this host must run: one namespace for each network with egress or hostAccess that has local endpoints
// (docs/adr/0016, 0028, 0055). Every host computes the same function of the replicated state. Pure.

import type { IfName, NetworkName, Vni } from '#model/ids.ts'
import { addressesOf, gatewayMacOf, gatewaysOf, hostRoutedSubnets, subnetsOf } from '#model/addresses.ts'
import { compareIp, familyOf, singleAddress, subnetContains, type Family, type Ip, type Subnet } from '#model/ip.ts'
import type { Ipv4, Ipv4Subnet } from '#model/ipv4.ts'
import { ipv6At, type Ipv6 } from '#model/ipv6.ts'
import type { Mac } from '#model/mac.ts'
import { egressV6Of, hasRouter, type Network } from '#model/network.ts'
import type { DesiredInput } from '../network/desired.ts'
import { hostAddresses } from '../underlay/peers.ts'
import { bridgeName, hex6, networkAlias, parseNetworkAlias, routerPortName, vxlanName } from '../network/names.ts'

/** IFLA_GROUP of the host's end of every router uplink. The host's rules match these devices by group alone. */
export const OUTSIDE_GROUP = 0x76786f

/** The IPv6 counterpart of `overlay.transit`: "vxmesh" in ASCII, from the range for local use. It never leaves a host. */
export const TRANSIT_V6 = { base: 'fd76:786d:6573:6800::' as Ipv6, prefixLength: 64 }
/** The host's address on every uplink of a router: without it, a host may have none by which to talk to containers. */
export const HOST_TRANSIT_V6 = ipv6At(TRANSIT_V6, 2 ** 24)

/** The next hop of every router, with a permanent neighbour entry. That of IPv4 is no address of anybody. */
const NEXT_HOPS: Readonly<Record<Family, Ip>> = { ipv4: 0xa9fe0101 as Ipv4, ipv6: HOST_TRANSIT_V6 }

/** On the inside of every router, which asks for its containers' MAC addresses from there: the kernel uses no other. */
export const ROUTER_LINK_LOCAL = { address: 'fe80::1' as Ipv6, prefixLength: 64 }

/** Never reachable from a container: loopback, link-local (cloud metadata), multicast; of IPv6, also what stands for IPv4. */
const ALWAYS_GUARDED: readonly Subnet[] = [
  { base: 0x7f000000 as Ipv4, prefixLength: 8 },
  { base: 0xa9fe0000 as Ipv4, prefixLength: 16 },
  { base: 0xe0000000 as Ipv4, prefixLength: 4 },
  { base: '::' as Ipv6, prefixLength: 96 },
  { base: '::ffff:0:0' as Ipv6, prefixLength: 96 },
  { base: 'fe80::' as Ipv6, prefixLength: 10 },
  { base: 'ff00::' as Ipv6, prefixLength: 8 },
  TRANSIT_V6
]

/** What a router has of one family. */
export type RouterSubnet = {
  readonly family: Family
  readonly subnet: Subnet
  readonly gateway: Ip
  /** The router's address towards the host. */
  readonly transit: Ip
  readonly nextHop: Ip
  /** Do its containers' connections leave the router from its transit address, or from their own? */
  readonly isTranslated: boolean
}

export type DesiredRouter = {
  readonly vni: Vni
  readonly name: NetworkName
  readonly alias: string
  /** One or two, the IPv4 one first. */
  readonly subnets: readonly RouterSubnet[]
  /** The same MAC on every host, which no endpoint can have. */
  readonly gatewayMac: Mac
  readonly bridge: IfName
  readonly vxlan: IfName
  /** The bridge port to the router. Its peer, inside the namespace, holds the gateway address. */
  readonly port: IfName
  /** The host's end of the uplink. */
  readonly outside: IfName
  readonly outsideMac: Mac
  readonly transitMac: Mac
  readonly mtu: number
  /** Shared by all containers of the network on this host, in bits/s; 0 is unlimited. */
  readonly egressRate: number
  /** May its containers open connections to destinations outside the overlay? */
  readonly egress: boolean
  /** May this host open connections to its containers? */
  readonly hostAccess: boolean
  /** Of its resolver at the gateway addresses: how many queries a container may send in a second. Null: it has none. */
  readonly queryRate: number | null
  /** The addresses to which the host has a route through it, ascending: for hostAccess, and for IPv6 that is routed. */
  readonly reached: readonly Ip[]
}

export type DesiredGateways = {
  readonly routers: ReadonlyMap<Vni, DesiredRouter>
  /** The /8 from which transit addresses of IPv4 are derived. */
  readonly transit: Ipv4Subnet
  /** Destinations that containers may not reach through the host. The observed underlay prefix is added to them. */
  readonly guarded: readonly Subnet[]
  /** Networks of the host itself that containers may reach nevertheless. */
  readonly opened: readonly Subnet[]
  /** This host's underlay addresses. */
  readonly underlay: readonly Ip[]
}

/** `endpoints` may be limited to local ones: routers depend on no others. */
export type GatewayInput = DesiredInput & {
  /** A /8: a router's address is its base plus the VNI. */
  readonly transit: Ipv4Subnet
  /** This host's address for Serf and libp2p; its tunnel address may differ. */
  readonly bind: Ip
  /** See DesiredGateways.opened; default: none. */
  readonly opened?: readonly Subnet[]
  /** The same address of every other member. */
  readonly memberAddresses: Iterable<Ip>
  /** See DesiredRouter.queryRate; default: null. */
  readonly queryRate?: number | null
  /** The result of `guardedSubnets`, if the caller has it already. */
  readonly guarded?: readonly Subnet[]
}

export function desiredGateways(input: GatewayInput): DesiredGateways {
  const routers = new Map<Vni, DesiredRouter>()
  for (const network of input.networks) {
    if (!hasRouter(network)) continue
    const here = (input.endpoints.get(network.name) ?? []).filter(({ host }) => host === input.self)
    if (here.length === 0) continue
    const addresses = here.toSorted((a, b) => compareIp(a.address, b.address)).map(one => addressesOf(network, one))
    const reached = hostRoutedSubnets(network).flatMap(subnet =>
      addresses.flatMap(list => list.filter(address => subnetContains(subnet, address)))
    )
    routers.set(network.vni, { ...desiredRouter(network, input), reached })
  }
  return {
    routers,
    transit: input.transit,
    guarded: input.guarded ?? guardedSubnets(input),
    opened: input.opened ?? [],
    underlay: [...new Set([input.selfVtep, input.bind])]
  }
}

/** What containers may not reach through the host: O(hosts log hosts). See DesiredGateways.guarded. */
export function guardedSubnets(
  input: Pick<GatewayInput, 'selfVtep' | 'hosts' | 'bind' | 'memberAddresses' | 'transit'>
): readonly Subnet[] {
  return [...ALWAYS_GUARDED, input.transit, ...[...hostAddresses(input)].sort(compareIp).map(singleAddress)]
}

function desiredRouter(network: Network, input: GatewayInput): Omit<DesiredRouter, 'reached'> {
  const { vni, name } = network
  return {
    vni,
    name,
    alias: networkAlias(name, vni),
    subnets: routerSubnets(network, input.transit),
    gatewayMac: gatewayMacOf(network),
    bridge: bridgeName(vni),
    vxlan: vxlanName(vni),
    port: routerPortName(vni),
    outside: `vo${hex6(vni)}` as IfName,
    outsideMac: deviceMac('79', vni),
    transitMac: deviceMac('7a', vni),
    mtu: network.mtu === 0 ? input.overlayMtu : network.mtu,
    egressRate: network.egressRate,
    egress: network.egress,
    hostAccess: network.hostAccess,
    queryRate: input.queryRate ?? null
  }
}

function routerSubnets(network: Network, transit: Ipv4Subnet): readonly RouterSubnet[] {
  const gateways = gatewaysOf(network)
  return subnetsOf(network).map((subnet, at) => {
    const family = familyOf(subnet.base)
    return {
      family,
      subnet,
      gateway: gateways[at] ?? network.gateway,
      transit: family === 'ipv4' ? ((transit.base + network.vni) as Ipv4) : ipv6At(TRANSIT_V6, network.vni),
      nextHop: NEXT_HOPS[family],
      isTranslated: family === 'ipv4' || egressV6Of(network) === 'nat'
    }
  })
}

/** What the router has of this family; undefined if its network does not have it. */
export function routerSubnet({ subnets }: Pick<DesiredRouter, 'subnets'>, family: Family): RouterSubnet | undefined {
  return subnets.find(one => one.family === family)
}

/** Parses the name of a router device; null when it does not have one of our forms. */
export function routerDevice(name: string): { readonly vni: Vni; readonly role: 'port' | 'outside' } | null {
  const match = /^v([go])([0-9a-f]{6})$/.exec(name)
  const vni = Number.parseInt(match?.[2] ?? '0', 16)
  return vni === 0 ? null : { vni: vni as Vni, role: match?.[1] === 'g' ? 'port' : 'outside' }
}

/** Checks name and mark. A device that has no alias yet is marked by its group. */
export function isRouterDevice(device: { name: string; alias: string; group: number }, group: number): boolean {
  const role = routerDevice(device.name)
  if (role === null) return false
  return device.alias === '' ? device.group === group : parseNetworkAlias(device.alias)?.vni === role.vni
}

/**
 * Candidate names of the router namespace (contract 6.7), in order of preference. Another vxmesh host on the same machine
 * (a lab) may hold the first one; the second adds the inode of our own namespace.
 */
export function routerNames(vni: Vni, hostNetns: number): readonly [string, string] {
  const name = `vxr-${hex6(vni)}`
  return [name, `${name}-${hostNetns.toString(16)}`]
}

/** Parses the name of a router namespace; null when it does not have our form. */
export function parseRouterName(name: string): Vni | null {
  const vni = Number.parseInt(/^vxr-([0-9a-f]{6})(?:-[0-9a-f]+)?$/.exec(name)?.[1] ?? '0', 16)
  return vni === 0 ? null : (vni as Vni)
}

/** The mark that identifies the owner of a router namespace: the alias of its loopback device. */
export function routerMark(vni: Vni, hostNetns: number): string {
  return `vxmesh router vni ${vni} of net:[${hostNetns}]`
}

/** Is the text the mark of any router, of any host? */
export function isAnyRouterMark(text: string): boolean {
  return text.startsWith('vxmesh router vni ')
}

/** Is the text the mark of a router of this network, on any host? */
export function isRouterMark(text: string, vni: Vni): boolean {
  return text.startsWith(`vxmesh router vni ${vni} of net:[`)
}

function deviceMac(kind: string, vni: Vni): Mac {
  const digits = hex6(vni)
  return `06:76:${kind}:${digits.slice(0, 2)}:${digits.slice(2, 4)}:${digits.slice(4, 6)}` as Mac
}
