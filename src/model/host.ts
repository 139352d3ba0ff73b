// A host as the replicated state knows it. Its identity is the peer id; its VTEP and name may change.

import type { HostName, PeerId } from './ids.ts'
import type { Ipv4 } from './ipv4.ts'

/** A server is a Raft voter (or waits to be one); a client is any other host. */
export type Role = 'server' | 'client'

/** Of a host that is vacant; no host that registers has it. */
export const VACANT_VTEP = 0 as Ipv4

export type Host = {
  readonly name: HostName
  readonly peerId: PeerId
  readonly vtep: Ipv4
  readonly role: Role
  /** The kernel's boot id: a change tells that the host has rebooted. */
  readonly bootId: string
  readonly version: string
}

/**
 * Is this no host any more, but what a restored backup has kept of one: a name that anybody may have, and endpoints that
 * wait for a host of that name to attach them? It has no tunnel address, is reached by nobody, and goes with its last endpoint.
 */
export function isVacant(host: Host): boolean {
  return host.vtep === VACANT_VTEP
}
