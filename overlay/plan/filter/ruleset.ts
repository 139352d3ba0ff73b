// The tables in nft(8) syntax: port security in family bridge; the underlay guard, the doors and Serf's limits in family
// inet. Each has one set of ours; only its elements change while the agent runs, never the rules. A drop here is final: an accept in any other table,
// however early its hook, cannot override it. Pure.

import { formatIpv4 } from '#model/ipv4.ts'
import { ipv4Of, type Ip } from '#model/ip.ts'
import { OVERLAY_GROUP, REMOVAL_GROUP } from '../network/names.ts'
import { bannedMessages } from './banned.ts'
import { SENDERS, serfLimits, type SerfPort } from './serf-limits.ts'

/** Each table with its one set. */
export const PORTS = { family: 'bridge', name: 'vxmesh_ports', set: 'ports' } as const
const UNDERLAY = { family: 'inet', name: 'vxmesh_underlay', set: 'vteps' } as const
export const FILTER_TABLES = [PORTS, UNDERLAY]
const DOORS = { family: 'inet', name: 'vxmesh_doors', set: 'doors' } as const
const SERF = { family: 'inet', name: 'vxmesh_serf', set: 'members' } as const

export type FilterTable = ((typeof FILTER_TABLES)[number] | typeof DOORS | typeof SERF) & {
  /** The text between the table's braces. */
  readonly body: string
  /** The elements of set `doors`, which do not depend on the state. */
  readonly doors?: readonly number[]
  /** Names of its counters that are read. */
  readonly counters?: readonly string[]
}

/** TCP ports of this host's loopback device, each with the users whose processes may connect. */
export type Doors = readonly { readonly port: number; readonly users: readonly number[] }[]

export type FilterParameters = {
  /** This host's tunnel address. */
  readonly vtep: Ip
  /** UDP port of VXLAN. Dedicated to the overlay: other VXLAN traffic to it is dropped. */
  readonly port: number
}

/** Endpoints of a host and hosts of a cluster, far above any real number. nft picks a faster backend for sized sets. */
const PORTS_MAX = 65_535
const VTEPS_MAX = 16_384
const DOORS_MAX = 16
const MEMBERS_MAX = 16_384

/** Ahead of every named priority of the family (dstnat is -300). */
const BRIDGE_PRIORITY = -400
/** Ahead of raw (-300) and conntrack (-200), so that a dropped packet creates no connection entry. */
const INET_PRIORITY = -450
/** After conntrack's defragmentation (-400), for only a whole datagram has a port; ahead of conntrack itself (-200). */
const RAW_PRIORITY = -300

/** Matches our devices by group. Other software uses our name prefixes too (`ve*`, `vx*`), so rules check name and group. */
const OURS = `meta iifgroup { ${OVERLAY_GROUP}, ${REMOVAL_GROUP} }`

export function filterTables(p: FilterParameters): readonly FilterTable[] {
  return [
    { ...PORTS, body: portSecurity(p.port) },
    { ...UNDERLAY, body: underlayGuard(p) }
  ]
}

/**
 * A container's port accepts IPv4 and ARP from its own MAC and address, and nothing else: no IPv6 (the networks are
 * IPv4), no VLAN tag, no LLC. A port that is not in the set accepts nothing.
 *
 * - ARP: hardware and protocol type and their address lengths are the first six bytes (RFC 826).
 * - Fragments after the first carry no ports. They are useless without the first one, which is checked, and the kernel
 *   drops overlapping fragments.
 * - `banned.ts` lists the UDP and ICMP messages that are dropped. A packet whose UDP or ICMP header cannot be read is
 *   dropped too.
 * - `input`: no overlay traffic is addressed to the host, which would otherwise answer on all its addresses. Frames to
 *   01:80:c2:00:00:0x reach only this hook; they bypass prerouting.
 */
