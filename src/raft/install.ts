// The follower's side of InstallSnapshot (thesis figure 5.3). Chunks are gathered in memory and forgotten by a crash;
// the disk sees the whole snapshot or nothing of it.

import type { LogIndex } from '#model/ids.ts'
import { followCommit } from './commit.ts'
import { persistSnapshot, send } from './effects.ts'
import type { Incoming, RaftState } from './raft.ts'
import { heardLeader } from './roles.ts'
import type { Message } from './types.ts'

type InstallRequest = Extract<Message, { readonly kind: 'install-request' }>

/** In the own term: the sender is its leader. */
export function receiveInstallRequest(state: RaftState, message: InstallRequest): void {
  heardLeader(state, message)
  const { meta, offset, data } = message
  // An entry that is here already stands for all before it (log matching): nothing needs to be replaced.
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

/** The transfer that a request belongs to; null when a later one has taken its place, or when it is too large. */
function incomingOf(state: RaftState, { term, meta, size }: InstallRequest): Incoming | null {
  const { incoming } = state
  if (incoming?.term === term && incoming.meta.lastIndex === meta.lastIndex && incoming.data.byteLength === size) {
    return incoming
  }
  if (incoming?.term === term && incoming.meta.lastIndex > meta.lastIndex) return null
  if (size > state.options.maxSnapshotBytes) return null
  // Another leader's snapshot of the same index need not have the same bytes.
  state.incoming = { term, meta, data: new Uint8Array(size), received: 0 }
  return state.incoming
}

/** What the log holds is either in the snapshot or in conflict with it. */
function install(state: RaftState, { meta, data }: Incoming): void {
  state.incoming = null
  state.snapshot = { meta, data }
  state.log.reset(meta)
  state.configuration = meta.configuration
  persistSnapshot(state, state.snapshot)
  state.commitIndex = meta.lastIndex
  state.handedOut = meta.lastIndex
}

function answer(state: RaftState, { from, meta, round }: InstallRequest, offset: number, done: boolean): void {
  const lastIndex: LogIndex = meta.lastIndex
  send(state, from, { kind: 'install-reply', lastIndex, offset, done, round })
}
