// What a container may send of IPv6 (RFC 8200), neighbour discovery (RFC 4861) among it, and the answer to a solicitation.

#pragma once

#include "found.h"
#include <linux/ipv6.h>
#include <linux/tcp.h>

#define DHCPV6_CLIENT_PORT 546
#define DHCPV6_SERVER_PORT 547

// The types of ICMPv6 that are let through: errors (RFC 4443), echo, solicitations and advertisements of neighbours.
#define ICMPV6_FIRST_ERROR 1
#define ICMPV6_LAST_ERROR 4
#define ICMPV6_ECHO_REQUEST 128
#define ICMPV6_ECHO_REPLY 129
#define ICMPV6_SOLICITATION 135
#define ICMPV6_ADVERTISEMENT 136
#define ICMPV6_BYTES 8

#define ETHERNET_IPV6_BYTES (sizeof(struct ethhdr) + sizeof(struct ipv6hdr))

// RFC 8200, section 4.5.
struct fragment {
  __u8 next;
  __u8 reserved;
  __be16 offset; // In the upper 13 bits.
  __be32 id;
};

#define FRAGMENT6_OFFSET 0xfff8

// A solicitation or an advertisement with the one option that it may have: sections 4.3, 4.4 and 4.6.1.
struct discovery {
  __u8 type;
  __u8 code;
  __be16 check;
  __be32 flags;
  __be32 target[4];
  __u8 option;
  __u8 option_length; // In units of 8 bytes.
  __u8 mac[6];
};

#define OPTION_BYTES 8
#define OPTION_SOURCE 1
#define OPTION_TARGET 2
#define HOP_LIMIT 255               // Of what no router has passed on.
#define ANSWERS HTONL(0x60000000)   // It was solicited, and overrides what is known.

INLINE int same_ipv6(const __be32 *a, const __be32 *b)
{
  return a[0] == b[0] && a[1] == b[1] && a[2] == b[2] && a[3] == b[3];
}

// Is it the container's own? One in a network of IPv4 alone has none, and may not send from :: either.
INLINE int is_own_ipv6(const struct port *port, const __be32 *address)
{
  const __be32 *own = port->address6;
  return (own[0] | own[1] | own[2] | own[3]) && same_ipv6(own, address);
}

// May this message about neighbours leave? Its sender, whose address has been checked, tells of no MAC and no address but its
// own, and of nothing else. Only an advertisement may be without its option.
INLINE int may_discover(struct __sk_buff *skb, const struct port *port, __u32 bytes, struct found *found)
{
  struct discovery message = {};
  if (bpf_skb_load_bytes(skb, ETHERNET_IPV6_BYTES, &message, sizeof(message) - OPTION_BYTES)) return 0;
  const int asks = message.type == ICMPV6_SOLICITATION, is_own = same_ipv6(message.target, port->address6);
  found->asks = asks && !is_own;
  if (message.code || (!asks && !is_own)) return 0;
  if (bytes == sizeof(message) - OPTION_BYTES) return !asks;
  if (bytes != sizeof(message) || bpf_skb_load_bytes(skb, ETHERNET_IPV6_BYTES, &message, sizeof(message))) return 0;
  return message.option == (asks ? OPTION_SOURCE : OPTION_TARGET) && message.option_length == 1 && same_mac(message.mac, port->mac);
}

// Is it about a packet that was sent to this container? A made-up error must not change the path of another's packets.
INLINE int is_own_error(struct __sk_buff *skb, const struct port *port, __u32 at, __u32 end)
{
  struct ipv6hdr about;
  return at + sizeof(about) <= end && !bpf_skb_load_bytes(skb, at, &about, sizeof(about)) &&
    same_ipv6(about.daddr.in6_u.u6_addr32, port->address6);
}

