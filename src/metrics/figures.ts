// The figures that the agent reports when it is scraped, and its health checks. Pure.

import type { NetworkName } from '#model/ids.ts'
import type { MemberStatus } from '#model/member.ts'

/** Traffic of one network on this host: sums over its local endpoints, from the containers' point of view. */
export type NetworkTraffic = {
  readonly network: NetworkName
  readonly endpoints: number
  /** Since the agent started; monotonic, even when endpoints are removed. */
  readonly rxBytes: number
  readonly txBytes: number
  readonly rxPackets: number
  readonly txPackets: number
  /** bits/s over the last few seconds. */
  readonly rxRate: number
  readonly txRate: number
}

export type AddressUse = { readonly network: NetworkName; readonly used: number; readonly free: number }

export type Figures = {
  readonly version: string
  readonly members: Readonly<Record<MemberStatus, number>>
  readonly raft: {
    readonly term: number
    readonly isLeader: boolean
    readonly hasLeader: boolean
    readonly commitIndex: number
    readonly appliedIndex: number
    readonly leaderChanges: number
    readonly refusedMessages: number
    readonly proposalRetries: number
  }
  /** Entries known to be committed but not yet applied on this host. */
  readonly feedLag: number
  readonly ready: boolean
  /** Registered hosts, without vacant records of a restore. */
  readonly hosts: number
  readonly networks: number
  readonly endpoints: number
  readonly services: number
  /** Of a limited number of networks; `unlisted` counts the others. */
  readonly addresses: readonly AddressUse[]
  readonly traffic: readonly NetworkTraffic[]
  readonly unlisted: number
  readonly overlay: {
    readonly drift: number
    readonly degraded: number
    readonly repaired: Readonly<Record<string, number>>
  }
  readonly diverged: boolean
  /** Connections to the mesh port refused before or in the handshake, by reason. */
  readonly refused: Readonly<Record<string, number>>
  /** Packets that the guard's programs dropped, by reason; empty when they do not run. */
  readonly guardDrops: Readonly<Record<string, number>>
  /** The resolvers of this host's networks. */
  readonly names: {
    readonly resolvers: number
    /** Queries by what became of them. */
    readonly queries: Readonly<Record<string, number>>
    readonly cacheBytes: number
  }
  readonly serf: {
    /** Packets to Serf's port beyond the limits, by sender. */
    readonly droppedPackets: Readonly<Record<string, number>>
    readonly logDroppedBytes: number
  }
}

/** The result of one health check. */
export type Check = {
  readonly name: string
  /** What is wrong; null if the check passes. */
  readonly trouble: string | null
  /** Whether the host is not ready while the check fails. Other checks only affect /healthz. */
  readonly forReady: boolean
}
