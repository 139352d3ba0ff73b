// Limits on the connections of containers through routers, as lines of nftables rules (docs/adr/0043, 0055). Pure.

import { OUTSIDE_GROUP } from './desired-gateway.ts'

/**
 * Connections through a router: from one container, and from all of a network on this host. The host's table, 262,144 entries
 * by default, has one entry for each. A container's limit is above what one client can open to a server with the default range
 * of ports (28,232).
 */
export const CONNECTIONS_OF_CONTAINER = 32_768
export const CONNECTIONS_OF_NETWORK = 65_536

/** The kernel walks all that it has counted for each connection that it counts, so it counts a random sample. */
const COUNTED = 1_024
/** How long a container or network that is over its limit opens no connection. */
export const FULL_S = 1
/** Keys of the sets: addresses of a subnet. nft requires a size. */
export const ADDRESSES_MAX = 65_536

/**
 * Of the host's table, what all routers together may use: a tenant with several networks has a limit for each. The rest is
 * the host's own, whose connections must not depend on its tenants.
 */
const SHARE_OF_ROUTERS = 3 / 4

/** Counts a sample, as the routers do. What was open before the rules were written is not counted. */
export function limitRouters(tableSize: number): readonly string[] {
  const limit = Math.max(1, Math.floor(tableSize * SHARE_OF_ROUTERS))
  const oneOf = Math.max(1, Math.floor(limit / COUNTED))
  const from = `iifgroup ${OUTSIDE_GROUP} ct state new `
  return [
    `${from}meta iifgroup @full drop`,
    `${from}numgen random mod ${oneOf} == 0 ct count over ${Math.floor(limit / oneOf)} add @full { meta iifgroup } drop`
  ]
}

/** @param p what tells a container, and its network, by a packet that came in by this device; and the network's set */
export function limitConnections(p: {
  readonly device: string
  readonly container: string
  readonly network: string
  readonly set: string
}): readonly string[] {
  const { container, network, set } = p
  const from = `iifname "${p.device}" ct state new `
  const sampled = (limit: number): string => `numgen random mod ${limit / COUNTED} == 0 `
  return [
    `${from}${container} @full drop`,
    `${from}${network} @${set} drop`,
    `${from}${sampled(CONNECTIONS_OF_CONTAINER)}add @connections { ${container} ct count over ${COUNTED} } add @full { ${container} } drop`,
    `${from}${sampled(CONNECTIONS_OF_NETWORK)}ct count over ${COUNTED} add @${set} { ${network} } drop`
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
export function timeouts(l3: 'ip' | 'ip6'): readonly string[] {
  return [
    `  ct timeout half_open { protocol tcp; l3proto ${l3}; policy = { syn_sent : ${HALF_OPEN_S}, syn_recv : ${HALF_OPEN_S} }; }`,
    // Until the first answer kernels apply either.
    `  ct timeout unseen { protocol tcp; l3proto ${l3}; policy = { syn_sent : ${UNSEEN_S}, unack : ${UNSEEN_S} }; }`
  ]
}

/** @param from what the packets of our traffic match */
export function limitHalfOpen(from: string): readonly string[] {
  const flags = 'tcp flags & (fin | syn | rst | ack)'
  return [
    `${from}ct state new ${flags} == syn ct timeout set "half_open"`,
    `${from}ct state new ${flags} != syn ct timeout set "unseen"`
  ]
}

/** What a network's containers on this host may send to their resolver, as multiples of what one may. */
const QUERIES_OF_NETWORK = 10
/** A bucket is forgotten when its container has been silent for so long. */
const ASKER_S = 60
/** Connections to the resolver in a second: only long answers need one. */
const CONNECTIONS_TO_RESOLVER = 20
/** nft's largest rate and burst are far above. A burst is what may come at once: as much as in two seconds. */
const BURST_S = 2

/** The sets of `limitQueries`. @param type of `container` */
export function querySets(type: 'ipv4_addr' | 'ether_addr'): readonly string[] {
  return ['asking', 'connecting'].map(
    name => `  set ${name} { type ${type}; size ${ADDRESSES_MAX}; flags dynamic, timeout; timeout ${ASKER_S}s; }`
  )
}

/**
 * Accepts queries to the resolver within the limits: the kernel drops a flood at less cost than the agent would. One container has
 * its own limit, so that it cannot use up its network's.
 * @param p `to`: matches what comes from a container to the gateway address; `container`: what tells a container
 */
export function limitQueries(p: {
  readonly to: string
  readonly container: string
  readonly queryRate: number
}): readonly string[] {
  const kinds = [
    { match: 'udp dport 53 ', set: 'asking', rate: p.queryRate },
    {
      match: 'tcp dport 53 tcp flags & (fin | syn | rst | ack) == syn ',
      set: 'connecting',
      rate: CONNECTIONS_TO_RESOLVER
    }
  ]
  const over = (rate: number): string => `limit rate over ${rate}/second burst ${rate * BURST_S} packets`
  return [
    ...kinds.flatMap(({ match, set, rate }) => [
      `${p.to}${match}update @${set} { ${p.container} ${over(rate)} } counter drop`,
      `${p.to}${match}${over(rate * QUERIES_OF_NETWORK)} counter drop`
    ]),
    `${p.to}meta l4proto { tcp, udp } th dport 53 accept`
  ]
}

/** The same rules for a kernel that takes no timeouts. */
export function withoutTimeouts(script: string): string {
  return script
    .split('\n')
    .filter(line => !line.includes(' ct timeout '))
    .join('\n')
}
