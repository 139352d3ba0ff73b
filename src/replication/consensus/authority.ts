// Decides which peers count as servers, by the peer id that the handshake authenticated. The configurations of the
// host's own log decide. What a member says of itself over Serf counts only on a client host whose log cannot tell, and there
// only from where its administrator told it to join. Pure.

import type { ClusterId, LogIndex, PeerId } from '#model/ids.ts'
import type { Member } from '#model/member.ts'
import { isMember } from '#raft/configuration.ts'
import type { Configuration } from '#raft/types.ts'
import { aliveServers, isForeign } from './peers.ts'

/**
 * How long no server of the configuration may be listed by Serf before a client host believes a server that it was told to
 * join: it slept while all servers were replaced. Far longer than Serf takes to list the members after a start; failed ones
 * stay listed for a day. Whoever holds the gossip key can keep servers from being listed, so it takes more than that.
 */
export const UNLISTED_MS = 60_000
/** Servers that another host may name: far more than a cluster has. */
export const MAX_NAMED_SERVERS = 256

export type AuthorityOptions = {
  readonly self: PeerId
  /** What this host has applied. */
  readonly applied: { readonly index: LogIndex; readonly configuration: Configuration }
  /** A voter's log: the last configuration in it, committed or not, and the leader that it follows. */
  readonly log: () => { readonly configuration: Configuration; readonly leader: PeerId | null } | null
  readonly members: () => readonly Member[]
  readonly clusterId: () => ClusterId | null
  /** Is the peer connected from an address that the administrator of this host told it to join? */
  readonly isInvited: (peer: PeerId) => boolean
}

export class Authority {
  readonly #options: AuthorityOptions
  /** Servers of a configuration that is newer than the applied one, named by a server of that one. */
  #successors: { readonly index: LogIndex; readonly peers: readonly PeerId[] } = { index: 0 as LogIndex, peers: [] }
  #unlistedSinceMs: number | null = null
  #believesInvited = false

  constructor(options: AuthorityOptions) {
    this.#options = options
  }

  /** May this peer send messages of Raft, and answer for the servers? */
  isServer(peer: PeerId): boolean {
    if (this.isConfigured(peer) || this.#options.log()?.leader === peer) return true
    if (this.#successors.index > this.#options.applied.index && this.#successors.peers.includes(peer)) return true
    return this.#believesTagOf(peer) && this.#tagged().includes(peer)
  }

  /** Does a configuration of this host's log name the peer? */
  isConfigured(peer: PeerId): boolean {
    const { applied, log } = this.#options
    const last = log()?.configuration
    return isMember(applied.configuration, peer) || (last !== undefined && isMember(last, peer))
  }

  /** The servers that are alive. */
  servers(): PeerId[] {
    const { clusterId, members } = this.#options
    const alive = members().filter(m => m.status === 'alive' && !isForeign(m, clusterId()))
    return alive.map(m => m.peerId).filter(peer => this.isServer(peer))
  }

  /** A server names the servers of the configuration that it has applied; believed only where it is ahead. */
  learn(from: PeerId, named: { readonly index: LogIndex; readonly servers: readonly PeerId[] }): void {
    const { applied } = this.#options
    if (!this.isServer(from) || named.index <= Math.max(applied.index, this.#successors.index)) return
    this.#successors = { index: named.index, peers: named.servers.slice(0, MAX_NAMED_SERVERS) }
  }

  /** To be called regularly: notices that Serf has not listed the configured servers for long. */
  review(nowMs: number): void {
    const listed = this.#options.members().some(m => m.status !== 'left' && this.#isOther(m.peerId))
    this.#unlistedSinceMs = listed || this.#isAlone() ? null : (this.#unlistedSinceMs ?? nowMs)
    this.#believesInvited = this.#unlistedSinceMs !== null && nowMs - this.#unlistedSinceMs >= UNLISTED_MS
  }

  #believesTagOf(peer: PeerId): boolean {
    const { applied, members, log, isInvited } = this.#options
    if (log() !== null) return false
    if (this.#believesInvited && isInvited(peer)) return true
    // A host that has just joined knows the founders only, which may be gone.
    if (applied.index > 0) return false
    return !members().some(m => m.status === 'alive' && this.#isOther(m.peerId))
  }

  #tagged(): readonly PeerId[] {
    return aliveServers(this.#options.members(), this.#options.clusterId())
  }

  #isOther(peer: PeerId): boolean {
    return peer !== this.#options.self && this.isConfigured(peer)
  }

  /** Is this host the only voter? Then Serf cannot list another one. */
  #isAlone(): boolean {
    const { applied, self } = this.#options
    return applied.configuration.voters.every(voter => voter === self)
  }
}
