// At a container's port, the host side of its veth, for all that the container sends, under every driver.
//
// Port security: ARP, IPv4 and IPv6 from the container's own MAC and addresses, and nothing else: no VLAN tag, no LLC, and
// nothing of a family in which the container has no address. Limits of new connections and of broadcast keep it from wearing
// out its neighbours. Then questions for the MACs of known addresses are answered, and packets to known stations are
// redirected to them. All else goes on to the other filters of the device, and to its bridge or switch. A packet to a service is
// made one to a backend before that.
//
// And for all that the device sends to the container: answers of backends, but for those that a redirect has taken past it.

#define PROGRAM "classifier/from_container"

#include "deliver.h"
#include "ipv4.h"
#include "ipv6.h"
#include "packet.h"
#include "refuse.h"
#include "services.h"
#include "wrap.h"

#define NANOSECONDS 1000000000ULL

// Takes one packet from a bucket; 0 when it is empty.
INLINE int spend(struct bucket *bucket, __u32 rate)
{
  if (!rate) return 1;
  const __u64 price = NANOSECONDS / rate, since = bucket->since, now = bpf_ktime_get_ns();
  // Another processor may have looked at the clock after this one, and been here before it.
  const __u64 quiet = now > since ? now - since : 0;
  __u64 saved = bucket->saved + quiet;
  if (quiet > NANOSECONDS || saved > NANOSECONDS) saved = NANOSECONDS;
  bucket->since = now;
  bucket->saved = saved < price ? saved : saved - price;
  return saved >= price;
}

// May a packet of this type leave? See found.h.
INLINE int may_send(struct __sk_buff *skb, __be16 type, const struct port *port, struct found *found)
{
  if (type == HTONS(ETH_P_IP)) return may_send_ipv4(skb, port, found);
  if (type == HTONS(ETH_P_IPV6)) return may_send_ipv6(skb, port, found);
  return type == HTONS(ETH_P_ARP) && may_send_arp(skb, port, found);
}

INLINE int within_limits(__u32 ifindex, const __u8 *to, const struct found *found)
{
  const __u32 zero = 0, is_group = to[0] & 1;
  if (!is_group && !found->opens) return 1;
  const struct settings *settings = bpf_map_lookup_elem(&vxm_settings, &zero);
  struct buckets *buckets = bpf_map_lookup_elem(&vxm_buckets, &ifindex);
  if (!settings || !buckets) return 1;
  return is_group ? spend(&buckets->broadcasts, settings->broadcasts_rate) : spend(&buckets->flows, settings->flows_rate);
}

// Bytes, from the IP header on, of the packet, or of each into which a network card is to cut it: such a one is seen here whole, with
// the size of its segments.
INLINE __u32 bytes_once_cut(const struct __sk_buff *skb, __u32 headers)
{
  return skb->gso_size ? skb->gso_size + headers : skb->len - sizeof(struct ethhdr);
}

int serve(struct __sk_buff *skb, __u32 network, int is_sure);
int refuses(struct __sk_buff *skb);

// It may be answered all the same.
INLINE int drop_unserved(struct __sk_buff *skb, struct traffic *traffic, int served)
{
  const int is_full = served == SERVICE_FULL;
  if (traffic && is_full) traffic->limited_packets++;
  if (traffic && !is_full) traffic->dropped_packets++;
  count_drop(is_full ? DROP_LIMITED : served == SERVICE_FRAGMENT ? DROP_FRAGMENT : DROP_NOBODY, skb);
  return served == SERVICE_NOBODY && refuses(skb) ? bpf_redirect(skb->ifindex, 0) : TC_ACT_SHOT;
}

