// The host's routes to containers of networks with hostAccess, or with IPv6 that is routed: one route an address, through the
// network's router. An address can have one route only. Precedence: the host's own addresses and routes, then the network
// that already holds the route, then the lowest VNI (docs/adr/0028). Pure.

import type { IfName, Vni } from '#model/ids.ts'
import {
  familyOf,
  formatIp,
  formatSubnet,
  isIpv4,
  isSingleAddress,
  lastAddress,
  singleAddress,
  subnetContains,
  type Ip,
  type Subnet
} from '#model/ip.ts'
import type { Ipv4 } from '#model/ipv4.ts'
import { numberOfIpv6, type Ipv6 } from '#model/ipv6.ts'
import type { DesiredGateways, DesiredRouter } from './desired-gateway.ts'

export type ObservedHostRoutes = {
  /** By network: the destinations of the host's routes through its router. */
  readonly ours: ReadonlyMap<Vni, readonly Ip[]>
  /** Prefixes of the host's own addresses and routes, except the default route. */
  readonly others: readonly Subnet[]
}

/** Routes to single addresses of one family through one router. */
export type HostRoutes = {
  readonly vni: Vni
  readonly outside: IfName
  readonly transit: Ip
  readonly addresses: readonly Ip[]
}

export type HostRoutesPlan = {
  readonly remove: readonly HostRoutes[]
  readonly add: readonly HostRoutes[]
  readonly refused: readonly { readonly vni: Vni; readonly reason: string }[]
}

/**
 * O(containers with hostAccess + those of `wanted` x prefixes shorter than /32).
 * @param p `wanted`: the routers to settle; `leaving`: networks whose routers, and with them their routes, are deleted first
 */
export function planHostRoutes(
  all: DesiredGateways,
  p: {
    readonly wanted: readonly DesiredRouter[]
    readonly leaving: readonly Vni[]
    readonly observed: ObservedHostRoutes
  }
): HostRoutesPlan {
  const { wanted, leaving, observed } = p
  const settling = new Set([...wanted.map(({ vni }) => vni), ...leaving])
  const holders = holdersOf(all, { observed, settling })
  const ownPrefixOf = prefixLookup([...all.guarded, ...observed.others])
  const [remove, add]: [HostRoutes[], HostRoutes[]] = [[], []]
  const refused: { vni: Vni; reason: string }[] = []
  for (const router of wanted) {
    const reasons = new Map<string, Ip[]>()
    const admitted = router.reached.filter(address => {
      const reason = reasonAgainst({ all, router, holder: holders.get(address), own: ownPrefixOf(address) })
      if (reason === null) return true
      const refusedSoFar = reasons.get(reason)
      if (refusedSoFar === undefined) reasons.set(reason, [address])
      else refusedSoFar.push(address)
      return false
    })
    for (const [reason, addresses] of reasons)
      refused.push({ vni: router.vni, reason: `${some(addresses)}: ${reason}` })
    const there = observed.ours.get(router.vni) ?? []
    const change = (from: readonly Ip[], to: readonly Ip[], into: HostRoutes[]): void => {
      const known = new Set(from)
      const changed = to.filter(address => !known.has(address))
      const { vni, outside } = router
      for (const { family, transit } of router.subnets) {
        const addresses = changed.filter(address => familyOf(address) === family)
        if (addresses.length > 0) into.push({ vni, outside, transit, addresses })
      }
    }
    change(admitted, there, remove)
    change(there, admitted, add)
  }
  return { remove, add, refused }
}

/** The network that holds each address. A route that exists and cannot be removed in this pass keeps its address. */
function holdersOf(
  all: DesiredGateways,
  { observed, settling }: { observed: ObservedHostRoutes; settling: ReadonlySet<Vni> }
): ReadonlyMap<Ip, Vni> {
  const holders = new Map<Ip, Vni>()
  for (const [vni, addresses] of observed.ours) {
    const reached = new Set(all.routers.get(vni)?.reached)
    for (const address of addresses) if (!settling.has(vni) || reached.has(address)) holders.set(address, vni)
  }
  const byVni = [...all.routers.values()].sort((a, b) => a.vni - b.vni)
  for (const { vni, reached } of byVni) {
    for (const address of reached) if (!holders.has(address)) holders.set(address, vni)
  }
  return holders
}

function reasonAgainst(p: {
  readonly all: DesiredGateways
  readonly router: DesiredRouter
  readonly holder: Vni | undefined
  readonly own: Subnet | undefined
}): string | null {
  if (p.own !== undefined) return `${formatSubnet(p.own)} is the host's own or the underlay's`
  if (p.holder === undefined || p.holder === p.router.vni) return null
  const holder = p.all.routers.get(p.holder)?.name
  return `the host uses it for network ${holder ?? `with vni ${p.holder}`}`
}

/** Finds a prefix that contains an address. Single addresses, one a host of the cluster, are looked up in a set. */
function prefixLookup(prefixes: readonly Subnet[]): (address: Ip) => Subnet | undefined {
  const single = new Set(prefixes.filter(isSingleAddress).map(({ base }) => base))
  const wide = prefixes.filter(prefix => !isSingleAddress(prefix))
  const ofIpv4 = wide.filter(({ base }) => isIpv4(base))
  // As numbers: an address is parsed once, not once a prefix.
  const ranges = wide
    .filter(({ base }) => !isIpv4(base))
    .map(prefix => {
      const [first, last] = [prefix.base, lastAddress(prefix)].map(address => numberOfIpv6(address as Ipv6))
      return { prefix, first: first ?? 0n, last: last ?? 0n }
    })
  return address => {
    if (single.has(address)) return singleAddress(address)
    if (isIpv4(address)) return ofIpv4.find(prefix => subnetContains(prefix, address))
    const value = numberOfIpv6(address)
    return ranges.find(({ first, last }) => first <= value && value <= last)?.prefix
  }
}

function some(addresses: readonly Ip[]): string {
  const [first = 0 as Ipv4, ...more] = addresses
  return `${formatIp(first)}${more.length === 0 ? '' : ` and ${more.length} more`}`
}
