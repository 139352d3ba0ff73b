// VXLAN over IPv4 (RFC 7348).

#pragma once

#include "packet.h"

struct vxlan {
  __be32 flags;
  __be32 network; // In the upper 24 bits; the lower ones are reserved.
};

// Section 5: the I flag is set, all other bits are reserved and zero.
#define VXLAN_FLAGS HTONL(0x08000000)
#define RESERVED HTONL(0xff)

// The headers that follow the IPv4 header.
struct outer {
  struct udphdr udp;
  struct vxlan vxlan;
};

// What is in front of the inner Ethernet header.
#define WRAPPING_BYTES (sizeof(struct ethhdr) + sizeof(struct iphdr) + sizeof(struct outer))

// The field in a type of service, or a traffic class, by which routers tell of congestion (RFC 3168); RFC 6040 has what it becomes in a tunnel.
#define ECN_MASK 3
#define ECN_CAPABLE_1 1 // ECT(1), which may tell of its beginning.
#define ECN_CAPABLE 2   // ECT(0).
#define ECN_CONGESTION 3

// That field of an IPv4 or IPv6 packet, from its first two bytes.
INLINE __u8 congestion_of(__be16 type, const __u8 *head)
{
  return (type == HTONS(ETH_P_IP) ? head[1] : head[1] >> 4) & ECN_MASK;
}
