// The nftables rules of a router and of the host, as text for one atomic `nft -f -`. Only numbers, addresses and validated
// device names are interpolated. Pure.

import { formatIpv4, networkAddress, type Ipv4 } from '#model/ipv4.ts'
import { formatSubnet, ipv4Of, ipv4SubnetOf, type Subnet } from '#model/ip.ts'
import { OUTSIDE_GROUP, type DesiredGateways, type DesiredRouter } from './desired-gateway.ts'
import { OVERLAY_GROUP } from '../network/names.ts'

export const HOST_TABLE = 'vxmesh_nat'
export const ROUTER_TABLE = 'vxmesh_router'
/** Devices of the host that forward only because vxmesh enabled it: they drop all other forwarded traffic. */
export const CLOSED_SET = 'closed'

/** The router's two devices, inside its namespace. */
export const INSIDE = 'inside'
export const OUTSIDE = 'outside'

const REPLY = 'ct state established,related '
/** For traffic to the router's or the host's own stack: no ICMP error, which could lower the MTU of a path to another host. */
const ANSWER = 'ct state established '
/**
 * A packet that no connection explains is forwarded without translation: with a made-up ICMP error, a container would speak
 * about the host's own connections from its own address.
 */
const INVALID = 'ct state invalid drop'

/**
 * Connections through a router: from one container, and from all of a network on this host. The host's table, 262,144 entries
 * by default, has one entry for each. A container's limit is above what one client can open to a server with the default range
 * of ports (28,232).
 */
export const CONNECTIONS_OF_CONTAINER = 32_768
export const CONNECTIONS_OF_NETWORK = 65_536

/** The kernel walks all that it has counted for each connection that it counts, so it counts a random sample. */
const COUNTED = 1_024
const ALL_ONES = 0xffffffff as Ipv4
/** How long a container or network that is over its limit opens no connection. */
const FULL_S = 1
/** Keys of the sets: addresses of a subnet. nft requires a size. */
const ADDRESSES_MAX = 65_536

/**
 * Of the host's table, what all routers together may use: a tenant with several networks has a limit for each. The rest is
 * the host's own, whose connections must not depend on its tenants.
 */
const SHARE_OF_ROUTERS = 3 / 4

/** Counts a sample, as the routers do. What was open before the rules were written is not counted. */
function limitRouters(tableSize: number): readonly string[] {
  const limit = Math.max(1, Math.floor(tableSize * SHARE_OF_ROUTERS))
  const oneOf = Math.max(1, Math.floor(limit / COUNTED))
  const from = `iifgroup ${OUTSIDE_GROUP} ct state new `
  return [
    `${from}meta iifgroup @full drop`,
    `${from}numgen random mod ${oneOf} == 0 ct count over ${Math.floor(limit / oneOf)} add @full { meta iifgroup } drop`
  ]
}

/** A network's key in the set is its subnet's base address, which no container has. */
function limitConnections({ prefixLength }: Subnet): readonly string[] {
  const from = `iifname "${INSIDE}" ct state new `
  const network = `ip saddr & ${formatIpv4(networkAddress(ALL_ONES, prefixLength))}`
  const sampled = (limit: number): string => `numgen random mod ${limit / COUNTED} == 0 `
  return [
    `${from}ip saddr @full drop`,
    `${from}${network} @full drop`,
    `${from}${sampled(CONNECTIONS_OF_CONTAINER)}add @connections { ip saddr ct count over ${COUNTED} } add @full { ip saddr } drop`,
    `${from}${sampled(CONNECTIONS_OF_NETWORK)}ct count over ${COUNTED} add @full { ${network} } drop`
  ]
}

/**
 * How long an entry without an answer may occupy the table: a TCP connection of which one side has said nothing yet, and one
 * that the table has not seen from its start, which may be made up. The kernel's own are 120, 60 and 300 s. A SYN that is sent
 * again makes a new entry, so only an answer that takes longer than this is lost.
 */
const HALF_OPEN_S = 10
const UNSEEN_S = 30

/** Timeouts of our traffic alone: the namespace's settings, and so the host's own connections, are untouched. */
const TIMEOUTS = [
  `  ct timeout half_open { protocol tcp; l3proto ip; policy = { syn_sent : ${HALF_OPEN_S}, syn_recv : ${HALF_OPEN_S} }; }`,
  // Until the first answer kernels apply either.
  `  ct timeout unseen { protocol tcp; l3proto ip; policy = { syn_sent : ${UNSEEN_S}, unack : ${UNSEEN_S} }; }`
]

/** @param from what the packets of our traffic match */
function limitHalfOpen(from: string): readonly string[] {
  const flags = 'tcp flags & (fin | syn | rst | ack)'
  return [
    `${from}ct state new ${flags} == syn ct timeout set "half_open"`,
    `${from}ct state new ${flags} != syn ct timeout set "unseen"`
  ]
}

/** The same rules for a kernel that takes no timeouts. */
export function withoutTimeouts(script: string): string {
  return script
    .split('\n')
    .filter(line => !line.includes(' ct timeout '))
    .join('\n')
}

