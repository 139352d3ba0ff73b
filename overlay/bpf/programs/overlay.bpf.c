// At a network's VXLAN device, for all that other hosts send into the network: what is for a container of this host is
// redirected to it. All else, and all of a network that has no entry, goes on to the bridge.
//
// At a network's bridge, for all that it hands up to the host: nothing in a network is for the host itself, which would
// answer on all its addresses.

#define PROGRAM "classifier/from_overlay"

#include "deliver.h"
#include "packet.h"

SEC("classifier/from_overlay")
int from_overlay(struct __sk_buff *skb)
{
  const __u32 ifindex = skb->ifindex;
  const __u32 *network = bpf_map_lookup_elem(&vxm_tunnels, &ifindex);
  const struct ethhdr *ethernet = pull(skb, sizeof(struct ethhdr));
  if (!network || !ethernet || skb->vlan_present) return TC_ACT_UNSPEC;
  struct station_key key = {.network = *network};
  copy_mac(key.mac, ethernet->h_dest);
  return deliver(skb, bpf_map_lookup_elem(&vxm_stations, &key));
}

#include "restore.h"

SEC("classifier/to_host")
int to_host(struct __sk_buff *skb)
{
  count_drop(DROP_TO_HOST, skb);
  return TC_ACT_SHOT;
}
