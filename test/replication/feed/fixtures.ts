// Feed messages and followers, for the tests of the feed.

import assert from 'node:assert/strict'
import type { Test } from 'tap'
import type { ClusterId, PeerId, Term } from '#model/ids.ts'
import { systemClock } from '#platform/clock.ts'
import { createLogger } from '#platform/log.ts'
import { encodeMsgpack } from '#platform/msgpack.ts'
import type { Entry } from '#raft/types.ts'
import { entryToTuple } from '#replication/codec/entry-codec.ts'
import { FeedFollower, type FeedRefusal } from '#replication/feed/feed-follower.ts'
import { encodeFeed, type FeedNote } from '#replication/feed/feed-message.ts'
import { CLUSTER, entries, entry, index } from '../entries.ts'
import type { Host } from '../hosts.ts'

export const TERM = 3 as Term
const logger = createLogger('silent')

export function message(batch: readonly Entry[], p: { commitIndex?: number; cluster?: string } = {}): Uint8Array {
  const commitIndex = index(p.commitIndex ?? batch.at(-1)?.index ?? 0)
  const [first] = encodeFeed({
    clusterId: (p.cluster ?? CLUSTER) as ClusterId,
    term: TERM,
    commitIndex,
    entries: batch
  })
  return first ?? assert.fail()
}

export const malformed: readonly { what: string; data: Uint8Array }[] = [
  { what: 'nothing', data: new Uint8Array() },
  { what: 'no msgpack', data: Buffer.alloc(20, 0xc1) },
  { what: 'a part of a message', data: message(entries(1, 3)).subarray(0, 40) },
  { what: 'a message and more', data: Buffer.concat([message(entries(1, 3)), Buffer.from([0])]) },
  ...[null, 7, 'x', {}, [], [CLUSTER, 1, 1], [CLUSTER, 1, 1, [], 0]].map(value => {
    return { what: JSON.stringify(value), data: encodeMsgpack(value) }
  }),
  { what: 'a cluster of 7', data: encodeMsgpack([7, 1, 1, []]) },
  { what: 'a term below zero', data: encodeMsgpack([CLUSTER, -1, 1, []]) },
  { what: 'a commit index of text', data: encodeMsgpack([CLUSTER, 1, '1', []]) },
  { what: 'a commit index above 2^53', data: encodeMsgpack([CLUSTER, 1, 2 ** 60, []]) },
  { what: 'entries of text', data: encodeMsgpack([CLUSTER, 1, 1, 'x']) },
  { what: 'an entry of text', data: encodeMsgpack([CLUSTER, 1, 1, ['x']]) },
  { what: 'an entry of another kind', data: encodeMsgpack([CLUSTER, 1, 1, [entryToTuple(entry(1)).with(2, 9)]]) },
  { what: 'an entry that is not committed', data: message(entries(1, 3), { commitIndex: 2 }) }
]

export type World = {
  readonly follower: FeedFollower
  readonly delivered: number[]
  readonly leaders: PeerId[]
  readonly fatal: Error[]
  readonly refused: Record<FeedRefusal, number>
  /** The servers that it asks, in order. */
  readonly servers: PeerId[]
  readonly noted: (readonly [author: PeerId, notes: readonly FeedNote[]])[]
}

type FollowOptions = {
  server?: PeerId
  applied?: number
  unconfirmed?: { index: number; term: number }
  cluster?: string | null
  deliver?: () => Promise<void>
}

/** A follower on a host; `server` is one that it accepts messages from. */
export function follow(t: Test, on: Host, p: FollowOptions = {}): World {
  const [delivered, leaders, fatal, servers]: [number[], PeerId[], Error[], PeerId[]] = [[], [], [], []]
  const noted: World['noted'] = []
  const refused = { malformed: 0, foreignCluster: 0, notServer: 0 }
  const follower = new FeedFollower({
    rpc: on.rpc,
    clusterId: () => (p.cluster === undefined ? CLUSTER : (p.cluster as ClusterId | null)),
    isServer: peer => peer === p.server || servers.includes(peer),
    servers: () => servers,
    applied: index(p.applied ?? 0),
    unconfirmed:
      p.unconfirmed === undefined ? null : { index: index(p.unconfirmed.index), term: p.unconfirmed.term as Term },
    deliver: async batch => {
      await p.deliver?.()
      delivered.push(...batch.map(each => each.index))
    },
    prepare: () => Promise.reject(new Error('no server here has a snapshot')),
    leaderSeen: leader => leaders.push(leader),
    noted: (author, notes) => noted.push([author, notes]),
    checkEntry: () => undefined,
    refused: reason => (refused[reason] += 1),
    clock: systemClock,
    fatal: err => fatal.push(err),
    logger
  })
  t.teardown(() => follower.stop())
  return { follower, delivered, leaders, noted, fatal, refused, servers }
}

/** Indexes first to last. */
export const upTo = (last: number, first = 1): number[] => entries(first, last).map(each => each.index)
