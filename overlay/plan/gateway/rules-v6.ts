// The nftables rules of IPv6: those of a router and of the host, each in a table of its own of family inet, so that what IPv4
// has is not touched. The limits on connections in them count those of both families (docs/adr/0055). Pure.

import { formatSubnet, isIpv4, type Subnet } from '#model/ip.ts'
import type { Ipv4 } from '#model/ipv4.ts'
import { ipv6OfNumber, numberOfIpv6, type Ipv6 } from '#model/ipv6.ts'
import { OUTSIDE_GROUP, routerSubnet, TRANSIT_V6, type DesiredGateways, type DesiredRouter } from './desired-gateway.ts'
import {
  ADDRESSES_MAX,
  FULL_S,
  limitConnections,
  limitHalfOpen,
  limitQueries,
  limitRouters,
  querySets,
  timeouts
} from './limits.ts'
import {
  addressSet,
  ANSWER,
  chain,
  deviceSet,
  INSIDE,
  INVALID,
  isPlainName,
  noTable,
  OUTSIDE,
  PRIORITY,
  REPLY,
  set,
  table,
  untracked
} from './rule-text.ts'
import { OVERLAY_GROUP } from '../network/names.ts'

export const HOST_TABLE_V6 = 'vxmesh_nat6'
export const ROUTER_TABLE_V6 = 'vxmesh_router6'
/** The chain that stands in the table exactly if vxmesh made the host forward: it drops all other forwarded traffic. */
const CLOSED_CHAIN = 'closed'

const IPV6 = 'meta nfproto ipv6 '
/** The table of IPv4 judges it. */
const PASS_IPV4 = 'meta nfproto ipv4 accept'

/**
 * As the rules of IPv4 (rules.ts). A container is known by its MAC address, which both families share, and the network by the
 * only device it comes from. Neighbours are asked by ICMPv6, which ARP does without these rules: that passes, and no router
 * advertisement or redirect does.
 */
export function routerRulesV6(router: DesiredRouter): string {
  const own = routerSubnet(router, 'ipv6')
  if (own === undefined) return ''
  const { egress, hostAccess, queryRate } = router
  const [subnet, gateway, transit] = [formatSubnet(own.subnet), String(own.gateway), String(own.transit)]
  const toGateway = `iifname "${INSIDE}" ip6 saddr ${subnet} ip6 daddr ${gateway} `
  const alone = routerSubnet(router, 'ipv4') === undefined ? [] : [PASS_IPV4]
  return table('inet', ROUTER_TABLE_V6, [
    `  set connections { type ether_addr; size ${ADDRESSES_MAX}; flags dynamic; }`,
    `  set full { type ether_addr; size ${ADDRESSES_MAX}; flags dynamic, timeout; timeout ${FULL_S}s; }`,
    `  set crowded { type ifname; size 1; flags dynamic, timeout; timeout ${FULL_S}s; }`,
    ...timeouts('ip6'),
    ...(queryRate === null
      ? []
      : [
          ...querySets('ether_addr'),
          ...untracked({ to: toGateway, from: `oifname "${INSIDE}" ip6 saddr ${gateway} ` })
        ]),
    ...chain('input', 'filter hook input priority filter;', [
      ...alone,
      `${ANSWER}accept`,
      `iifname "${INSIDE}" icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert } accept`,
      `${toGateway}icmpv6 type echo-request accept`,
      ...(queryRate === null ? [] : limitQueries({ to: toGateway, container: 'ether saddr', queryRate })),
      'drop'
    ]),
    ...chain('forward', 'filter hook forward priority filter;', [
      INVALID,
      ...limitHalfOpen(IPV6),
      ...limitConnections({ device: INSIDE, container: 'ether saddr', network: 'iifname', set: 'crowded' }),
      ...alone,
      `iifname "${INSIDE}" oifname "${OUTSIDE}" ip6 saddr ${subnet} ${egress ? '' : REPLY}accept`,
      `iifname "${OUTSIDE}" oifname "${INSIDE}" ${REPLY}accept`,
      ...(hostAccess ? [`iifname "${OUTSIDE}" oifname "${INSIDE}" ip6 daddr ${subnet} accept`] : []),
      'drop'
    ]),
    ...chain('postrouting', 'nat hook postrouting priority srcnat;', [
      ...(own.isTranslated ? [`oifname "${OUTSIDE}" ${IPV6}snat ip6 to ${transit}`] : []),
      ...(hostAccess ? [`oifname "${INSIDE}" ${IPV6}snat ip6 to ${gateway}`] : [])
    ])
  ])
}

/** Removes the rules of IPv6 from a router whose network has none: an earlier network of its VNI had. */
export function noRouterRulesV6(): string {
  return noTable('inet', ROUTER_TABLE_V6)
}

/**
 * As the rules of IPv4 (rules.ts), but forwarding cannot be enabled device by device: once the host forwards, what comes from an
 * overlay by another way than its router is dropped, and, if the host forwards because of vxmesh alone, everything else. What
 * is bridged, and passes here with bridge-nf-call-ip6tables, goes on.
 */
