// The roles that a host can have in its cluster, and which one its disk implies: a voter where a configuration in the log
// names it, else a follower of the feed.

import type { LogIndex, PeerId, Term } from '#model/ids.ts'
import type { Member } from '#model/member.ts'
import type { Clock } from '#platform/clock.ts'
import type { Logger } from '#platform/log.ts'
import type { Random } from '#platform/random.ts'
import type { AppliedLog } from '../consensus/applied-log.ts'
import { checkEntry } from '../consensus/entry-request.ts'
import { mustTakePart } from '../consensus/participation.ts'
import type { RoleChange } from '../consensus/raft-node-options.ts'
import type { Origin } from '../storage/wal-record.ts'
import type { MeshPort } from '../transport/mesh-port.ts'
import { RaftTransport } from '../transport/raft-transport.ts'
import type { Rpc } from '../transport/rpc.ts'
import { Follower } from './follower.ts'
import type { Replica } from './replica.ts'
import { Voter } from './voter.ts'

/** Before this host belongs to a cluster, and while its log is opened again. */
export type None = { readonly kind: 'none' }
export type Role = Voter | Follower | None

export type RoleOptions = {
  readonly self: PeerId
  readonly mesh: MeshPort
  readonly rpc: Rpc
  readonly applied: AppliedLog
  readonly members: () => readonly Member[]
  /** This host's role in consensus, or the leader that it knows, has changed. */
  readonly roleChanged: (change: RoleChange) => void
  /** A leader is known. */
  readonly leaderSeen: (leader: PeerId, term: Term) => void
  readonly fatal: (err: Error) => void
  readonly clock: Clock
  readonly random: Random
  readonly logger: Logger
}

export type RoleFactoryOptions = RoleOptions & {
  readonly replica: Replica
  /** Servers to fetch from, the best first. */
  readonly servers: () => readonly PeerId[]
  /** May a peer send messages of Raft and of the feed? */
  readonly isServer: (peer: PeerId) => boolean
  /** The running voter, which receives Raft's messages. */
  readonly voter: () => Voter | null
  /** The applied state, and perhaps the configuration with it, has changed. */
  readonly advanced: () => void
  /** A message of the feed names the leader. */
  readonly feedLeaderSeen: (leader: PeerId, term: Term) => void
}

export class RoleFactory {
  readonly #options: RoleFactoryOptions
  /** Opened for the first voter and kept until the end: a protocol is registered with the mesh once. */
  #transport: RaftTransport | null = null

  constructor(options: RoleFactoryOptions) {
    this.#options = options
  }

  /**
   * Makes the role that the replica implies. A voter runs at once, a follower after its `start`.
   * @param p.removedAt the committed index at which other servers knew that this host was removed, if its own log does not say so
   */
  async make(p: {
    readonly origin: Origin
    readonly incarnation: number
    readonly removedAt: LogIndex | null
  }): Promise<Voter | Follower> {
    const { origin, incarnation, removedAt } = p
    const { replica, self } = this.#options
    const { durable } = replica.storage.recovered
    if (removedAt === null && mustTakePart({ self, incarnation, durable, origin: origin.configuration })) {
      return this.#voter(origin, incarnation)
    }
    return this.#follower(origin, removedAt)
  }

  /** Takes frames of Raft that came with a reply. @throws ERR_PEER on a malformed one */
  receive(peer: PeerId, frames: readonly Uint8Array[]): void {
    this.#transport?.receive(peer, frames)
  }

  /** Messages of Raft that were refused. */
  get refused(): number {
    return this.#transport?.refused ?? 0
  }

  stop(): void {
    this.#transport?.stop()
  }

  async #voter(origin: Origin, incarnation: number): Promise<Voter> {
    const { leaderSeen, roleChanged } = this.#options
    const transport = await this.#openTransport()
    return new Voter({
      ...this.#options,
      origin,
      incarnation,
      transport,
      roleChanged: change => {
        if (change.leader !== null) leaderSeen(change.leader, change.term)
        roleChanged(change)
      }
    })
  }

  #follower(origin: Origin, removedAt: LogIndex | null): Follower {
    const { feedLeaderSeen: leaderSeen } = this.#options
    return new Follower({ ...this.#options, origin, removedAt, leaderSeen })
  }

  async #openTransport(): Promise<RaftTransport> {
    if (this.#transport !== null) return this.#transport
    const { clock, isServer, self, mesh, logger, voter } = this.#options
    const transport = new RaftTransport({
      mesh,
      self,
      isServer,
      checkEntry,
      receive: message => voter()?.receive(message),
      lost: peer => voter()?.raft.peerLost(peer),
      clock,
      logger
    })
    this.#transport = transport
    await transport.start()
    return transport
  }
}
