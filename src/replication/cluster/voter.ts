// The role of a server: it votes and replicates in Raft, and publishes the feed while it leads.

import type { PeerId } from '#model/ids.ts'
import type { Clock } from '#platform/clock.ts'
import type { Logger } from '#platform/log.ts'
import type { Random } from '#platform/random.ts'
import { isMember } from '#raft/configuration.ts'
import type { Entry, Message } from '#raft/types.ts'
import type { AppliedEntry, CommitNotice } from '../consensus/propose-rpc.ts'
import { RaftNode } from '../consensus/raft-node.ts'
import type { RoleChange } from '../consensus/raft-node-options.ts'
import { FeedPublisher } from '../feed/feed-publisher.ts'
import type { PageSource } from '../feed/fetch.ts'
import { ticketOf } from '../feed/ticket.ts'
import type { Origin } from '../storage/wal-record.ts'
import type { MeshPort } from '../transport/mesh-port.ts'
import type { RaftTransport } from '../transport/raft-transport.ts'
import type { Rpc } from '../transport/rpc.ts'
import type { Replica } from './replica.ts'
import { VoterIntake } from './voter-intake.ts'

export type VoterOptions = {
  readonly self: PeerId
  readonly incarnation: number
  readonly origin: Origin
  readonly replica: Replica
  readonly mesh: MeshPort
  readonly transport: RaftTransport
  readonly rpc: Rpc
  /** Servers to fetch a snapshot from. */
  readonly servers: () => readonly PeerId[]
  /** The applied state, and perhaps the configuration with it, has changed. */
  readonly advanced: () => void
  readonly roleChanged: (change: RoleChange) => void
  readonly fatal: (err: Error) => void
  readonly clock: Clock
  readonly random: Random
  readonly logger: Logger
}

export class Voter {
  readonly kind = 'voter'
  readonly raft: RaftNode
  readonly #options: VoterOptions
  readonly #publisher: FeedPublisher
  readonly #intake: VoterIntake

  constructor(options: VoterOptions) {
    this.#options = options
    const { self, incarnation, origin, replica, transport, advanced, mesh, fatal, clock, random, logger } = options
    const { rpc, servers } = options
    const { wal, recovered, snapshot } = replica.storage
    this.#publisher = new FeedPublisher({
      mesh,
      clusterId: origin.clusterId,
      notes: () => replica.applied.notes(),
      clock,
      logger
    })
    this.raft = new RaftNode({
      self,
      clusterId: origin.clusterId,
      configuration: origin.configuration,
      durable: recovered.durable,
      snapshotData: snapshot === null ? null : ticketOf(snapshot),
      incarnation,
      wal,
      send: message => transport.send(message),
      refused: (from, why) => transport.refuse(from, why),
      apply: entries => this.#apply(entries),
      installSnapshot: async ({ meta }) => {
        await this.#intake.save(meta.lastIndex)
        await wal.reset(meta)
      },
      restore: ({ meta }) => {
        this.#intake.adopt(meta.lastIndex)
        advanced()
      },
      roleChanged: change => this.#roleChanged(change),
      fatal,
      clock,
      random,
      logger
    })
    this.#intake = new VoterIntake({
      rpc,
      clusterId: origin.clusterId,
      replica,
      servers: () => servers().filter(peer => peer !== self),
      receive: message => this.raft.receive(message),
      commitIndex: () => this.raft.status().commitIndex,
      fatal,
      clock,
      logger
    })
  }

  /** A message of another server. */
  receive(message: Message): void {
    this.raft.receive(this.#intake.filter(message))
  }

  /** @throws ERR_NOT_LEADER, ERR_NO_QUORUM, ERR_BUSY */
  async propose(batch: readonly Uint8Array[]): Promise<readonly AppliedEntry[]> {
    return (await this.raft.propose(batch)) as readonly AppliedEntry[]
  }

  /** A commit that a peer's proposal led to, as Raft or the feed would report it a moment later. */
  noticeFor(peer: PeerId): CommitNotice {
    return isMember(this.raft.status().configuration, peer)
      ? { raft: this.#options.transport.takeDelayed(peer), feed: [] }
      : { raft: [], feed: this.#publisher.unpublished() }
  }

  pageSource(): PageSource {
    const { raft } = this
    return {
      clusterId: this.#options.origin.clusterId,
      committedEntries: (from, maxBytes) => raft.committedEntries(from, maxBytes),
      commitIndex: () => raft.status().commitIndex,
      firstIndex: () => raft.firstIndex
    }
  }

  async stop(): Promise<void> {
    this.#publisher.stop()
    this.raft.stop()
    await this.#intake.stop()
  }

  #apply(entries: readonly Entry[]): AppliedEntry[] {
    const { replica, advanced } = this.#options
    const results = replica.apply(entries)
    this.#publisher.committed(entries)
    this.#intake.applied(replica.applied.index)
    advanced()
    return results
  }

  #roleChanged(change: RoleChange): void {
    const { logger, roleChanged } = this.#options
    logger.info({ role: change.role, term: change.term, leader: change.leader }, 'raft role')
    if (change.role === 'leader') this.#publisher.lead(change.term)
    else this.#publisher.stop()
    roleChanged(change)
  }
}
