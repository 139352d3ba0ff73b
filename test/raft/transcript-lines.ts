// The lines of a transcript: each message, write and effect in words that need no knowledge of the code. Pure.

import type { PeerId } from '#model/ids.ts'
import type { Configuration, Effect, Entry, Message, RefusalReason } from '#raft/types.ts'
import { decodeConfiguration } from '#raft/configuration.ts'
import type { Batch } from '#replication/storage/write-gate.ts'
import type { Server } from './cluster.ts'

/** A message, without its addresses. */
export function messageLine(message: Message): string {
  const { term } = message
  switch (message.kind) {
    case 'pre-vote-request':
      return `PreVoteRequest: would you vote for me in term ${term}? My log ${position(message)}`
    case 'pre-vote-reply':
      return `PreVoteReply: ${message.granted ? 'yes' : 'no'}, for term ${message.requestTerm}`
    case 'vote-request': {
      const why = message.transfer ? ', the leader asked me to' : ''
      return `VoteRequest: vote for me in term ${term}${why}. My log ${position(message)}`
    }
    case 'vote-reply':
      return `VoteReply: ${message.granted ? 'yes' : 'no'}, in term ${term}`
    case 'append-request': {
      const { entries, prevIndex, prevTerm, leaderCommit } = message
      const what = entries.length === 0 ? 'no entries' : entries.map(entryText).join(', ')
      const after = prevIndex === 0 ? 'at the start' : `after entry ${prevIndex} of term ${prevTerm}`
      return `AppendEntries of term ${term}: ${what}, ${after}; committed up to ${leaderCommit}`
    }
    case 'append-reply':
      return message.success
        ? `AppendReply: my log matches yours up to entry ${message.matchIndex}`
        : `AppendReply of term ${term}: rejected; my log may match yours up to entry ${message.matchIndex}`
    case 'install-request': {
      const { meta, offset, data, size } = message
      const what =
        data.byteLength === 0 ? 'how much do you have' : `bytes ${offset} to ${offset + data.byteLength} of ${size}`
      return `InstallSnapshot at entry ${meta.lastIndex}: ${what}`
    }
    case 'install-reply':
      return message.done
        ? `InstallReply: the snapshot at entry ${message.lastIndex} is on my disk`
        : `InstallReply: I have ${message.offset} bytes of the snapshot at entry ${message.lastIndex}`
    case 'timeout-now':
      return 'TimeoutNow: start an election at once, to succeed me'
  }
}

/** A heartbeat, or the reply to one, without news for its receiver, except that its sender is alive. */
export function isHeartbeat(message: Message, receiver: Server): boolean {
  const { log, commitIndex, leader, leading, term } = receiver.state
  if (message.kind === 'append-reply') {
    const matchIndex = leading?.progress.get(message.from)?.matchIndex ?? Infinity
    return message.success && matchIndex >= message.matchIndex
  }
  if (message.kind !== 'append-request' || message.entries.length > 0) return false
  const isNews = message.leaderCommit > commitIndex || leader !== message.from || term !== message.term
  return !isNews && log.termAt(message.prevIndex) === message.prevTerm
}

/** The disk has finished a write. */
export function writeLines(batch: Batch): string[] {
  if (batch.kind === 'install') return [`the snapshot at entry ${batch.snapshot.meta.lastIndex}, in place of the log`]
  const lines: string[] = []
  const entries: Entry[] = []
  for (const record of batch.records) {
    if (record.kind === 'hard-state') {
      const { term, votedFor } = record.hardState
      lines.push(`term ${term}, ${votedFor === null ? 'no vote yet' : `vote for ${votedFor}`}`)
    }
    if (record.kind === 'truncate') lines.push(`the log without entries from ${record.from} on`)
    if (record.kind === 'entry') entries.push(record.entry)
  }
  if (entries.length > 0) lines.push(entries.map(entryText).join(', '))
  return lines
}

