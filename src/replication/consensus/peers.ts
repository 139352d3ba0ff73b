// The servers of a cluster as other hosts see them: which of them to ask, and how far each is. Pure.

import { VxmeshError } from '#model/errors.ts'
import { parsePeerId, type ClusterId, type LogIndex, type PeerId } from '#model/ids.ts'
import type { Member } from '#model/member.ts'
import type { Configuration } from '#raft/types.ts'

export type PeerProgress = { readonly peerId: PeerId; readonly voter: boolean; readonly matchIndex: number | null }

/** Does a member belong to another cluster? */
export function isForeign({ clusterId }: Member, own: ClusterId | null): boolean {
  return clusterId !== undefined && own !== null && clusterId !== own
}

/** The servers of this cluster that are alive. */
export function aliveServers(members: readonly Member[], own: ClusterId | null): PeerId[] {
  return members.filter(m => m.role === 'server' && m.status === 'alive' && !isForeign(m, own)).map(m => m.peerId)
}

/** The voters and learners; `progress` is known to a leader only. */
export function peersOf(
  { voters, learners }: Pick<Configuration, 'voters' | 'learners'>,
  progress?: ReadonlyMap<PeerId, { readonly matchIndex: LogIndex }>
): PeerProgress[] {
  const peers = (some: readonly PeerId[], voter: boolean): PeerProgress[] =>
    some.map(peerId => ({ peerId, voter, matchIndex: progress?.get(peerId)?.matchIndex ?? null }))
  return [...peers(voters, true), ...peers(learners, false)]
}

/** A peer's answer about the servers. @throws ERR_PEER on anything malformed */
export function parsePeers(value: unknown): PeerProgress[] {
  if (!Array.isArray(value)) throw malformed()
  return value.map((item: unknown) => {
    const { peerId, voter, matchIndex } = (typeof item === 'object' && item !== null ? item : {}) as Record<
      string,
      unknown
    >
    if (typeof peerId !== 'string' || typeof voter !== 'boolean' || !isIndexOrNull(matchIndex)) throw malformed()
    return { peerId: peerIdOf(peerId), voter, matchIndex }
  })
}

function isIndexOrNull(value: unknown): value is number | null {
  return value === null || (typeof value === 'number' && Number.isSafeInteger(value) && value >= 0)
}

function peerIdOf(text: string): PeerId {
  try {
    return parsePeerId(text)
  } catch (cause) {
    throw malformed(cause)
  }
}

function malformed(cause?: unknown): VxmeshError {
  return new VxmeshError('ERR_PEER', 'a malformed list of servers', { cause })
}
