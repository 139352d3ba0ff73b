// The flows of services: which backend a connection of a container has, and from which address the container awaits its answers.
// A container's flows are counted, so that they are never more than its share while others need theirs (docs/adr/0065).

#pragma once

#include "ends.h"
#include "maps.h"

#define FLOWS_OF_HOST 524288
#define FLOWS_OF_PORT 32768 // A connection has two.

// Ways of a flow.
#define TO_SERVICE 0
#define FROM_BACKEND 1

struct flow_key {
  __u32 port;          // The ifindex of the container's port.
  __be32 address[4];   // The other end's as the packet has it: the service's, or the backend's.
  __be16 other_port;
  __be16 own_port;
  __u8 protocol;
  __u8 way;
  __u16 zero;
};

// Marks of a flow.
#define FLOW_ENDED 1   // A FIN went this way.
#define FLOW_RESET 2
#define FLOW_OWN 4      // The container is its own backend: to the service.
#define FLOW_OWN_BACK 8 // And its answers.
#define FLOW_USED 16    // A packet has gone this way since it was made.

struct flow {
  __be32 address[4]; // What the other end becomes: the backend, or the service.
  __be16 port;
  __u8 mac[6];  // The backend's, or zeros.
  __u32 seen;   // The agent's clock at the last packet.
  __u32 marks;
};

struct {
  MAP_UINT(type, BPF_MAP_TYPE_HASH);
  MAP_UINT(max_entries, FLOWS_OF_HOST);
  MAP_UINT(map_flags, BPF_F_NO_PREALLOC);
  MAP_TYPE(key, struct flow_key);
  MAP_TYPE(value, struct flow);
} vxm_flows SEC(".maps");

// How many flows each port has, by its ifindex. The agent corrects it now and then.
struct {
  MAP_UINT(type, BPF_MAP_TYPE_HASH);
  MAP_UINT(max_entries, ENTRIES_OF_HOST);
  MAP_UINT(map_flags, BPF_F_NO_PREALLOC);
  MAP_TYPE(key, __u32);
  MAP_TYPE(value, __u64);
} vxm_flow_counts SEC(".maps");

struct flow_state {
  __u64 count; // Of the host.
  __u32 clock; // In seconds: the agent's, who sets it forward every half a minute or so.
  __u32 share; // Flows that each port may have however many the others have.
};

struct {
  MAP_UINT(type, BPF_MAP_TYPE_ARRAY);
  MAP_UINT(max_entries, 1);
  MAP_TYPE(key, __u32);
  MAP_TYPE(value, struct flow_state);
} vxm_flow_state SEC(".maps");

#define PORTS_OF_PART 512
#define PARTS 128

// Has a port, by the low bits of its ifindex, ever had flows? Never taken back, as another with these bits may have some.
struct flow_users {
  __u8 has[PORTS_OF_PART];
};

struct {
  MAP_UINT(type, BPF_MAP_TYPE_ARRAY);
  MAP_UINT(max_entries, PARTS);
  MAP_TYPE(key, __u32);
  MAP_TYPE(value, struct flow_users);
} vxm_flow_users SEC(".maps");

INLINE __u8 *user_of_flows(__u32 port)
{
  const __u32 part = port / PORTS_OF_PART % PARTS;
  struct flow_users *users = bpf_map_lookup_elem(&vxm_flow_users, &part);
  return users ? users->has + port % PORTS_OF_PART : 0;
}

// May there be any? What a container receives that has none costs next to nothing.
INLINE int may_have_flows(__u32 port)
{
  const __u8 *user = user_of_flows(port);
  return user && *user;
}

#define TCP_FIN 1
#define TCP_SYN 2
#define TCP_RST 4
#define TCP_ACK 16

INLINE __u32 tcp_flags(struct __sk_buff *skb, const struct ends *ends)
{
  const __u8 *flags = ends->protocol == IPPROTO_TCP ? reach(skb, ends->at + TCP_FLAGS_AT, sizeof(*flags)) : 0;
  return flags ? *flags : 0;
}

