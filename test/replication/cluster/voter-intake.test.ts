// What a voter's core sees of a snapshot on its way, with the real transfer between two hosts.

import { readdir } from 'node:fs/promises'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { ClusterState } from '#allocator/state-machine.ts'
import type { LogIndex, PeerId, Term } from '#model/ids.ts'
import { systemClock } from '#platform/clock.ts'
import { diskFiles } from '#platform/file-layer.ts'
import { createLogger } from '#platform/log.ts'
import type { Message, SnapshotMeta } from '#raft/types.ts'
import { Replica } from '#replication/cluster/replica.ts'
import { VoterIntake } from '#replication/cluster/voter-intake.ts'
import { AppliedLog } from '#replication/consensus/applied-log.ts'
import { serveSnapshots } from '#replication/feed/snapshot-transfer.ts'
import { ticketOf } from '#replication/feed/ticket.ts'
import { writeSnapshotFile, type SavedSnapshot } from '#replication/storage/snapshot-reading.ts'
import { openStorage } from '#replication/storage/storage.ts'
import { stateSections } from '#backup/state-bytes.ts'
import { create, Caller } from '../../allocator/fixtures.ts'
import { scratch } from '../../api/scratch.ts'
import { waitFor } from '../../lab/wait.ts'
import { CLUSTER, index } from '../entries.ts'
import { host, introduce } from '../hosts.ts'
import { snapshotPart } from '../snapshots.ts'

type InstallRequest = Extract<Message, { readonly kind: 'install-request' }>

const logger = createLogger('silent')
const configuration = { voters: ['a' as PeerId], learners: [] }
const metaAt = (lastIndex: number, lastTerm = 3): SnapshotMeta => ({
  lastIndex: index(lastIndex),
  lastTerm: lastTerm as Term,
  configuration
})

/** A leader that serves a snapshot of its state, and a voter that lags. */
async function setUp(t: Test, p: { lastTerm?: number } = {}) {
  const [leader, voter] = [await host(t), await host(t)]
  introduce(leader, voter)
  const [from, to] = [scratch(t), scratch(t)]
  const caller = Caller.ready()
  const save = async (): Promise<SavedSnapshot> => {
    const { appliedIndex } = caller.state
    const head = { clusterId: CLUSTER, meta: metaAt(appliedIndex, p.lastTerm) }
    const path = join(from, `${appliedIndex}.snap`)
    return writeSnapshotFile(diskFiles, path, { ...head, sections: stateSections(caller.state) })
  }
  const server = { latest: await save(), refuses: false, asked: 0 }
  t.teardown(
    serveSnapshots(leader.rpc, {
      clock: systemClock,
      files: diskFiles,
      source: () => {
        server.asked += 1
        if (server.refuses) return null
        return { clusterId: CLUSTER, latest: () => server.latest, covering: () => Promise.resolve(null) }
      },
      seed: () => null
    })
  )
  const state = new ClusterState()
  const storage = await openStorage(to, voter.peer, { clock: systemClock })
  storage.snapshots.belong(CLUSTER)
  t.teardown(() => storage.wal.close())
  const applied = new AppliedLog({
    apply: (at, request) => state.apply(at, request),
    admit: () => null,
    rules: () => state.rules,
    skip: at => state.skip(at),
    ...snapshotPart(() => state),
    applied: () => undefined,
    notes: () => [],
    noted: () => undefined
  })
  const replica = new Replica({
    storage,
    applied,
    snapshotBytes: 1e9,
    snapshotMeta: () => undefined,
    snapshotTaken: () => undefined,
    logger
  })
  const made = { received: [] as Message[], fatal: [] as Error[], commit: 0 }
  const intake = new VoterIntake({
    rpc: voter.rpc,
    clusterId: CLUSTER,
    replica,
    servers: () => [],
    receive: message => made.received.push(message),
    commitIndex: () => made.commit as LogIndex,
    fatal: err => made.fatal.push(err),
    clock: systemClock,
    logger
  })
  t.teardown(() => intake.stop())
  const request = (saved: SavedSnapshot, change: Partial<InstallRequest> = {}): InstallRequest => {
    const data = ticketOf(saved)
    const ends = { clusterId: CLUSTER, from: leader.peer, to: voter.peer, term: 5 as Term, incarnation: 0 }
    const body = { meta: saved.meta, size: data.byteLength, offset: 0, data, round: 7 }
    return { ...ends, kind: 'install-request', ...body, ...change }
  }
  const files = async (): Promise<string[]> => (await readdir(join(to, 'snapshot'))).sort()
  return { ...made, made, caller, save, server, intake, state, storage, request, files, applied }
}