SEC("classifier/from_container")
int from_container(struct __sk_buff *skb)
{
  const __u32 ifindex = skb->ifindex;
  const struct port *port = bpf_map_lookup_elem(&vxm_ports, &ifindex);
  if (!port) {
    count_drop(DROP_NO_PORT, skb);
    return TC_ACT_SHOT;
  }
  struct traffic *traffic = bpf_map_lookup_elem(&vxm_traffic, &ifindex);
  struct ethhdr *ethernet = pull(skb, sizeof(struct ethhdr));
  const int plain =
    ethernet && !skb->vlan_present && same_mac(ethernet->h_source, port->mac) && !is_reserved(ethernet->h_dest);
  const __be16 type = plain ? ethernet->h_proto : 0;
  struct found found = {};
  if (!may_send(skb, type, port, &found)) {
    if (traffic) traffic->dropped_packets++;
    count_drop(DROP_FORGED, skb);
    return TC_ACT_SHOT;
  }
  const __u32 bytes = bytes_once_cut(skb, found.headers);
  const int redirects = port->flags & PORT_REDIRECTS && bytes <= port->mtu, has_services = port->flags & PORT_SERVICES;
  if ((redirects || has_services) && found.asks && (type == HTONS(ETH_P_ARP) ? answers_arp(skb, port) : answers_solicitation(skb, port))) {
    if (traffic) {
      traffic->sent_packets++;
      traffic->sent_bytes += skb->len;
    }
    return bpf_redirect(ifindex, 0);
  }
  ethernet = pull(skb, sizeof(struct ethhdr));
  if (!ethernet) return TC_ACT_SHOT;
  struct station_key key = {.network = port->network};
  copy_mac(key.mac, ethernet->h_dest);
  if (!within_limits(ifindex, key.mac, &found)) {
    if (traffic) traffic->limited_packets++;
    count_drop(DROP_LIMITED, skb);
    return TC_ACT_SHOT;
  }
  const int is_sure = has_services && is_service_mac(key.mac);
  const struct station *station = is_sure ? 0 : bpf_map_lookup_elem(&vxm_stations, &key);
  int served = SERVICE_NONE;
  if (is_sure || (!station && port->flags & PORT_BEYOND && !(key.mac[0] & 1))) {
    served = serve(skb, port->network, is_sure);
    ethernet = pull(skb, sizeof(struct ethhdr));
    if (served >= SERVICE_NOBODY || !ethernet) return drop_unserved(skb, traffic, served);
    copy_mac(key.mac, ethernet->h_dest);
    if (served == SERVICE_CHOSEN) station = bpf_map_lookup_elem(&vxm_stations, &key);
  }
  if (traffic) {
    traffic->sent_packets++;
    traffic->sent_bytes += skb->len;
  }
  if (served == SERVICE_OWN) {
    count_scope(port->network, SCOPE_HOST, skb);
    return bpf_redirect(ifindex, 0);
  }
  if (!station) {
    count_scope(port->network, SCOPE_BRIDGED, skb);
    return TC_ACT_UNSPEC;
  }
  const int is_remote = station->how == BY_TUNNEL;
  count_scope(port->network, is_remote ? SCOPE_SENT : SCOPE_HOST, skb);
  if (!redirects) return TC_ACT_UNSPEC;
  if (!is_remote) return deliver(skb, station);
  const __u32 zero = 0;
  const struct settings *settings = bpf_map_lookup_elem(&vxm_settings, &zero);
  if (!settings || type == HTONS(ETH_P_ARP) || (skb->gso_size && !found.tcp)) return to_tunnel(port->network);
  return wrap(skb, bytes, port->network, station->to, settings);
}

// See to_service.
BESIDE(PROGRAM) int serve(struct __sk_buff *skb, __u32 network, int is_sure)
{
  return to_service(skb, skb->protocol, network, is_sure);
}

// See refuse.
BESIDE(PROGRAM) int refuses(struct __sk_buff *skb)
{
  return refuse(skb, skb->protocol);
}

#include "restore.h"

SEC("classifier/to_container")
int to_container(struct __sk_buff *skb)
{
  const __u32 ifindex = skb->ifindex;
  return may_have_flows(ifindex) && restore(skb, ifindex) ? TC_ACT_SHOT : TC_ACT_UNSPEC;
}
