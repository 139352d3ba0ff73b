// The routers that this host must run: one namespace for each network with egress or hostAccess that has local endpoints
// (docs/adr/0016, 0028). Every host computes the same function of the replicated state. Pure.

import type { IfName, NetworkName, Vni } from '#model/ids.ts'
import { compareIp, singleAddress, type Ip, type Subnet } from '#model/ip.ts'
import type { Ipv4, Ipv4Subnet } from '#model/ipv4.ts'
import { macOf, type Mac } from '#model/mac.ts'
import { hasRouter, type Network } from '#model/network.ts'
import type { DesiredInput } from '../network/desired.ts'
import { hostAddresses } from '../underlay/peers.ts'
import { bridgeName, hex6, networkAlias, parseNetworkAlias, routerPortName, vxlanName } from '../network/names.ts'

/** IFLA_GROUP of the host's end of every router uplink. The host's rules match these devices by group alone. */
export const OUTSIDE_GROUP = 0x76786f

/** The next hop of every router: an unassigned address with a permanent neighbour entry. */
export const NEXT_HOP = 0xa9fe0101 as Ipv4

/** Never reachable from a container: loopback, link-local (cloud metadata), multicast. */
const ALWAYS_GUARDED: readonly Subnet[] = [
  { base: 0x7f000000 as Ipv4, prefixLength: 8 },
  { base: 0xa9fe0000 as Ipv4, prefixLength: 16 },
  { base: 0xe0000000 as Ipv4, prefixLength: 4 }
]

export type DesiredRouter = {
  readonly vni: Vni
  readonly name: NetworkName
  readonly alias: string
  readonly subnet: Subnet
  readonly gateway: Ip
  /** The same MAC on every host: the one derived from the gateway address, which no endpoint can have. */
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
  /** The router's address towards the host: the source address of its containers' connections. */
  readonly transit: Ipv4
  /** Shared by all containers of the network on this host, in bits/s; 0 is unlimited. */
  readonly egressRate: number
  /** May its containers open connections to destinations outside the overlay? */
  readonly egress: boolean
  /** May this host open connections to its containers? */
  readonly hostAccess: boolean
  /** The containers that the host reaches through it, ascending; empty without hostAccess. */
  readonly reached: readonly Ip[]
}

export type DesiredGateways = {
  readonly routers: ReadonlyMap<Vni, DesiredRouter>
  /** The /8 from which transit addresses are derived. */
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
  /** The result of `guardedSubnets`, if the caller has it already. */
  readonly guarded?: readonly Subnet[]
}

export function desiredGateways(input: GatewayInput): DesiredGateways {
  const routers = new Map<Vni, DesiredRouter>()
  for (const network of input.networks) {
    if (!hasRouter(network)) continue
    const here = (input.endpoints.get(network.name) ?? []).filter(({ host }) => host === input.self)
    if (here.length === 0) continue
    const reached = network.hostAccess ? here.map(({ address }) => address).sort(compareIp) : []
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
  const { vni, name, subnet, gateway } = network
  return {
    vni,
    name,
    alias: networkAlias(name, vni),
    subnet,
    gateway,
    gatewayMac: macOf(vni, gateway),
    bridge: bridgeName(vni),
    vxlan: vxlanName(vni),
    port: routerPortName(vni),
    outside: `vo${hex6(vni)}` as IfName,
    outsideMac: deviceMac('79', vni),
    transitMac: deviceMac('7a', vni),
    mtu: network.mtu === 0 ? input.overlayMtu : network.mtu,
    transit: (input.transit.base + vni) as Ipv4,
    egressRate: network.egressRate,
    egress: network.egress,
    hostAccess: network.hostAccess
  }
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