/** A table of nothing but the timeouts, to try whether a kernel takes them. */
export function timeoutsAlone(): string {
  return table('vxmesh_timeouts', TIMEOUTS)
}

/** Ahead of other software's chains. Not essential: a drop is final in any order. */
const PRIORITY = 'filter - 10'

/**
 * With egress, a router forwards connections from its own subnet and their replies. Only the host may connect to a
 * container, and only with hostAccess; SNAT makes it appear as the gateway, which containers reach without a route. The
 * router itself answers pings to the gateway address and nothing else.
 */
export function routerRules(router: DesiredRouter): string {
  const subnet = formatSubnet(ipv4SubnetOf(router.subnet))
  const gateway = formatIpv4(ipv4Of(router.gateway))
  const { egress, hostAccess } = router
  return table(ROUTER_TABLE, [
    // An address goes with its last connection.
    `  set connections { type ipv4_addr; size ${ADDRESSES_MAX}; flags dynamic; }`,
    `  set full { type ipv4_addr; size ${ADDRESSES_MAX}; flags dynamic, timeout; timeout ${FULL_S}s; }`,
    ...TIMEOUTS,
    ...chain('input', 'filter hook input priority filter;', [
      `${ANSWER}accept`,
      `iifname "${INSIDE}" ip saddr ${subnet} ip daddr ${gateway} icmp type echo-request accept`,
      'drop'
    ]),
    ...chain('forward', 'filter hook forward priority filter;', [
      INVALID,
      ...limitHalfOpen(''),
      ...limitConnections(ipv4SubnetOf(router.subnet)),
      `iifname "${INSIDE}" oifname "${OUTSIDE}" ip saddr ${subnet} ${egress ? '' : REPLY}accept`,
      `iifname "${OUTSIDE}" oifname "${INSIDE}" ${REPLY}accept`,
      ...(hostAccess ? [`iifname "${OUTSIDE}" oifname "${INSIDE}" ip daddr ${subnet} accept`] : []),
      'drop'
    ]),
    ...chain('postrouting', 'nat hook postrouting priority srcnat;', [
      `oifname "${OUTSIDE}" snat to ${formatIpv4(router.transit)}`,
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
  return table(HOST_TABLE, [
    guardedSet(desired.guarded, observed.underlay),
    addressSet('opened', desired.opened),
    deviceSet('exits', observed.exits),
    deviceSet(CLOSED_SET, observed.closed),
    `  set full { type devgroup; size 1; flags dynamic, timeout; timeout ${FULL_S}s; }`,
    ...TIMEOUTS,
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
  const underlay = observed.map(formatSubnet).join(' ')
  const known = guardedTexts.get(guarded)
  if (known?.underlay === underlay) return known.text
  const text = addressSet('guarded', [...guarded, ...observed])
  guardedTexts.set(guarded, { underlay, text })
  return text
}

function addressSet(name: string, subnets: readonly Subnet[]): string {
  return set(name, 'ipv4_addr; flags interval; auto-merge', subnets.map(ipv4SubnetOf).map(formatSubnet))
}

function deviceSet(name: string, devices: readonly string[]): string {
  return set(
    name,
    'ifname',
    devices.filter(isPlainName).map(device => `"${device}"`)
  )
}

function set(name: string, type: string, members: readonly string[]): string {
  const elements = [...new Set(members)].sort().join(', ')
  return `  set ${name} { type ${type};${elements === '' ? '' : ` elements = { ${elements} };`} }`
}

export function noHostRules(): string {
  return `add table ip ${HOST_TABLE}\ndelete table ip ${HOST_TABLE}\n`
}

/** Is the device name safe to interpolate? The kernel allows almost any byte, quotes included. */
export function isPlainName(name: string): boolean {
  return /^[A-Za-z0-9_.@:-]{1,15}$/.test(name)
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

/** Other software's forward chains with policy drop, in the output of `nft -j list chains`. */
export function foreignForwardDrops(listing: string): readonly string[] {
  type Chain = { family: string; table: string; name: string; hook?: string; policy?: string }
  const { nftables } = JSON.parse(listing) as { nftables: { chain?: Chain }[] }
  return nftables
    .flatMap(({ chain: found }) => (found === undefined ? [] : [found]))
    .filter(({ family, hook, policy }) => ['ip', 'inet'].includes(family) && hook === 'forward' && policy === 'drop')
    .filter(({ table: name }) => name !== 'vxmesh' && !name.startsWith('vxmesh_'))
    .map(({ family, table: name, name: chainName }) => `${family} ${name} ${chainName}`)
}

/**
 * Replaces the table in one transaction. No chain has policy drop: a chain may be empty for a moment while it is replaced,
 * and would then drop traffic that both the old and the new rules accept.
 */
function table(name: string, lines: readonly string[]): string {
  return `add table ip ${name}\ndelete table ip ${name}\ntable ip ${name} {\n${lines.join('\n')}\n}\n`
}

function chain(name: string, hook: string, rules: readonly string[]): readonly string[] {
  return [`  chain ${name} {`, `    type ${hook}`, ...rules.map(rule => `    ${rule}`), '  }']
}
