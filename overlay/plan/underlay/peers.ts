// The other hosts as the underlay reaches them: the one source of every remote tunnel address. Flood lists, FDB entries,
// the underlay guard, the switch's tunnel flows and the routers' closed destinations follow from it. Pure.

import type { Host } from '#model/host.ts'
import type { PeerId } from '#model/ids.ts'
import type { Ip } from '#model/ip.ts'
import type { MemberStatus } from '#model/member.ts'

/** Which entries a peer gets: flood and unicast, or unicast only. */
export type Reach = 'all' | 'unicast'

export type UnderlayPeer = {
  /** Its tunnel address. */
  readonly vtep: Ip
  readonly reach: Reach
}

/** The hosts with which this host exchanges tunnel packets. */
export type UnderlayPeers = ReadonlyMap<PeerId, UnderlayPeer>

export type PeersInput = {
  readonly self: PeerId
  /** This host's own tunnel address: the source of its VXLAN packets. */
  readonly selfVtep: Ip
  readonly hosts: readonly Host[]
  /** Null while the membership is unknown: then every host counts as alive. */
  readonly memberStatus: ReadonlyMap<PeerId, MemberStatus> | null
}

/**
 * A host is a peer from its registration until it leaves gracefully or is removed. Neither a failure nor a partition of
 * the control plane withdraws it (design section 4). A member that is not registered is no peer, nor is a host that claims
 * our own VTEP: an entry for it would loop packets back to us. O(hosts).
 */
export function peersOf(input: PeersInput): UnderlayPeers {
  const peers = new Map<PeerId, UnderlayPeer>()
  for (const { peerId, vtep } of input.hosts) {
    if (peerId === input.self || vtep === input.selfVtep) continue
    const reach = reachOf(input.memberStatus, peerId)
    if (reach !== null) peers.set(peerId, { vtep, reach })
  }
  return peers
}

/** The tunnel addresses from which VXLAN is accepted; from all others it is dropped. */
export function vtepsOf(peers: UnderlayPeers): ReadonlySet<Ip> {
  return new Set([...peers.values()].map(({ vtep }) => vtep))
}

/**
 * Every known address of a host in the underlay, with those of hosts that are no peers now, because they have left.
 * `memberAddresses` are those of Serf, which may differ from the tunnel addresses.
 */
export function hostAddresses(
  input: Pick<PeersInput, 'selfVtep' | 'hosts'> & { readonly bind: Ip; readonly memberAddresses: Iterable<Ip> }
): ReadonlySet<Ip> {
  const { selfVtep, bind, memberAddresses, hosts } = input
  return new Set([selfVtep, bind, ...memberAddresses, ...hosts.map(({ vtep }) => vtep)])
}

/**
 * A host that has failed, or is missing from the view, gets no flooded frames but keeps its unicast entries: a partition
 * of the control plane must not partition containers. Only a host that left loses both, after a grace (leave-grace.ts).
 */
function reachOf(statuses: ReadonlyMap<PeerId, MemberStatus> | null, peer: PeerId): Reach | null {
  if (statuses === null) return 'all'
  switch (statuses.get(peer)) {
    case 'alive':
    case 'leaving':
      return 'all'
    case 'left':
      return null
    case 'failed':
    case undefined:
      return 'unicast'
  }
}
