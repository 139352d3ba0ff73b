// The JSON of the API (contract 6.3): addresses as text, rates in bits/s.

import type { MemberStatus } from './member.ts'
import type { Shaping } from './endpoint.ts'
import type { Role } from './host.ts'
import type { Labels } from './labels.ts'
import type { Action, Direction } from './policy.ts'
import type { ServicePort } from './service.ts'
import type { EndpointSettings, NetworkSettings } from './settings.ts'

/** Its `mtu` is never 0: where the network has none of its own, it is this host's. */
export type NetworkView = Required<NetworkSettings> & {
  readonly name: string
  readonly vni: number
  readonly subnet: string
  /** One of each family at most, `subnet` first. */
  readonly subnets: readonly string[]
  readonly gateway: string
  /** One for each subnet, `gateway` first. */
  readonly gateways: readonly string[]
  readonly endpoints: number
}

/** What a container is to have in its resolv.conf(5). */
export type DnsView = { readonly nameservers: readonly string[]; readonly search: readonly string[] }

export type EndpointView = EndpointSettings & {
  readonly network: string
  readonly containerId: string
  readonly name: string
  readonly ifname: string
  /** The host's name. */
  readonly host: string
  /** With prefix length: 10.1.0.2/24. */
  readonly address: string
  /** One for each subnet of the network, `address` first. */
  readonly addresses: readonly string[]
  readonly gateway: string
  readonly gateways: readonly string[]
  readonly mac: string
  readonly vni: number
  readonly mtu: number
  /** Name of the veth's end on the host. */
  readonly hostInterface: string
  readonly labels: Labels
  /** Null: its network has no resolver. */
  readonly dns: DnsView | null
  /** From the container's point of view; null on hosts other than the endpoint's. */
  readonly rxBytes: number | null
  readonly txBytes: number | null
  readonly rxPackets: number | null
  readonly txPackets: number | null
  /** bits/s over the last few seconds; null until two samples exist. */
  readonly rxRate: number | null
  readonly txRate: number | null
  /** Index of the device whose counters these are. A new device has a new index, and its counters start at 0. */
  readonly hostIfindex: number | null
  /** The rates and delay that the kernel enforces; null in lists, and on hosts other than the endpoint's. */
  readonly installed: Shaping | null
}

export type NamespaceView = {
  readonly namespace: string
  readonly network: string
  /** Other networks that its pods may choose. */
  readonly grants: readonly string[]
}

export type ServiceView = {
  readonly network: string
  readonly name: string
  /** One of each family at most; none: a headless service. */
  readonly addresses: readonly string[]
  readonly ports: readonly ServicePort[]
  /** 0: a client keeps its backend as long as a connection lasts. */
  readonly affinitySeconds: number
  /** `key=value`, or `key`; null where the backends are fixed. */
  readonly select: readonly string[] | null
  /** Addresses, with a port where it is another than the target port; null where labels choose them. */
  readonly backends: readonly string[] | null
  /** How many endpoints of the network these are now. */
  readonly endpoints: number
}

export type PolicyView = {
  readonly network: string
  readonly name: string
  /** As text: `tier=db+!canary`; `*`: all endpoints of the network. */
  readonly select: string
  /** Directions in which only what a rule allows is allowed. */
  readonly closes: readonly Direction[]
  /** In their order. */
  readonly rules: readonly PolicyRuleView[]
}

/** `rule` as text: `from=tier=app,port=5432/tcp`. */
export type PolicyRuleView = { readonly direction: Direction; readonly action: Action; readonly rule: string }

export type MemberView = {
  readonly name: string
  readonly address: string
  readonly status: MemberStatus
  readonly role: Role
  readonly vtep: string
  readonly peerId: string
}

export type HostView = {
  readonly name: string
  readonly peerId: string
  readonly vtep: string
  readonly role: Role
  /** Its status in Serf; `unknown` when Serf does not list it. */
  readonly status: MemberStatus | 'unknown'
  readonly endpoints: number
  readonly version: string
}

