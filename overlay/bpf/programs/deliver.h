// How a packet gets to a station of its network. A program defines its own section as PROGRAM before it includes this.

#pragma once

#include "flows.h"
#include "maps.h"
#include <linux/if_packet.h>
#include <linux/pkt_cls.h>

int restores(struct __sk_buff *skb, __u32 port);

// Redirects a packet to a container of this host. The verdict is to go on if the station is unknown, on another host, or
// reached by the bridge.
INLINE int deliver(struct __sk_buff *skb, const struct station *station)
{
  if (!station || (station->how != BY_PEER && station->how != BY_QUEUE)) return TC_ACT_UNSPEC;
  const __u32 to = station->to;
  // There to_container does the rest.
  if (station->how == BY_QUEUE) return bpf_redirect(to, 0);
  if (station->awaits && may_have_flows(to) && !restores(skb, to)) return TC_ACT_SHOT;
  struct traffic *traffic = bpf_map_lookup_elem(&vxm_traffic, &to);
  if (traffic) {
    traffic->redirected_packets++;
    traffic->redirected_bytes += skb->len;
  }
  // Before Linux 6.15 a redirect keeps the type, and the container's stack would refuse what is for "another host".
  if (skb->pkt_type != PACKET_HOST) bpf_skb_change_type(skb, PACKET_HOST);
  return bpf_redirect_peer(to, 0);
}
