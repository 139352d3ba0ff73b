// The JSON that people and programs see (contract 6.3): addresses and rates in their outside form.

import type { MemberStatus } from './member.ts'
import type { Shaping } from './endpoint.ts'
import type { Role } from './host.ts'
import type { EndpointSettings, NetworkSettings } from './settings.ts'

/** Its `mtu` is never 0: where the network has none of its own, it is this host's. */
export type NetworkView = NetworkSettings & {
  readonly name: string
  readonly vni: number
  readonly subnet: string
  readonly gateway: string
  readonly endpoints: number
}

export type EndpointView = EndpointSettings & {
  readonly network: string
  readonly containerId: string
  readonly name: string
  readonly ifname: string
  /** The host's name. */
  readonly host: string
  /** With prefix length: 10.1.0.2/24. */
  readonly address: string
  readonly gateway: string
  readonly mac: string
  readonly vni: number
  readonly mtu: number
  /** The veth's name on its host. */
  readonly hostInterface: string
  /** Seen from the container; null where this host cannot see the endpoint's device. */
  readonly rxBytes: number | null
  readonly txBytes: number | null
  readonly rxPackets: number | null
  readonly txPackets: number | null
  /** bits/s over the last seconds; null also until two samples were taken. */
  readonly rxRate: number | null
  readonly txRate: number | null
  /** Index of the device that counts: the totals begin at 0 with it, and another index means that they began anew. */
  readonly hostIfindex: number | null
  /** What the kernel enforces of the rates and the delay; null in lists, and where this host does not hold it. */
  readonly installed: Shaping | null
}

export type NamespaceView = {
  readonly namespace: string
  readonly network: string
  /** Other networks that its pods may choose. */
  readonly grants: readonly string[]
}

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
  /** Serf's word on it; `unknown` when Serf does not list it. */
  readonly status: MemberStatus | 'unknown'
  readonly endpoints: number
  readonly version: string
}

/** One key of the paper's view, with its value in the outside form. */
export type KvEntryView = { readonly key: string; readonly value: Readonly<Record<string, unknown>> }

export type KvPageView = {
  readonly entries: readonly KvEntryView[]
  /** The last key of this page when there are more behind it, to be given as `after`. */
  readonly next: string | null
}

export type RaftPeerView = {
  readonly name: string
  readonly peerId: string
  readonly address: string
  readonly state: 'leader' | 'follower' | 'candidate' | 'unknown'
  readonly voter: boolean
  /** The highest log index known to be on the peer; null where this host does not lead. */
  readonly matchIndex: number | null
}

/** What is in a backup, or in a host's own snapshot: both are files of one form. */
export type SnapshotView = {
  readonly file: string
  readonly bytes: number
  /** Of the file's form. */
  readonly version: number
  readonly cluster: string
  /** The last log entry that it stands for, and its term. */
  readonly index: number
  readonly term: number
  /** Of the whole state, as in StatusView. */
  readonly digest: string
  /** The voters' names at that entry, peer ids where there is none. */
  readonly servers: readonly string[]
  readonly hosts: number
  readonly networks: number
  readonly endpoints: number
  readonly namespaces: number
}

export type StatusView = {
  readonly host: string
  readonly peerId: string
  /** Cluster id, or null before the first bootstrap. */
  readonly cluster: string | null
  readonly version: string
  readonly ready: boolean
  /** What keeps this host from its place in a cluster; null for nothing that it knows of. */
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
  /** Of the state at the applied index: equal on all hosts that are there. */
  readonly digest: string
  /** The first log index at which this state was seen to differ from the leader’s; null is as it must be. */
  readonly differsAt: number | null
  readonly overlay: {
    readonly driver: string
    /** Differences between the kernel and what it should hold that are left. */
    readonly drift: number
    /** Why, one line a cause. */
    readonly degraded: readonly string[]
    /** What others had changed in the kernel and was put right since the agent started, by kind of op. */
    readonly repaired: Readonly<Record<string, number>>
  }
}

/** One thing that `doctor` has looked at. */
export type FindingView = {
  /** Stable: `disk.space`. */
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
  /** What is wrong comes first. */
  readonly findings: readonly FindingView[]
}

/** What a reload has done, by keys of the configuration. */
export type ReloadView = {
  readonly changed: readonly string[]
  /** Differ too, and keep their old value until a restart. */
  readonly restart: readonly string[]
}