t.test('the ticket is withheld until the state is built, and heartbeats pass meanwhile', async t => {
  const { caller, intake, server, state, request, made, files, storage } = await setUp(t)
  const asked = request(server.latest)
  for (let n = 0; n < 3; n++) {
    t.match(intake.filter(asked), { meta: asked.meta, size: asked.size, offset: 0, round: 7, data: { byteLength: 0 } })
  }
  await waitFor('the ticket', () => made.received.length > 0)
  t.match(made.received, [{ kind: 'install-request', meta: asked.meta, data: ticketOf(server.latest), round: 7 }])
  t.equal(state.appliedIndex, 0, 'and nothing has changed')
  const { lastIndex } = asked.meta
  intake.adopt(lastIndex)
  t.equal(state.appliedIndex, caller.state.appliedIndex)
  t.equal(storage.snapshots.latest, null)
  await intake.save(lastIndex)
  t.match(storage.snapshots.latest, { id: server.latest.id, meta: { lastIndex } })
  t.same(await files(), [`${lastIndex.toString().padStart(16, '0')}.snap`])
  t.same(made.fatal, [])
})

t.test('other messages, and snapshots of what is committed here, pass as they are', async t => {
  const { intake, server, request, made } = await setUp(t)
  const vote = { ...request(server.latest), kind: 'timeout-now' as const }
  t.equal(intake.filter(vote), vote)
  made.commit = server.latest.meta.lastIndex
  const asked = request(server.latest)
  t.equal(intake.filter(asked), asked)
  await intake.stop()
  t.same(made.received, [])
})

t.test('a snapshot that has replaced the wanted one is installed instead', async t => {
  const { caller, intake, save, server, request, made } = await setUp(t)
  const asked = request(server.latest)
  caller.do(create('late'))
  server.latest = await save()
  intake.filter(asked)
  await waitFor('the ticket', () => made.received.length > 0)
  t.match(made.received, [{ meta: server.latest.meta, data: ticketOf(server.latest), term: 5 }])
  t.match(intake.filter(asked), { meta: server.latest.meta }, 'and whenever it is asked again')
  intake.adopt(server.latest.meta.lastIndex)
  t.throws(() => intake.adopt(server.latest.meta.lastIndex), /installed and not prepared/)
})

t.test('a snapshot of a term after the leader’s waits for the next leader', async t => {
  const { intake, server, request, made } = await setUp(t, { lastTerm: 6 })
  const meta = { ...server.latest.meta, lastTerm: 4 as Term }
  const asked = request(server.latest, { meta })
  intake.filter(asked)
  await waitFor('the answer', () => made.received.length > 0)
  t.match(made.received, [{ meta, data: { byteLength: 0 } }], 'which would be impossible for a leader of term 5')
  t.match(intake.filter(request(server.latest, { term: 6 as Term })), { meta: { lastTerm: 6 }, term: 6 })
})

t.test('a snapshot that the log has overtaken is discarded', async t => {
  const { intake, server, request, made, files, applied } = await setUp(t)
  intake.filter(request(server.latest))
  await waitFor('the ticket', () => made.received.length > 0)
  t.equal((await files()).length, 1)
  intake.applied((server.latest.meta.lastIndex - 1) as LogIndex)
  t.equal((await files()).length, 1)
  intake.applied(server.latest.meta.lastIndex)
  await waitFor('no file', async () => (await files()).length === 0)
  t.throws(() => intake.adopt(server.latest.meta.lastIndex), /not prepared/)
  t.equal(applied.index, 0)
})

t.test('a transfer that fails is tried again, after a pause', async t => {
  const { intake, server, request, made, files } = await setUp(t)
  server.refuses = true
  const asked = request(server.latest)
  intake.filter(asked)
  await waitFor('the failure', () => server.asked > 0)
  t.same(await files(), [])
  server.refuses = false
  await waitFor('the ticket', () => {
    intake.filter(asked)
    return made.received.length > 0
  })
  t.same(made.fatal, [])
})

t.test('a voter that stops in the middle leaves no file', async t => {
  const { intake, server, request, made, files } = await setUp(t)
  intake.filter(request(server.latest))
  await intake.stop()
  t.same([made.received, made.fatal, await files()], [[], [], []])
})
