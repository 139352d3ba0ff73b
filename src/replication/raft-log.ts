// The replicated log over Raft: proposals go to the leader, reads are confirmed by it, and the state is what this host has
// applied.

import type { Command, ResultOf } from '#model/command.ts'
import { VxmeshError } from '#model/errors.ts'
import type { ClusterId, LogIndex, PeerId, Term } from '#model/ids.ts'
import type { Clock } from '#platform/clock.ts'
import type { FileLayer, OpenFile } from '#platform/file-layer.ts'
import type { ClusterRole } from './cluster/cluster-role.ts'
import type { Proposer } from './consensus/proposer.ts'
import { askReadIndex } from './consensus/read-index.ts'
import type { ReplicationStatus } from './consensus/status.ts'
import type { ReplicatedLog } from './ports.ts'
import { piecesOf } from './storage/snapshot-reading.ts'
import type { Rpc } from './transport/rpc.ts'

export type RaftLogOptions = {
  readonly rpc: Rpc
  readonly clock: Clock
  readonly proposer: Proposer
  readonly role: ClusterRole
  readonly clusterId: () => ClusterId | null
  readonly files: FileLayer
}

/** How long a snapshot for a backup is tried, and how often. */
const IMAGE_MS = 3_000
const IMAGE_RETRY_MS = 50

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

  async image(): Promise<AsyncIterable<Uint8Array>> {
    const { clock, clusterId, files, role } = this.#options
    if (clusterId() === null) throw new VxmeshError('ERR_BUSY', 'this host belongs to no cluster yet')
    const untilMs = clock.nowMs() + IMAGE_MS
    let saved = await role.snapshotNow()
    // The last entry that was applied may not be on this server's own disk yet.
    while (saved === null && clock.nowMs() < untilMs) {
      await clock.sleep(IMAGE_RETRY_MS)
      saved = await role.snapshotNow()
    }
    if (saved === null) throw new VxmeshError('ERR_BUSY', 'no snapshot could be saved here; retry')
    // Opened before a newer one replaces it.
    return closing(await files.open(saved.path))
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

/** The bytes of a file, which is closed after the last. */
async function* closing(file: OpenFile): AsyncGenerator<Uint8Array> {
  try {
    yield* piecesOf(file)
  } finally {
    await file.close()
  }
}
