// The two tables, as nft(8) reads them: port security in family bridge, the underlay guard in family inet. Each has one
// set, which alone changes; the rules stay as long as the agent runs. A drop is final whatever other people's tables say,
// however early they accept.

import { formatIpv4, type Ipv4 } from '#model/ipv4.ts'
import { OVERLAY_GROUP, REMOVAL_GROUP } from '../network/names.ts'

/** The tables with their one set each. */
const PORTS = { family: 'bridge', name: 'vxmesh_ports', set: 'ports' } as const
const UNDERLAY = { family: 'inet', name: 'vxmesh_underlay', set: 'vteps' } as const
export const FILTER_TABLES = [PORTS, UNDERLAY]

export type FilterTable = (typeof FILTER_TABLES)[number] & {
  /** What stands between the table's braces. */
  readonly body: string
}

export type FilterParameters = {
  /** This host's tunnel address. */
  readonly vtep: Ipv4
  /** UDP port of VXLAN. It is the overlay's own: nobody else's VXLAN is heard on it. */
  readonly port: number
}

/** Endpoints of one host, hosts of one cluster: far above what there is. Sets of fixed size are the faster ones. */
const PORTS_MAX = 65_535
const VTEPS_MAX = 16_384

/** Before every named priority of the family (dstnat is -300). */
const BRIDGE_PRIORITY = -400
/** Before raw (-300) and the connection tracker (-200): a stranger's packet leaves no trace there. */
const INET_PRIORITY = -450

/** RFC 7348: the registered port. A container has no tunnel on it, whatever port we use ourselves. */
const VXLAN_PORT = 4789

/**
 * Our devices. The forms of their names (`ve*`: a container's port, `vx*`: a tunnel) are other people's too: only both
 * together tell.
 */
const OURS = `meta iifgroup { ${OVERLAY_GROUP}, ${REMOVAL_GROUP} }`

export function filterTables(p: FilterParameters): readonly FilterTable[] {
  return [
    { ...PORTS, body: portSecurity(p.port) },
    { ...UNDERLAY, body: underlayGuard(p) }
  ]
}

/**
 * A container's port passes IPv4 and ARP from its own MAC and address, and nothing else: no IPv6 (the networks are
 * IPv4), no VLAN tag, no LLC. A port that is not in the set passes nothing.
 *
 * - ARP: Ethernet, IPv4 and their address lengths in the first six bytes (RFC 826).
 * - A later fragment has no ports; it is nothing without the first one, which has, and the kernel drops overlaps.
 * - UDP: no answers of a DHCP server, no tunnels. ICMP: no redirect, no router advertisement. Both also not when their
 *   headers cannot be read.
 * - `input`: nothing from an overlay is for the host, which would answer on every address that it has. Frames to
 *   01:80:c2:00:00:0x come to the host this way alone, past prerouting.
 */
function portSecurity(port: number): string {
  const tunnels = [...new Set([VXLAN_PORT, port])].join(', ')
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
    ip protocol udp udp sport != 67 udp dport != { 68, ${tunnels} } accept
    ip protocol icmp icmp type != { redirect, router-advertisement } accept
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
 * VXLAN comes from hosts of the cluster alone, to the tunnel address alone, with the I flag and every reserved bit zero
 * (RFC 7348 section 5). In the input hook, behind the reassembly of fragments and other people's redirections.
 *
 * - `prerouting`: a port that somebody took out of its bridge would talk to the host until it is put back.
 */
function underlayGuard(p: FilterParameters): string {
  return `
  set vteps { type ipv4_addr; size ${VTEPS_MAX}; }
  chain vxlan {
    ip saddr @vteps ip daddr ${formatIpv4(p.vtep)} @th,64,32 0x08000000 @th,120,8 0 accept
    counter drop
  }
  chain prerouting {
    type filter hook prerouting priority ${INET_PRIORITY}; policy accept;
    ${OURS} meta iifname "ve*" counter drop
    ${OURS} meta iifname "vx*" counter drop
  }
  chain input {
    type filter hook input priority ${INET_PRIORITY}; policy accept;
    udp dport ${p.port} goto vxlan
  }`
}
