// Constants of rtnetlink(7), from linux/rtnetlink.h, if_link.h, neighbour.h and if_addr.h. Only those in use. Pure.

export const RTM_NEWLINK = 16
export const RTM_DELLINK = 17
export const RTM_GETLINK = 18
export const RTM_NEWADDR = 20
export const RTM_DELADDR = 21
export const RTM_GETADDR = 22
export const RTM_NEWROUTE = 24
export const RTM_DELROUTE = 25
export const RTM_GETROUTE = 26
export const RTM_NEWNEIGH = 28
export const RTM_DELNEIGH = 29
export const RTM_GETNEIGH = 30
export const RTM_NEWNSID = 88
export const RTM_GETNSID = 90

export const NLM_F_REPLACE = 0x100
export const NLM_F_EXCL = 0x200
export const NLM_F_CREATE = 0x400
export const NLM_F_APPEND = 0x800

/** Multicast groups whose notifications can mean drift. */
export const RTNLGRP_LINK = 1
export const RTNLGRP_NEIGH = 3
export const RTNLGRP_TC = 4

export const AF_UNSPEC = 0
export const AF_INET = 2
export const AF_BRIDGE = 7
export const AF_INET6 = 10

export const IFF_UP = 0x1
export const IFF_RUNNING = 0x40

export const IFLA_ADDRESS = 1
export const IFLA_IFNAME = 3
export const IFLA_MTU = 4
export const IFLA_LINK = 5
export const IFLA_MASTER = 10
export const IFLA_LINKINFO = 18
export const IFLA_IFALIAS = 20
export const IFLA_STATS64 = 23
export const IFLA_AF_SPEC = 26
export const IFLA_GROUP = 27
export const IFLA_NET_NS_FD = 28
export const IFLA_EXT_MASK = 29
export const IFLA_LINK_NETNSID = 37

/** Leaves the counters out of a dump of links. */
export const RTEXT_FILTER_SKIP_STATS = 8

export const IFLA_INFO_KIND = 1
export const IFLA_INFO_DATA = 2
export const IFLA_INFO_SLAVE_KIND = 4
export const IFLA_INFO_SLAVE_DATA = 5

export const VETH_INFO_PEER = 1

export const IFLA_VXLAN_ID = 1
export const IFLA_VXLAN_GROUP = 2
export const IFLA_VXLAN_LINK = 3
export const IFLA_VXLAN_LOCAL = 4
export const IFLA_VXLAN_TTL = 5
export const IFLA_VXLAN_LEARNING = 7
export const IFLA_VXLAN_PORT = 15
export const IFLA_VXLAN_GROUP6 = 16
export const IFLA_VXLAN_LOCAL6 = 17
export const IFLA_VXLAN_COLLECT_METADATA = 25

export const IFLA_BR_MCAST_SNOOPING = 23

export const IFLA_BRPORT_LEARNING = 8
export const IFLA_BRPORT_UNICAST_FLOOD = 9
export const IFLA_BRPORT_NEIGH_SUPPRESS = 32
export const IFLA_BRPORT_ISOLATED = 33

export const IFLA_INET6_CONF = 2
export const IFLA_INET6_ADDR_GEN_MODE = 8
/** IN6_ADDR_GEN_MODE_NONE: no link-local address. */
export const ADDR_GEN_NONE = 1
/** Index of disable_ipv6 among the int32 of IFLA_INET6_CONF (linux/ipv6.h). */
export const DEVCONF_ACCEPT_RA = 3
export const DEVCONF_DISABLE_IPV6 = 26

export const NDA_DST = 1
export const NDA_LLADDR = 2
export const NDA_PORT = 6
export const NDA_VNI = 7
export const NDA_IFINDEX = 8
export const NDA_MASTER = 9
export const NDA_SRC_VNI = 11
export const NDA_NH_ID = 13

export const NUD_REACHABLE = 0x02
export const NUD_NOARP = 0x40
export const NUD_PERMANENT = 0x80

export const NTF_SELF = 0x02
export const NTF_MASTER = 0x04

export const IFA_ADDRESS = 1
export const IFA_LOCAL = 2
export const IFA_BROADCAST = 4
/** No duplicate address detection (RFC 4862): the address is usable at once. */
export const IFA_F_NODAD = 0x02
export const IFA_F_OPTIMISTIC = 0x04
export const IFA_F_DADFAILED = 0x08
export const IFA_F_TENTATIVE = 0x40

export const RTA_DST = 1
export const RTA_SRC = 2
export const RTA_OIF = 4
export const RTA_GATEWAY = 5
export const RTA_PRIORITY = 6
export const RTA_MULTIPATH = 9
export const RTA_TABLE = 15
export const RTA_VIA = 18
export const RTA_IP_PROTO = 27
export const RTA_DPORT = 29

export const RT_TABLE_MAIN = 254
/** Marks a route as set by an administrator, so that no routing daemon claims it. */
export const RTPROT_STATIC = 4
export const RTN_UNICAST = 1
/** RTN_BLACKHOLE, RTN_UNREACHABLE, RTN_PROHIBIT. */
export const RTN_REJECTING: readonly number[] = [6, 7, 8]
/** What the kernel has learned of a destination, such as the MTU of its path. */
export const RTM_F_CLONED = 0x200
/** The metric that a default route gets without one of its own. */
export const DEFAULT_METRICS: Readonly<Record<'ipv4' | 'ipv6', number>> = { ipv4: 0, ipv6: 1_024 }
export const RT_SCOPE_LINK = 253
/** Treats the next hop as on-link, whatever the device's addresses are. */
export const RTNH_F_ONLINK = 4

export const NETNSA_NSID = 1
export const NETNSA_FD = 3
