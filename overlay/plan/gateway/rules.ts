// The nftables rules of a router and of the host, as text for one atomic `nft -f -`: of IPv4 here, of IPv6 in rules-v6.ts. Pure.

import { formatIpv4, networkAddress, type Ipv4 } from '#model/ipv4.ts'
import { formatSubnet, ipv4Of, ipv4SubnetOf, isIpv4, type Family, type Subnet } from '#model/ip.ts'
import { OUTSIDE_GROUP, routerSubnet, type DesiredGateways, type DesiredRouter } from './desired-gateway.ts'
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
  noTable,
  OUTSIDE,
  PRIORITY,
  REPLY,
  table,
  untracked
} from './rule-text.ts'
import { routerRulesV6 } from './rules-v6.ts'
import { OVERLAY_GROUP } from '../network/names.ts'

export const HOST_TABLE = 'vxmesh_nat'
export const ROUTER_TABLE = 'vxmesh_router'
/** Devices of the host that forward only because vxmesh enabled it: they drop all other forwarded traffic. */
export const CLOSED_SET = 'closed'

const ALL_ONES = 0xffffffff as Ipv4

/** A table of nothing but the timeouts, to try whether a kernel takes them. */
export function timeoutsAlone(): string {
  return table('ip', 'vxmesh_timeouts', timeouts('ip'))
}

/** Of both families. */
export function routerRules(router: DesiredRouter): string {
  return `${routerRulesV4(router)}${routerRulesV6(router)}`
}

/**
 * With egress, a router forwards connections from its own subnet and their replies. Only the host may connect to a
 * container, and only with hostAccess; SNAT makes it appear as the gateway, which containers reach without a route. The
 * router itself answers pings to the gateway address and, with a resolver, queries, and nothing else.
 */
function routerRulesV4(router: DesiredRouter): string {
  const own = routerSubnet(router, 'ipv4')
  if (own === undefined) return noTable('ip', ROUTER_TABLE)
  const subnet = formatSubnet(ipv4SubnetOf(own.subnet))
  const gateway = formatIpv4(ipv4Of(own.gateway))
  const { egress, hostAccess, queryRate } = router
  const toGateway = `iifname "${INSIDE}" ip saddr ${subnet} ip daddr ${gateway} `
  // A network's key in the set is its subnet's base address, which no container has.
  const network = `ip saddr & ${formatIpv4(networkAddress(ALL_ONES, own.subnet.prefixLength))}`
  return table('ip', ROUTER_TABLE, [
    // An address goes with its last connection.
    `  set connections { type ipv4_addr; size ${ADDRESSES_MAX}; flags dynamic; }`,
    `  set full { type ipv4_addr; size ${ADDRESSES_MAX}; flags dynamic, timeout; timeout ${FULL_S}s; }`,
    ...timeouts('ip'),
    ...(queryRate === null
      ? []
      : [...querySets('ipv4_addr'), ...untracked({ to: toGateway, from: `oifname "${INSIDE}" ip saddr ${gateway} ` })]),
    ...chain('input', 'filter hook input priority filter;', [
      `${ANSWER}accept`,
      `${toGateway}icmp type echo-request accept`,
      ...(queryRate === null ? [] : limitQueries({ to: toGateway, container: 'ip saddr', queryRate })),
      'drop'
    ]),
    ...chain('forward', 'filter hook forward priority filter;', [
      INVALID,
      ...limitHalfOpen(''),
      ...limitConnections({ device: INSIDE, container: 'ip saddr', network, set: 'full' }),
      `iifname "${INSIDE}" oifname "${OUTSIDE}" ip saddr ${subnet} ${egress ? '' : REPLY}accept`,
      `iifname "${OUTSIDE}" oifname "${INSIDE}" ${REPLY}accept`,
      ...(hostAccess ? [`iifname "${OUTSIDE}" oifname "${INSIDE}" ip daddr ${subnet} accept`] : []),
      'drop'
    ]),
    ...chain('postrouting', 'nat hook postrouting priority srcnat;', [
      `oifname "${OUTSIDE}" snat to ${formatIpv4(ipv4Of(own.transit))}`,
      ...(hostAccess ? [`oifname "${INSIDE}" snat to ${gateway}`] : [])
    ])
  ])
}

/**
 * The host masquerades traffic from routers, and rejects it towards other networks, the underlay, and networks of the host
 * itself unless they are opened. A device is open only if it is known to be an exit, so that one that appears is closed from
 * its first packet. Routers get replies only, from the host and from outside; connections that the host itself opens are not
 * forwarded and so not affected. The host's own stack accepts no ICMP error from a router. Devices in the closed set forward
 * nothing else.
 */