/** Null for effects that show up otherwise: a message when it is delivered, a write when it is done. */
export function effectLine(effect: Effect): string | null {
  switch (effect.kind) {
    case 'persist':
    case 'send':
      return null
    case 'install':
      return `replaces its state by the snapshot at entry ${effect.snapshot.meta.lastIndex}: "${text(effect.snapshot.data)}"`
    case 'commit':
      return `commits and applies ${effect.entries.map(entryText).join(', ')}`
    case 'proposed':
      return `accepts the request as entry ${effect.index} of term ${effect.term}`
    case 'refused':
      return `refuses the request: ${REFUSALS[effect.reason]}${effect.leader === null ? '' : `; ${effect.leader} leads`}`
    case 'read-ready':
      return `may answer read ${effect.id} from the state at entry ${effect.index}`
    case 'read-failed':
      return `cannot serve read ${effect.id}: it is not the leader`
    case 'impossible':
      return `refuses an impossible message of ${effect.from}: ${effect.why}`
    case 'lost-log':
      return `finds that ${effect.peer} has lost entries that it had acknowledged, and stops replicating to it`
    case 'role':
      return roleText(effect)
  }
}

export function entryText({ index, term, kind, data }: Entry): string {
  const what =
    kind === 'command'
      ? `"${text(data)}"`
      : kind === 'noop'
        ? 'start of term'
        : configurationText(decodeConfiguration(data))
  return `entry ${index} of term ${term} (${what})`
}

/** One line of a server's whole state. */
export function stateLine({ state, applied }: Server): string {
  const { role, term, log, commitIndex, configuration } = state
  const first = log.baseIndex + 1
  const terms = log.between(log.baseIndex, log.lastIndex).map(entry => entry.term)
  const base = log.baseIndex === 0 ? '' : `snapshot at ${log.baseIndex}; `
  const entries = terms.length === 0 ? 'no entries' : `entries from ${first} on have terms ${terms.join(' ')}`
  const commands = applied.filter(item => item !== 'noop' && item !== 'config').map(item => `"${item}"`)
  const result = commands.length === 0 ? 'nothing applied' : `applied ${commands.join(' ')}`
  const leader = state.leader === null || role === 'leader' ? '' : ` of ${state.leader}`
  const facts = [`${base}${entries}`, `committed up to ${commitIndex}`, result, configurationText(configuration)]
  return `${role}${leader} in term ${term}; ${facts.join('; ')}`
}

const REFUSALS: Readonly<Record<RefusalReason, string>> = {
  'not-leader': 'it is not the leader',
  busy: 'too many proposals are not committed yet',
  transferring: 'it is handing over leadership',
  'no-own-commit': 'no entry of its own term is committed yet',
  'change-under-way': 'the previous membership change is not committed yet',
  'not-caught-up': 'the learner has not caught up',
  'too-few-alive': 'the remaining servers in contact would be no majority',
  'already-there': 'the server is already a member',
  'no-such-learner': 'there is no such learner',
  'no-such-peer': 'there is no such member',
  'last-voter': 'the last voter cannot be removed'
}

function roleText({ role, term, leader }: Extract<Effect, { readonly kind: 'role' }>): string {
  switch (role) {
    case 'pre-candidate':
      return 'has not heard from a leader in time and asks whether it would win an election'
    case 'candidate':
      return `starts an election in term ${term}`
    case 'leader':
      return `is leader of term ${term}`
    case 'follower':
      return leader === null ? `is follower in term ${term}, without a leader` : `follows ${leader} in term ${term}`
  }
}

function configurationText({ voters, learners, incarnations = {} }: Configuration): string {
  const names = (peers: readonly PeerId[]): string =>
    peers.map(peer => (incarnations[peer] === undefined ? peer : `${peer} with disk ${incarnations[peer]}`)).join(' ')
  return `voters ${names(voters)}${learners.length === 0 ? '' : `, learners ${names(learners)}`}`
}

function position({ lastIndex, lastTerm }: { readonly lastIndex: number; readonly lastTerm: number }): string {
  return lastIndex === 0 ? 'is empty' : `ends with entry ${lastIndex} of term ${lastTerm}`
}

function text(data: Uint8Array): string {
  return Buffer.from(data).toString()
}
