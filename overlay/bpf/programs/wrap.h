// How a packet gets to a station on another host.

#pragma once

#include "maps.h"
#include "packet.h"
#include "vxlan.h"

// As the VXLAN devices set it.
#define VXLAN_TTL 64
// Source ports, by which the ways between two hosts are shared: RFC 7348, section 5.
#define FIRST_SOURCE_PORT 0xc000
#define SOURCE_PORTS 0x4000

// The outer headers and the inner Ethernet header.
struct wrapping {
  struct ethhdr ethernet;
  struct iphdr ip;
  struct outer outer;
  struct ethhdr inner;
} __attribute__((packed, aligned(4)));

#define MAX_IPV4_BYTES 0xffff

// By the network's VXLAN device, which knows how to cut what is too large for the underlay, and what a network card is to cut
// that is not TCP.
INLINE int to_tunnel(__u32 network)
{
  const struct network *found = bpf_map_lookup_elem(&vxm_networks, &network);
  return found ? bpf_redirect(found->tunnel, 0) : TC_ACT_UNSPEC;
}

// Wraps an IPv4 or IPv6 packet here, as that device would, and sends it by the underlay's device, past the hooks of the
// host's namespace. `once_cut`: see bytes_once_cut.
INLINE int wrap(struct __sk_buff *skb, __u32 once_cut, __u32 network, __be32 vtep, const struct settings *settings)
{
  struct wrapping headers = {};
  __u8 head[2];
  const __u32 bytes = skb->len + sizeof(struct outer);
  if (!settings->underlay || !vtep || sizeof(headers.ip) + bytes > MAX_IPV4_BYTES ||
      sizeof(headers) - sizeof(headers.ethernet) + once_cut > settings->underlay_mtu ||
      bpf_skb_load_bytes(skb, 0, &headers.inner, sizeof(headers.inner)) ||
      bpf_skb_load_bytes(skb, sizeof(struct ethhdr), head, sizeof(head)))
    return to_tunnel(network);
  const __u8 congestion = congestion_of(headers.inner.h_proto, head);
  headers.ethernet.h_proto = HTONS(ETH_P_IP);
  headers.ip.version = 4;
  headers.ip.ihl = sizeof(headers.ip) / 4;
  headers.ip.tos = congestion == ECN_CONGESTION ? ECN_CAPABLE : congestion;
  headers.ip.tot_len = HTONS(sizeof(headers.ip) + bytes);
  headers.ip.id = bpf_get_prandom_u32();
  headers.ip.ttl = VXLAN_TTL;
  headers.ip.protocol = IPPROTO_UDP;
  headers.ip.saddr = settings->vtep;
  headers.ip.daddr = vtep;
  headers.ip.check = checksum(&headers.ip, sizeof(headers.ip), 0);
  headers.outer.udp.source = HTONS(FIRST_SOURCE_PORT + bpf_get_hash_recalc(skb) % SOURCE_PORTS);
  headers.outer.udp.dest = settings->vxlan_port;
  headers.outer.udp.len = HTONS(bytes);
  headers.outer.vxlan.flags = VXLAN_FLAGS;
  headers.outer.vxlan.network = HTONL(network << 8);
  __u64 inside = BPF_F_ADJ_ROOM_ENCAP_L3_IPV4 | BPF_F_ADJ_ROOM_ENCAP_L4_UDP | BPF_F_ADJ_ROOM_ENCAP_L2(sizeof(struct ethhdr));
  // Whoever cuts it must know that there is Ethernet inside, and leave the segments of TCP as long as they are. Linux 5.13.
  if (skb->gso_size) inside |= BPF_F_ADJ_ROOM_ENCAP_L2_ETH | BPF_F_ADJ_ROOM_FIXED_GSO;
  if (bpf_skb_adjust_room(skb, WRAPPING_BYTES, BPF_ADJ_ROOM_MAC, inside)) return to_tunnel(network);
  if (bpf_skb_store_bytes(skb, 0, &headers, sizeof(headers), 0)) return TC_ACT_SHOT;
  return bpf_redirect_neigh(settings->underlay, 0, 0, 0);
}
