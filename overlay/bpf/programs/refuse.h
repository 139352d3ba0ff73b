// What a container sends to a service's port that leads nowhere is answered at once, as a host answers where nobody listens, so
// that clients do not wait for their time-out: TCP by a reset (RFC 9293, section 3.10.7.1), UDP by an error (RFC 792, RFC 4443).

#pragma once

#include "services.h"

// Fields of a TCP header, from its fifth byte on.
struct tcp_middle {
  __be32 sequence;
  __be32 acknowledged;
  __u8 offset;
  __u8 flags;
  __be16 window;
};

#define TCP_MIDDLE_AT 4
#define OFFSET_BITS 0xf0

// It keeps its length, and with it options and data, which no stack looks at: so its checksum can be told from what changes, also
// where a network card is to complete it.
INLINE int reset(struct __sk_buff *skb, __be16 type, const struct ends *ends)
{
  struct tcp_middle before, after = {};
  const __u32 check = ends->at + TCP_CHECK_AT;
  if (bpf_skb_load_bytes(skb, ends->at + TCP_MIDDLE_AT, &before, sizeof(before)) || before.flags & TCP_RST) return 0;
  after.offset = before.offset & OFFSET_BITS;
  after.flags = before.flags & TCP_ACK ? TCP_RST : TCP_RST | TCP_ACK;
  if (before.flags & TCP_ACK) after.sequence = before.acknowledged;
  else after.acknowledged = HTONL(HTONL(before.sequence) + !!(before.flags & TCP_SYN));
  const __s64 change = bpf_csum_diff((__be32 *)&before, sizeof(before), (__be32 *)&after, sizeof(after), 0);
  const __be16 ports[2] = {ends->to_port, ends->from_port};
  return change >= 0 && !bpf_l4_csum_replace(skb, check, 0, change, 0) &&
    !bpf_skb_store_bytes(skb, ends->at + TCP_MIDDLE_AT, &after, sizeof(after), 0) &&
    !bpf_skb_store_bytes(skb, ends->at, ports, sizeof(ports), 0) && !turn_back(skb, type, ends);
}

#define UDP_BYTES 8
#define HOPS 64

// Port unreachable, about so much of the datagram as an error has to quote.
struct error_head {
  __u8 type;
  __u8 code;
  __u16 check;
  __be32 unused;
};

struct error4 {
  struct iphdr ip;
  struct error_head head;
  struct iphdr about;
  __u8 udp[UDP_BYTES];
};

struct error6 {
  struct ipv6hdr ip;
  struct error_head head;
  struct ipv6hdr about;
  __u8 udp[UDP_BYTES];
};

// Behind the Ethernet header there is exactly this.
INLINE int replace_all(struct __sk_buff *skb, const void *error, __u32 bytes)
{
  return !bpf_skb_change_tail(skb, sizeof(struct ethhdr) + bytes, 0) && !bpf_skb_store_bytes(skb, sizeof(struct ethhdr), error, bytes, 0);
}

// Not with IP options.
INLINE int is_unreachable4(struct __sk_buff *skb, const struct ends *ends)
{
  struct error4 error = {};
  const __u32 quoted = sizeof(error.about) + sizeof(error.udp), bytes = sizeof(error.head) + quoted;
  if (ends->at != ETHERNET_IPV4_BYTES || bpf_skb_load_bytes(skb, sizeof(struct ethhdr), &error.about, quoted)) return 0;
  error.ip.version = 4;
  error.ip.ihl = sizeof(error.ip) / 4;
  error.ip.tot_len = HTONS(sizeof(error.ip) + bytes);
  error.ip.ttl = HOPS;
  error.ip.protocol = IPPROTO_ICMP;
  error.ip.saddr = ends->to[3];
  error.ip.daddr = ends->from[3];
  error.ip.check = checksum(&error.ip, sizeof(error.ip), 0);
  error.head.type = 3;
  error.head.code = 3;
  error.head.check = checksum(&error.head, bytes, 0);
  return !turn_back(skb, HTONS(ETH_P_IP), ends) && replace_all(skb, &error, sizeof(error));
}

INLINE int is_unreachable6(struct __sk_buff *skb, const struct ends *ends)
{
  struct error6 error = {};
  const __u32 quoted = sizeof(error.about) + sizeof(error.udp), bytes = sizeof(error.head) + quoted;
  if (bpf_skb_load_bytes(skb, sizeof(struct ethhdr), &error.about, quoted)) return 0;
  error.ip.version = 6;
  error.ip.payload_len = HTONS(bytes);
  error.ip.nexthdr = IPPROTO_ICMPV6;
  error.ip.hop_limit = HOPS;
  copy_address(error.ip.saddr.in6_u.u6_addr32, ends->to);
  copy_address(error.ip.daddr.in6_u.u6_addr32, ends->from);
  error.head.type = 1;
  error.head.code = 4;
  // Over both addresses, and over length and protocol, too.
  error.head.check = checksum(&error.ip.saddr, 2 * sizeof(error.ip.saddr) + bytes, HTONS(bytes) + HTONS(IPPROTO_ICMPV6));
  return !turn_back(skb, HTONS(ETH_P_IPV6), ends) && replace_all(skb, &error, sizeof(error));
}

// Makes a packet to a service the answer to it; 0 when there is none, and it is to be dropped.
INLINE int refuse(struct __sk_buff *skb, __be16 type)
{
  struct ends ends = {};
  if ((type != HTONS(ETH_P_IP) && type != HTONS(ETH_P_IPV6)) || !read_ends(skb, type, sizeof(struct ethhdr), &ends)) return 0;
  if (ends.protocol == IPPROTO_TCP) return reset(skb, type, &ends);
  if (ends.protocol != IPPROTO_UDP) return 0;
  return type == HTONS(ETH_P_IP) ? is_unreachable4(skb, &ends) : is_unreachable6(skb, &ends);
}
