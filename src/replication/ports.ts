// The three ports through which the agent uses replication. Another consensus engine can implement ReplicatedLog without
// touching the agent. `Replicator` (replicator.ts) provides all three.

import type { Command, ResultOf } from '#model/command.ts'
import type { ClusterId, LogIndex, PeerId } from '#model/ids.ts'
import type { PeerProgress } from './consensus/peers.ts'
import type { ReplicationStatus } from './consensus/status.ts'

/** The cluster's log, and the state machine's position in it. */
export type ReplicatedLog = {
  /**
   * Changes the cluster's state; resolves after commit with the result and the index at which it is visible.
   * @throws what the state machine refused it with; ERR_NO_QUORUM, ERR_BUSY
   */
  readonly propose: <C extends Command>(
    command: C
  ) => Promise<{ readonly result: ResultOf<C['kind']>; readonly index: LogIndex }>
  /** An index that is at least that of every change acknowledged before the call. @throws ERR_NO_QUORUM */
  readonly readIndex: () => Promise<LogIndex>
  readonly status: () => ReplicationStatus
  /**
   * The bytes of a snapshot file of the applied state, with everything committed before the call if its index is at least
   * `readIndex`. To be read to the end or returned. @throws ERR_BUSY when this host belongs to no cluster, or lags
   */
  readonly image: () => Promise<AsyncIterable<Uint8Array>>
  /** Entries known to be committed that are not applied here yet. */
  readonly lag: number
  /** May this host remove what the state does not name? False while the state may be older than one it has acted on. */
  readonly current: boolean
  /** Replaces the state of a client by that of a server. @throws ERR_PEER, ERR_UNSUPPORTED on a server */
  readonly repair: () => Promise<void>
  /** Messages of other hosts that were refused: no server, malformed, impossible. */
  readonly refusedMessages: number
  /** Leaderships seen since the start. */
  readonly leaderChanges: number
  /** Proposals sent again because the outcome of an earlier attempt was unknown. */
  readonly retries: number
}

/** Requests between agents outside the log. */
export type PeerRpc = {
  /** @throws ERR_PEER, ERR_TIMEOUT */
  readonly ask: (peer: PeerId, method: string) => Promise<unknown>
  /** Sets the handler of a request; call it before the replicator starts. */
  readonly serve: (method: string, answer: () => unknown) => void
}

/** Founding of the cluster, and its servers. */
export type ClusterLife = {
  /** The cluster that this host belongs to; null before it has founded or joined one. */
  readonly clusterId: ClusterId | null
  /** Why this host takes no part in a cluster, as text; null when there is no known obstacle. */
  readonly obstacle: string | null
  /** The voters and learners with their progress: from the leader, or from this host when no leader answers. */
  readonly peers: () => Promise<readonly PeerProgress[]>
  /** Makes a host a voter. @throws see ServerChanges.add */
  readonly addServer: (peer: PeerId) => Promise<void>
  /** Makes a server a client. @throws see ServerChanges.remove */
  readonly removeServer: (peer: PeerId) => Promise<void>
  /** @throws see ServerChanges.transfer */
  readonly transferLeadership: (to: PeerId) => Promise<void>
  /** Re-reads the members: new addresses, servers to connect to, a cluster to found or to join. */
  readonly membersChanged: () => void
}
