// What a member without a vote can do to a cluster by messages of its own: nothing.

import t, { type Test } from 'tap'
import { ClusterState } from '#allocator/state-machine.ts'
import { Tables } from '#allocator/tables.ts'
import { encodeMsgpack } from '#platform/msgpack.ts'
import type { Entry } from '#raft/types.ts'
import type { LogIndex, Term } from '#model/ids.ts'
import { HostilePeer } from './hostile-peer.ts'
import { attach, create, detach, makeHost, register, remove, removeHost } from '#test/allocator/fixtures.ts'
import { asVxmeshError } from '#model/errors.ts'
import type { Command } from '#model/command.ts'
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

/** The answer to a proposal of the hostile member: `ok`, or the code of the refusal. */
async function propose(
  { cluster, hostile }: { cluster: MemoryCluster; hostile: HostilePeer },
  command: Command,
  p: { session?: string; seq?: number } = {}
): Promise<string> {
  const body = { session: p.session ?? 'evil', seq: p.seq ?? 0, settledBelow: 0, command, by: cluster.leading.peer }
  const asked = hostile.propose(cluster.leading.peer, body)
  const answer = await cluster.settle(asked).catch((err: unknown) => ({ error: asVxmeshError(err).code }))
  const { error, applied } = answer as {
    error?: string
    applied?: { outcome: { ok: boolean; error?: { code: string } } }
  }
  return error ?? (applied?.outcome.ok === true ? 'ok' : (applied?.outcome.error?.code ?? 'no answer'))
}

t.test('a member without a vote speaks for itself alone when it proposes', async t => {
  const world = await attacked(t)
  const { cluster, hostile } = world
  const { log } = cluster.leading.replicator
  const evil = 66
  for (const each of [register(1), register(2), create('red'), attach('red', 'c1', { host: 1 })]) {
    await cluster.settle(log.propose(each))
  }
  cluster.network.place(hostile.mesh.self, makeHost(evil).vtep)
  t.equal(await propose(world, { kind: 'session-open' }), 'ok')
  let seq = 0
  const next = (command: Command): Promise<string> => propose(world, command, { seq: (seq += 1) })
  t.equal(await next(register(1, { vtep: '192.0.2.66' })), 'ERR_NOT_ALLOWED', 'the record of another')
  t.equal(await next(register(evil, { vtep: '192.0.2.1' })), 'ERR_ADDRESS_IN_USE', 'the VTEP of another')
  t.equal(await next(register(evil, { vtep: '8.8.8.8' })), 'ERR_NOT_ALLOWED', 'a VTEP outside')
  t.equal(await next(register(evil)), 'ok', 'itself')
  t.equal(await next(attach('red', 'c2', { host: 2 })), 'ERR_NOT_ALLOWED')
  t.equal(await next(attach('red', 'c3', { host: evil })), 'ok', 'its own container')
  t.equal(await next(detach('c1')), 'ERR_NOT_ALLOWED')
  t.equal(await next(detach('c3')), 'ok')
  t.equal(await next(remove('red', true)), 'ERR_NOT_ALLOWED')
  t.equal(await next(removeHost('h1')), 'ERR_NOT_ALLOWED', 'another host, whatever Serf says of it')
  await cluster.until('all have applied the same', () => cluster.agrees())
  const { state } = cluster.leading
  t.equal(state.host(peer(1))?.vtep, makeHost(1).vtep)
  t.same(
    [...state.endpoints()].map(each => each.containerId),
    ['c1']
  )
})

t.test('a session belongs to the host that opened it', async t => {
  const world = await attacked(t)
  const { cluster } = world
  const client = cluster.hosts[3]
  await cluster.settle(cluster.leading.replicator.log.propose(create('red')))
  await cluster.settle(client?.replicator.log.propose(create('blue')) ?? Promise.reject(new Error('no client')))
  const sessions = [...cluster.leading.state.sessions.entries()].map(([id]) => id)
  t.equal(sessions.length, 2)
  for (const session of sessions) {
    t.equal(await propose(world, create('evil'), { session: session.slice(-64), seq: 9 }), 'ERR_SESSION_EXPIRED')
    t.equal(await propose(world, create('evil'), { session, seq: 9 }), 'ERR_SESSION_EXPIRED')
    const short = session.slice(session.indexOf('/') + 1)
    t.equal(await propose(world, create('evil'), { session: short, seq: 9 }), 'ERR_SESSION_EXPIRED')
  }
  t.ok(sessions.every(id => cluster.hosts.some(host => id.startsWith(`${host.peer}/`))))
  t.equal(cluster.leading.state.networkCount, 2)
})

t.test('gossip of a member that is no server is not believed: neither its term, its index nor its entries', async t => {
  const { cluster, hostile } = await attacked(t)
  const client = cluster.hosts[3]
  if (client === undefined) throw new Error('no client')
  await cluster.settle(client.replicator.log.propose(create('red')))
  const { term, leader } = client.replicator.log.status()
  const index = (cluster.leading.replicator.log.status().commitIndex + 1) as LogIndex
  const request = { session: 'evil', seq: 0, settledBelow: 0, command: { kind: 'session-open' } }
  const entry: Entry = { index, term, kind: 'command', data: encodeMsgpack(request) }
  await cluster.settle(hostile.gossip({ term, commitIndex: index, entries: [entry] }))
  await cluster.settle(hostile.gossip({ term: 2 ** 50, commitIndex: 2 ** 50 }))
  await cluster.settle(hostile.gossip({ term: MUCH, commitIndex: MUCH }))
  await cluster.advance(5_000)
  t.match(client.replicator.log.status(), { term, leader })
  t.equal(client.replicator.log.lag, 0)
  t.ok(client.replicator.log.refusedMessages >= 2)
  await cluster.settle(client.replicator.log.propose(create('blue')))
  await cluster.until('all have applied the same', () => cluster.agrees())
})

t.test(
  'a client whose state has diverged takes that of a server, and goes on from there, also after a restart',
  async t => {
    const { cluster } = await attacked(t)
    const client = cluster.hosts[3]
    if (client === undefined) throw new Error('no client')
    await cluster.settle(client.replicator.log.propose(create('red')))
    await cluster.until('all have applied the same', () => cluster.agrees())
    const { appliedIndex, sessions } = client.state
    client.state.become(new ClusterState({ tables: new Tables(), sessions, appliedIndex }))
    t.notOk(cluster.agrees())
    await cluster.settle(client.replicator.log.repair())
    await cluster.until('it agrees again', () => cluster.agrees())
    t.equal(client.state.networkCount, 1)
    await cluster.settle(client.replicator.log.propose(create('blue')))
    await cluster.until('it follows', () => cluster.agrees())
    client.kill()
    await client.start()
    await cluster.until('it has the same from its disk', () => cluster.agrees())
    t.equal(client.state.networkCount, 2)
    const refusal = { code: 'ERR_UNSUPPORTED' }
    await t.rejects(cluster.leading.replicator.log.repair(), refusal, 'a server is not repaired by itself')
  }
)
