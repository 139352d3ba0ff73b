// RaftNode and its transport: real logs on a real disk that can be made to hang, real libp2p on loopback.

import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import type { ClusterId, LogIndex, PeerId, Term } from '#model/ids.ts'
import { systemClock } from '#platform/clock.ts'
import { diskFiles, type FileLayer } from '#platform/file-layer.ts'
import { createLogger } from '#platform/log.ts'
import { systemRandom } from '#platform/random.ts'
import type { Message } from '#raft/types.ts'
import { RaftNode } from '#replication/consensus/raft-node.ts'
import { RaftTransport } from '#replication/transport/raft-transport.ts'
import { openStorage } from '#replication/storage/storage.ts'
import { waitFor } from '#test/lab/wait.ts'
import { host, introduce, type Host } from '../hosts.ts'

const CLUSTER = 'cluster' as ClusterId
const logger = createLogger('silent')

/** A disk whose log hangs until `release`: before it has written, or while it syncs what it has written. */
class HangingDisk {
  #held: Promise<void> | null = null
  #operation: 'write' | 'sync' | null = null
  #release = (): void => undefined

  hang(operation: 'write' | 'sync'): void {
    this.#operation = operation
    this.#held = new Promise(resolve => {
      this.#release = resolve
    })
  }

  release(): void {
    this.#held = null
    this.#release()
  }

  get files(): FileLayer {
    const openSynced: FileLayer['openSynced'] = async path => {
      const file = await diskFiles.openSynced(path)
      const write: typeof file.write = async (buffers, position) => {
        if (this.#operation === 'write') await this.#held
        await file.write(buffers, position)
        await this.#held
      }
      return { ...file, write }
    }
    return { ...diskFiles, openSynced }
  }
}

type Server = { readonly host: Host; readonly disk: HangingDisk; readonly node: RaftNode }

/** Voters of one cluster, each with its log and its libp2p node. */
async function servers(t: Test, count: number): Promise<Server[]> {
  const hosts = await Promise.all(Array.from({ length: count }, () => host(t)))
  for (const a of hosts) for (const b of hosts) if (a !== b) introduce(a, b)
  const voters = hosts.map(({ peer }) => peer)
  return Promise.all(hosts.map(each => serve(t, each, voters)))
}

async function serve(t: Test, on: Host, voters: readonly PeerId[]): Promise<Server> {
  const dir = await mkdtemp(join(tmpdir(), 'vxmesh-node-'))
  const disk = new HangingDisk()
  const { wal, recovered } = await openStorage(dir, on.peer, { files: disk.files, clock: systemClock })
  const transport = new RaftTransport({
    mesh: on.mesh,
    clock: systemClock,
    self: on.peer,
    isServer: () => true,
    checkEntry: () => undefined,
    receive: message => node.receive(message),
    lost: peer => node.peerLost(peer),
    logger
  })
  const node: RaftNode = new RaftNode({
    self: on.peer,
    clusterId: CLUSTER,
    configuration: { voters, learners: [] },
    durable: recovered.durable,
    wal,
    send: message => transport.send(message),
    refused: (_from, why) => t.fail(why),
    apply: entries => entries.map(({ index }) => index),
    installSnapshot: () => Promise.reject(new Error('there is none')),
    restore: () => undefined,
    roleChanged: () => undefined,
    fatal: err => t.fail(err.message),
    clock: systemClock,
    random: systemRandom,
    logger
  })
  await transport.start()
  t.teardown(async () => {
    disk.release()
    node.stop()
    transport.stop()
    await wal.close()
    await rm(dir, { recursive: true })
  })
  return { host: on, disk, node }
}

function leads({ node }: Server): boolean {
  return node.status().role === 'leader'
}

function leaderAmong(all: readonly Server[]): Promise<Server> {
  return waitFor('one leads', () => all.find(leads) ?? null, { timeoutMs: 20_000 })
}

t.test('a leader whose disk hangs steps down, another one leads, and nothing is lost', async t => {
  const all = await servers(t, 3)
  const leader = await leaderAmong(all)
  const [first] = await leader.node.propose([Buffer.from('first')])
  leader.disk.hang('sync')
  // The other voters may still commit it.
  const second = leader.node.propose([Buffer.from('second')]).catch(() => null)
  await waitFor('it steps down', () => !leads(leader), { timeoutMs: 20_000 })
  const next = await leaderAmong(all.filter(server => server !== leader))
  const [third] = (await next.node.propose([Buffer.from('third')])) as readonly LogIndex[]
  t.ok(third !== undefined && third > (first as LogIndex))
  const others = next.node.committedEntries(first as LogIndex, Infinity).map(({ data }) => Buffer.from(data).toString())
  t.ok(others.includes('second'), 'the followers wrote it while the leader synced')
  t.notOk(leads(leader), 'its disk still hangs')
  leader.disk.release()
  await second
  await waitFor('it has followed', () => leader.node.status().durableCommitIndex >= Number(third), {
    timeoutMs: 20_000
  })
})

