// Whole hosts in memory: they found a cluster, elect, replicate, lose their leader and come back, in milliseconds of real time.

import t from 'tap'
import type { ClusterId } from '#model/ids.ts'
import { attach, create, register } from '../allocator/fixtures.ts'
import { MemoryCluster } from './memory-cluster.ts'
import { joined } from './snapshots.ts'
import { SnapshotParser } from '#replication/storage/snapshot-file.ts'

t.test('three servers found one cluster, elect one leader, and replicate what any of them proposes', async t => {
  const cluster = await MemoryCluster.founded(t)
  t.equal(new Set(cluster.hosts.map(host => host.replicator.cluster.clusterId)).size, 1)
  t.equal(cluster.hosts.filter(host => host.replicator.log.status().role === 'leader').length, 1)
  for (const [n, host] of cluster.hosts.entries()) {
    const { result } = await cluster.settle(host.replicator.log.propose(create(`net-${n}`)))
    t.match(result, { kind: 'network', network: { name: `net-${n}` } })
  }
  await cluster.until('all have applied it', () => cluster.agrees())
  t.same(
    cluster.hosts.map(({ state }) => state.networkCount),
    [3, 3, 3]
  )
  t.same(
    cluster.hosts.flatMap(({ fatal }) => fatal),
    []
  )
})

t.test('two of three founders found nothing, however long they wait', async t => {
  const cluster = new MemoryCluster()
  t.teardown(() => cluster.stop())
  for (let n = 0; n < 3; n++) cluster.add({ bootstrapExpect: 3 })
  const [a, b, late] = cluster.hosts
  if (a === undefined || b === undefined || late === undefined) throw new Error('no hosts')
  cluster.hidden.add(late)
  for (const host of [a, b]) await host.start()
  await cluster.advance(10_000)
  t.same(
    [a, b].map(host => [host.replicator.cluster.clusterId, host.replicator.cluster.obstacle]),
    [
      [null, '2 of 3 servers are in sight'],
      [null, '2 of 3 servers are in sight']
    ]
  )
  cluster.hidden.delete(late)
  await late.start()
  await cluster.until('a leader is known to all', () => cluster.agreesOnLeader())
  t.equal(a.replicator.cluster.obstacle, null)
})

t.test('the death of the leader loses no acknowledged change, and a proposal in flight gets one outcome', async t => {
  const cluster = await MemoryCluster.founded(t)
  const first = cluster.leading
  const asker = cluster.hosts.find(host => host !== first)
  if (asker === undefined) throw new Error('no follower')
  await cluster.settle(asker.replicator.log.propose(register(1)))
  await cluster.settle(asker.replicator.log.propose(create('red')))
  const proposals = ['a', 'b', 'c'].map(id => asker.replicator.log.propose(attach('red', id)))
  // The requests are on their way.
  await cluster.advance(1)
  first.kill()
  const results = await Promise.all(proposals.map(proposal => cluster.settle(proposal)))
  t.equal(new Set(results.map(({ result }) => result.endpoint.address)).size, 3)
  t.not(cluster.leading, first)
  t.equal(cluster.leading.state.endpointCount, 3, 'each was applied once')
  await first.start()
  await cluster.until('it has caught up', () => cluster.agrees() && cluster.agreesOnLeader())
  t.ok(asker.replicator.log.retries > 0)
  t.ok(asker.replicator.log.leaderChanges >= 2)
})

t.test('a proposal that hangs on a cut-off leader goes to the next one as soon as that leads', async t => {
  const cluster = await MemoryCluster.founded(t)
  const asker = cluster.hosts.find(host => host !== cluster.leader())
  if (asker === undefined) throw new Error('no follower')
  await cluster.settle(asker.replicator.log.propose(create('before')))
  cluster.network.isolate(cluster.leading.peer)
  const since = cluster.manual.clock.nowMs()
  await cluster.settle(asker.replicator.log.propose(create('red')))
  const tookMs = cluster.manual.clock.nowMs() - since
  t.ok(tookMs < 1_900, `after ${tookMs} ms, before the attempt times out`)
})

