// What our programs use of the kernel's interface (bpf(2), bpf-helpers(7)): maps with BTF types, helpers by number, byte order.

#pragma once

#include <linux/bpf.h>
#include <linux/types.h>

#define SEC(name) __attribute__((section(name), used))
#define INLINE static inline __attribute__((always_inline))
#define UNUSED __attribute__((unused))
// A function of its own beside a program, which comes first in their section. The kernel verifies it once, by itself (Linux 5.6).
#define BESIDE(section_name) __attribute__((noinline, section(section_name)))

// A map's attributes are encoded as types, which the loader reads from the object's BTF.
#define MAP_UINT(name, value) int(*name)[value]
#define MAP_TYPE(name, type) type *name

#define HTONS(x) __builtin_bswap16(x)
#define HTONL(x) __builtin_bswap32(x)

static void *(*bpf_map_lookup_elem)(void *map, const void *key) UNUSED = (void *)1;
static long (*bpf_map_update_elem)(void *map, const void *key, const void *value, __u64 flags) UNUSED = (void *)2;
static long (*bpf_map_delete_elem)(void *map, const void *key) UNUSED = (void *)3;
static __u64 (*bpf_ktime_get_ns)(void) UNUSED = (void *)5;
static long (*bpf_skb_store_bytes)(struct __sk_buff *skb, __u32 offset, const void *from, __u32 bytes, __u64 flags) UNUSED = (void *)9;
static long (*bpf_l3_csum_replace)(struct __sk_buff *skb, __u32 offset, __u64 from, __u64 to, __u64 flags) UNUSED = (void *)10;
static long (*bpf_l4_csum_replace)(struct __sk_buff *skb, __u32 offset, __u64 from, __u64 to, __u64 flags) UNUSED = (void *)11;
static __u32 (*bpf_get_prandom_u32)(void) UNUSED = (void *)7;
static long (*bpf_skb_load_bytes)(const struct __sk_buff *skb, __u32 offset, void *to, __u32 bytes) UNUSED = (void *)26;
static long (*bpf_redirect)(__u32 ifindex, __u64 flags) UNUSED = (void *)23;
static __s64 (*bpf_csum_diff)(const __be32 *from, __u32 from_bytes, const __be32 *to, __u32 to_bytes, __u32 seed) UNUSED = (void *)28;
static long (*bpf_skb_change_proto)(struct __sk_buff *skb, __be16 proto, __u64 flags) UNUSED = (void *)31;
static long (*bpf_skb_change_type)(struct __sk_buff *skb, __u32 type) UNUSED = (void *)32;
static __u32 (*bpf_get_hash_recalc)(struct __sk_buff *skb) UNUSED = (void *)34;
static long (*bpf_skb_change_tail)(struct __sk_buff *skb, __u32 length, __u64 flags) UNUSED = (void *)38;
static long (*bpf_skb_pull_data)(struct __sk_buff *skb, __u32 length) UNUSED = (void *)39;
static long (*bpf_skb_adjust_room)(struct __sk_buff *skb, __s32 bytes, __u32 mode, __u64 flags) UNUSED = (void *)50;
static long (*bpf_redirect_neigh)(__u32 ifindex, void *parameters, int bytes, __u64 flags) UNUSED = (void *)152;
static long (*bpf_redirect_peer)(__u32 ifindex, __u64 flags) UNUSED = (void *)155;

char program_license[] SEC("license") = "Apache-2.0";