t.test('an idle leader steps down too when its disk hangs over a write that nothing waits for', async t => {
  const all = await servers(t, 3)
  const leader = await leaderAmong(all)
  await leader.node.propose([Buffer.from('first')])
  // RaftNode notes the commit index once a second.
  leader.disk.hang('write')
  await waitFor('it steps down', () => !leads(leader), { timeoutMs: 20_000 })
  await leaderAmong(all.filter(server => server !== leader))
  t.notOk(leads(leader), 'its disk still hangs')
})

t.test('a sole voter leads alone', async t => {
  const [alone] = await servers(t, 1)
  if (alone === undefined) throw new Error('no server')
  await leaderAmong([alone])
  t.same(await alone.node.propose([Buffer.from('first'), Buffer.from('second')]), [2, 3])
})

type End = {
  readonly host: Host
  readonly transport: RaftTransport
  readonly received: Message[]
  readonly lost: PeerId[]
}

async function end(t: Test): Promise<End> {
  const on = await host(t)
  const received: Message[] = []
  const lost: PeerId[] = []
  const transport = new RaftTransport({
    mesh: on.mesh,
    clock: systemClock,
    self: on.peer,
    isServer: () => true,
    checkEntry: () => undefined,
    receive: message => received.push(message),
    lost: peer => lost.push(peer),
    logger
  })
  await transport.start()
  return { host: on, transport, received, lost }
}

function timeoutNow(from: End, to: End): Message {
  return { ...ends(from, to), kind: 'timeout-now' }
}

function ends(from: End, to: End): Pick<Message, 'clusterId' | 'term' | 'incarnation' | 'from' | 'to'> {
  return { clusterId: CLUSTER, term: 1 as Term, incarnation: 0, from: from.host.peer, to: to.host.peer }
}

t.test('messages sent while a channel opens arrive in order, at least the newest', async t => {
  const [a, b] = await Promise.all([end(t), end(t)])
  introduce(a.host, b.host)
  for (let term = 1; term <= 40; term++) a.transport.send({ ...timeoutNow(a, b), term: term as Message['term'] })
  await waitFor('the last one has arrived', () => b.received.at(-1)?.term === 40)
  const terms = b.received.map(({ term }) => term)
  t.same(
    terms,
    [...terms].sort((x, y) => x - y)
  )
  t.ok(terms.length < 40, 'the queue is bounded')
  t.same([a.lost, b.lost], [[], []])
})

t.test('delayed messages can be sent along with others, and are handled as if they were sent alone', async t => {
  const [a, b] = await Promise.all([end(t), end(t)])
  introduce(a.host, b.host)
  const rounds = (): number[] => b.received.flatMap(message => ('round' in message ? [message.round] : []))
  t.same(a.transport.takeDelayed(b.host.peer), [], 'nothing was sent')
  a.transport.send(bare(a, b, 1))
  await waitFor('the channel is open', () => rounds().length === 1)
  a.transport.send(bare(a, b, 2))
  const frames = a.transport.takeDelayed(b.host.peer)
  t.equal(frames.length, 1)
  b.transport.receive(a.host.peer, frames)
  t.match(b.received.at(-1), { from: a.host.peer, to: b.host.peer, kind: 'append-request' })
  a.transport.send(bare(a, b, 3))
  await waitFor('the next one arrives by itself', () => rounds().at(-1) === 3)
  t.same(rounds(), [1, 2, 3], 'each is sent once')
  t.throws(() => b.transport.receive(a.host.peer, [new Uint8Array([0])]), { code: 'ERR_PEER' })
})

/** It carries nothing but the commit index. */
function bare(from: End, to: End, round: number): Message {
  const none = { prevIndex: 0 as LogIndex, prevTerm: 0 as Term, leaderCommit: 0 as LogIndex, entries: [] }
  return { ...ends(from, to), ...none, kind: 'append-request', round }
}

t.test('a broken connection is reported at both ends, and so is a refused one', async t => {
  const [a, b] = await Promise.all([end(t), end(t)])
  introduce(a.host, b.host)
  a.transport.send(timeoutNow(a, b))
  await waitFor('it has arrived', () => b.received.length === 1)
  await b.host.mesh.stop()
  await waitFor('a has noticed', () => a.lost.includes(b.host.peer))
  await waitFor('b has noticed', () => b.lost.includes(a.host.peer))
  await waitFor('the connection is gone', () => !a.host.mesh.isConnected(b.host.peer))
  a.lost.length = 0
  await waitFor('a refusal is reported', () => {
    a.transport.send(timeoutNow(a, b))
    return a.lost.includes(b.host.peer)
  })
  t.ok(a.lost.every(peer => peer === b.host.peer))
})