function portSecurity(port: number): string {
  const { udpSource, udpDestinations, icmpTypes } = bannedMessages(port)
  return `
  set ports { type ifname . ether_addr . ipv4_addr; size ${PORTS_MAX}; }
  chain container {
    ether type ip meta iifname . ether saddr . ip saddr @ports goto ipv4
    ether type arp @nh,0,48 0x000108000604 arp operation { request, reply } \
      meta iifname . ether saddr . arp saddr ip @ports meta iifname . arp saddr ether . arp saddr ip @ports accept
    counter drop
  }
  chain ipv4 {
    ip protocol tcp accept
    ip frag-off & 0x1fff != 0 accept
    ip protocol udp udp sport != ${udpSource} udp dport != { ${udpDestinations.join(', ')} } accept
    ip protocol icmp icmp type != { ${icmpTypes.map(({ name }) => name).join(', ')} } accept
    ip protocol { udp, icmp } counter drop
  }
  chain prerouting {
    type filter hook prerouting priority ${BRIDGE_PRIORITY}; policy accept;
    meta iifname "ve*" ${OURS} goto container
  }
  chain input {
    type filter hook input priority ${BRIDGE_PRIORITY}; policy accept;
    ${OURS} counter drop
  }`
}

/**
 * Accepts VXLAN only from hosts of the cluster, only to the tunnel address, with the I flag set and every reserved bit
 * zero (RFC 7348 section 5). The input hook runs after fragment reassembly and after DNAT by other tables.
 *
 * - `prerouting`: a port that was removed from its bridge could otherwise reach the host until it is enslaved again.
 * - Nothing of the overlay is tracked. With net.bridge.bridge-nf-call-iptables, which Kubernetes sets, bridged packets run
 *   through the hooks of family ip as if received by the bridge: they must not meet another program's NAT, nor use up the
 *   table of connections, which all namespaces of the machine share. Nor must the tunnel stop when that table is full.
 */
function underlayGuard(p: FilterParameters): string {
  return `
  set vteps { type ipv4_addr; size ${VTEPS_MAX}; }
  chain vxlan {
    ip saddr @vteps ip daddr ${formatIpv4(ipv4Of(p.vtep))} @th,64,32 0x08000000 @th,120,8 0 accept
    counter drop
  }
  chain prerouting {
    type filter hook prerouting priority ${INET_PRIORITY}; policy accept;
    ${OURS} meta iifname "ve*" counter drop
    ${OURS} meta iifname "vx*" counter drop
    ${OURS} meta iifname "vb*" notrack
  }
  chain raw {
    type filter hook prerouting priority ${RAW_PRIORITY}; policy accept;
    udp dport ${p.port} notrack
  }
  chain output {
    type filter hook output priority ${RAW_PRIORITY}; policy accept;
    udp dport ${p.port} notrack
  }
  chain input {
    type filter hook input priority ${INET_PRIORITY}; policy accept;
    udp dport ${p.port} goto vxlan
  }`
}

/**
 * Restricts the agent's TCP ports on loopback, which have no authentication of their own, by the owner of the
 * connecting socket. The last rule matches any owner, and so not a packet without a socket: one of a connection that is
 * closing must pass.
 */
export function doorsTable(doors: Doors): FilterTable {
  const rules = doors.map(({ port, users }) => `tcp dport ${port} meta skuid { ${users.join(', ')} } return`)
  const body = `
  set doors { type inet_service; size ${DOORS_MAX}; }
  chain owner {
    ${rules.join('\n    ')}
    meta skuid >= 0 counter reject with tcp reset
  }
  chain output {
    type filter hook output priority ${INET_PRIORITY}; policy accept;
    oifname "lo" ip daddr 127.0.0.0/8 tcp dport @doors goto owner
  }`
  return { ...DOORS, body, doors: doors.map(({ port }) => port) }
}

/** What Serf's port accepts, from members of the cluster and from strangers. */
export function serfTable(serf: SerfPort): FilterTable {
  const body = `
  set members { type ipv4_addr; size ${MEMBERS_MAX}; }${serfLimits()}
  chain input {
    type filter hook input priority ${INET_PRIORITY}; policy accept;
    iifname != "lo" ip daddr ${formatIpv4(ipv4Of(serf.bind))} meta l4proto { tcp, udp } th dport ${serf.port} goto serf
  }`
  return { ...SERF, body, counters: SENDERS }
}
