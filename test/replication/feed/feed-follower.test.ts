import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import t, { type Test } from 'tap'
import type { ClusterId, PeerId, Term } from '#model/ids.ts'
import { entryToTuple } from '#replication/codec/entry-codec.ts'
import { serveFetch } from '#replication/feed/fetch.ts'
import { settle } from '#test/lab/manual-clock.ts'
import { waitFor } from '#test/lab/wait.ts'
import { entries, entry, Log } from '../entries.ts'
import { host, introduce, type Host } from '../hosts.ts'
import { follow, malformed, message, upTo, type World } from './fixtures.ts'

const SERVER = 'the server' as PeerId
const CLIENT = 'a client' as PeerId
const lone = await host(t)

const nothing: readonly { what: string; author: PeerId; data: Uint8Array; verdict: string; counted: string }[] = [
  ...malformed.map(({ what, data }) => ({ what, author: SERVER, data, verdict: 'reject', counted: 'malformed' })),
  ...[message(entries(1, 3)), Buffer.alloc(9, 0xc1)].map((data, n) => {
    const what = `${n === 0 ? 'a valid message' : 'garbage'} of a host that is not a server`
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
  t.test(`a message that is not for this host changes nothing, and is reported as ${counted}: ${what}`, async t => {
    const { follower, delivered, leaders, refused } = follow(t, lone, { server: SERVER })
    t.equal(follower.judge(author, data), verdict)
    t.same(refused, { malformed: 0, foreignCluster: 0, notServer: 0, [counted]: 1 })
    t.equal(follower.judge(SERVER, message([entry(1)])), 'accept')
    await follower.stop()
    t.same(delivered, [1], 'only the entry that came afterwards')
    t.same(leaders, [SERVER])
  })
}

t.test('random bytes are refused', async t => {
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

t.test('a host without a cluster accepts nothing', async t => {
  const { follower, delivered } = follow(t, lone, { server: SERVER, cluster: null })
  t.equal(follower.judge(SERVER, message(entries(1, 3))), 'ignore')
  await follower.stop()
  t.same(delivered, [])
})

t.test('a former voter is current once it has applied past the entries that it may have acted upon', async t => {
  const { follower } = follow(t, lone, { server: SERVER, applied: 3, unconfirmed: { index: 5, term: 9 } })
  t.equal(follower.current, false, 'its commit index may have been recorded too low')
  follower.judge(SERVER, message([entry(4)]))
  await settle()
  t.equal(follower.current, false)
  follower.judge(SERVER, message([entry(5)]))
  t.equal(follower.current, false, 'it has arrived, but is not applied yet')
  await settle()
  t.equal(follower.current, true)
  await follower.stop()
})

t.test(
  'a former voter is current with a committed entry of a later term, which replaces what was not committed',
  async t => {
    const { follower } = follow(t, lone, {
      server: SERVER,
      applied: 3,
      unconfirmed: { index: 50, term: entry(4).term }
    })
    follower.judge(SERVER, message([entry(4)]))
    await settle()
    t.equal(follower.current, false, 'an entry of the same term proves nothing')
    follower.judge(SERVER, message([{ ...entry(5), term: (entry(4).term + 1) as Term }]))
    await settle()
    t.equal(follower.current, true)
    await follower.stop()
  }
)

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

t.test('a failed delivery is fatal, not a gap', async t => {
  const broken = (): Promise<void> => Promise.reject(new Error('the disk is full'))
  const { follower, fatal } = follow(t, lone, { server: SERVER, deliver: broken })
  follower.judge(SERVER, message(entries(1, 3)))
  await waitFor('it is fatal', () => fatal.length === 1)
  t.match(fatal, [{ message: 'the disk is full' }])
})

/** A host, and servers that it can call. */
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

/** One round trip on the channel that the follower uses. */
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

t.test('a follower catches up at its start', async t => {
  const { world } = await asking(t, 25, 5)
  world.follower.start()
  await waitFor('all', () => world.delivered.length === 20)
  t.same(world.delivered, upTo(25, 6))
})

t.test('after servers that are behind, foreign, down or broken the next one is asked', async t => {
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

t.test('while no server has the missing entries they are polled, with a pause', async t => {
  const asked = await asking(t, 7)
  const { log, world } = asked
  world.follower.judge(SERVER, message([], { commitIndex: 30 }))
  await waitFor('asked again', () => log.asked >= 4)
  const before = log.asked
  // Without a pause there would be a request for each of these.
  for (let n = 0; n < 50; n++) await roundTrip(asked)
  t.ok(log.asked < before + 25, `${log.asked - before} times in 50 round trips`)
  log.count = 30
  await waitFor('all', () => world.delivered.length === 30)
})

t.test('an index that no server confirms for 10 s is forgotten, and the next entries arrive all the same', async t => {
  const { log, world } = await asking(t, 7)
  world.follower.judge(SERVER, message([], { commitIndex: 2 ** 40 }))
  await waitFor('it is forgotten', () => world.follower.highest === 7, { timeoutMs: 30_000 })
  log.count = 9
  world.follower.judge(SERVER, message(entries(8, 9)))
  await waitFor('all', () => world.delivered.length === 9)
})

t.test('a stopped follower delivers nothing, not even an answer in flight', async t => {
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
