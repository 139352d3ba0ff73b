// What a member without a vote can do to a cluster by messages of its own: nothing.

import t, { type Test } from 'tap'
import type { LogIndex, Term } from '#model/ids.ts'
import { HostilePeer } from './hostile-peer.ts'
import { MemoryCluster } from './memory-cluster.ts'
import { peer } from '#test/allocator/fixtures.ts'
import type { Member } from '#model/member.ts'

const MUCH = 2 ** 40

/** Three servers, a client, and a member that claims to be a server of this cluster. */
async function attacked(t: Test): Promise<{ cluster: MemoryCluster; hostile: HostilePeer }> {
  const cluster = await MemoryCluster.founded(t)
  const client = await cluster.client()
  const { clusterId } = cluster.leading.replicator.cluster
  if (clusterId === null) throw new Error('the cluster is not founded')
  const mesh = cluster.network.join(peer(66))
  t.teardown(() => mesh.stop())
  const like: Member = { ...cluster.leading.member, name: 'evil' as never, peerId: mesh.self, bootstrapExpect: 0 }
  cluster.strangers.push(like)
  for (const host of cluster.hosts) mesh.setAddress(host.peer, { address: host.member.address, port: 7_000 })
  await cluster.until('the client follows', () => client.state.appliedIndex > 0)
  return { cluster, hostile: new HostilePeer({ mesh, clock: cluster.manual.clock, clusterId }) }
}

t.test('a member that is no server of the configuration cannot lead, vote or unseat, whatever its tag', async t => {
  const { cluster, hostile } = await attacked(t)
  const leader = cluster.leading
  const before = leader.replicator.log.status()
  const term = (before.term + MUCH) as Term
  const last = { lastIndex: MUCH as LogIndex, lastTerm: term }
  const append = { prevIndex: 0 as LogIndex, prevTerm: 0 as Term, entries: [], leaderCommit: 0 as LogIndex, round: 1 }
  for (const { peer: to } of cluster.hosts.slice(0, 3)) {
    await cluster.settle(hostile.raft(to, { kind: 'vote-request', term, ...last, transfer: true }))
    await cluster.settle(hostile.raft(to, { kind: 'vote-reply', term, granted: true }))
    await cluster.settle(hostile.raft(to, { kind: 'timeout-now', term: before.term }))
    await cluster.settle(hostile.raft(to, { kind: 'append-request', term, ...append }))
  }
  await cluster.advance(3_000)
  const { commitIndex, ...after } = leader.replicator.log.status()
  t.match(before, after)
  t.ok(cluster.agreesOnLeader())
  t.same(
    cluster.hosts.flatMap(host => host.fatal),
    []
  )
})
