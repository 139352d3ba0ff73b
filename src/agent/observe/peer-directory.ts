// Who a peer is: its name, and whether it may connect. Members come from Serf, hosts from the committed state.

import type { ClusterState } from '#allocator/state-machine.ts'
import { memberOf, type MembershipView } from '#membership/view/view.ts'
import { isVacant } from '#model/host.ts'
import type { PeerId } from '#model/ids.ts'
import type { Member } from '#model/member.ts'

export type PeerDirectoryOptions = {
  readonly state: Pick<ClusterState, 'host'>
  /** Null until Serf has answered for the first time. */
  readonly view: () => MembershipView | null
}

export class PeerDirectory {
  readonly #options: PeerDirectoryOptions

  constructor(options: PeerDirectoryOptions) {
    this.#options = options
  }

  /** As Serf lists them; none before it has answered. */
  get members(): readonly Member[] {
    return this.#options.view()?.members ?? []
  }

  /** The member with this id, if Serf lists it. */
  member(peer: PeerId): Member | undefined {
    const view = this.#options.view()
    return view === null ? undefined : memberOf(view, peer)
  }

  /** The peer's host name, or its id if it has none. */
  nameOf(peer: PeerId): string {
    return this.#options.state.host(peer)?.name ?? this.member(peer)?.name ?? peer
  }

  /** May this peer connect? Hosts of the committed state may, and members that have not left. */
  isKnown(peer: PeerId): boolean {
    const host = this.#options.state.host(peer)
    if (host !== undefined && !isVacant(host)) return true
    const member = this.member(peer)
    return member !== undefined && member.status !== 'left'
  }
}
