// The maps that our programs share. The agent writes all of them but the counters, and reads the counters.

#pragma once

#include "bpf.h"

#define ENTRIES_OF_HOST 65536
#define ENTRIES_OF_MESH 262144

// Flags of a port.
#define PORT_REDIRECTS 1 // What it sends may leave by a redirect, past the bridge and past queues on its own device.
#define PORT_SERVICES 2  // Its network has services.
#define PORT_BEYOND 4    // And some with addresses that no neighbour has: packets to them go to the router.

// Of a family in which the container has no address, that is zero.
struct port {
  __u32 network;
  __be32 address;
  __u8 mac[6];
  __u16 flags;
  __u32 mtu; // Of the network: a larger packet takes the bridge's way, on which it is dropped.
  __be32 address6[4];
};

// A container's port, by the ifindex of the host side of its veth.
struct {
  MAP_UINT(type, BPF_MAP_TYPE_HASH);
  MAP_UINT(max_entries, ENTRIES_OF_HOST);
  MAP_UINT(map_flags, BPF_F_NO_PREALLOC);
  MAP_TYPE(key, __u32);
  MAP_TYPE(value, struct port);
} vxm_ports SEC(".maps");

// How a station is reached.
#define BY_PEER 1   // Into the container's own device.
#define BY_QUEUE 2  // By the host side of its veth, whose queue shapes what it receives.
#define BY_TUNNEL 3 // On another host.
#define BY_BRIDGE 4 // By the bridge or switch: the driver does not redirect.

struct station_key {
  __u32 network;
  __u8 mac[6];
  __u16 zero;
};

// Has it the address, of each family, that its MAC tells? See tell_mac.
#define TELLS_IPV4 1
#define TELLS_IPV6 2

struct station {
  __u32 to; // The ifindex of its port, or, on another host, that host's VTEP; 0: the network's VXLAN device knows the way.
  __u16 how;
  __u8 tells;
  __u8 awaits; // On this host: may what it receives be an answer of a service's backend?
};

// The endpoints of this host's networks, by network and MAC. Routers are not in it: the bridge leads to them.
struct {
  MAP_UINT(type, BPF_MAP_TYPE_HASH);
  MAP_UINT(max_entries, ENTRIES_OF_MESH);
  MAP_UINT(map_flags, BPF_F_NO_PREALLOC);
  MAP_TYPE(key, struct station_key);
  MAP_TYPE(value, struct station);
} vxm_stations SEC(".maps");

struct address_key {
  __u32 network;
  __be32 address;
};

struct hardware {
  __u8 mac[6];
  __u16 zero;
};

// From which ARP requests are answered for an address that no station's MAC tells: a router's, or one that was asked for.
struct {
  MAP_UINT(type, BPF_MAP_TYPE_HASH);
  MAP_UINT(max_entries, ENTRIES_OF_MESH);
  MAP_UINT(map_flags, BPF_F_NO_PREALLOC);
  MAP_TYPE(key, struct address_key);
  MAP_TYPE(value, struct hardware);
} vxm_neighbours SEC(".maps");

struct address6_key {
  __u32 network;
  __be32 address[4];
};

// The same for neighbour solicitations.
struct {
  MAP_UINT(type, BPF_MAP_TYPE_HASH);
  MAP_UINT(max_entries, ENTRIES_OF_MESH);
  MAP_UINT(map_flags, BPF_F_NO_PREALLOC);
  MAP_TYPE(key, struct address6_key);
  MAP_TYPE(value, struct hardware);
} vxm_neighbours6 SEC(".maps");

// Which hosts may send into a network: those that have endpoints in it.
struct {
  MAP_UINT(type, BPF_MAP_TYPE_HASH);
  MAP_UINT(max_entries, ENTRIES_OF_MESH);
  MAP_UINT(map_flags, BPF_F_NO_PREALLOC);
  MAP_TYPE(key, struct address_key);
  MAP_TYPE(value, __u32);
} vxm_vteps SEC(".maps");

// The network of a VXLAN device, by its ifindex.
struct {
  MAP_UINT(type, BPF_MAP_TYPE_HASH);
  MAP_UINT(max_entries, ENTRIES_OF_HOST);
  MAP_UINT(map_flags, BPF_F_NO_PREALLOC);
  MAP_TYPE(key, __u32);
  MAP_TYPE(value, __u32);
} vxm_tunnels SEC(".maps");

struct network {
  __u32 tunnel;     // The ifindex of its VXLAN device.
  __u32 first;      // Of the numbers that MACs tell, that of the first address of its IPv6 subnet.
  __u32 count;      // Of the addresses from there on that MACs tell; 0 without IPv6.
  __be32 subnet[4]; // The first address.
};

struct {
  MAP_UINT(type, BPF_MAP_TYPE_HASH);
  MAP_UINT(max_entries, ENTRIES_OF_HOST);
  MAP_UINT(map_flags, BPF_F_NO_PREALLOC);
  MAP_TYPE(key, __u32);
  MAP_TYPE(value, struct network);
} vxm_networks SEC(".maps");

// The devices by which VXLAN arrives: bytes of the link-layer header, 14 for Ethernet, 0 for a device without one.
struct {
  MAP_UINT(type, BPF_MAP_TYPE_HASH);
  MAP_UINT(max_entries, ENTRIES_OF_HOST);
  MAP_UINT(map_flags, BPF_F_NO_PREALLOC);
  MAP_TYPE(key, __u32);
  MAP_TYPE(value, __u32);
} vxm_underlays SEC(".maps");

