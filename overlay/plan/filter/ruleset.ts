// The tables in nft(8) syntax: port security in family bridge; the underlay guard, the doors and Serf's limits in family
// inet. Each has one set of ours, port security one a family; only their elements change while the agent runs, never the
// rules. A drop here is final: an accept in any other table, however early its hook, cannot override it. Pure.

import { familyOf, formatIp, isIpv4, type Family, type Ip } from '#model/ip.ts'
import { numberOfIpv6, type Ipv6Subnet } from '#model/ipv6.ts'
import { MTU_MIN_IPV6 } from '#model/quantity.ts'
import { OVERLAY_GROUP, REMOVAL_GROUP } from '../network/names.ts'
import { vxlanUnderlay } from '../underlay/underlay.ts'
import { bannedMessages, ICMP6, TRANSPORTS6 } from './banned.ts'
import { protocolOf, SENDERS, serfLimits, type SerfPort } from './serf-limits.ts'

/** Each table with its set; port security has `ports6`, too. */
export const PORTS = { family: 'bridge', name: 'vxmesh_ports', set: 'ports' } as const
const UNDERLAY = { family: 'inet', name: 'vxmesh_underlay', set: 'vteps' } as const
export const FILTER_TABLES = [PORTS, UNDERLAY]
const DOORS = { family: 'inet', name: 'vxmesh_doors', set: 'doors' } as const
const SERF = { family: 'inet', name: 'vxmesh_serf', set: 'members' } as const

export type FilterTable = ((typeof FILTER_TABLES)[number] | typeof DOORS | typeof SERF) & {
  /** The text between the table's braces. */
  readonly body: string
  /** The family of the addresses in sets `vteps` and `members`: that of the underlay. */
  readonly addresses?: Family
  /** The elements of set `doors`, which do not depend on the state. */
  readonly doors?: readonly number[]
  /** Names of its counters that are read. */
  readonly counters?: readonly string[]
}

export type SetName = FilterTable['set'] | 'ports6'

/** The sets of ours: the kernel itself fills others. */
export function setsOf({ set }: Pick<FilterTable, 'set'>): readonly SetName[] {
  return set === 'ports' ? [set, 'ports6'] : [set]
}

/** TCP ports of this host's loopback device, each with the users whose processes may connect. */
export type Doors = readonly { readonly port: number; readonly users: readonly number[] }[]

export type FilterParameters = {
  /** This host's tunnel address. */
  readonly vtep: Ip
  /** UDP port of VXLAN. Dedicated to the overlay: other VXLAN traffic to it is dropped. */
  readonly port: number
  /** Of an IPv6 underlay: the addresses to which packets take no router. Null: none is known. */
  readonly onLink?: Ipv6Subnet | null
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
    { ...UNDERLAY, addresses: familyOf(p.vtep), body: underlayGuard(p) }
  ]
}

/**
 * A container's port accepts IPv4, ARP and IPv6 from its own MAC and addresses, and nothing else: no VLAN tag, no LLC, no
 * family that its network does not have. A port that is in no set accepts nothing.
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
  set ports6 { typeof ${OWN6}; size ${PORTS_MAX}; }
  chain container {
    ether type ip meta iifname . ether saddr . ip saddr @ports goto ipv4
    ether type arp @nh,0,48 0x000108000604 arp operation { request, reply } \
      meta iifname . ether saddr . arp saddr ip @ports meta iifname . arp saddr ether . arp saddr ip @ports accept
    ether type ip6 meta l4proto >= 0 ${OWN6} @ports6 goto ipv6
    counter drop
  }
  chain ipv4 {
    ip protocol tcp accept
    ip frag-off & 0x1fff != 0 accept
    ip protocol udp udp sport != ${udpSource} udp dport != { ${udpDestinations.join(', ')} } accept
    ip protocol icmp icmp type != { ${icmpTypes.map(({ name }) => name).join(', ')} } accept
    ip protocol { udp, icmp } counter drop
  }
${ipv6Chains(port)}
  chain prerouting {
    type filter hook prerouting priority ${BRIDGE_PRIORITY}; policy accept;
    meta iifname "ve*" ${OURS} goto container
  }
  chain input {
    type filter hook input priority ${BRIDGE_PRIORITY}; policy accept;
    ${OURS} counter drop
  }`
}

/** In front of a port's elements: the source address of an IPv6 packet, the target of an ND message, a MAC in its option. */
const own6 = (mac: string, address: string): string => `meta iifname . ${mac} . ${address}`
const [ETHER_SOURCE, LINK_OPTION] = ['@ll,48,48', '@th,208,48']
const [SOURCE6, ND_TARGET, QUOTED_DESTINATION] = ['@nh,64,128', '@th,64,128', '@th,256,128']
/** Headers without options. */
const [FRAGMENT6_BYTES, TCP_BYTES] = [8, 20]
const OWN6 = own6(ETHER_SOURCE, SOURCE6)

/**
 * What a container sends from its own IPv6 address. The kernel has read the header as far as the transport's, or else
 * `meta l4proto` matches nothing; here, nothing but a fragment header is accepted between the two.
 *
 * - A fragment's first part holds the transport's ports or type, for its offset counts units of 8 bytes; of TCP it must hold
 *   the whole header (RFC 7112), as in the programs. No ND in fragments (RFC 6980), and no error: it is no larger than the
 *   smallest MTU (RFC 4443 section 2.4).
 * - An error is about a packet that was sent to this container: a made-up "packet too big" lowers no path but its own.
 * - ND: a solicitation with the sender's MAC, an advertisement of the own address with the own MAC or none, and no other option,
 *   by the length (RFC 4861 section 4.3 and 4.4). The sets are of plain integers, because nft 1.0.6 has no words for these
 *   fields.
 */
