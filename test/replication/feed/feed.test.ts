import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import fc from 'fast-check'
import t, { type Test } from 'tap'
import type { ClusterId, PeerId, Term } from '#model/ids.ts'
import { systemClock } from '#platform/clock.ts'
import { createLogger } from '#platform/log.ts'
import { encodeMsgpack } from '#platform/msgpack.ts'
import type { Entry } from '#raft/types.ts'
import { entryToTuple } from '#replication/codec/entry-codec.ts'
import { FeedFollower, type FeedRefusal } from '#replication/feed/feed-follower.ts'
import { decodeFeed, encodeFeed } from '#replication/feed/feed-message.ts'
import { FeedPublisher } from '#replication/feed/feed-publisher.ts'
import { serveFetch } from '#replication/feed/fetch.ts'
import { waitFor } from '#test/lab/wait.ts'
import { CLUSTER, entries, entry, index, Log } from '../entries.ts'
import { host, introduce, type Host } from '../hosts.ts'

const TERM = 3 as Term
const logger = createLogger('silent')

function message(batch: readonly Entry[], p: { commitIndex?: number; cluster?: string } = {}): Uint8Array {
  const commitIndex = index(p.commitIndex ?? batch.at(-1)?.index ?? 0)
  const [first] = encodeFeed({
    clusterId: (p.cluster ?? CLUSTER) as ClusterId,
    term: TERM,
    commitIndex,
    entries: batch
  })
  return first ?? assert.fail()
}

t.test('a range goes into as few messages as it fits in, and comes out as it was', t => {
  const property = fc.property(fc.array(fc.nat(20_000), { maxLength: 30 }), fc.nat(1_000), (sizes, start) => {
    const all = sizes.map((size, n) => entry(start + n + 1, size))
    const commitIndex = index(start + all.length)
    const messages = encodeFeed({ clusterId: CLUSTER, term: TERM, commitIndex, entries: all })
    const read = messages.map(decodeFeed)
    assert.deepEqual(
      read.flatMap(m => m.entries.map(e => ({ ...e, data: Uint8Array.from(e.data) }))),
      all
    )
    for (const { clusterId, term, commitIndex: commit } of read) {
      assert.deepEqual([clusterId, term, commit], [CLUSTER, TERM, commitIndex])
    }
    assert.ok(messages.every(m => m.byteLength < 72 * 1024))
    assert.ok(messages.slice(0, -1).every(m => m.byteLength > 40 * 1024))
    assert.ok(messages.length > 0, 'also of nothing: the commit index is news')
  })
  fc.assert(property, { numRuns: 100 })
  t.pass()
  t.end()
})