export function hostRulesV6(
  desired: Pick<DesiredGateways, 'guarded' | 'opened' | 'routers'>,
  observed: {
    /** Of both families. */
    readonly underlay: readonly Subnet[]
    readonly exits: readonly string[]
    /** Does the host forward only because vxmesh enabled it? */
    readonly isClosed: boolean
    /** Bridges of the host that are not ours. */
    readonly bridges: readonly string[]
    readonly tableSize: number
  }
): string {
  const bridged = observed.bridges.filter(isPlainName).map(bridge => `"${bridge}" . "${bridge}"`)
  return table('inet', HOST_TABLE_V6, [
    guardedSet(desired.guarded, observed.underlay),
    addressSet('opened', 'ipv6_addr', ofIpv6(desired.opened)),
    addressSet('sources', 'ipv6_addr', sourcesOf(desired)),
    deviceSet('exits', observed.exits),
    set('bridged', 'ifname . ifname', bridged),
    `  set full { type devgroup; size 1; flags dynamic, timeout; timeout ${FULL_S}s; }`,
    ...timeouts('ip6'),
    ...(observed.isClosed ? closedChain() : []),
    ...chain('input', `filter hook input priority ${PRIORITY};`, [
      `iifgroup ${OUTSIDE_GROUP} ${ANSWER}accept`,
      `iifgroup ${OUTSIDE_GROUP} drop`
    ]),
    ...chain('forward', `filter hook forward priority ${PRIORITY};`, [
      `iifgroup ${OUTSIDE_GROUP} ${INVALID}`,
      ...limitHalfOpen(`iifgroup ${OUTSIDE_GROUP} ${IPV6}`),
      ...limitRouters(observed.tableSize),
      PASS_IPV4,
      `iifgroup ${OUTSIDE_GROUP} oifgroup { ${OVERLAY_GROUP}, ${OUTSIDE_GROUP} } drop`,
      // Not of connections that are there: their network's setting may be about to come from a state that is newer.
      `iifgroup ${OUTSIDE_GROUP} ct state new ip6 saddr != @sources drop`,
      `iifgroup ${OUTSIDE_GROUP} ip6 daddr @guarded reject with icmpv6 type admin-prohibited`,
      `iifgroup ${OUTSIDE_GROUP} oifname != @exits ip6 daddr != @opened reject with icmpv6 type admin-prohibited`,
      `oifgroup ${OUTSIDE_GROUP} ${REPLY}accept`,
      `oifgroup ${OUTSIDE_GROUP} drop`,
      `iifgroup ${OVERLAY_GROUP} oifgroup != ${OVERLAY_GROUP} drop`,
      ...(observed.isClosed ? [`iifgroup != { ${OVERLAY_GROUP}, ${OUTSIDE_GROUP} } jump ${CLOSED_CHAIN}`] : [])
    ]),
    ...chain('postrouting', 'nat hook postrouting priority srcnat;', [
      `ip6 saddr ${formatSubnet(TRANSIT_V6)} oifgroup != ${OUTSIDE_GROUP} masquerade`
    ])
  ])
}

function closedChain(): readonly string[] {
  return [`  chain ${CLOSED_CHAIN} {`, '    iifname . oifname != @bridged drop', '  }']
}

export function noHostRulesV6(): string {
  return noTable('inet', HOST_TABLE_V6)
}

/** Do the rules in the output of `nft -j list table` say that the host forwards only because of vxmesh? */
export function isClosedIn(listing: string | null): boolean {
  if (listing === null) return false
  const { nftables } = JSON.parse(listing) as { nftables: { chain?: { name: string } }[] }
  return nftables.some(object => object.chain?.name === CLOSED_CHAIN)
}

/** The source addresses of what routers send: translated, or of networks that are routed. */
function sourcesOf({ routers }: Pick<DesiredGateways, 'routers'>): readonly Subnet[] {
  const routed = [...routers.values()].flatMap(({ subnets }) => subnets.filter(({ isTranslated }) => !isTranslated))
  return [TRANSIT_V6, ...routed.map(({ subnet }) => subnet)]
}

/** Prefixes within which routers of others translate to IPv4: NAT64 (RFC 6052), 6to4 (RFC 3056). */
const EMBEDDINGS = [
  { base: '64:ff9b::' as Ipv6, prefixLength: 96 },
  { base: '2002::' as Ipv6, prefixLength: 16 }
] as const

/** The addresses by which others reach this subnet of IPv4. */
function embedded(base: Ipv4, length: number): readonly Subnet[] {
  return EMBEDDINGS.map(prefix => {
    const { prefixLength } = prefix
    const offset = BigInt(base) << BigInt(96 - prefixLength)
    return { base: ipv6OfNumber(numberOfIpv6(prefix.base) + offset), prefixLength: prefixLength + length }
  })
}

/** The last text of each list: see rules.ts. */
const guardedTexts = new WeakMap<readonly Subnet[], { readonly underlay: string; readonly text: string }>()

function guardedSet(guarded: readonly Subnet[], observed: readonly Subnet[]): string {
  const underlay = observed.map(formatSubnet).join(' ')
  const known = guardedTexts.get(guarded)
  if (known?.underlay === underlay) return known.text
  const all = [...guarded, ...observed].flatMap(subnet => {
    const { base, prefixLength } = subnet
    return isIpv4(base) ? embedded(base, prefixLength) : [subnet]
  })
  const text = addressSet('guarded', 'ipv6_addr', all)
  guardedTexts.set(guarded, { underlay, text })
  return text
}

function ofIpv6(subnets: readonly Subnet[]): readonly Subnet[] {
  return subnets.filter(({ base }) => !isIpv4(base))
}