t.test('without a majority nothing is acknowledged and no read confirmed; the local state stays readable', async t => {
  const cluster = await MemoryCluster.founded(t)
  await cluster.settle(cluster.leading.replicator.log.propose(create('red')))
  await cluster.until('all agree', () => cluster.agrees())
  const [survivor, ...others] = cluster.hosts
  if (survivor === undefined) throw new Error('no host')
  for (const host of others) host.kill()
  await t.rejects(cluster.settle(survivor.replicator.log.propose(create('blue'))), { code: 'ERR_NO_QUORUM' })
  await t.rejects(cluster.settle(survivor.replicator.log.readIndex()), { code: 'ERR_NO_QUORUM' })
  await t.rejects(cluster.settle(survivor.replicator.cluster.transferLeadership(others[0]?.peer ?? survivor.peer)), {
    code: /ERR_NOT_LEADER|ERR_TIMEOUT/
  })
  t.equal(survivor.state.networkCount, 1)
  const parser = new SnapshotParser('image')
  parser.push(await joined(await cluster.settle(survivor.replicator.log.image())))
  const { clusterId, meta } = parser.finish()
  t.equal(clusterId, survivor.replicator.cluster.clusterId)
  t.equal(meta.lastIndex, survivor.state.appliedIndex)
})

t.test(
  'a leader in a minority acknowledges nothing; the majority continues, and the minority’s entries are dropped',
  async t => {
    const cluster = await MemoryCluster.founded(t)
    const old = cluster.leading
    const others = cluster.hosts.filter(host => host !== old)
    cluster.network.isolate(old.peer)
    const lost = t.rejects(cluster.settle(old.replicator.log.propose(create('minority'))), { code: 'ERR_NO_QUORUM' })
    await cluster.until('the others elect', () => others.some(h => h.replicator.log.status().role === 'leader'))
    const [asker] = others
    if (asker === undefined) throw new Error('no host')
    await cluster.settle(asker.replicator.log.propose(create('majority')))
    await lost
    cluster.network.healAll()
    await cluster.until('all agree', () => cluster.agreesOnLeader() && cluster.agrees())
    t.same(
      [...old.state.networks()].map(({ name }) => name),
      ['majority']
    )
  }
)

t.test('the read index covers every change acknowledged before the call, from any host', async t => {
  const cluster = await MemoryCluster.founded(t)
  const client = await cluster.client()
  await cluster.until('it follows', () => client.replicator.log.current)
  const { index } = await cluster.settle(cluster.leading.replicator.log.propose(create('red')))
  for (const host of cluster.hosts) {
    const read = await cluster.settle(host.replicator.log.readIndex())
    t.ok(read >= index, host.name)
  }
})

t.test('leadership is transferred to a voter, and not to a client', async t => {
  const cluster = await MemoryCluster.founded(t)
  const client = await cluster.client()
  await cluster.until('it knows the leader', () => cluster.agreesOnLeader())
  const next = cluster.hosts.find(host => host !== cluster.leader() && host !== client)
  if (next === undefined) throw new Error('no follower')
  await cluster.settle(client.replicator.cluster.transferLeadership(next.peer))
  t.equal(cluster.leading, next)
  await t.rejects(cluster.settle(next.replicator.cluster.transferLeadership(client.peer)), { code: 'ERR_TIMEOUT' })
  t.equal(cluster.leading, next)
})

t.test('a long log is compacted into snapshots, and a late host fetches one', async t => {
  const cluster = await MemoryCluster.founded(t, { snapshotBytes: 4_000 })
  for (let n = 0; n < 60; n++) await cluster.settle(cluster.leading.replicator.log.propose(create(`net-${n}`)))
  t.ok(
    cluster.hosts.every(({ disk }) => disk.paths().some(path => path.endsWith('.snap'))),
    'each host saved one'
  )
  const [restarted] = cluster.hosts
  if (restarted === undefined) throw new Error('no host')
  restarted.kill()
  await restarted.start()
  const late = await cluster.client()
  await cluster.until('all agree', () => cluster.agrees())
  t.equal(late.state.networkCount, 60)
})

t.test('the feed survives loss, duplication and delay', async t => {
  const cluster = await MemoryCluster.founded(t, { seed: 7 })
  Object.assign(cluster.network.settings, { minDelayMs: 1, maxDelayMs: 60, lost: 0.3, duplicated: 0.3 })
  const clients = [await cluster.client(), await cluster.client()]
  await cluster.until('both follow', () => clients.every(client => client.replicator.log.current))
  await Promise.all(
    [...Array(20).keys()].map(n => {
      const proposer = cluster.hosts[n % cluster.hosts.length] ?? cluster.leading
      return cluster.settle(proposer.replicator.log.propose(create(`net-${n}`)))
    })
  )
  await cluster.until('all agree', () => cluster.agrees())
  t.equal(clients[0]?.state.networkCount, 20)
})

