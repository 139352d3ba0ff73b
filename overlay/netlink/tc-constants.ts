// Constants of traffic control, from linux/rtnetlink.h, pkt_sched.h, pkt_cls.h and tc_act/tc_mirred.h. Only those in use.
// Pure.

export const RTM_NEWQDISC = 36
export const RTM_DELQDISC = 37
export const RTM_GETQDISC = 38
export const RTM_NEWTFILTER = 44
export const RTM_DELTFILTER = 45
export const RTM_GETTFILTER = 46

/** Without it the kernel multicasts the reply to a request for one qdisc instead of returning it to the requester. */
export const NLM_F_ECHO = 0x8

/** Parent of a device's root qdisc. */
export const TC_H_ROOT = 0xffffffff
export const TC_H_CLSACT = 0xfffffff1
/** Parents of the filters on received and on sent packets. */
export const TC_H_INGRESS_FILTERS = 0xfffffff2
export const TC_H_EGRESS_FILTERS = 0xfffffff3
/** The fixed handle of clsact and of its predecessor, ingress. */
export const CLSACT_HANDLE = 0xffff0000

export const TCA_KIND = 1
export const TCA_OPTIONS = 2

export const TCA_TBF_PARMS = 1
export const TCA_TBF_RATE64 = 4
export const TCA_TBF_BURST = 6

export const TCA_FQ_CODEL_TARGET = 1
export const TCA_FQ_CODEL_LIMIT = 2
export const TCA_FQ_CODEL_INTERVAL = 3
export const TCA_FQ_CODEL_FLOWS = 5

export const TCA_NETEM_LATENCY64 = 10

export const TCA_U32_SEL = 5
export const TCA_U32_ACT = 7
/** TC_U32_TERMINAL: a match ends the lookup. */
export const U32_TERMINAL = 1

export const TCA_BPF_FD = 6
export const TCA_BPF_NAME = 7
export const TCA_BPF_FLAGS = 8
export const TCA_BPF_ID = 11
/** The program's return value is the verdict. */
export const TCA_BPF_FLAG_ACT_DIRECT = 1

export const TCA_ACT_KIND = 1
export const TCA_ACT_OPTIONS = 2
export const TCA_MIRRED_PARMS = 2
export const TC_ACT_STOLEN = 4
export const TCA_EGRESS_REDIR = 1

/** All protocols (linux/if_ether.h). */
export const ETH_P_ALL = 0x0003

/** With it the kernel needs no rate table. */
export const LINKLAYER_ETHERNET = 1

/** Traffic control measures time in ticks of 64 ns (PSCHED_SHIFT 6). */
export const NS_PER_TICK = 64
