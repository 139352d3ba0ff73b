import t from 'tap'
import { systemClock } from '#platform/clock.ts'
import { createLogger } from '#platform/log.ts'
import { decodeFeed } from '#replication/feed/feed-message.ts'
import { FeedPublisher } from '#replication/feed/feed-publisher.ts'
import { ManualClock } from '#test/lab/manual-clock.ts'
import { waitFor } from '#test/lab/wait.ts'
import { CLUSTER, entries, Log } from '../entries.ts'
import { host, introduce, type Host } from '../hosts.ts'
import { follow, TERM, upTo } from './fixtures.ts'

const logger = createLogger('silent')

function publisherOn(on: Host): FeedPublisher {
  return new FeedPublisher({ mesh: on.mesh, clusterId: CLUSTER, notes: () => [], clock: systemClock, logger })
}

t.test(
  'committed entries reach all followers in order; a host that does not lead publishes nothing, a client is ignored',
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
    for (const { delivered, leaders } of worlds) {
      t.same(delivered, upTo(40))
      t.equal(leaders[0], leader.peer)
    }
    publisher.stop()
    publisher.committed(entries(41, 45))
    const impostor = publisherOn(two)
    t.teardown(() => impostor.stop())
    impostor.lead(TERM)
    impostor.committed(entries(41, 99))
    await waitFor('the impostor is refused', () => (worlds[0]?.refused.notServer ?? 0) > 0)
    for (const { delivered } of worlds) t.same(delivered, upTo(40))
  }
)

t.test(
  'a few unpublished entries can be attached to a reply; many are not, and none after they are published',
  async t => {
    const leader = await host(t)
    const publisher = publisherOn(leader)
    t.teardown(() => publisher.stop())
    publisher.committed(entries(1, 2))
    t.same(publisher.unpublished(), [], 'a host that does not lead has none')
    publisher.lead(TERM)
    t.same(publisher.unpublished(), [], 'nothing was committed since')
    publisher.committed(entries(3, 4))
    const attached = (): unknown =>
      publisher.unpublished().map(data => decodeFeed(data).entries.map(({ index }) => index))
    t.same(attached(), [[3, 4]])
    publisher.committed(entries(5, 6))
    t.same(attached(), [[3, 4, 5, 6]], 'with the entries before them')
    publisher.committed(entries(7, 7))
    t.same(attached(), [], 'a busy leader publishes soon')
    await waitFor('it is published', () => {
      publisher.committed(entries(8, 8))
      const [message] = publisher.unpublished()
      return message !== undefined && decodeFeed(message).entries.length === 1
    })
    publisher.stop()
    t.same(publisher.unpublished(), [])
  }
)

t.test(
  'every tenth beat of a leader carries its notes, and what a follower accepts of them names the author',
  async t => {
    const time = new ManualClock()
    const sent: Uint8Array[] = []
    const mesh = { publish: (data: Uint8Array) => Promise.resolve(void sent.push(data)) }
    let asked = 0
    const publisher = new FeedPublisher({
      mesh,
      clusterId: CLUSTER,
      notes: () => [[++asked, 'n']],
      clock: time.clock,
      logger
    })
    publisher.lead(TERM)
    await time.advance(20 * 500)
    publisher.stop()
    t.equal(asked, 2)
    t.same(
      sent.map(data => decodeFeed(data).notes.length),
      Array.from({ length: 20 }, (_, n) => (n % 10 === 9 ? 1 : 0))
    )
    const [on, leader, stranger] = await Promise.all([host(t), host(t), host(t)])
    const { follower, noted } = follow(t, on, { server: leader.peer })
    for (const data of sent) follower.judge(leader.peer, data)
    for (const data of sent) follower.judge(stranger.peer, data)
    t.same(noted, [
      [leader.peer, [[1, 'n']]],
      [leader.peer, [[2, 'n']]]
    ])
  }
)
