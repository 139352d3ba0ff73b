// The ends of a packet, addresses and ports, which tell its flow; and how one of them is replaced.

#pragma once

#include "packet.h"
#include <linux/ipv6.h>

#define ANY_FRAGMENT 0x3fff // The offset, and "more fragments".
#define TCP_FLAGS_AT 13
#define TCP_CHECK_AT 16
#define UDP_CHECK_AT 6
// In IPv6 the change of an address does not cancel out in what a network card has summed. Linux 6.16.
#define CHECKSUM_IPV6 (1ULL << 7)

// An IPv4 address is kept as an IPv6 one (RFC 4291, section 2.5.5.2): ::ffff:a.b.c.d.
#define MAPPED HTONL(0xffff)

struct ends {
  __be32 from[4];
  __be32 to[4];
  __be16 from_port; // As they follow each other in the packet. 0 in a fragment, and in a protocol without ports.
  __be16 to_port;
  __u32 at; // Where the header of its protocol begins.
  __u32 protocol;
  __u16 is_fragment;
  __u16 header_check; // The checksum of an IPv4 header.
};

INLINE int same_address(const __be32 *a, const __be32 *b)
{
  return a[0] == b[0] && a[1] == b[1] && a[2] == b[2] && a[3] == b[3];
}

INLINE void copy_address(__be32 *to, const __be32 *from)
{
  __builtin_memcpy(to, from, 16);
}

INLINE void map_address(__be32 *to, __be32 address)
{
  to[0] = to[1] = 0;
  to[2] = MAPPED;
  to[3] = address;
}

INLINE int has_ports(__u32 protocol)
{
  return protocol == IPPROTO_TCP || protocol == IPPROTO_UDP || protocol == IPPROTO_SCTP;
}

// So many bytes of a packet from there on, at most FURTHEST; null when it has fewer. Other pointers into the packet are invalid then.
#define FURTHEST 255

INLINE void *reach(struct __sk_buff *skb, __u32 at, __u32 bytes)
{
  at &= FURTHEST;
  if ((void *)(long)skb->data + at + bytes > (void *)(long)skb->data_end) {
    if (skb->len < at + bytes || bpf_skb_pull_data(skb, at + bytes)) return 0;
  }
  // Both are read anew, whether or not they have changed: the verifier follows no pointer that is one of two.
  asm volatile("" ::: "memory");
  void *there = (void *)(long)skb->data + at;
  return there + bytes > (void *)(long)skb->data_end ? 0 : there;
}

// Reads the ends of the IP packet of this type that begins there; 0 when it is cut short.
INLINE int read_ends(struct __sk_buff *skb, __be16 type, __u32 start, struct ends *ends)
{
  if (type == HTONS(ETH_P_IP)) {
    const struct iphdr *ip = reach(skb, start, sizeof(*ip));
    if (!ip) return 0;
    map_address(ends->from, ip->saddr);
    map_address(ends->to, ip->daddr);
    ends->at = start + ip->ihl * 4;
    ends->protocol = ip->protocol;
    ends->header_check = ip->check;
    ends->is_fragment = ip->frag_off & HTONS(ANY_FRAGMENT);
  } else {
    const struct ipv6hdr *ip = reach(skb, start, sizeof(*ip));
    if (!ip) return 0;
    copy_address(ends->from, ip->saddr.in6_u.u6_addr32);
    copy_address(ends->to, ip->daddr.in6_u.u6_addr32);
    ends->at = start + sizeof(*ip);
    ends->protocol = ip->nexthdr;
    ends->is_fragment = ip->nexthdr == IPPROTO_FRAGMENT;
  }
  if (ends->is_fragment || !has_ports(ends->protocol)) return 1;
  const __be16 *ports = reach(skb, ends->at, 2 * sizeof(*ports));
  if (!ports) return 0;
  ends->from_port = ports[0];
  ends->to_port = ports[1];
  return 1;
}

// Where an IP packet that begins there has its addresses: the source, or the destination.
INLINE __u32 address_offset(__be16 type, __u32 start, int is_to)
{
  return start + (type == HTONS(ETH_P_IP) ? 12 + is_to * 4 : 8 + is_to * 16);
}

