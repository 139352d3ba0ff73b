// Services: a container's packet to the address of one goes to one of its backends. See flows.h for the way back.

#pragma once

#include "flows.h"

// Of services, and with `part` the place among its backends, of those.
struct service_key {
  __u32 network;
  __be32 address[4];
  __be16 port;
  __u8 protocol;
  __u8 part;
};

#define CHOICES_OF_PART 1024 // A power of two.

// A Maglev table: the places of backends by the hash of a connection. One of more slots than a part has goes on in the parts after it.
struct service {
  __u16 slots; // Of all parts; 0: it has no backends.
  __u16 by_client; // Does a client have one backend, whatever its port?
  __u8 choices[CHOICES_OF_PART];
};

struct {
  MAP_UINT(type, BPF_MAP_TYPE_HASH);
  MAP_UINT(max_entries, ENTRIES_OF_HOST);
  MAP_UINT(map_flags, BPF_F_NO_PREALLOC);
  MAP_TYPE(key, struct service_key);
  MAP_TYPE(value, struct service);
} vxm_services SEC(".maps");

struct backend {
  __be32 address[4];
  __be16 port;
  __u8 mac[6];
};

struct {
  MAP_UINT(type, BPF_MAP_TYPE_HASH);
  MAP_UINT(max_entries, ENTRIES_OF_MESH);
  MAP_UINT(map_flags, BPF_F_NO_PREALLOC);
  MAP_TYPE(key, struct service_key);
  MAP_TYPE(value, struct backend);
} vxm_backends SEC(".maps");

// What became of a packet.
#define SERVICE_NONE 0    // It is to no service.
#define SERVICE_CHOSEN 1  // It is to a backend now.
#define SERVICE_OWN 2     // It is to the container itself, from the service.
#define SERVICE_NOBODY 3  // No such port of the service, or no backend.
#define SERVICE_FULL 4    // The container has as many flows as it may.
#define SERVICE_FRAGMENT 5
#define SERVICE_FAILED 6

// How many backends are tried whose answers could not be told from those of another service.
#define ATTEMPTS 4

// What services' addresses resolve to. No endpoint's packets are delivered by it.
#define SERVICE_MAC {0x0e, 0x76, 0x78, 0x00, 0x00, 0x01}

INLINE int is_service_mac(const __u8 *mac)
{
  const __u8 service[6] = SERVICE_MAC;
  return same_mac(mac, service);
}

// The finalizer of MurmurHash3.
INLINE __u32 mixed(__u32 hash, __u32 more)
{
  hash ^= more;
  hash = (hash ^ hash >> 16) * 0x85ebca6b;
  hash = (hash ^ hash >> 13) * 0xc2b2ae35;
  return hash ^ hash >> 16;
}

INLINE __u32 folded(const __be32 *address)
{
  return HTONL(address[0] ^ address[1] ^ address[2] ^ address[3]);
}

INLINE __u32 hash_of(const struct ends *ends, __u32 by_client)
{
  const __u32 client = mixed(0, folded(ends->from));
  if (by_client) return client;
  return mixed(mixed(client, folded(ends->to)), (__u32)HTONS(ends->from_port) << 16 | HTONS(ends->to_port));
}

// The backend of a slot.
INLINE const struct backend *backend_at(const struct service *service, const struct service_key *of, __u32 slot)
{
  struct service_key key = *of;
  if (slot >= CHOICES_OF_PART) {
    key.part = slot / CHOICES_OF_PART;
    service = bpf_map_lookup_elem(&vxm_services, &key);
    if (!service) return 0;
  }
  key.part = service->choices[slot % CHOICES_OF_PART];
  return bpf_map_lookup_elem(&vxm_backends, &key);
}

// May a port have that many flows more? They are counted if it may.
INLINE int may_grow(__u32 port, __u32 more)
{
  const __u32 zero = 0;
  if (!more) return 1;
  struct flow_state *state = bpf_map_lookup_elem(&vxm_flow_state, &zero);
  __u64 *count = bpf_map_lookup_elem(&vxm_flow_counts, &port);
  if (!state || !count || *count + more > FLOWS_OF_PORT) return 0;
  if (state->count + more > FLOWS_OF_HOST / 2 && *count + more > state->share) return 0;
  __u8 *user = user_of_flows(port);
  if (!user) return 0;
  if (!*user) *user = 1;
  __sync_fetch_and_add(count, more);
  __sync_fetch_and_add(&state->count, more);
  return 1;
}

// The key of a flow's other half: of the answers if it is to the service.
INLINE void answer_key(struct flow_key *answers, const struct flow_key *key, const struct flow *flow)
{
  *answers = *key;
  if (flow->marks & FLOW_OWN) {
    answers->other_port = key->own_port;
    answers->own_port = flow->port;
    return;
  }
  copy_address(answers->address, flow->address);
  answers->other_port = flow->port;
  answers->way = FROM_BACKEND;
}

// Is this other flow with the same answers over, or the same one?
INLINE int is_free(const struct flow *answers, const struct ends *ends)
{
  return (same_address(answers->address, ends->to) && answers->port == ends->to_port) || answers->marks & (FLOW_ENDED | FLOW_RESET);
}

