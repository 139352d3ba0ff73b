// Whole hosts in memory: they found a cluster, elect, replicate, lose their leader and come back, in milliseconds of real time.

import t from 'tap'
import { create } from '../allocator/fixtures.ts'
import { MemoryCluster } from './memory-cluster.ts'

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
