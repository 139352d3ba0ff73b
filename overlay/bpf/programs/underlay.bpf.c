// At the underlay's device, for VXLAN to this host's tunnel address: only a host that has endpoints in a network may send
// into it. VXLAN to the host's other addresses, or to everybody at once, is dropped. All else is not ours and goes on. A
// fragment after the first does so, too: it is useless without the first, which must hold the whole VXLAN header.
//
// A packet to a container of this host is unwrapped here and redirected to it: it meets neither the hooks of the host's
// namespace nor its routes, nor waits for the VXLAN device's turn.

#define PROGRAM "classifier/from_underlay"

#include "deliver.h"
#include "packet.h"
#include "vxlan.h"
#include <linux/ipv6.h>

#define MORE_FRAGMENTS 0x2000

// What is read of the packet inside.
struct inside {
  struct ethhdr ethernet;
  __u8 head[2];
} __attribute__((packed));

// Is it whole, plain IPv4 over Ethernet that the host's stack would take, and nothing that the VXLAN device has to do more
// about than to take it out of its wrapping? That device knows how to cut what a network card is to cut.
INLINE int is_simple(const struct __sk_buff *skb, __u32 link, const struct iphdr *ip, const struct udphdr *udp)
{
  const __u32 bytes = HTONS(ip->tot_len);
  return skb->pkt_type == PACKET_HOST && link == sizeof(struct ethhdr) && ip->version == 4 && ip->ihl == 5 &&
    skb->len == link + bytes && !skb->gso_size && !skb->vlan_present && !(ip->frag_off & HTONS(MORE_FRAGMENTS)) && !udp->check &&
    HTONS(udp->len) == bytes - sizeof(struct iphdr) && !checksum(ip, sizeof(*ip), 0);
}

// Has a router on the way told of congestion, or of its beginning, which the VXLAN device tells the packet inside?
INLINE int is_told(__u8 outer, __u8 congestion)
{
  outer &= ECN_MASK;
  return outer == ECN_CONGESTION || (outer == ECN_CAPABLE_1 && congestion == ECN_CAPABLE);
}

// What a packet is follows from the one around it, and only a translation of IPv4 to IPv6 changes it. That makes room for the
// longer header.
#define TRANSLATION_BYTES (sizeof(struct ipv6hdr) - sizeof(struct iphdr))

// Takes off the wrapping, but for the space of an Ethernet header at the front. The verdict is to go on if that failed.
INLINE int take_off(struct __sk_buff *skb, __be16 type)
{
  if (type == HTONS(ETH_P_IP)) return bpf_skb_adjust_room(skb, -(__s32)WRAPPING_BYTES, BPF_ADJ_ROOM_MAC, 0) ? TC_ACT_UNSPEC : TC_ACT_OK;
  if (skb->len < WRAPPING_BYTES + sizeof(struct ethhdr) + sizeof(struct ipv6hdr) || bpf_skb_change_proto(skb, HTONS(ETH_P_IPV6), 0))
    return TC_ACT_UNSPEC;
  return bpf_skb_adjust_room(skb, -(__s32)(WRAPPING_BYTES + TRANSLATION_BYTES), BPF_ADJ_ROOM_MAC, 0) ? TC_ACT_SHOT : TC_ACT_OK;
}

// Unwraps a simple packet of a network to a container that is reached past its queue. Otherwise the VXLAN device does.
INLINE int unwrap(struct __sk_buff *skb, __u32 network, __u8 service)
{
  struct inside inside;
  if (bpf_skb_load_bytes(skb, WRAPPING_BYTES, &inside, sizeof(inside))) return TC_ACT_UNSPEC;
  const __be16 type = inside.ethernet.h_proto;
  if ((type != HTONS(ETH_P_IP) && type != HTONS(ETH_P_IPV6)) || is_told(service, congestion_of(type, inside.head)))
    return TC_ACT_UNSPEC;
  struct station_key key = {.network = network};
  copy_mac(key.mac, inside.ethernet.h_dest);
  const struct station *station = bpf_map_lookup_elem(&vxm_stations, &key);
  if (!station || station->how != BY_PEER) return TC_ACT_UNSPEC;
  const int taken = take_off(skb, type);
  if (taken != TC_ACT_OK) return taken;
  if (bpf_skb_store_bytes(skb, 0, &inside.ethernet, sizeof(inside.ethernet), 0)) return TC_ACT_SHOT;
  return deliver(skb, station);
}

SEC("classifier/from_underlay")
int from_underlay(struct __sk_buff *skb)
{
  const __u32 zero = 0, ifindex = skb->ifindex;
  const struct settings *settings = bpf_map_lookup_elem(&vxm_settings, &zero);
  const __u32 *link_bytes = bpf_map_lookup_elem(&vxm_underlays, &ifindex);
  if (!settings || !link_bytes || skb->protocol != HTONS(ETH_P_IP)) return TC_ACT_UNSPEC;
  const __u32 link = *link_bytes & 31;
  struct iphdr ip;
  if (bpf_skb_load_bytes(skb, link, &ip, sizeof(ip))) return TC_ACT_UNSPEC;
  if (ip.protocol != IPPROTO_UDP) return TC_ACT_UNSPEC;
  const int to_vtep = ip.daddr == settings->vtep;
  const int to_all = skb->pkt_type == PACKET_BROADCAST || skb->pkt_type == PACKET_MULTICAST;
  if (!to_vtep && !to_all && !bpf_map_lookup_elem(&vxm_locals, &ip.daddr)) return TC_ACT_UNSPEC;
  if (ip.frag_off & HTONS(FRAGMENT_OFFSET)) return TC_ACT_UNSPEC;
  const __u32 start = link + ip.ihl * 4;
  struct outer outer;
  if (bpf_skb_load_bytes(skb, start, &outer, sizeof(outer))) {
    // Too short for VXLAN. It is none of ours unless its port says so.
    if (bpf_skb_load_bytes(skb, start, &outer, 4) || outer.udp.dest != settings->vxlan_port) return TC_ACT_UNSPEC;
    count_drop(DROP_MALFORMED, skb);
    return TC_ACT_SHOT;
  }
  if (outer.udp.dest != settings->vxlan_port) return TC_ACT_UNSPEC;
  if (outer.vxlan.flags != VXLAN_FLAGS || outer.vxlan.network & RESERVED) {
    count_drop(DROP_MALFORMED, skb);
    return TC_ACT_SHOT;
  }
  const struct address_key key = {HTONL(outer.vxlan.network) >> 8, ip.saddr};
  if (to_vtep && !to_all && bpf_map_lookup_elem(&vxm_vteps, &key)) {
    count_bytes(key.network, SCOPE_RECEIVED, skb->len - start - sizeof(outer));
    return settings->unwraps && is_simple(skb, link, &ip, &outer.udp) ? unwrap(skb, key.network, ip.tos) : TC_ACT_UNSPEC;
  }
  count_drop(DROP_STRANGER, skb);
  return TC_ACT_SHOT;
}

#include "restore.h"
