// The UDP and ICMP messages that no container may send, whatever the driver: the nftables rules and the OpenFlow pipeline
// both compile from this list. Pure.

/** RFC 7348: the registered UDP port of VXLAN. */
const VXLAN_PORT = 4789
const [DHCP_SERVER_PORT, DHCP_CLIENT_PORT] = [67, 68]

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
  /** A container must not redirect its peers' routes. */
  readonly icmpTypes: readonly { readonly name: string; readonly number: number }[]
}

/** @param port UDP port of our VXLAN */
export function bannedMessages(port: number): BannedMessages {
  const udpDestinations = [...new Set([DHCP_CLIENT_PORT, VXLAN_PORT, port])]
  return { udpSource: DHCP_SERVER_PORT, udpDestinations, icmpTypes: ICMP_TYPES }
}