INLINE int store_address(struct __sk_buff *skb, __be16 type, __u32 start, int is_to, const __be32 *address)
{
  const __u32 at = address_offset(type, start, is_to);
  return type == HTONS(ETH_P_IP) ? bpf_skb_store_bytes(skb, at, address + 3, 4, 0) : bpf_skb_store_bytes(skb, at, address, 16, 0);
}

// An address of the header that begins there changes: its own checksum, of IPv4.
INLINE int sum_header(struct __sk_buff *skb, __be16 type, __u32 start, const __be32 *before, const __be32 *after)
{
  return type == HTONS(ETH_P_IP) ? bpf_l3_csum_replace(skb, start + 10, before[3], after[3], 4) : 0;
}

// An address of which the checksum there tells changes. `how`: helper flags.
INLINE int sum_address(struct __sk_buff *skb, __be16 type, __u32 check, const __be32 *before, const __be32 *after, __u64 how)
{
  if (type == HTONS(ETH_P_IP)) return bpf_l4_csum_replace(skb, check, before[3], after[3], how | 4);
  const __s64 change = bpf_csum_diff(before, 16, after, 16, 0);
  if (change < 0) return -1;
  return how & BPF_F_PSEUDO_HDR && !bpf_l4_csum_replace(skb, check, 0, change, how | CHECKSUM_IPV6) ?
    0 :
    bpf_l4_csum_replace(skb, check, 0, change, how);
}

// The port of one end, with the checksum. That of SCTP covers the whole packet, so its ports stay as they are.
INLINE int replace_port(struct __sk_buff *skb, const struct ends *ends, int is_to, __be16 port)
{
  const __be16 before = is_to ? ends->to_port : ends->from_port;
  if (ends->protocol == IPPROTO_SCTP || before == port) return 0;
  const int is_udp = ends->protocol == IPPROTO_UDP;
  const __u32 check = ends->at + (is_udp ? UDP_CHECK_AT : TCP_CHECK_AT);
  if (bpf_l4_csum_replace(skb, check, before, port, (is_udp ? BPF_F_MARK_MANGLED_0 : 0) | 2)) return -1;
  return bpf_skb_store_bytes(skb, ends->at + is_to * 2, &port, sizeof(port), 0);
}

// The address of one end in the header, behind the Ethernet header, and the checksum of that.
INLINE int replace_address(struct __sk_buff *skb, __be16 type, const struct ends *ends, int is_to, const __be32 *address)
{
  const __u32 start = sizeof(struct ethhdr);
  if (type != HTONS(ETH_P_IP)) return store_address(skb, type, start, is_to, address);
  // They follow each other. RFC 1624: the complement of the checksum, without the old address and with the new one.
  struct {
    __u16 check;
    __be32 from;
    __be32 to;
  } __attribute__((packed)) end = {.from = ends->from[3], .to = ends->to[3]};
  const __u32 before = ~(is_to ? end.to : end.from), after = address[3];
  __u32 sum = (__u16)~ends->header_check + (before & 0xffff) + (before >> 16) + (after & 0xffff) + (after >> 16);
  sum = (sum & 0xffff) + (sum >> 16);
  end.check = ~(sum + (sum >> 16));
  if (is_to) end.to = after;
  else end.from = after;
  return bpf_skb_store_bytes(skb, start + 10, &end, sizeof(end), 0);
}

// One end of a packet whose IP header follows the Ethernet header. Not 0 when that failed, and the packet is half changed.
INLINE int replace_end(struct __sk_buff *skb, __be16 type, const struct ends *ends, int is_to, const __be32 *address, __be16 port)
{
  const __be32 *before = is_to ? ends->to : ends->from;
  const int is_udp = ends->protocol == IPPROTO_UDP;
  const __u32 check = ends->at + (is_udp ? UDP_CHECK_AT : TCP_CHECK_AT);
  const __u64 how = BPF_F_PSEUDO_HDR | (is_udp ? BPF_F_MARK_MANGLED_0 : 0);
  if (ends->protocol != IPPROTO_SCTP && sum_address(skb, type, check, before, address, how)) return -1;
  if (replace_address(skb, type, ends, is_to, address)) return -1;
  return replace_port(skb, ends, is_to, port);
}