export function hostRules(
  desired: Pick<DesiredGateways, 'guarded' | 'opened' | 'transit'>,
  observed: {
    readonly underlay: readonly Subnet[]
    readonly exits: readonly string[]
    readonly closed: readonly string[]
    /** Most connections that the host's kernel tracks. */
    readonly tableSize: number
  }
): string {
  const transit = formatSubnet(desired.transit)
  return table('ip', HOST_TABLE, [
    guardedSet(desired.guarded, observed.underlay),
    addressSet('opened', 'ipv4_addr', ofIpv4(desired.opened)),
    deviceSet('exits', observed.exits),
    deviceSet(CLOSED_SET, observed.closed),
    `  set full { type devgroup; size 1; flags dynamic, timeout; timeout ${FULL_S}s; }`,
    ...timeouts('ip'),
    ...chain('input', `filter hook input priority ${PRIORITY};`, [
      `iifgroup ${OUTSIDE_GROUP} ${ANSWER}accept`,
      `iifgroup ${OUTSIDE_GROUP} drop`
    ]),
    ...chain('forward', `filter hook forward priority ${PRIORITY};`, [
      `iifgroup ${OUTSIDE_GROUP} ${INVALID}`,
      ...limitHalfOpen(`iifgroup ${OUTSIDE_GROUP} `),
      ...limitRouters(observed.tableSize),
      `iifgroup ${OUTSIDE_GROUP} oifgroup { ${OVERLAY_GROUP}, ${OUTSIDE_GROUP} } drop`,
      `iifgroup ${OUTSIDE_GROUP} ip saddr != ${transit} drop`,
      `iifgroup ${OUTSIDE_GROUP} ip daddr @guarded reject with icmp type admin-prohibited`,
      `iifgroup ${OUTSIDE_GROUP} oifname != @exits ip daddr != @opened reject with icmp type admin-prohibited`,
      `oifgroup ${OUTSIDE_GROUP} ${REPLY}accept`,
      `oifgroup ${OUTSIDE_GROUP} drop`,
      `iifname @${CLOSED_SET} drop`
    ]),
    ...chain('postrouting', 'nat hook postrouting priority srcnat;', [
      `ip saddr ${transit} oifgroup != ${OUTSIDE_GROUP} masquerade`
    ])
  ])
}

/** The last text of each list: with many hosts it is long, and seldom another one. */
const guardedTexts = new WeakMap<readonly Subnet[], { readonly underlay: string; readonly text: string }>()

function guardedSet(guarded: readonly Subnet[], observed: readonly Subnet[]): string {
  const underlay = ofIpv4(observed).map(formatSubnet).join(' ')
  const known = guardedTexts.get(guarded)
  if (known?.underlay === underlay) return known.text
  const text = addressSet('guarded', 'ipv4_addr', ofIpv4([...guarded, ...observed]))
  guardedTexts.set(guarded, { underlay, text })
  return text
}

function ofIpv4(subnets: readonly Subnet[]): readonly Subnet[] {
  return subnets.filter(({ base }) => isIpv4(base))
}

export function noHostRules(): string {
  return noTable('ip', HOST_TABLE)
}

/** The members of the closed set in the output of `nft -j list table`; empty when there is no table. */
export function closedIn(listing: string | null): readonly string[] {
  if (listing === null) return []
  const { nftables } = JSON.parse(listing) as { nftables: { set?: { name: string; elem?: unknown[] } }[] }
  const set = nftables.find(object => object.set?.name === CLOSED_SET)?.set
  return (set?.elem ?? []).filter(name => typeof name === 'string')
}

/** What to do about them. Accepting vo* to any device would open the other networks of the host to containers. */
export const FORWARD_REMEDY =
  'accept there what comes in by vo* and goes out by the uplink, and replies the other way; no more, for it would open ' +
  'the host’s other networks (with Docker in chain DOCKER-USER: see operations.md)'

/** Other software's forward chains with policy drop, in the output of `nft -j list chains`. @param families that routers have */
export function foreignForwardDrops(listing: string, families: readonly Family[] = ['ipv4']): readonly string[] {
  const judging = ['inet', ...families.map(family => (family === 'ipv4' ? 'ip' : 'ip6'))]
  type Chain = { family: string; table: string; name: string; hook?: string; policy?: string }
  const { nftables } = JSON.parse(listing) as { nftables: { chain?: Chain }[] }
  return nftables
    .flatMap(({ chain: found }) => (found === undefined ? [] : [found]))
    .filter(({ family, hook, policy }) => judging.includes(family) && hook === 'forward' && policy === 'drop')
    .filter(({ table: name }) => name !== 'vxmesh' && !name.startsWith('vxmesh_'))
    .map(({ family, table: name, name: chainName }) => `${family} ${name} ${chainName}`)
}
