// What the checks find in a packet that a container may send, and what they have in common for both families.

#pragma once

#include "maps.h"
#include "packet.h"

#define VXLAN_PORT 4789

struct found {
  __u32 headers; // Bytes from the IP header to the payload, where segments of a large packet differ from each other.
  __u32 tcp;     // Is it TCP, of which the kernel can cut what is wrapped?
  __u32 opens;   // Does it open a TCP connection?
  __u32 asks;    // Does it ask for a neighbour's MAC, in a form that can be answered here?
};

// May a datagram between these ports leave? Not as a DHCP server's, nor as VXLAN.
INLINE int may_send_udp(const struct udphdr *udp, __u16 dhcp_server, __u16 dhcp_client)
{
  const __u32 zero = 0;
  const struct settings *settings = bpf_map_lookup_elem(&vxm_settings, &zero);
  if (!settings) return 0;
  return udp->source != HTONS(dhcp_server) && udp->dest != HTONS(dhcp_client) && udp->dest != HTONS(VXLAN_PORT) &&
    udp->dest != settings->vxlan_port;
}

// The MAC of an endpoint that asked for none, by the number of its address: an IPv4 address is its own.
INLINE void tell_mac(__u8 *mac, __u32 network, __be32 number)
{
  mac[0] = 0x02;
  mac[1] = network;
  __builtin_memcpy(mac + 2, &number, sizeof(number));
}

// Is there a station that has the address, of this family, which this MAC tells?
INLINE int tells(__u32 network, const __u8 *mac, __u16 family)
{
  struct station_key key = {.network = network};
  copy_mac(key.mac, mac);
  const struct station *station = bpf_map_lookup_elem(&vxm_stations, &key);
  return station && station->tells & family;
}
