// A member: a host as Serf sees it. Membership is a hint; the committed state is the authority (design section 3).

import type { ClusterId, HostName, PeerId } from './ids.ts'
import type { Ip } from './ip.ts'
import type { Role } from './host.ts'

export type MemberStatus = 'alive' | 'leaving' | 'left' | 'failed'

export type Member = {
  readonly name: HostName
  /** Serf's address and port of the member. */
  readonly address: Ip
  readonly port: number
  readonly status: MemberStatus
  readonly role: Role
  readonly peerId: PeerId
  readonly vtep: Ip
  /** TCP port of its libp2p. */
  readonly p2pPort: number
  /** Version of vxmesh's protocols that the member speaks. */
  readonly protocol: number
  /** On servers: how many servers must see each other before the first election; 0 on clients. */
  readonly bootstrapExpect: number
  /** Id of the restored backup from which it will found a cluster: 16 hex digits. */
  readonly seed?: string
  /** The cluster that it belongs to; absent until it knows. */
  readonly clusterId?: ClusterId
}

/** Version of vxmesh's protocols: Serf tags, libp2p streams and the feed. */
export const PROTOCOL_VERSION = 1