const sound = { peerId: '12D3KooWxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx11', voter: true, matchIndex: 3 }
for (const answer of [
  null,
  7,
  'x',
  {},
  [null],
  [7],
  [{}],
  [{ ...sound, peerId: 7 }],
  [{ ...sound, peerId: 'not a peer id!' }],
  [{ ...sound, voter: 'yes' }],
  [{ ...sound, matchIndex: -1 }],
  [{ ...sound, matchIndex: 1.5 }],
  [sound, { ...sound, matchIndex: '3' }]
]) {
  t.test(`a leader's malformed list of servers is replaced by the local one: ${JSON.stringify(answer)}`, async t => {
    const cluster = await MemoryCluster.founded(t)
    const asker = cluster.hosts.find(host => host !== cluster.leader())
    if (asker === undefined) throw new Error('no follower')
    cluster.leading.replicator.peerRpc.serve('raft-peers', () => answer)
    const peers = await cluster.settle(asker.replicator.cluster.peers())
    t.same(
      peers.map(({ peerId, voter, matchIndex }) => [peerId, voter, matchIndex]),
      [...cluster.hosts.map(({ peer }) => peer)].sort().map(peerId => [peerId, true, null])
    )
  })
}

t.test('a peer request ends with the answer, the peer’s error, or a lost peer', async t => {
  const cluster = await MemoryCluster.founded(t)
  const [a, b] = cluster.hosts
  if (a === undefined || b === undefined) throw new Error('no hosts')
  b.replicator.peerRpc.serve('greeting', () => 'hello')
  b.replicator.peerRpc.serve('broken', () => {
    throw new Error('broken')
  })
  t.equal(await cluster.settle(a.replicator.peerRpc.ask(b.peer, 'greeting')), 'hello')
  t.equal(await cluster.settle(b.replicator.peerRpc.ask(b.peer, 'greeting')), 'hello', 'from itself too')
  await t.rejects(cluster.settle(a.replicator.peerRpc.ask(b.peer, 'broken')), { code: 'ERR_INTERNAL' })
  await t.rejects(cluster.settle(a.replicator.peerRpc.ask(b.peer, 'unknown')), { code: 'ERR_UNSUPPORTED' })
  b.kill()
  await t.rejects(cluster.settle(a.replicator.peerRpc.ask(b.peer, 'greeting')), { code: 'ERR_PEER' })
})

t.test('a server of another cluster in sight is named as the obstacle while no leader is known', async t => {
  const cluster = await MemoryCluster.founded(t)
  const stranger = cluster.add()
  const other = { ...stranger.member, status: 'alive' as const, clusterId: 'ffffffffffffffff' as ClusterId }
  cluster.strangers.push(other)
  const [survivor, ...others] = cluster.hosts.filter(host => host.isUp)
  if (survivor === undefined) throw new Error('no host')
  t.equal(survivor.replicator.cluster.obstacle, null, 'a leader is known')
  for (const host of others) host.kill()
  await cluster.until('no leader is known', () => survivor.replicator.log.status().leader === null)
  t.match(survivor.replicator.cluster.obstacle, /^h4 is a server of cluster ffffffffffffffff, and this host belongs to/)
})

t.test('stopping fails pending requests at once, and the host can start again', async t => {
  const cluster = await MemoryCluster.founded(t)
  const [survivor, ...others] = cluster.hosts
  if (survivor === undefined) throw new Error('no host')
  for (const host of others) host.kill()
  const proposal = t.rejects(survivor.replicator.log.propose(create('red')), { code: 'ERR_AGENT_UNREACHABLE' })
  const removal = t.rejects(survivor.replicator.cluster.removeServer(survivor.peer), { code: 'ERR_NO_QUORUM' })
  await cluster.advance(100)
  survivor.replicator.failPending()
  await cluster.settle(Promise.all([proposal, removal]), 50)
  await cluster.settle(survivor.stop())
  for (const host of cluster.hosts) await host.start()
  await cluster.until('a leader is known to all', () => cluster.agreesOnLeader())
})

t.test('the same seed gives the same run', async t => {
  const run = async (seed: number): Promise<unknown> => {
    const cluster = await MemoryCluster.founded(t, { seed })
    Object.assign(cluster.network.settings, { maxDelayMs: 30, lost: 0.2 })
    const client = await cluster.client()
    for (let n = 0; n < 5; n++) await cluster.settle(client.replicator.log.propose(create(`net-${n}`)))
    cluster.leading.kill()
    await cluster.settle(client.replicator.log.propose(create('last')))
    return [cluster.manual.clock.nowMs(), cluster.hosts.map(({ roleChanges }) => roleChanges)]
  }
  const [first, second, other] = [await run(11), await run(11), await run(12)]
  t.strictSame(second, first)
  t.notSame(other, first)
})
