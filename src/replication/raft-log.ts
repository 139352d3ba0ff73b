// The replicated log over Raft: proposals go to the leader, reads are confirmed by it, and the state is what this host has
// applied.

import type { Command, ResultOf } from '#model/command.ts'
import { VxmeshError } from '#model/errors.ts'
import type { ClusterId, LogIndex, PeerId, Term } from '#model/ids.ts'
import type { Clock } from '#platform/clock.ts'
import type { ClusterRole } from './cluster/cluster-role.ts'
import type { AppliedLog } from './consensus/applied-log.ts'
import type { Proposer } from './consensus/proposer.ts'
import { askReadIndex } from './consensus/read-index.ts'
import type { ReplicationStatus } from './consensus/status.ts'
import type { ReplicatedLog } from './ports.ts'
import type { ClusterSnapshot } from './storage/snapshot-file.ts'
import type { Rpc } from './transport/rpc.ts'

export type RaftLogOptions = {
  readonly rpc: Rpc
  readonly clock: Clock
  readonly proposer: Proposer
  readonly role: ClusterRole
  readonly applied: AppliedLog
  readonly clusterId: () => ClusterId | null
}

export class RaftLog implements ReplicatedLog {
  readonly #options: RaftLogOptions
  #lastLedTerm: Term | null = null
  #leaderChanges = 0
  #lastChangeMs = -Infinity

  constructor(options: RaftLogOptions) {
    this.#options = options
  }

  /** A leader is known: redirects the proposals in flight. */
  leaderSeen(leader: PeerId, term: Term): void {
    this.#options.proposer.hint(leader)
    // A term has at most one leader.
    if (term === this.#lastLedTerm) return
    this.#lastLedTerm = term
    this.#leaderChanges += 1
    this.#lastChangeMs = this.#options.clock.nowMs()
  }

  /** How long the present leader has led, as far as this host has seen. */
  ledForMs(): number {
    return this.#options.clock.nowMs() - this.#lastChangeMs
  }

  propose<C extends Command>(command: C): Promise<{ readonly result: ResultOf<C['kind']>; readonly index: LogIndex }> {
    return this.#options.proposer.propose(command)
  }

  readIndex(): Promise<LogIndex> {
    return askReadIndex(this.#options.rpc, this.status().leader)
  }

  status(): ReplicationStatus {
    return this.#options.role.status()
  }

  async image(): Promise<ClusterSnapshot> {
    const { applied } = this.#options
    const clusterId = this.#options.clusterId()
    if (clusterId === null) throw new VxmeshError('ERR_BUSY', 'this host belongs to no cluster yet')
    const { meta } = applied
    return { clusterId, meta, data: await applied.snapshot() }
  }

  repair(): Promise<void> {
    return this.#options.role.repair()
  }

  get refusedMessages(): number {
    return this.#options.role.refusedMessages
  }

  get lag(): number {
    return this.#options.role.lag
  }

  get current(): boolean {
    return this.#options.role.current
  }

  get leaderChanges(): number {
    return this.#leaderChanges
  }

  get retries(): number {
    return this.#options.proposer.retries
  }
}
