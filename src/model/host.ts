// A host in the replicated state. Its identity is the peer id; its VTEP and name may change.

import type { HostName, PeerId } from './ids.ts'
import type { Ip } from './ip.ts'
import type { Ipv4 } from './ipv4.ts'
import type { MemberStatus } from './member.ts'

/** A server is a Raft voter, or waits to become one; a client is any other host. */
export type Role = 'server' | 'client'

/** The VTEP of a vacant host; no registered host has it. */
export const VACANT_VTEP = 0 as Ipv4

/** The boot id of a host that has left by its own word; it registers a real one when it comes back. */
export const LEFT_BOOT_ID = ''

export type Host = {
  readonly name: HostName
  readonly peerId: PeerId
  readonly vtep: Ip
  readonly role: Role
  /** The kernel's boot id: it changes when the host reboots. LEFT_BOOT_ID when the host itself has said that it leaves. */
  readonly bootId: string
  readonly version: string
}

/**
 * Whether this is only the record of a host in a restored backup: its name is free for another host, and its endpoints
 * wait for a host of that name to attach them again. It has no VTEP, and is removed with its last endpoint.
 */
export function isVacant(host: Host): boolean {
  return host.vtep === VACANT_VTEP
}

/** Has the host itself said that it leaves? */
export function hasLeft({ bootId }: Pick<Host, 'bootId'>): boolean {
  return bootId === LEFT_BOOT_ID
}

/** A host's status as Serf lists it, but that it has left, which anybody with Serf's key can forge: only the host itself says so. */
export function statusOfHost(host: Host | undefined, listed: MemberStatus): MemberStatus {
  return listed === 'left' && (host === undefined || !hasLeft(host)) ? 'failed' : listed
}