/** Part of a list in a stable order: rows that exist throughout are listed once, whatever is created or deleted meanwhile. */
export type PageView<Row> = {
  readonly items: readonly Row[]
  /** Opaque; given as `continue` it asks for the next page. Null on the last page. */
  readonly continue: string | null
}

/** One entry of the key-value view, its value as in the API. */
export type KvEntryView = { readonly key: string; readonly value: Readonly<Record<string, unknown>> }

export type KvPageView = {
  readonly entries: readonly KvEntryView[]
  /** The last key of this page, to be given as `after` for the next one; null on the last page. */
  readonly next: string | null
}

export type RaftPeerView = {
  readonly name: string
  readonly peerId: string
  readonly address: string
  readonly state: 'leader' | 'follower' | 'candidate' | 'unknown'
  readonly voter: boolean
  /** The highest log index known to be replicated to the peer; null unless this host leads. */
  readonly matchIndex: number | null
}

/** The contents of a backup or of a host's own snapshot; both have the same file format. */
export type SnapshotView = {
  readonly file: string
  readonly bytes: number
  /** Of the file format. */
  readonly version: number
  readonly cluster: string
  /** Index and term of the last log entry that it includes. */
  readonly index: number
  readonly term: number
  /** Of the whole state, as in StatusView. */
  readonly digest: string
  /** Names of the voters at that entry; the peer id of a voter without a host record. */
  readonly servers: readonly string[]
  readonly hosts: number
  readonly networks: number
  readonly endpoints: number
  readonly namespaces: number
  readonly services: number
  readonly policies: number
}

export type StatusView = {
  readonly host: string
  readonly peerId: string
  /** Cluster id, or null before the first bootstrap. */
  readonly cluster: string | null
  readonly version: string
  readonly ready: boolean
  /** Why this host cannot take part in its cluster; null when it knows of no reason. */
  readonly trouble: string | null
  readonly raft: {
    readonly role: 'leader' | 'follower' | 'candidate' | 'client' | 'waiting'
    readonly term: number
    /** The leader's name, or null. */
    readonly leader: string | null
    readonly commitIndex: number
    readonly appliedIndex: number
  }
  readonly members: { readonly alive: number; readonly failed: number }
  readonly networks: number
  readonly endpoints: number
  /** Of the state at the applied index; equal on all hosts that have applied the same index. */
  readonly digest: string
  /** The first log index at which this state was found to differ from the leader’s; null when it never was. */
  readonly differsAt: number | null
  readonly overlay: {
    readonly driver: string
    /** By what containers' ports and the VXLAN port are guarded: bpf, nft or off. */
    readonly guard: string
    /** Why no eBPF programs run; null when they do, or are not to. */
    readonly noPrograms: string | null
    /** Why services do not work for the containers of this host; null when they do. */
    readonly noServices: string | null
    /** How many differences between desired and observed kernel state remain. */
    readonly drift: number
    /** Why, one line per cause. */
    readonly degraded: readonly string[]
    /** External changes to the kernel that were repaired since the agent started, by kind of op. */
    readonly repaired: Readonly<Record<string, number>>
  }
}

/** The result of one check of `doctor`. */
export type FindingView = {
  /** Stable, such as `disk.space`. */
  readonly id: string
  readonly level: 'ok' | 'warning' | 'failed'
  readonly found: string
  /** Empty when there is nothing to do. */
  readonly todo: string
}

export type DoctorView = {
  /** The host's name. */
  readonly host: string
  readonly failed: number
  /** Failed checks first. */
  readonly findings: readonly FindingView[]
}

/** The outcome of a reload, by configuration key. */
export type ReloadView = {
  readonly changed: readonly string[]
  /** Keys that differ and keep their old value until a restart. */
  readonly restart: readonly string[]
}