// A known flow gets another backend: the answers of the one before are no longer awaited. The agent corrects the counts.
INLINE void forget_answers(const struct flow_key *key, const struct flow *known, const struct flow *flow)
{
  if (known->port == flow->port && same_address(known->address, flow->address)) return;
  struct flow_key answers;
  answer_key(&answers, key, known);
  const struct flow *back = bpf_map_lookup_elem(&vxm_flows, &answers);
  // Another connection may have taken them over.
  if (back && same_address(back->address, key->address) && back->port == key->other_port) bpf_map_delete_elem(&vxm_flows, &answers);
}

// Chooses the backend of a new connection, and writes both halves of its flow. `known`: what another one with these ports had.
INLINE int choose(__u32 network, const struct ends *ends, const struct flow_key *key, const struct flow *known, struct flow *flow)
{
  struct service_key of = {.network = network, .port = ends->to_port, .protocol = ends->protocol};
  copy_address(of.address, ends->to);
  const struct service *service = bpf_map_lookup_elem(&vxm_services, &of);
  if (!service) return SERVICE_NONE;
  const __u32 slots = service->slots, zero = 0;
  if (!slots) return SERVICE_NOBODY;
  const struct flow_state *state = bpf_map_lookup_elem(&vxm_flow_state, &zero);
  if (!state) return SERVICE_FULL;
  const __u32 hash = hash_of(ends, service->by_client);
  struct flow_key answers;
  const struct flow *other = 0;
  __u32 found = 0;
  for (__u32 i = 0; i < ATTEMPTS && !found; i++) {
    const struct backend *backend = backend_at(service, &of, (hash + i) % slots);
    if (!backend) return SERVICE_NOBODY;
    copy_address(flow->address, backend->address);
    flow->port = backend->port;
    copy_mac(flow->mac, backend->mac);
    flow->seen = state->clock;
    flow->marks = same_address(backend->address, ends->from) ? FLOW_OWN : 0;
    answer_key(&answers, key, flow);
    other = bpf_map_lookup_elem(&vxm_flows, &answers);
    found = !other || is_free(other, ends);
  }
  if (!found || !may_grow(key->port, !known + !other)) return SERVICE_FULL;
  if (known) forget_answers(key, known, flow);
  if (bpf_map_update_elem(&vxm_flows, key, flow, BPF_ANY)) return SERVICE_FULL;
  struct flow back = {.port = ends->to_port, .seen = flow->seen, .marks = flow->marks ? FLOW_OWN_BACK : 0};
  copy_address(back.address, ends->to);
  return bpf_map_update_elem(&vxm_flows, &answers, &back, BPF_ANY) ? SERVICE_FULL : SERVICE_CHOSEN;
}

// Back to the container that sent it, from the service: addresses change places, so that no checksum of them changes.
INLINE int turn_back(struct __sk_buff *skb, __be16 type, const struct ends *ends)
{
  const __u32 start = sizeof(struct ethhdr);
  struct ethhdr ethernet;
  if (bpf_skb_load_bytes(skb, 0, &ethernet, sizeof(ethernet))) return -1;
  const __u8 service[6] = SERVICE_MAC;
  copy_mac(ethernet.h_dest, ethernet.h_source);
  copy_mac(ethernet.h_source, service);
  return bpf_skb_store_bytes(skb, 0, &ethernet, sizeof(ethernet), 0) || store_address(skb, type, start, 0, ends->to) ||
    store_address(skb, type, start, 1, ends->from);
}

// To the container itself, from the service. One of the ports is another.
INLINE int to_itself(struct __sk_buff *skb, __be16 type, const struct ends *ends, const struct flow *flow)
{
  if (turn_back(skb, type, ends) || replace_port(skb, ends, flow->marks & FLOW_OWN ? 1 : 0, flow->port)) return SERVICE_FAILED;
  return SERVICE_OWN;
}

// Leads a packet to the address of a service to its backend. `is_sure`: it has the services' MAC.
INLINE int to_service(struct __sk_buff *skb, __be16 type, __u32 network, int is_sure)
{
  const int unknown = is_sure ? SERVICE_NOBODY : SERVICE_NONE;
  struct ends ends = {};
  if ((type != HTONS(ETH_P_IP) && type != HTONS(ETH_P_IPV6)) || !read_ends(skb, type, sizeof(struct ethhdr), &ends)) return unknown;
  if (ends.is_fragment) return is_sure ? SERVICE_FRAGMENT : SERVICE_NONE;
  if (!has_ports(ends.protocol)) return unknown;
  struct flow_key key = {.port = skb->ifindex, .other_port = ends.to_port, .own_port = ends.from_port, .protocol = ends.protocol};
  copy_address(key.address, ends.to);
  const __u32 flags = tcp_flags(skb, &ends);
  struct flow *known = bpf_map_lookup_elem(&vxm_flows, &key), flow;
  // The first packet of a connection is led to a backend of now, whatever another one with these ports had.
  if (known && (flags & (TCP_SYN | TCP_ACK)) != TCP_SYN) {
    note_packet(known, flags);
    flow = *known;
  } else {
    const int chosen = choose(network, &ends, &key, known, &flow);
    if (chosen != SERVICE_CHOSEN) return chosen == SERVICE_NONE ? unknown : chosen;
  }
  if (flow.marks & (FLOW_OWN | FLOW_OWN_BACK)) return to_itself(skb, type, &ends, &flow);
  if (replace_end(skb, type, &ends, 1, flow.address, flow.port)) return SERVICE_FAILED;
  struct ethhdr *ethernet = reach(skb, 0, sizeof(*ethernet));
  if (!ethernet) return SERVICE_FAILED;
  copy_mac(ethernet->h_dest, flow.mac);
  return SERVICE_CHOSEN;
}