// This host's other addresses, broadcast ones included: the kernel would take VXLAN there, too.
struct {
  MAP_UINT(type, BPF_MAP_TYPE_HASH);
  MAP_UINT(max_entries, ENTRIES_OF_HOST);
  MAP_UINT(map_flags, BPF_F_NO_PREALLOC);
  MAP_TYPE(key, __be32);
  MAP_TYPE(value, __u32);
} vxm_locals SEC(".maps");

// The rates are those of a token bucket for each container: so many packets a second, and as many at once after a quiet
// second. 0 is no limit.
struct settings {
  __be32 vtep;           // This host's tunnel address.
  __be16 vxlan_port;     // UDP port of VXLAN.
  __u16 underlay_mtu;    // Of the underlay's device.
  __u32 flows_rate;      // TCP connections that a container opens.
  __u32 broadcasts_rate; // Broadcast and multicast packets that it sends.
  __u32 underlay;        // Ifindex of the Ethernet device by which VXLAN leaves; 0: wrap nothing, there may be several.
  __u32 unwraps;         // May VXLAN that arrives be unwrapped past the host's stack?
};

struct {
  MAP_UINT(type, BPF_MAP_TYPE_ARRAY);
  MAP_UINT(max_entries, 1);
  MAP_TYPE(key, __u32);
  MAP_TYPE(value, struct settings);
} vxm_settings SEC(".maps");

struct traffic {
  __u64 sent_packets; // By the container, without what is dropped here.
  __u64 sent_bytes;
  __u64 redirected_packets; // To the container past its host device, which does not count them.
  __u64 redirected_bytes;
  __u64 dropped_packets; // Sent by the container, and not allowed.
  __u64 limited_packets; // Sent by the container, and above a rate or a number of flows.
};

// By the ifindex of a container's port.
struct {
  MAP_UINT(type, BPF_MAP_TYPE_PERCPU_HASH);
  MAP_UINT(max_entries, ENTRIES_OF_HOST);
  MAP_UINT(map_flags, BPF_F_NO_PREALLOC);
  MAP_TYPE(key, __u32);
  MAP_TYPE(value, struct traffic);
} vxm_traffic SEC(".maps");

// Where traffic of a network goes, or comes from.
#define SCOPE_HOST 0    // Between two containers of this host.
#define SCOPE_SENT 1    // To other hosts.
#define SCOPE_RECEIVED 2 // From other hosts.
#define SCOPE_BRIDGED 3 // What the bridge decides about: broadcast, multicast, the router.

// What a container may still send at `since`, in nanoseconds of its rate: a second's worth at most.
struct bucket {
  __u64 since;
  __u64 saved;
};

struct buckets {
  struct bucket flows;
  struct bucket broadcasts;
};

// By the ifindex of a container's port. Two processors may spend one token twice: the limit is no invoice.
struct {
  MAP_UINT(type, BPF_MAP_TYPE_HASH);
  MAP_UINT(max_entries, ENTRIES_OF_HOST);
  MAP_UINT(map_flags, BPF_F_NO_PREALLOC);
  MAP_TYPE(key, __u32);
  MAP_TYPE(value, struct buckets);
} vxm_buckets SEC(".maps");

struct ledger_key {
  __u32 network;
  __u32 scope;
};

struct amount {
  __u64 packets;
  __u64 bytes;
};

struct {
  MAP_UINT(type, BPF_MAP_TYPE_PERCPU_HASH);
  MAP_UINT(max_entries, ENTRIES_OF_HOST);
  MAP_UINT(map_flags, BPF_F_NO_PREALLOC);
  MAP_TYPE(key, struct ledger_key);
  MAP_TYPE(value, struct amount);
} vxm_ledger SEC(".maps");

#define DROP_STRANGER 0 // VXLAN from a host that is not in the network.
#define DROP_MALFORMED 1 // VXLAN whose header is cut short or has reserved bits set.
#define DROP_NO_PORT 2  // From a container's device that has no entry.
#define DROP_TO_HOST 3  // From a network, to the host itself.
#define DROP_FORGED 4   // From a container: not from its own addresses, or of a kind that it must not send.
#define DROP_LIMITED 5  // From a container, and above a rate, or of more flows to services than it may have.
#define DROP_NOBODY 6   // From a container, to a service: no such port, or no backend.
#define DROP_FRAGMENT 7 // From a container, to a service.

struct {
  MAP_UINT(type, BPF_MAP_TYPE_PERCPU_ARRAY);
  MAP_UINT(max_entries, 8);
  MAP_TYPE(key, __u32);
  MAP_TYPE(value, struct amount);
} vxm_drops SEC(".maps");

INLINE void count(struct amount *amount, const struct __sk_buff *skb)
{
  if (!amount) return;
  amount->packets++;
  amount->bytes += skb->len;
}

INLINE void count_drop(__u32 why, const struct __sk_buff *skb)
{
  count(bpf_map_lookup_elem(&vxm_drops, &why), skb);
}

INLINE void count_bytes(__u32 network, __u32 scope, __u64 bytes)
{
  struct ledger_key key = {network, scope};
  struct amount *amount = bpf_map_lookup_elem(&vxm_ledger, &key);
  if (!amount) return;
  amount->packets++;
  amount->bytes += bytes;
}

INLINE void count_scope(__u32 network, __u32 scope, const struct __sk_buff *skb)
{
  count_bytes(network, scope, skb->len);
}
