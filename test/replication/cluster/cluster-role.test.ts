// Role changes of whole hosts in memory: none, follower, voter, as the committed configuration demands.

import t from 'tap'
import { stateSections } from '#backup/state-bytes.ts'
import { ClusterState } from '#allocator/state-machine.ts'
import type { ClusterId, LogIndex, Term } from '#model/ids.ts'
import { foundingOrigin } from '#replication/cluster/bootstrap.ts'
import { writeSeed } from '#replication/cluster/seed.ts'
import { create } from '../../allocator/fixtures.ts'
import { MemoryCluster } from '../memory-cluster.ts'
import type { MemoryHost } from '../memory-host.ts'
import { SimulatedDisk } from '../storage/simulated-disk.ts'

const roleOf = (host: MemoryHost): string => host.replicator.log.status().role
const voters = async (cluster: MemoryCluster, on = cluster.leading): Promise<string[]> => {
  const peers = await cluster.settle(on.replicator.cluster.peers())
  return peers.filter(({ voter }) => voter).map(({ peerId }) => peerId)
}

t.test('a host without a cluster waits, and refuses what needs one', async t => {
  const cluster = new MemoryCluster()
  t.teardown(() => cluster.stop())
  const alone = cluster.add({ bootstrapExpect: 3 })
  await alone.start()
  await cluster.advance(2_000)
  t.match(alone.replicator.log.status(), { role: 'waiting', term: 0, leader: null, commitIndex: 0 })
  t.equal(alone.replicator.log.current, false)
  t.equal(alone.replicator.log.lag, 0)
  t.equal(alone.replicator.cluster.clusterId, null)
  t.equal(alone.replicator.cluster.obstacle, '1 of 3 servers are in sight')
  t.same(await alone.replicator.cluster.peers(), [])
  await t.rejects(alone.replicator.log.image(), { code: 'ERR_BUSY' })
  await t.rejects(alone.replicator.log.readIndex(), { code: 'ERR_NO_QUORUM' })
  await t.rejects(cluster.settle(alone.replicator.log.propose(create('red'))), { code: 'ERR_NO_QUORUM' })
})

t.test('a client follows by the feed, proposes through the leader, and has no vote', async t => {
  const cluster = await MemoryCluster.founded(t)
  const client = await cluster.client()
  await cluster.until('it follows', () => client.replicator.log.current)
  t.equal(roleOf(client), 'client')
  cluster.network.settings.lost = 1
  const { index } = await cluster.settle(client.replicator.log.propose(create('red')))
  t.ok(client.state.appliedIndex >= index, 'the reply brought the entry along, although gossip is lost')
  cluster.network.settings.lost = 0
  await cluster.until('all agree', () => cluster.agrees())
  t.equal(client.replicator.log.status().leader, cluster.leading.peer)
  t.notOk((await voters(cluster)).includes(client.peer))
})

t.test('a client that is added becomes a voter, and one that is removed a client, without losing an entry', async t => {
  const cluster = await MemoryCluster.founded(t)
  const host = await cluster.client()
  await cluster.until('it follows', () => host.replicator.log.current)
  await cluster.settle(host.replicator.log.propose(create('before')))
  await cluster.settle(cluster.leading.replicator.cluster.addServer(host.peer))
  await cluster.until('it votes', () => roleOf(host) === 'follower')
  t.ok((await voters(cluster)).includes(host.peer))
  t.equal(host.mesh.isSubscribed, false, 'a voter has the log itself')
  await cluster.settle(host.replicator.log.propose(create('between')))
  await cluster.settle(host.replicator.cluster.removeServer(host.peer))
  await cluster.until('it is a client again', () => roleOf(host) === 'client')
  t.equal(host.mesh.isSubscribed, true)
  t.notOk((await voters(cluster)).includes(host.peer))
  await cluster.settle(host.replicator.log.propose(create('after')))
  await cluster.until('all agree', () => cluster.agrees())
  t.equal(host.state.networkCount, 3)
  t.same(host.fatal, [])
})

t.test('a client fetches as soon as a server becomes reachable, before any message of the feed', async t => {
  const cluster = await MemoryCluster.founded(t)
  const client = await cluster.client()
  await cluster.until('it follows', () => client.replicator.log.current)
  await cluster.settle(client.stop())
  await cluster.settle(cluster.leading.replicator.log.propose(create('red')))
  await cluster.until('all agree', () => cluster.agrees())
  const [survivor, ...others] = cluster.hosts.filter(host => host.isUp)
  if (survivor === undefined) throw new Error('no host')
  // One server without a majority: nobody leads, so nobody publishes.
  for (const host of others) host.kill()
  cluster.hidden.add(survivor)
  await client.start()
  await cluster.advance(1_600)
  t.equal(client.state.networkCount, 0)
  cluster.hidden.delete(survivor)
  await cluster.until('it has the state', () => client.state.networkCount === 1, 1_000)
})

t.test('what is on the disk decides the role of the next start', async t => {
  const cluster = await MemoryCluster.founded(t)
  const client = await cluster.client()
  await cluster.until('it follows', () => client.replicator.log.current)
  await cluster.settle(client.replicator.log.propose(create('red')))
  const server = cluster.hosts.find(host => host !== cluster.leader() && host !== client)
  for (const host of [client, server]) {
    if (host === undefined) throw new Error('no follower')
    await cluster.settle(host.stop())
    await host.start()
  }
  t.equal(server && roleOf(server), 'follower')
  t.equal(roleOf(client), 'client')
  await cluster.until('all agree', () => cluster.agrees())
})