function ipv6Chains(port: number): string {
  const { sources, destinations } = bannedMessages(port).udp6
  const { echo, packetTooBig, otherErrors, solicitation, advertisement } = ICMP6
  return `\
  chain ipv6 {
    ip6 nexthdr { ${TRANSPORTS6.join(', ')} } accept
    ip6 nexthdr udp goto udp6
    ip6 nexthdr icmpv6 goto icmp6
    ip6 nexthdr ipv6-frag goto fragment6
    counter drop
  }
  chain fragment6 {
    frag frag-off != 0 accept
    frag nexthdr tcp ip6 length < ${FRAGMENT6_BYTES + TCP_BYTES} counter drop
    frag nexthdr { ${TRANSPORTS6.join(', ')} } accept
    frag nexthdr udp goto udp6
    frag nexthdr icmpv6 icmpv6 type { ${echo.join(', ')} } accept
    counter drop
  }
  chain udp6 {
    udp sport != { ${sources.join(', ')} } udp dport != { ${destinations.join(', ')} } accept
    counter drop
  }
  chain icmp6 {
    icmpv6 type { ${echo.join(', ')} } accept
    icmpv6 type { ${[packetTooBig, ...otherErrors].join(', ')} } ${own6(ETHER_SOURCE, QUOTED_DESTINATION)} @ports6 accept
    icmpv6 type ${solicitation} ip6 length 32 @th,192,16 0x0101 ${own6(LINK_OPTION, SOURCE6)} @ports6 accept
    icmpv6 type ${advertisement} ${own6(ETHER_SOURCE, ND_TARGET)} @ports6 ip6 length 24 accept
    icmpv6 type ${advertisement} ip6 length 32 @th,192,16 0x0201 ${own6(LINK_OPTION, ND_TARGET)} @ports6 accept
    counter drop
  }`
}

/**
 * Accepts VXLAN only from hosts of the cluster, only to the tunnel address, with the I flag set and every reserved bit
 * zero (RFC 7348 section 5). The input hook runs after fragment reassembly and after DNAT by other tables.
 *
 * - A fragment is checked when it is whole with IPv4. IPv6 fragments meet this hook one by one: the first must show all that is
 *   checked, and the kernel reassembles none whose headers go beyond it (RFC 8200 section 4.5).
 * - `prerouting`: a port that was removed from its bridge could otherwise reach the host until it is enslaved again.
 * - Nothing of the overlay is tracked. With net.bridge.bridge-nf-call-iptables, which Kubernetes sets, bridged packets run
 *   through the hooks of family ip as if received by the bridge: they must not meet another program's NAT, nor use up the
 *   table of connections, which all namespaces of the machine share. Nor must the tunnel stop when that table is full.
 */
function underlayGuard(p: FilterParameters): string {
  const isFour = isIpv4(p.vtep)
  const own = `${protocolOf(p.vtep)} daddr ${formatIp(p.vtep)}`
  return `
  set vteps { ${isFour ? 'type ipv4_addr' : `typeof ${SOURCE6}`}; size ${VTEPS_MAX}; }
  chain vxlan {
    ${isFour ? `ip saddr @vteps ${own}` : `${own} ${SOURCE6} @vteps`} @th,64,32 0x08000000 @th,120,8 0 accept
    counter drop
  }${isFour ? '' : pathChain(p)}
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
    udp dport ${p.port} goto vxlan${isFour ? '' : '\n    icmpv6 type packet-too-big jump path'}
  }`
}

/**
 * Anyone may send a host "packet too big" about its path to another, and the kernel believes it for ten minutes. It is refused
 * - in fragments, which it is never in (RFC 4443 section 2.4), and which would hide what it is about;
 * - about a host on this link, to which there is no router on the way that could send it;
 * - about a member, if it claims less than a tunnel needs for the smallest MTU of IPv6, for that would stop all large packets of
 *   IPv6 networks; unless it is about TCP, whose sequence numbers a stranger does not know.
 */
function pathChain({ vtep, onLink = null }: FilterParameters): string {
  const needed = MTU_MIN_IPV6 + vxlanUnderlay(vtep).overheadBytes
  return `
  chain path {
    exthdr frag exists counter drop${onLink === null ? '' : aboutNeighbours(onLink)}
    icmpv6 mtu < ${needed} @th,112,8 != 6 ${QUOTED_DESTINATION} @vteps counter drop
  }`
}

function aboutNeighbours({ base, prefixLength }: Ipv6Subnet): string {
  const prefix = numberOfIpv6(base) >> BigInt(128 - prefixLength)
  return `\n    @th,256,${prefixLength} 0x${prefix.toString(16)} counter drop`
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
  const [addresses, ip] = [familyOf(serf.bind), protocolOf(serf.bind)]
  const body = `
  set members { type ${addresses}_addr; size ${MEMBERS_MAX}; }${serfLimits(serf)}
  chain input {
    type filter hook input priority ${INET_PRIORITY}; policy accept;
    iifname != "lo" ${ip} daddr ${formatIp(serf.bind)} meta l4proto { tcp, udp } th dport ${serf.port} goto serf
  }`
  return { ...SERF, addresses, body, counters: SENDERS }
}
