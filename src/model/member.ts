// A member: a host as Serf sees it. Membership is a hint; the committed state is the authority (design section 3).

import type { ClusterId, HostName, PeerId } from './ids.ts'
import type { Ipv4 } from './ipv4.ts'
import type { Role } from './host.ts'

export type MemberStatus = 'alive' | 'leaving' | 'left' | 'failed'

export type Member = {
  readonly name: HostName
  /** Serf's address and port of the member. */
  readonly address: Ipv4
  readonly port: number
  readonly status: MemberStatus
  readonly role: Role
  readonly peerId: PeerId
  readonly vtep: Ipv4
  /** TCP port of its libp2p. */
  readonly p2pPort: number
  /** Version of vxmesh's own protocols that the member speaks. */
  readonly protocol: number
  /** Servers: how many servers it waits for before the first election; 0 for clients. */
  readonly bootstrapExpect: number
  /** The restored backup that it holds and that is to become a cluster: 16 hex digits (replication/seed.ts). */
  readonly seed?: string
  /** The cluster it belongs to, once it knows. */
  readonly clusterId?: ClusterId
}

/** The version of our protocols over Serf tags, libp2p streams and the feed. */
export const PROTOCOL_VERSION = 1