t.test('a server that was removed while it was down learns of it from the others', async t => {
  const cluster = await MemoryCluster.founded(t, { servers: 4 })
  const gone = cluster.hosts.find(host => host !== cluster.leader())
  if (gone === undefined) throw new Error('no follower')
  // Until it has noted that all of its entries are committed.
  await cluster.advance(5_000)
  gone.kill()
  await cluster.until('a leader is known', () => cluster.agreesOnLeader())
  await cluster.settle(cluster.leading.replicator.cluster.removeServer(gone.peer))
  await cluster.settle(cluster.leading.replicator.log.propose(create('red')))
  await gone.start()
  t.ok(['follower', 'pre-candidate'].includes(roleOf(gone)), 'its own log does not say so')
  const callsOldStateCurrent: number[] = []
  const look = (): void => {
    if (gone.replicator.log.current && gone.state.networkCount === 0) callsOldStateCurrent.push(gone.state.appliedIndex)
  }
  await cluster.until('it has found out', () => (look(), roleOf(gone) === 'client'))
  await cluster.until('it follows', () => (look(), cluster.agrees()))
  t.equal(gone.state.networkCount, 1)
  t.same(callsOldStateCurrent, [], 'what it had applied before it was removed is not current')
})

t.test(
  'a server whose disk lags behind what it has applied becomes a client, although nothing follows its removal',
  async t => {
    const cluster = await MemoryCluster.founded(t, { servers: 4 })
    const gone = cluster.hosts.find(host => host !== cluster.leader())
    if (gone === undefined) throw new Error('no follower')
    // Until it has noted that all of its entries are committed.
    await cluster.advance(5_000)
    let release = (): void => undefined
    const held = new Promise<void>(resolve => {
      release = resolve
    })
    gone.disk.afterEach = () => held
    await cluster.settle(cluster.leading.replicator.cluster.removeServer(gone.peer))
    const { appliedIndex } = cluster.leading.state
    await cluster.until('it has applied its removal', () => gone.state.appliedIndex === appliedIndex)
    release()
    await cluster.until('it is a client', () => roleOf(gone) === 'client', 10_000)
    t.equal(cluster.leading.state.appliedIndex, appliedIndex, 'no entry came after it')
    await cluster.until('it follows', () => gone.replicator.log.current)
    const { index } = await cluster.settle(gone.replicator.log.propose(create('red')))
    await cluster.until('all agree', () => cluster.agrees())
    t.equal(gone.state.appliedIndex, index)
    await cluster.settle(gone.stop())
    await gone.start()
    t.equal(roleOf(gone), 'client', 'also after a restart')
    t.same(gone.fatal, [])
  }
)

t.test('a voter that is cut off stays a voter: it has not learned of a removal', async t => {
  const cluster = await MemoryCluster.founded(t)
  const [host] = cluster.hosts
  if (host === undefined) throw new Error('no host')
  cluster.network.isolate(host.peer)
  await cluster.advance(20_000)
  t.not(roleOf(host), 'client')
  t.equal(host.replicator.log.status().leader, null)
  cluster.network.healAll()
  await cluster.until('it is back', () => cluster.agreesOnLeader())
  t.same(host.fatal, [])
})

t.test('a new server that the leader cannot reach stays a learner; the next attempt makes it a voter', async t => {
  const cluster = await MemoryCluster.founded(t)
  const host = await cluster.client()
  await cluster.until('it follows', () => host.replicator.log.current)
  const leader = cluster.leading
  cluster.network.cut(host.peer, leader.peer)
  const asker = cluster.hosts.find(each => each !== leader && each !== host)
  if (asker === undefined) throw new Error('no follower')
  await t.rejects(cluster.settle(asker.replicator.cluster.addServer(host.peer), 120_000), {
    code: 'ERR_TIMEOUT',
    message: 'the new server did not catch up in time; it stays a learner'
  })
  t.notOk((await voters(cluster)).includes(host.peer))
  cluster.network.healAll()
  await cluster.settle(asker.replicator.cluster.addServer(host.peer))
  t.ok((await voters(cluster)).includes(host.peer))
})

t.test('the lag is what is committed and not applied', async t => {
  const cluster = await MemoryCluster.founded(t)
  const client = await cluster.client()
  await cluster.until('it follows', () => client.replicator.log.current)
  cluster.network.isolate(client.peer)
  const { index } = await cluster.settle(cluster.leading.replicator.log.propose(create('red')))
  t.ok(client.state.appliedIndex < index)
  t.equal(client.replicator.log.status().commitIndex, client.state.appliedIndex)
  cluster.network.healAll()
  await cluster.until('it has caught up', () => client.state.appliedIndex >= index && client.replicator.log.lag === 0)
})

t.test('a server whose disk holds a restored backup instead of the log keeps the others from nothing', async t => {
  const cluster = await MemoryCluster.founded(t, { servers: 4 })
  const [restored, ...others] = cluster.hosts
  if (restored === undefined) throw new Error('no host')
  await cluster.settle(cluster.leading.replicator.log.propose(create('red')))
  for (const host of cluster.hosts) host.kill()
  restored.disk = new SimulatedDisk()
  const { configuration } = foundingOrigin([restored.peer], null)
  const meta = { lastIndex: 41 as LogIndex, lastTerm: 7 as Term, configuration }
  const backup = { clusterId: 'old' as ClusterId, meta, sections: stateSections(new ClusterState()) }
  await writeSeed(restored.hostDisk, backup)
  for (const host of cluster.hosts) await host.start()
  t.equal(restored.replicator.cluster.clusterId, null, 'it refuses to join')
  await cluster.until('the others elect a leader', () => cluster.agreesOnLeader(others), 10_000)
  await cluster.until('and have their state', () => others.every(({ state }) => state.networkCount === 1))
  t.equal(roleOf(restored), 'waiting')
})