// May this IPv6 packet leave? It must not claim another address, act as a router, a DHCP server or client, tunnel by VXLAN,
// or speak for its neighbours, and it is no longer than its frame. Extension headers, which could hide what is behind them,
// are not let through, but for a fragment's. Fragments after the first are useless without the first, which must hold the
// whole header of its protocol; RFC 6980 has no messages about neighbours in them.
INLINE int may_send_ipv6(struct __sk_buff *skb, const struct port *port, struct found *found)
{
  struct ethhdr *ethernet = pull(skb, ETHERNET_IPV6_BYTES);
  if (!ethernet) return 0;
  const struct ipv6hdr *ip = (void *)(ethernet + 1);
  if (ip->version != 6 || !is_own_ipv6(port, ip->saddr.in6_u.u6_addr32)) return 0;
  const __u32 bytes = HTONS(ip->payload_len), room = skb->len - ETHERNET_IPV6_BYTES, hop_limit = ip->hop_limit;
  // As in IPv4, a packet of more than 64 KiB, which a network card is to cut, cannot say so.
  if (bytes ? bytes > room : !skb->gso_size) return 0;
  const __u32 end = ETHERNET_IPV6_BYTES + (bytes ? bytes : room);
  __u32 protocol = ip->nexthdr, at = ETHERNET_IPV6_BYTES;
  const int is_fragment = protocol == IPPROTO_FRAGMENT;
  if (is_fragment) {
    struct fragment fragment;
    if (at + sizeof(fragment) > end || bpf_skb_load_bytes(skb, at, &fragment, sizeof(fragment))) return 0;
    protocol = fragment.next;
    at += sizeof(fragment);
    found->headers = at - sizeof(struct ethhdr);
    if (fragment.offset & HTONS(FRAGMENT6_OFFSET))
      return protocol == IPPROTO_TCP || protocol == IPPROTO_UDP || protocol == IPPROTO_ICMPV6 || protocol == IPPROTO_ESP ||
        protocol == IPPROTO_SCTP;
  } else found->headers = sizeof(*ip);
  if (protocol == IPPROTO_TCP) {
    struct tcphdr tcp;
    if (at + sizeof(tcp) > end || bpf_skb_load_bytes(skb, at, &tcp, sizeof(tcp))) return 0;
    found->headers += tcp.doff * 4;
    found->tcp = !is_fragment;
    found->opens = tcp.syn && !tcp.ack;
    return 1;
  }
  if (protocol == IPPROTO_UDP) {
    struct udphdr udp;
    if (at + sizeof(udp) > end || bpf_skb_load_bytes(skb, at, &udp, sizeof(udp))) return 0;
    found->headers += sizeof(udp);
    return udp.source != HTONS(DHCPV6_CLIENT_PORT) && udp.dest != HTONS(DHCPV6_SERVER_PORT) &&
      may_send_udp(&udp, DHCPV6_SERVER_PORT, DHCPV6_CLIENT_PORT);
  }
  if (protocol != IPPROTO_ICMPV6) return protocol == IPPROTO_ESP || protocol == IPPROTO_SCTP;
  __u8 type;
  if (at + ICMPV6_BYTES > end || bpf_skb_load_bytes(skb, at, &type, sizeof(type))) return 0;
  if (type == ICMPV6_ECHO_REQUEST || type == ICMPV6_ECHO_REPLY) return 1;
  if (is_fragment) return 0;
  if (type >= ICMPV6_FIRST_ERROR && type <= ICMPV6_LAST_ERROR) return is_own_error(skb, port, at + ICMPV6_BYTES, end);
  return (type == ICMPV6_SOLICITATION || type == ICMPV6_ADVERTISEMENT) && hop_limit == HOP_LIMIT && may_discover(skb, port, bytes, found);
}

// The MAC that tells an address of the network: its number counts from the subnet's first one.
INLINE int told_by(__u8 *mac, const struct address6_key *key)
{
  const struct network *network = bpf_map_lookup_elem(&vxm_networks, &key->network);
  if (!network) return 0;
  const __be32 *a = key->address, *b = network->subnet;
  const __u32 offset = HTONL(a[3]) - HTONL(b[3]);
  if (a[0] != b[0] || a[1] != b[1] || a[2] != b[2] || offset >= network->count) return 0;
  tell_mac(mac, key->network, HTONL(network->first + offset));
  return tells(key->network, mac, TELLS_IPV6);
}

// Answers a solicitation for a known address, as answers_arp does a request.
INLINE int answers_solicitation(struct __sk_buff *skb, const struct port *port)
{
  struct ethhdr *ethernet = pull(skb, ETHERNET_IPV6_BYTES + sizeof(struct discovery));
  if (!ethernet) return 0;
  struct ipv6hdr *ip = (void *)(ethernet + 1);
  struct discovery *message = (void *)(ip + 1);
  struct address6_key key = {.network = port->network};
  __builtin_memcpy(key.address, message->target, sizeof(key.address));
  const struct hardware *noted = bpf_map_lookup_elem(&vxm_neighbours6, &key);
  __u8 mac[6];
  if (noted) copy_mac(mac, noted->mac);
  else if (!told_by(mac, &key)) return 0;
  copy_mac(ethernet->h_dest, port->mac);
  copy_mac(ethernet->h_source, mac);
  __builtin_memcpy(&ip->saddr, key.address, sizeof(key.address));
  __builtin_memcpy(&ip->daddr, port->address6, sizeof(port->address6));
  message->type = ICMPV6_ADVERTISEMENT;
  message->flags = ANSWERS;
  message->option = OPTION_TARGET;
  copy_mac(message->mac, mac);
  // Over both addresses and the message, which follow each other, and over its length and protocol.
  message->check = 0;
  message->check = checksum(&ip->saddr, sizeof(ip->saddr) * 2 + sizeof(*message), HTONS(sizeof(*message)) + HTONS(IPPROTO_ICMPV6));
  return 1;
}