const malformed: readonly { what: string; data: Uint8Array }[] = [
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

type World = {
  readonly follower: FeedFollower
  readonly delivered: number[]
  readonly heard: PeerId[]
  readonly fatal: Error[]
  readonly refused: Record<FeedRefusal, number>
  /** Whom it asks, in this order. */
  readonly servers: PeerId[]
}

type FollowOptions = { server?: PeerId; applied?: number; cluster?: string | null; deliver?: () => Promise<void> }

/** A follower on a host, that has applied some; `server` is one that it believes. */
function follow(t: Test, on: Host, p: FollowOptions = {}): World {
  const [delivered, heard, fatal, servers]: [number[], PeerId[], Error[], PeerId[]] = [[], [], [], []]
  const refused = { malformed: 0, foreignCluster: 0, notServer: 0 }
  const follower = new FeedFollower({
    rpc: on.rpc,
    clusterId: () => (p.cluster === undefined ? CLUSTER : (p.cluster as ClusterId | null)),
    isServer: peer => peer === p.server || servers.includes(peer),
    servers: () => servers,
    applied: index(p.applied ?? 0),
    deliver: async batch => {
      await p.deliver?.()
      delivered.push(...batch.map(each => each.index))
    },
    install: () => Promise.reject(new Error('no server here has a snapshot')),
    leaderSeen: leader => heard.push(leader),
    refused: reason => (refused[reason] += 1),
    clock: systemClock,
    fatal: err => fatal.push(err),
    logger
  })
  t.teardown(() => follower.stop())
  return { follower, delivered, heard, fatal, refused, servers }
}

function publisherOn(on: Host): FeedPublisher {
  return new FeedPublisher({ mesh: on.mesh, clusterId: CLUSTER, clock: systemClock, logger })
}

const upTo = (last: number, first = 1): number[] => entries(first, last).map(each => each.index)
const SERVER = 'the server' as PeerId
const CLIENT = 'a client' as PeerId
const lone = await host(t)

const nothing: readonly { what: string; author: PeerId; data: Uint8Array; verdict: string; counted: string }[] = [
  ...malformed.map(({ what, data }) => ({ what, author: SERVER, data, verdict: 'reject', counted: 'malformed' })),
  ...[message(entries(1, 3)), Buffer.alloc(9, 0xc1)].map((data, n) => {
    const what = `${n === 0 ? 'a sound message' : 'garbage'} of a host that is no server`
    return { what, author: CLIENT, data, verdict: 'ignore', counted: 'notServer' }
  }),
  ...['f'.repeat(16), ''].map(cluster => {
    const data = message(entries(1, 3), { cluster })
    return {
      what: `a message of cluster "${cluster}"`,
      author: SERVER,
      data,
      verdict: 'ignore',
      counted: 'foreignCluster'
    }
  })
]
for (const { what, author, data, verdict, counted } of nothing) {
  t.test(`what is not for this host changes nothing, and is counted as ${counted}: ${what}`, async t => {
    const { follower, delivered, heard, refused } = follow(t, lone, { server: SERVER })
    t.equal(follower.judge(author, data), verdict)
    t.same(refused, { malformed: 0, foreignCluster: 0, notServer: 0, [counted]: 1 })
    t.equal(follower.judge(SERVER, message([entry(1)])), 'accept')
    await follower.stop()
    t.same(delivered, [1], 'only what came afterwards')
    t.same(heard, [SERVER])
  })
}

t.test('random bytes are refused, whatever they are', async t => {
  const { follower, delivered, refused } = follow(t, lone, { server: SERVER })
  for (let turn = 0; turn < 2_000; turn++) {
    const bytes = turn % 2 === 0 ? randomBytes(turn % 80) : Buffer.from(message(entries(1, 3)))
    if (turn % 2 === 1) bytes[turn % 22] = turn & 255
    follower.judge(SERVER, bytes)
  }
  t.ok(refused.malformed > 900 && refused.foreignCluster > 0)
  await follower.stop()
  t.ok(delivered.length <= 3)
})

t.test('a host that belongs to no cluster yet takes nothing', async t => {
  const { follower, delivered } = follow(t, lone, { server: SERVER, cluster: null })
  t.equal(follower.judge(SERVER, message(entries(1, 3))), 'ignore')
  await follower.stop()
  t.same(delivered, [])
})

t.test('doubled, shuffled and overlapping messages deliver each entry once, in order', async t => {
  const { follower, delivered } = follow(t, lone, { server: SERVER, applied: 2 })
  const ranges = [
    [5, 6],
    [1, 3],
    [5, 6],
    [3, 4],
    [1, 7],
    [9, 9],
    [8, 8],
    [8, 9]
  ] as const
  for (const [first, last] of ranges) t.equal(follower.judge(SERVER, message(entries(first, last))), 'accept')
  await follower.stop()
  t.same(delivered, upTo(9, 3))
})

t.test('what cannot be delivered is the end, not a gap', async t => {
  const broken = (): Promise<void> => Promise.reject(new Error('the disk is full'))
  const { follower, fatal } = follow(t, lone, { server: SERVER, deliver: broken })
  follower.judge(SERVER, message(entries(1, 3)))
  await waitFor('the end', () => fatal.length === 1)
  t.match(fatal, [{ message: 'the disk is full' }])
})

/** A host, and so many others that it can call. */
async function hosts(t: Test, count: number): Promise<[on: Host, ...servers: Host[]]> {
  const [on, ...servers] = await Promise.all([host(t), ...Array.from({ length: count }, () => host(t))])
  for (const server of servers) introduce(on, server)
  return [on, ...servers]
}

type Asking = { readonly on: Host; readonly server: Host; readonly log: Log; readonly world: World }

/** A follower with one server that it can ask. */
async function asking(t: Test, count: number, applied = 0): Promise<Asking> {
  const [on, server = assert.fail()] = await hosts(t, 1)
  const log = new Log(count)
  log.serveOn(server)
  const world = follow(t, on, { server: SERVER, applied })
  world.servers.push(server.peer)
  return { on, server, log, world }
}

/** One round trip on the channel that the follower uses too. */
const roundTrip = ({ on, server }: Pick<Asking, 'on' | 'server'>): Promise<unknown> =>
  on.rpc.call({ peer: server.peer, method: 'none', body: null, timeoutMs: 5_000 }).catch(() => null)

t.test('a gap is filled from a server, page by page, from an entry and from a commit index alone', async t => {
  const { log, world } = await asking(t, 45)
  world.follower.judge(SERVER, message([entry(45)]))
  await waitFor('all', () => world.delivered.length === 45)
  t.same(world.delivered, upTo(45))
  log.count = 60
  world.follower.judge(SERVER, message([], { commitIndex: 60 }))
  await waitFor('the rest', () => world.delivered.length === 60)
  t.same(world.delivered, upTo(60))
})

t.test('a host that has heard nothing catches up at its start', async t => {
  const { world } = await asking(t, 25, 5)
  world.follower.start()
  await waitFor('all', () => world.delivered.length === 20)
  t.same(world.delivered, upTo(25, 6))
})

t.test('servers that are behind, foreign, gone or broken do not keep the others from being asked', async t => {
  const [on, ...servers] = await hosts(t, 5)
  const [behind, foreign, gone, broken, sound] = servers
  if (!behind || !foreign || !gone || !broken || !sound) throw new Error('no servers')
  const [stale, full] = [new Log(7), new Log(30)]
  stale.serveOn(behind)
  serveFetch(foreign.rpc, () => ({ ...full.source, clusterId: 'f'.repeat(16) as ClusterId }))
  await gone.mesh.stop()
  broken.rpc.register('fetch', () => Promise.resolve('nonsense'))
  full.serveOn(sound)
  const world = follow(t, on, { server: SERVER })
  world.servers.push(...servers.map(({ peer }) => peer))
  world.follower.judge(SERVER, message([], { commitIndex: 30 }))
  await waitFor('all', () => world.delivered.length === 30)
  t.same(world.delivered, upTo(30))
  t.ok(stale.asked < 20, `the server that is behind was asked ${stale.asked} times`)
})

t.test('while no server has what is missing they are asked now and then, not without pause', async t => {
  const asked = await asking(t, 7)
  const { log, world } = asked
  world.follower.judge(SERVER, message([], { commitIndex: 30 }))
  await waitFor('asked again', () => log.asked >= 4)
  const before = log.asked
  // Without a pause there would be a question for each of these.
  for (let n = 0; n < 50; n++) await roundTrip(asked)
  t.ok(log.asked < before + 25, `${log.asked - before} times in 50 round trips`)
  log.count = 30
  await waitFor('all', () => world.delivered.length === 30)
})

t.test('after its end a follower delivers nothing, also of what it had asked for', async t => {
  const asked = await asking(t, 3)
  const { server, world } = asked
  const [arrived, answer] = [Promise.withResolvers<undefined>(), Promise.withResolvers<undefined>()]
  server.rpc.register('fetch', async () => {
    arrived.resolve(undefined)
    await answer.promise
    return [3, entries(1, 3).map(entryToTuple)]
  })
  world.follower.start()
  await arrived.promise
  await world.follower.stop()
  answer.resolve(undefined)
  await roundTrip(asked)
  world.follower.judge(SERVER, message(entries(1, 3)))
  await new Promise(resolve => setImmediate(resolve))
  t.same(world.delivered, [])
})

t.test(
  'what a leader commits is heard by all, in order; who does not lead is silent, who is no server unheard',
  async t => {
    const [leader, one, two] = await Promise.all([host(t), host(t), host(t)])
    introduce(leader, one)
    introduce(one, two)
    introduce(leader, two)
    const log = new Log(0)
    log.serveOn(leader)
    const worlds = [one, two].map(each => {
      const world = follow(t, each, { server: leader.peer })
      each.mesh.subscribe((author, data) => world.follower.judge(author, data))
      world.servers.push(leader.peer)
      return world
    })
    leader.mesh.subscribe(() => 'accept')
    await Promise.all([leader.mesh.connect(one.peer), one.mesh.connect(two.peer)])
    const publisher = publisherOn(leader)
    t.teardown(() => publisher.stop())
    const commit = (first: number, last: number): void => {
      log.count = last
      publisher.committed(entries(first, last))
    }
    commit(1, 5)
    publisher.lead(TERM)
    commit(6, 10)
    commit(11, 40)
    await waitFor('all on both', () => worlds.every(({ delivered }) => delivered.length === 40))
    for (const { delivered, heard } of worlds) {
      t.same(delivered, upTo(40))
      t.equal(heard[0], leader.peer)
    }
    publisher.stop()
    publisher.committed(entries(41, 45))
    const impostor = publisherOn(two)
    t.teardown(() => impostor.stop())
    impostor.lead(TERM)
    impostor.committed(entries(41, 99))
    await waitFor('the impostor is heard', () => (worlds[0]?.refused.notServer ?? 0) > 0)
    for (const { delivered } of worlds) t.same(delivered, upTo(40))
  }
)

t.test(
  'what a leader is about to publish can go along with an answer, once, and not when there is much of it',
  async t => {
    const leader = await host(t)
    const publisher = publisherOn(leader)
    t.teardown(() => publisher.stop())
    publisher.committed(entries(1, 2))
    t.same(publisher.unpublished(), [], 'who does not lead has no word')
    publisher.lead(TERM)
    t.same(publisher.unpublished(), [], 'nothing was committed since')
    publisher.committed(entries(3, 4))
    const said = (): unknown => publisher.unpublished().map(data => decodeFeed(data).entries.map(({ index }) => index))
    t.same(said(), [[3, 4]])
    publisher.committed(entries(5, 6))
    t.same(said(), [[3, 4, 5, 6]], 'with what came before it')
    publisher.committed(entries(7, 7))
    t.same(said(), [], 'a busy leader says it in the feed')
    await waitFor('it is published', () => {
      publisher.committed(entries(8, 8))
      const [word] = publisher.unpublished()
      return word !== undefined && decodeFeed(word).entries.length === 1
    })
    publisher.stop()
    t.same(publisher.unpublished(), [])
  }
)
