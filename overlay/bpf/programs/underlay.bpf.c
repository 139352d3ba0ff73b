// At the underlay's device, for VXLAN to this host's tunnel address: only a host that has endpoints in a network may send
// into it. VXLAN to the host's other addresses, or to everybody at once, is dropped. All else is not ours and goes on. A
// fragment after the first does so, too: it is useless without the first, which must hold the whole VXLAN header.

#include "maps.h"
#include "packet.h"

struct vxlan {
  __be32 flags;
  __be32 network; // In the upper 24 bits; the lower ones are reserved.
};

// RFC 7348, section 5: the I flag is set, all other bits are reserved and zero.
#define VXLAN_FLAGS HTONL(0x08000000)
#define RESERVED HTONL(0xff)

// The headers that follow the IPv4 header.
struct outer {
  struct udphdr udp;
  struct vxlan vxlan;
};

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
    return TC_ACT_UNSPEC;
  }
  count_drop(DROP_STRANGER, skb);
  return TC_ACT_SHOT;
}
