// What a container may send of IPv4 (RFC 791) and ARP (RFC 826), and the answer to an ARP request.

#pragma once

#include "found.h"
#include <linux/tcp.h>

#define DHCP_SERVER_PORT 67
#define DHCP_CLIENT_PORT 68
#define ICMP_REDIRECT 5
#define ICMP_ROUTER_ADVERTISEMENT 9

#define ETHERNET_IPV4_BYTES (sizeof(struct ethhdr) + sizeof(struct iphdr))
#define ETHERNET_ARP_BYTES (sizeof(struct ethhdr) + sizeof(struct arp))

// Is it the container's own? One in a network of IPv6 alone has none, and may not send from 0.0.0.0 either.
INLINE int is_own_ipv4(const struct port *port, __be32 address)
{
  return port->address && address == port->address;
}

// May this IPv4 packet leave? It must not claim another address, act as a DHCP server, ask one, tunnel by VXLAN, or
// redirect its peers' routes, and it is no longer than its frame. Fragments after the first carry no ports and are useless
// without the first, which must hold the whole header of its protocol.
INLINE int may_send_ipv4(struct __sk_buff *skb, const struct port *port, struct found *found)
{
  struct ethhdr *ethernet = pull(skb, ETHERNET_IPV4_BYTES);
  if (!ethernet) return 0;
  const struct iphdr *ip = (void *)(ethernet + 1);
  if (ip->version != 4 || ip->ihl < 5 || !is_own_ipv4(port, ip->saddr)) return 0;
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
    found->tcp = 1;
    found->opens = tcp->syn && !tcp->ack;
    return 1;
  }
  const struct udphdr *udp = data;
  if ((void *)(udp + 1) > (void *)(long)skb->data_end) return 0;
  found->headers += sizeof(struct udphdr);
  return may_send_udp(udp, DHCP_SERVER_PORT, DHCP_CLIENT_PORT);
}

INLINE int may_send_arp(struct __sk_buff *skb, const struct port *port, struct found *found)
{
  struct ethhdr *ethernet = pull(skb, ETHERNET_ARP_BYTES);
  if (!ethernet) return 0;
  const struct arp *arp = (void *)(ethernet + 1);
  found->asks = arp->operation == HTONS(ARP_REQUEST);
  return arp->hardware_type == HTONS(HARDWARE_ETHERNET) && arp->protocol_type == HTONS(ETH_P_IP) &&
    arp->hardware_bytes == 6 && arp->protocol_bytes == 4 && (found->asks || arp->operation == HTONS(ARP_REPLY)) &&
    same_mac(arp->sender_mac, port->mac) && is_own_ipv4(port, address_at(arp->sender_address));
}

// Answers a request for a known address. The bridge sees one for the container's own, and one for an address that nobody has.
INLINE int answers_arp(struct __sk_buff *skb, const struct port *port)
{
  struct ethhdr *ethernet = pull(skb, ETHERNET_ARP_BYTES);
  if (!ethernet) return 0;
  struct arp *arp = (void *)(ethernet + 1);
  const struct address_key key = {port->network, address_at(arp->target_address)};
  if (key.address == port->address) return 0;
  const struct hardware *noted = bpf_map_lookup_elem(&vxm_neighbours, &key);
  __u8 mac[6];
  if (noted) copy_mac(mac, noted->mac);
  else {
    tell_mac(mac, key.network, key.address);
    if (!tells(key.network, mac, TELLS_IPV4)) return 0;
  }
  copy_mac(ethernet->h_dest, port->mac);
  copy_mac(ethernet->h_source, mac);
  arp->operation = HTONS(ARP_REPLY);
  copy_mac(arp->target_mac, port->mac);
  __builtin_memcpy(arp->target_address, arp->sender_address, 4);
  copy_mac(arp->sender_mac, mac);
  __builtin_memcpy(arp->sender_address, &key.address, 4);
  return 1;
}
