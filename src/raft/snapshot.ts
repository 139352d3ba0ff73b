// Snapshots on the side of who has one (thesis 5): the log is compacted behind it, and a receiver that needs what is
// compacted gets the snapshot instead, a chunk at a time.

import type { LogIndex, PeerId } from '#model/ids.ts'
import { sendEarly } from './effects.ts'
import type { Progress, RaftState } from './raft.ts'
import type { Message, Snapshot, SnapshotMeta } from './types.ts'

/**
 * What a snapshot of the state machine at an index stands for. Undefined when that is compacted, not committed, or not
 * yet in the own disk's log, which must not be left with a gap before the next entry.
 */
export function snapshotMeta(state: RaftState, lastIndex: LogIndex): SnapshotMeta | undefined {
  const lastTerm = state.log.termAt(lastIndex)
  if (lastTerm === undefined || lastIndex > state.handedOut || lastIndex > state.durableIndex) return undefined
  return { lastIndex, lastTerm, configuration: state.log.configurationAt(lastIndex) }
}

/** The shell's snapshot is durable. One that an installed snapshot has overtaken is worth nothing. */
export function snapshotTaken(state: RaftState, snapshot: Snapshot): void {
  const { lastIndex } = snapshot.meta
  if (lastIndex > state.handedOut) throw new Error(`a snapshot of ${lastIndex}, of which ${state.handedOut} is applied`)
  if (lastIndex <= (state.snapshot?.meta.lastIndex ?? 0)) return
  state.snapshot = snapshot
  const upTo = (lastIndex - state.options.keptEntries) as LogIndex
  if (upTo > state.log.baseIndex) state.log.compactTo(upTo)
}

/** Begins to send the snapshot, or goes on if one is under way. @returns whether something went out */
export function sendSnapshot(state: RaftState, peer: PeerId, progress: Progress): boolean {
  if (progress.mode !== 'snapshot') {
    if (state.snapshot === null) throw new Error(`entry ${progress.nextIndex} is compacted and there is no snapshot`)
    progress.mode = 'snapshot'
    progress.inflight = []
    progress.transfer = { snapshot: state.snapshot, offset: 0, sentMs: -Infinity }
  }
  const { transfer } = progress
  // One chunk at a time; what is not answered for so long is lost.
  if (transfer === null || state.nowMs - transfer.sentMs < state.options.electionTimeoutMs) return false
  transfer.sentMs = state.nowMs
  const { offset, snapshot } = transfer
  sendChunk(state, peer, progress, snapshot.data.subarray(offset, offset + state.options.maxChunkBytes))
  return true
}

/** Between chunks: the leader is there, and asks with its round. */
export function askReceiver(state: RaftState, peer: PeerId, progress: Progress): void {
  sendChunk(state, peer, progress, new Uint8Array())
}

/** What an answer says of the transfer that is under way. */
export function chunkAnswered(
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
    // Further on, or back at the start after its restart.
    transfer.offset = reply.offset
    transfer.sentMs = -Infinity
  }
}

function sendChunk(state: RaftState, peer: PeerId, { transfer }: Progress, data: Uint8Array): void {
  if (transfer === null) return
  const { snapshot, offset } = transfer
  const round = state.leading?.round ?? 0
  const size = snapshot.data.byteLength
  sendEarly(state, peer, { kind: 'install-request', meta: snapshot.meta, size, offset, data, round })
}