INLINE void note_packet(struct flow *flow, __u32 flags)
{
  const __u32 zero = 0;
  const struct flow_state *state = bpf_map_lookup_elem(&vxm_flow_state, &zero);
  const __u32 marks = FLOW_USED | (flags & TCP_FIN ? FLOW_ENDED : 0) | (flags & TCP_RST ? FLOW_RESET : 0);
  // Written only when it changes: processors share the flow.
  if (state && flow->seen != state->clock) flow->seen = state->clock;
  if (marks & ~flow->marks) flow->marks |= marks;
}

// ICMP errors, by family, that quote the packet that they are about.
#define ICMP_BYTES 8
#define ICMP_CHECK_AT 2

INLINE int is_error(__u32 protocol, __u8 kind)
{
  return protocol == IPPROTO_ICMP ? kind == 3 || kind == 11 || kind == 12 : kind >= 1 && kind <= 4;
}

// An error about a packet that went to a backend: it is made to be about the packet that the container sent, to the service, and
// from the service if it came from the backend.
INLINE int restore_error(struct __sk_buff *skb, __be16 type, __u32 port, const struct ends *ends)
{
  __u8 kind;
  struct ends about = {};
  const __u32 start = ends->at + ICMP_BYTES;
  if (bpf_skb_load_bytes(skb, ends->at, &kind, sizeof(kind)) || !is_error(ends->protocol, kind) || !read_ends(skb, type, start, &about) ||
      about.is_fragment || !has_ports(about.protocol))
    return 0;
  struct flow_key key = {.port = port, .other_port = about.to_port, .own_port = about.from_port, .protocol = about.protocol, .way = FROM_BACKEND};
  copy_address(key.address, about.to);
  const struct flow *flow = bpf_map_lookup_elem(&vxm_flows, &key);
  if (!flow) return 0;
  const __u32 check = ends->at + ICMP_CHECK_AT;
  // Within the quoted header of IPv4 the address and the checksum cancel out.
  if (type != HTONS(ETH_P_IP) && sum_address(skb, type, check, about.to, flow->address, 0)) return -1;
  if (sum_header(skb, type, start, about.to, flow->address) || store_address(skb, type, start, 1, flow->address)) return -1;
  if (about.protocol != IPPROTO_SCTP) {
    const __be16 to_port = flow->port;
    if (bpf_l4_csum_replace(skb, check, about.to_port, to_port, 2) || bpf_skb_store_bytes(skb, about.at + 2, &to_port, sizeof(to_port), 0))
      return -1;
  }
  if (!same_address(ends->from, about.to)) return 0;
  if (type != HTONS(ETH_P_IP) && sum_address(skb, type, check, ends->from, flow->address, BPF_F_PSEUDO_HDR)) return -1;
  return sum_header(skb, type, sizeof(struct ethhdr), ends->from, flow->address) ||
    store_address(skb, type, sizeof(struct ethhdr), 0, flow->address);
}

// What a backend answers to this port's container becomes the service's answer. Not 0 when a packet is half changed.
INLINE int restore(struct __sk_buff *skb, __u32 port)
{
  const __be16 type = skb->protocol;
  struct ends ends = {};
  if ((type != HTONS(ETH_P_IP) && type != HTONS(ETH_P_IPV6)) || !read_ends(skb, type, sizeof(struct ethhdr), &ends) || ends.is_fragment)
    return 0;
  if (ends.protocol == (type == HTONS(ETH_P_IP) ? IPPROTO_ICMP : IPPROTO_ICMPV6)) return restore_error(skb, type, port, &ends);
  if (!has_ports(ends.protocol)) return 0;
  struct flow_key key = {.port = port, .other_port = ends.from_port, .own_port = ends.to_port, .protocol = ends.protocol, .way = FROM_BACKEND};
  copy_address(key.address, ends.from);
  struct flow *flow = bpf_map_lookup_elem(&vxm_flows, &key);
  if (!flow) return 0;
  note_packet(flow, tcp_flags(skb, &ends));
  return replace_end(skb, type, &ends, 0, flow->address, flow->port);
}
