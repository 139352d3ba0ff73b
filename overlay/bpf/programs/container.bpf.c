// At a container's port, the host side of its veth, for all that the container sends, under every driver.
//
// Port security: IPv4 and ARP from the container's own MAC and address, and nothing else: no IPv6, no VLAN tag, no LLC.
// Limits of new connections and of broadcast keep it from wearing out its neighbours. Then ARP requests for known addresses
// are answered, and packets to known stations are redirected to them. All else goes on to the other filters of the device,
// and to its bridge or switch.

#include "deliver.h"
#include "packet.h"
#include "wrap.h"
#include <linux/tcp.h>

#define VXLAN_PORT 4789
#define DHCP_SERVER_PORT 67
#define DHCP_CLIENT_PORT 68
#define ICMP_REDIRECT 5
#define ICMP_ROUTER_ADVERTISEMENT 9

#define NANOSECONDS 1000000000ULL

#define ETHERNET_IPV4_BYTES (sizeof(struct ethhdr) + sizeof(struct iphdr))
#define ETHERNET_ARP_BYTES (sizeof(struct ethhdr) + sizeof(struct arp))

// What the checks found in an IPv4 packet.
struct found {
  __u32 headers; // Bytes from the IP header to the payload, where segments of a large packet differ from each other.
  __u32 opens;   // Does it open a TCP connection?
};

// May this IPv4 packet leave? It must not claim another address, act as a DHCP server, ask one, tunnel by VXLAN, or
// redirect its peers' routes, and it is no longer than its frame. Fragments after the first carry no ports and are useless without the first, which must hold
// the whole header of its protocol.
INLINE int may_send_ipv4(struct __sk_buff *skb, const struct port *port, struct found *found)
{
  struct ethhdr *ethernet = pull(skb, ETHERNET_IPV4_BYTES);
  if (!ethernet) return 0;
  const struct iphdr *ip = (void *)(ethernet + 1);
  if (ip->version != 4 || ip->ihl < 5 || ip->saddr != port->address) return 0;
  const __u32 protocol = ip->protocol, header = ip->ihl * 4, bytes = HTONS(ip->tot_len);
  // A packet of more than 64 KiB, which a network card is to cut, cannot say so.
  if (bytes ? bytes < header || bytes > skb->len - sizeof(struct ethhdr) : !skb->gso_size) return 0;
  found->headers = header;
  if (protocol != IPPROTO_TCP && protocol != IPPROTO_UDP && protocol != IPPROTO_ICMP) return 1;
  if (ip->frag_off & HTONS(FRAGMENT_OFFSET)) return 1;
  const __u32 own = protocol == IPPROTO_TCP ? sizeof(struct tcphdr) : protocol == IPPROTO_UDP ? sizeof(struct udphdr) : 1;
  void *data = pull(skb, sizeof(struct ethhdr) + header + own);
  if (!data) return 0;
  data += sizeof(struct ethhdr) + header;
  if (data + own > (void *)(long)skb->data_end) return 0;
  if (protocol == IPPROTO_ICMP) {
    const __u8 *type = data;
    if ((void *)(type + 1) > (void *)(long)skb->data_end) return 0;
    return *type != ICMP_REDIRECT && *type != ICMP_ROUTER_ADVERTISEMENT;
  }
  if (protocol == IPPROTO_TCP) {
    const struct tcphdr *tcp = data;
    if ((void *)(tcp + 1) > (void *)(long)skb->data_end) return 0;
    found->headers += tcp->doff * 4;
    found->opens = tcp->syn && !tcp->ack;
    return 1;
  }
  const struct udphdr *udp = data;
  if ((void *)(udp + 1) > (void *)(long)skb->data_end) return 0;
  found->headers += sizeof(struct udphdr);
  const __u32 zero = 0;
  const struct settings *settings = bpf_map_lookup_elem(&vxm_settings, &zero);
  if (!settings) return 0;
  return udp->source != HTONS(DHCP_SERVER_PORT) && udp->dest != HTONS(DHCP_CLIENT_PORT) &&
    udp->dest != HTONS(VXLAN_PORT) && udp->dest != settings->vxlan_port;
}

