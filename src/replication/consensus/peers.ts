// The servers of a cluster as others see them: who is to be asked, and how far each one is. Pure.

import type { ClusterId, LogIndex, PeerId } from '#model/ids.ts'
import type { Member } from '#model/member.ts'
import type { Configuration } from '#raft/types.ts'

export type PeerProgress = { readonly peerId: PeerId; readonly voter: boolean; readonly matchIndex: number | null }

/** Does a member say that it belongs to another cluster? */
export function isForeign({ clusterId }: Member, own: ClusterId | null): boolean {
  return clusterId !== undefined && own !== null && clusterId !== own
}

/** Servers that are alive, to be asked. */
export function serversToAsk(members: readonly Member[], own: ClusterId | null): PeerId[] {
  return members.filter(m => m.role === 'server' && m.status === 'alive' && !isForeign(m, own)).map(m => m.peerId)
}

/** The voters and learners; `progress` is what a leader knows of them. */
export function peersOf(
  { voters, learners }: Pick<Configuration, 'voters' | 'learners'>,
  progress?: ReadonlyMap<PeerId, { readonly matchIndex: LogIndex }>
): PeerProgress[] {
  const peers = (some: readonly PeerId[], voter: boolean): PeerProgress[] =>
    some.map(peerId => ({ peerId, voter, matchIndex: progress?.get(peerId)?.matchIndex ?? null }))
  return [...peers(voters, true), ...peers(learners, false)]
}
