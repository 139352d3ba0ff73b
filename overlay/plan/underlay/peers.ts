// The other hosts as the underlay reaches them: the one source of every remote tunnel address. Flood lists, FDB entries,
// the underlay guard, the switch's tunnel flows and the routers' closed destinations follow from it. Pure.

import { isVacant, type Host } from '#model/host.ts'
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
export type UnderlayPeers = Pick<ReadonlyMap<PeerId, UnderlayPeer>, 'get' | 'values'>

export type MemberStatuses = Pick<ReadonlyMap<PeerId, MemberStatus>, 'get'>

export type PeersInput = {
  readonly self: PeerId
  /** This host's own tunnel address: the source of its VXLAN packets. */
  readonly selfVtep: Ip
  readonly hosts: readonly Host[]
  /** Null while the membership is unknown: then every host counts as alive. */
  readonly memberStatus: MemberStatuses | null
}

/** The peers of `peersOf`, each computed when it is asked for: with many hosts, a network is only on some of them. */
export function lazyPeers(input: PeersInput & { readonly host: (peer: PeerId) => Host | undefined }): UnderlayPeers {
  const { hosts, host } = input
  return {
    get(peer) {
      const found = host(peer)
      return found === undefined || isVacant(found) ? undefined : (peerOf(input, found) ?? undefined)
    },
    *values() {
      for (const each of hosts) {
        const peer = peerOf(input, each)
        if (peer !== null) yield peer
      }
      return undefined
    }
  }
}

/**
 * A host is a peer from its registration until it leaves gracefully or is removed. Neither a failure nor a partition of
 * the control plane withdraws it (design section 4). A member that is not registered is no peer, nor is a host that claims
 * our own VTEP: an entry for it would loop packets back to us. O(hosts).
 */
export function peersOf(input: PeersInput): ReadonlyMap<PeerId, UnderlayPeer> {
  const peers = new Map<PeerId, UnderlayPeer>()
  for (const host of input.hosts) {
    const peer = peerOf(input, host)
    if (peer !== null) peers.set(host.peerId, peer)
  }
  return peers
}

function peerOf({ self, selfVtep, memberStatus }: PeersInput, { peerId, vtep }: Host): UnderlayPeer | null {
  if (peerId === self || vtep === selfVtep) return null
  const reach = reachOf(memberStatus, peerId)
  return reach === null ? null : { vtep, reach }
}

/** The tunnel addresses from which VXLAN is accepted; from all others it is dropped. */
export function vtepsOf(peers: UnderlayPeers): ReadonlySet<Ip> {
  const vteps = new Set<Ip>()
  for (const { vtep } of peers.values()) vteps.add(vtep)
  return vteps
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
function reachOf(statuses: MemberStatuses | null, peer: PeerId): Reach | null {
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
