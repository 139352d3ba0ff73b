// A host as the replicated state knows it. Its identity is the peer id; its VTEP and name may change.

import type { HostName, PeerId } from './ids.ts'
import type { Ipv4 } from './ipv4.ts'

/** A server is a Raft voter (or waits to be one); a client is any other host. */
export type Role = 'server' | 'client'

export type Host = {
  readonly name: HostName
  readonly peerId: PeerId
  readonly vtep: Ipv4
  readonly role: Role
  /** The kernel's boot id: a change tells that the host has rebooted. */
  readonly bootId: string
  readonly version: string
}