INLINE int may_send_arp(struct __sk_buff *skb, const struct port *port)
{
  struct ethhdr *ethernet = pull(skb, ETHERNET_ARP_BYTES);
  if (!ethernet) return 0;
  const struct arp *arp = (void *)(ethernet + 1);
  return arp->hardware_type == HTONS(HARDWARE_ETHERNET) && arp->protocol_type == HTONS(ETH_P_IP) &&
    arp->hardware_bytes == 6 && arp->protocol_bytes == 4 &&
    (arp->operation == HTONS(ARP_REQUEST) || arp->operation == HTONS(ARP_REPLY)) &&
    same_mac(arp->sender_mac, port->mac) && address_at(arp->sender_address) == port->address;
}

// Answers a request for a known address. The bridge sees one for the container's own, and one for an address that nobody has.
INLINE int answers_arp(struct __sk_buff *skb, const struct port *port)
{
  struct ethhdr *ethernet = pull(skb, ETHERNET_ARP_BYTES);
  if (!ethernet) return 0;
  struct arp *arp = (void *)(ethernet + 1);
  const struct address_key key = {port->network, address_at(arp->target_address)};
  if (arp->operation != HTONS(ARP_REQUEST) || key.address == port->address) return 0;
  const struct hardware *found = bpf_map_lookup_elem(&vxm_neighbours, &key);
  if (!found) return 0;
  copy_mac(ethernet->h_dest, port->mac);
  copy_mac(ethernet->h_source, found->mac);
  arp->operation = HTONS(ARP_REPLY);
  copy_mac(arp->target_mac, port->mac);
  __builtin_memcpy(arp->target_address, arp->sender_address, 4);
  copy_mac(arp->sender_mac, found->mac);
  __builtin_memcpy(arp->sender_address, &key.address, 4);
  return 1;
}

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

INLINE int within_limits(__u32 ifindex, const __u8 *to, const struct found *found)
{
  const __u32 zero = 0, is_group = to[0] & 1;
  if (!is_group && !found->opens) return 1;
  const struct settings *settings = bpf_map_lookup_elem(&vxm_settings, &zero);
  struct buckets *buckets = bpf_map_lookup_elem(&vxm_buckets, &ifindex);
  if (!settings || !buckets) return 1;
  return is_group ? spend(&buckets->broadcasts, settings->broadcasts_rate) : spend(&buckets->flows, settings->flows_rate);
}

// Is every packet of it within the MTU? What a network card is to cut is seen here whole, with the size of its segments.
INLINE int fits(const struct __sk_buff *skb, __u32 headers, __u32 mtu)
{
  return skb->gso_size ? skb->gso_size + headers <= mtu : skb->len <= mtu + sizeof(struct ethhdr);
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
  const int allowed = type == HTONS(ETH_P_IP) ? may_send_ipv4(skb, port, &found) : type == HTONS(ETH_P_ARP) && may_send_arp(skb, port);
  if (!allowed) {
    if (traffic) traffic->dropped_packets++;
    count_drop(DROP_FORGED, skb);
    return TC_ACT_SHOT;
  }
  const int redirects = port->flags & PORT_REDIRECTS && fits(skb, found.headers, port->mtu);
  if (redirects && type == HTONS(ETH_P_ARP) && answers_arp(skb, port)) {
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
  if (traffic) {
    traffic->sent_packets++;
    traffic->sent_bytes += skb->len;
  }
  const struct station *station = bpf_map_lookup_elem(&vxm_stations, &key);
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
  return settings && type == HTONS(ETH_P_IP) ? wrap(skb, port->network, station->to, settings) : to_tunnel(port->network);
}
