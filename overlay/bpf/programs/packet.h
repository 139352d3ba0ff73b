// Headers of a packet. The kernel may hold them in fragments: `pull` makes them readable.

#pragma once

#include "bpf.h"
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/pkt_cls.h>
#include <linux/udp.h>

#define FRAGMENT_OFFSET 0x1fff

// ARP for IPv4 over Ethernet (RFC 826), without the Ethernet header.
struct arp {
  __be16 hardware_type;
  __be16 protocol_type;
  __u8 hardware_bytes;
  __u8 protocol_bytes;
  __be16 operation;
  __u8 sender_mac[6];
  __u8 sender_address[4];
  __u8 target_mac[6];
  __u8 target_address[4];
} __attribute__((packed));

#define HARDWARE_ETHERNET 1
#define ARP_REQUEST 1
#define ARP_REPLY 2

// The first `bytes` of a packet; null when it has fewer.
INLINE void *pull(struct __sk_buff *skb, __u32 bytes)
{
  if (skb->len < bytes) return 0;
  if ((void *)(long)skb->data + bytes > (void *)(long)skb->data_end && bpf_skb_pull_data(skb, bytes)) return 0;
  void *data = (void *)(long)skb->data;
  return data + bytes > (void *)(long)skb->data_end ? 0 : data;
}

INLINE int same_mac(const __u8 *a, const __u8 *b)
{
  return a[0] == b[0] && a[1] == b[1] && a[2] == b[2] && a[3] == b[3] && a[4] == b[4] && a[5] == b[5];
}

// 01:80:c2:00:00:0x, which a bridge forwards to nobody and hands to the host.
INLINE int is_reserved(const __u8 *mac)
{
  return mac[0] == 0x01 && mac[1] == 0x80 && mac[2] == 0xc2 && mac[3] == 0 && mac[4] == 0 && mac[5] < 0x10;
}

INLINE void copy_mac(__u8 *to, const __u8 *from)
{
  __builtin_memcpy(to, from, 6);
}

// Reads what was written as something else.
typedef __u16 __attribute__((may_alias)) half;

// The Internet checksum (RFC 1071) of so many bytes and of what was summed before: what the field must be if it is zero, and
// 0 if it is right.
INLINE __u16 checksum(const void *data, __u32 bytes, __u32 sum)
{
  const half *halves = data;
#pragma clang loop unroll(full)
  for (__u32 i = 0; i < bytes / 2; i++) sum += halves[i];
  sum = (sum & 0xffff) + (sum >> 16);
  return ~(sum + (sum >> 16));
}

INLINE __be32 address_at(const __u8 *bytes)
{
  return bytes[0] | bytes[1] << 8 | bytes[2] << 16 | (__u32)bytes[3] << 24;
}
