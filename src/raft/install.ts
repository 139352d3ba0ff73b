// The follower's side of InstallSnapshot (thesis figure 5.3). Chunks are collected in memory and lost in a crash; the
// disk gets the complete snapshot or nothing.

import type { LogIndex } from '#model/ids.ts'
import { followCommit } from './commit.ts'
import { persistSnapshot, send } from './effects.ts'
import type { IncomingSnapshot, RaftState } from './raft.ts'
import { followLeader } from './roles.ts'
import type { Message } from './types.ts'

type InstallRequest = Extract<Message, { readonly kind: 'install-request' }>

/** The message is of the current term, so its sender is that term's leader. */
export function receiveInstallRequest(state: RaftState, message: InstallRequest): void {
  followLeader(state, message)
  const { meta, offset, data } = message
  // If the log already holds the snapshot's last entry, it holds the whole prefix (log matching): just commit it.
  if (state.log.termAt(meta.lastIndex) === meta.lastTerm) followCommit(state, meta.lastIndex, meta.lastIndex)
  if (meta.lastIndex <= state.commitIndex) {
    if (state.incoming !== null && state.incoming.meta.lastIndex <= state.commitIndex) state.incoming = null
    answer(state, message, message.size, true)
    return
  }
  const incoming = incomingOf(state, message)
  if (incoming === null) return
  if (offset === incoming.received && data.byteLength <= incoming.data.byteLength - offset) {
    incoming.data.set(data, offset)
    incoming.received += data.byteLength
  }
  const done = incoming.received === incoming.data.byteLength
  if (done) install(state, incoming)
  answer(state, message, incoming.received, done)
}

/** The transfer that a request belongs to; null when a newer one has superseded it, or when it is too large. */
function incomingOf(state: RaftState, { term, meta, size }: InstallRequest): IncomingSnapshot | null {
  const { incoming } = state
  if (incoming?.term === term && incoming.meta.lastIndex === meta.lastIndex && incoming.data.byteLength === size) {
    return incoming
  }
  if (incoming?.term === term && incoming.meta.lastIndex > meta.lastIndex) return null
  if (size > state.options.maxSnapshotBytes) return null
  // Snapshots of the same index from two leaders may differ in their bytes, so they are never mixed.
  state.incoming = { term, meta, data: new Uint8Array(size), received: 0 }
  return state.incoming
}

/** Drops the whole log: each entry is either covered by the snapshot or in conflict with it. */
function install(state: RaftState, { meta, data }: IncomingSnapshot): void {
  state.incoming = null
  state.snapshot = { meta, data }
  state.log.reset(meta)
  state.configuration = meta.configuration
  persistSnapshot(state, state.snapshot)
  state.commitIndex = meta.lastIndex
  state.emittedIndex = meta.lastIndex
}

function answer(state: RaftState, { from, meta, round }: InstallRequest, offset: number, done: boolean): void {
  const lastIndex: LogIndex = meta.lastIndex
  send(state, from, { kind: 'install-reply', lastIndex, offset, done, round })
}
