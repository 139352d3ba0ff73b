// Snapshots on the sender's side (thesis 5): a snapshot compacts the log before it, and a receiver that needs compacted
// entries gets the snapshot instead, one chunk at a time.

import type { LogIndex, PeerId } from '#model/ids.ts'
import { sendBeforePersist } from './effects.ts'
import type { Progress, RaftState } from './raft.ts'
import type { Message, Snapshot, SnapshotMeta } from './types.ts'

/**
 * The metadata for a snapshot of the state machine at an index. Undefined when the index is compacted, not committed, or
 * not durable in this server's log: the log on disk must have no gap before its next entry.
 */
export function snapshotMeta(state: RaftState, lastIndex: LogIndex): SnapshotMeta | undefined {
  const lastTerm = state.log.termAt(lastIndex)
  if (lastTerm === undefined || lastIndex > state.emittedIndex || lastIndex > state.durableIndex) return undefined
  return { lastIndex, lastTerm, configuration: state.log.configurationAt(lastIndex) }
}

/** The embedder's snapshot is durable. It is ignored if a newer snapshot was installed meanwhile. */
export function snapshotTaken(state: RaftState, snapshot: Snapshot): void {
  const { lastIndex } = snapshot.meta
  if (lastIndex > state.emittedIndex) {
    throw new Error(`a snapshot at ${lastIndex}, but only ${state.emittedIndex} was committed`)
  }
  if (lastIndex <= (state.snapshot?.meta.lastIndex ?? 0)) return
  state.snapshot = snapshot
  const upTo = (lastIndex - state.options.keptEntries) as LogIndex
  if (upTo > state.log.baseIndex) state.log.compactTo(upTo)
}

/** Starts a snapshot transfer, or continues the current one. @returns whether a chunk was sent */
export function sendSnapshot(state: RaftState, peer: PeerId, progress: Progress): boolean {
  if (progress.mode !== 'snapshot') {
    if (state.snapshot === null) throw new Error(`entry ${progress.nextIndex} is compacted and there is no snapshot`)
    progress.mode = 'snapshot'
    progress.inflight = []
    progress.transfer = { snapshot: state.snapshot, offset: 0, sentMs: -Infinity }
  }
  const { transfer } = progress
  // One chunk in flight; without a reply it is resent after an election timeout.
  if (transfer === null || state.nowMs - transfer.sentMs < state.options.electionTimeoutMs) return false
  transfer.sentMs = state.nowMs
  const { offset, snapshot } = transfer
  sendChunk(state, peer, progress, snapshot.data.subarray(offset, offset + state.options.maxChunkBytes))
  return true
}

/** The heartbeat during a transfer: an empty chunk that carries the round and asks how much has arrived. */
export function probeReceiver(state: RaftState, peer: PeerId, progress: Progress): void {
  sendChunk(state, peer, progress, new Uint8Array())
}

/** Advances the transfer by a receiver's reply. */
export function onChunkReply(
  state: RaftState,
  progress: Progress,
  reply: Extract<Message, { readonly kind: 'install-reply' }>
): void {
  const { transfer } = progress
  if (reply.lastIndex !== transfer?.snapshot.meta.lastIndex) return
  if (reply.done) {
    progress.mode = 'probe'
    progress.transfer = null
    progress.probing = false
    if (reply.lastIndex > progress.matchIndex) {
      progress.matchIndex = reply.lastIndex
      progress.matchRound = state.leading?.round ?? 0
    }
    progress.nextIndex = (progress.matchIndex + 1) as LogIndex
  } else if (reply.offset !== transfer.offset && reply.offset <= transfer.snapshot.data.byteLength) {
    // The receiver is further on, or back at 0 after a restart.
    transfer.offset = reply.offset
    transfer.sentMs = -Infinity
  }
}

function sendChunk(state: RaftState, peer: PeerId, { transfer }: Progress, data: Uint8Array): void {
  if (transfer === null) return
  const { snapshot, offset } = transfer
  const round = state.leading?.round ?? 0
  const size = snapshot.data.byteLength
  sendBeforePersist(state, peer, { kind: 'install-request', meta: snapshot.meta, size, offset, data, round })
}
