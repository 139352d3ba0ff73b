// What the agent tells of itself when it is scraped, and how its health is judged. Pure.

import type { NetworkName } from '#model/ids.ts'
import type { MemberStatus } from '#model/member.ts'

/** Of one network on this host: sums over its local endpoints, seen from the containers. */
export type NetworkTraffic = {
  readonly network: NetworkName
  readonly endpoints: number
  /** Since the agent started; never falls, also when endpoints go. */
  readonly rxBytes: number
  readonly txBytes: number
  readonly rxPackets: number
  readonly txPackets: number
  /** bits/s over the last seconds. */
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
    readonly proposalRetries: number
  }
  /** Entries known to be committed that are not applied here yet. */
  readonly feedLag: number
  readonly ready: boolean
  /** Registered with a tunnel address; a row of a restore that waits for its host is none. */
  readonly hosts: number
  readonly networks: number
  readonly endpoints: number
  /** A bounded number of networks; `unlisted` counts the others. */
  readonly addresses: readonly AddressUse[]
  readonly traffic: readonly NetworkTraffic[]
  readonly unlisted: number
  readonly overlay: {
    readonly drift: number
    readonly degraded: number
    readonly repaired: Readonly<Record<string, number>>
  }
  readonly diverged: boolean
}

/** One thing that is looked at: null is well, anything else is what is wrong. */
export type Check = {
  readonly name: string
  readonly trouble: string | null
  /** Is the host not ready without it? The others are health alone. */
  readonly forReady: boolean
}
