// The UDP and ICMP messages that no container may send, and those of ICMPv6 that it may, whatever the driver: the nftables
// rules and the OpenFlow pipeline both compile from these lists. Pure.

/** RFC 7348: the registered UDP port of VXLAN. */
const VXLAN_PORT = 4789
const [DHCP_SERVER_PORT, DHCP_CLIENT_PORT] = [67, 68]
/** Client and server (RFC 8415 section 7.2). No message of either passes: the cluster gives the addresses. */
const DHCPV6_PORTS = [546, 547] as const

/** With their nft(8) names. */
const ICMP_TYPES = [
  { name: 'redirect', number: 5 },
  { name: 'router-advertisement', number: 9 }
] as const

export type BannedMessages = {
  /** A container must not act as a DHCP server. */
  readonly udpSource: number
  /** DHCP clients, and VXLAN on the registered port as well as on our own. */
  readonly udpDestinations: readonly number[]
  /** Over IPv6. */
  readonly udp6: { readonly sources: readonly number[]; readonly destinations: readonly number[] }
  /** A container must not redirect its peers' routes. */
  readonly icmpTypes: readonly { readonly name: string; readonly number: number }[]
}

/** @param port UDP port of our VXLAN */
export function bannedMessages(port: number): BannedMessages {
  const distinct = (...ports: readonly number[]): number[] => [...new Set([...ports, VXLAN_PORT, port])]
  return {
    udpSource: DHCP_SERVER_PORT,
    udpDestinations: distinct(DHCP_CLIENT_PORT),
    udp6: { sources: DHCPV6_PORTS, destinations: distinct(...DHCPV6_PORTS) },
    icmpTypes: ICMP_TYPES
  }
}

/**
 * What may follow an IPv6 header, besides UDP, ICMPv6 and a fragment of these: TCP, ESP, SCTP. No other header: an extension
 * could hide what is behind it.
 */
export const TRANSPORTS6 = [6, 50, 132] as const

/**
 * ICMPv6 types (RFC 4443, RFC 4861). Not among them are router solicitations and advertisements, redirects, and queries and
 * reports of multicast listeners: the cluster gives addresses and routes, and no bridge snoops.
 */
export const ICMP6 = {
  echo: [128, 129],
  packetTooBig: 2,
  otherErrors: [1, 3, 4],
  solicitation: 135,
  advertisement: 136
} as const
