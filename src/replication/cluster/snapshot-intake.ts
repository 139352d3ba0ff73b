// How a host takes the state from others: the file is fetched to its disk, and the state built from it beside the one in
// use, both in slices and before anything changes. To install it is then a rename and an exchange of two references.

import { VxmeshError } from '#model/errors.ts'
import type { ClusterId, LogIndex, PeerId } from '#model/ids.ts'
import type { SnapshotMeta } from '#raft/types.ts'
import type { PreparedState } from '../consensus/applied-log.ts'
import { fetchSnapshot } from '../feed/snapshot-transfer.ts'
import type { ReceivedSnapshot } from '../storage/incoming-snapshot.ts'
import type { Rpc } from '../transport/rpc.ts'
import type { Replica } from './replica.ts'

export type IntakeOptions = {
  readonly rpc: Rpc
  readonly clusterId: ClusterId
  readonly replica: Replica
}

export class PreparedSnapshot {
  readonly meta: SnapshotMeta
  readonly received: ReceivedSnapshot
  readonly #replica: Replica
  readonly #state: PreparedState

  constructor(replica: Replica, received: ReceivedSnapshot, state: PreparedState) {
    this.#replica = replica
    this.received = received
    this.meta = received.meta
    this.#state = state
  }

  /** Makes the file this host's newest snapshot. @throws ERR_STORAGE */
  async save(): Promise<void> {
    await this.#replica.storage.snapshots.adopt(this.received)
  }

  /** Goes on from its state, at once. */
  adopt(): void {
    this.#replica.applied.adopt(this.meta, this.#state)
  }

  /** Removes the file; what is left of it goes with the next start. */
  async discard(): Promise<void> {
    await discard(this.#replica, this.received)
  }
}

/** Fetches a snapshot and builds its state. @throws ERR_PEER, ERR_TIMEOUT, ERR_BUSY, ERR_STORAGE, ERR_TOO_LARGE */
export async function prepareSnapshot(
  { rpc, clusterId, replica }: IntakeOptions,
  p: { readonly servers: readonly PeerId[]; readonly atLeast: LogIndex; readonly signal: AbortSignal }
): Promise<PreparedSnapshot> {
  const { snapshots } = replica.storage
  const received = await fetchSnapshot(rpc, { ...p, clusterId, receive: () => snapshots.receive() })
  try {
    const state = await replica.applied.prepare(unlessAborted(snapshots.sections(received), p.signal))
    return new PreparedSnapshot(replica, received, state)
  } catch (err) {
    await discard(replica, received)
    throw err
  }
}

async function* unlessAborted(sections: AsyncIterable<Uint8Array>, signal: AbortSignal): AsyncGenerator<Uint8Array> {
  for await (const section of sections) {
    if (signal.aborted) throw new VxmeshError('ERR_PEER', 'the transfer was abandoned')
    yield section
  }
}

async function discard(replica: Replica, { path }: ReceivedSnapshot): Promise<void> {
  try {
    await replica.storage.snapshots.files.remove(path)
  } catch {
    // The disk is failing; whoever needs it finds out.
  }
}
