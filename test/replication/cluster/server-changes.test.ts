// Changes of the servers against a leader that refuses, is slow, or is gone, on a manual clock.

import t from 'tap'
import { VxmeshError, type ErrorCode } from '#model/errors.ts'
import type { PeerId } from '#model/ids.ts'
import type { Change } from '#raft/types.ts'
import { ServerChanges, serveServerChanges } from '#replication/cluster/server-changes.ts'
import { MemoryCallers } from '../memory-rpc.ts'

type Stage = {
  readonly all: MemoryCallers
  readonly changes: ServerChanges
  readonly stopping: AbortController
  /** The changes that the leader was asked for. */
  readonly asked: Change[]
  readonly transfers: { to: PeerId; atMs: number }[]
  leader: PeerId | null
  /** Error codes for the next changes; null accepts one. */
  readonly refusals: (ErrorCode | null)[]
  readonly candidate: PeerId
  mayChange: () => boolean
  mayTransfer: () => boolean
}

const anybody = { mayChange: () => true, mayTransfer: () => true }

/** Host 0 asks, host 1 leads, host 2 is added, removed or made the leader. */
async function stage(p: { incarnation?: unknown } = {}): Promise<Stage> {
  const all = await MemoryCallers.of(3)
  const [asker, leader, candidate] = [all.at(0), all.at(1), all.at(2)]
  const [asked, transfers, refusals]: [Change[], { to: PeerId; atMs: number }[], (ErrorCode | null)[]] = [[], [], []]
  const stopping = new AbortController()
  const { clock } = all.manual
  const made: Stage = {
    all,
    changes: new ServerChanges({ rpc: asker.rpc, leader: () => made.leader, clock, stopping: stopping.signal }),
    stopping,
    asked,
    transfers,
    leader: leader.peer,
    refusals,
    candidate: candidate.peer,
    ...anybody
  }
  serveServerChanges(leader.rpc, {
    changer: () => ({
      change: change => {
        asked.push(change)
        const code = refusals.shift() ?? null
        return code === null ? Promise.resolve(1) : Promise.reject(new VxmeshError(code, `refused with ${code}`))
      },
      transfer: to => transfers.push({ to, atMs: clock.nowMs() })
    }),
    incarnation: () => 0,
    mayChange: () => made.mayChange(),
    mayTransfer: () => made.mayTransfer()
  })
  serveServerChanges(candidate.rpc, { changer: () => null, incarnation: () => 42, ...anybody })
  if (p.incarnation !== undefined) candidate.rpc.register('incarnation', () => Promise.resolve(p.incarnation))
  return made
}

t.test('a host is added as a learner with its incarnation, and then promoted', async t => {
  const { all, changes, asked, candidate } = await stage()
  await all.settle(changes.add(candidate))
  t.same(asked, [
    { kind: 'add-learner', peer: candidate, incarnation: 42 },
    { kind: 'promote', peer: candidate }
  ])
})

for (const code of ['ERR_BUSY', 'ERR_NOT_LEADER', 'ERR_NO_QUORUM', 'ERR_PEER', 'ERR_TIMEOUT'] as const) {
  t.test(`a change that is refused with ${code} is tried again`, async t => {
    const { all, changes, asked, candidate, refusals } = await stage()
    refusals.push(code, code, null)
    await all.settle(changes.remove(candidate))
    t.equal(asked.length, 3)
  })
}

t.test('an existing learner is promoted; an existing voter is an error', async t => {
  const { all, changes, asked, candidate, refusals } = await stage()
  refusals.push('ERR_HOST_EXISTS', null)
  await all.settle(changes.add(candidate))
  t.equal(asked.length, 2)
  refusals.push('ERR_HOST_EXISTS', 'ERR_HOST_EXISTS')
  await t.rejects(all.settle(changes.add(candidate)), { code: 'ERR_HOST_EXISTS' })
})

for (const code of ['ERR_HOST_NOT_FOUND', 'ERR_INVALID'] as const) {
  t.test(`a removal that makes no sense fails at once with ${code}`, async t => {
    const { all, changes, asked, candidate, refusals } = await stage()
    refusals.push(code)
    await t.rejects(all.settle(changes.remove(candidate)), { code })
    t.equal(asked.length, 1)
  })
}

t.test('a change that is refused for 5 s ends as ERR_NO_QUORUM, a promotion after 60 s as ERR_TIMEOUT', async t => {
  const { all, changes, candidate, refusals } = await stage()
  const { clock } = all.manual
  refusals.push(...Array<ErrorCode>(2_000).fill('ERR_BUSY'))
  await t.rejects(all.settle(changes.remove(candidate)), { code: 'ERR_NO_QUORUM', cause: { code: 'ERR_BUSY' } })
  t.ok(clock.nowMs() > 5_000 && clock.nowMs() < 5_500, `after ${clock.nowMs()} ms`)
  refusals.unshift(null)
  const since = clock.nowMs()
  await t.rejects(all.settle(changes.add(candidate)), { code: 'ERR_TIMEOUT', message: /it stays a learner$/ })
  t.ok(clock.nowMs() - since > 60_000 && clock.nowMs() - since < 61_000, `after ${clock.nowMs() - since} ms`)
})

t.test('a host that is down, or gives a malformed answer, is not added', async t => {
  for (const incarnation of ['1', -1, 1.5, null, {}]) {
    const { all, changes, asked, candidate } = await stage({ incarnation })
    await t.rejects(all.settle(changes.add(candidate)), { code: 'ERR_PEER' }, JSON.stringify(incarnation))
    t.same(asked, [])
  }
  const { all, changes, asked, candidate } = await stage()
  await all.at(2).mesh.stop()
  await t.rejects(all.settle(changes.add(candidate)), { code: 'ERR_PEER' })
  t.same(asked, [])
})

t.test('without a leader a change waits for one; leadership cannot be handed over', async t => {
  const made = await stage()
  const { all, changes, asked, candidate } = made
  const [, leader] = all.callers
  made.leader = null
  const removal = changes.remove(candidate)
  await all.manual.advance(1_000)
  t.same(asked, [])
  made.leader = leader?.peer ?? null
  await all.settle(removal)
  t.equal(asked.length, 1)
  made.leader = null
  await t.rejects(all.settle(changes.transfer(candidate)), { code: 'ERR_NOT_LEADER' })
})

t.test('a transfer is requested again while the other server does not lead, for at most 10 s', async t => {
  const made = await stage()
  const { all, changes, transfers, candidate } = made
  const { clock } = all.manual
  const transfer = changes.transfer(candidate)
  await all.manual.advance(4_000)
  t.equal(transfers.length, 3)
  t.ok(transfers.every(({ to }) => to === candidate))
  made.leader = candidate
  await all.settle(transfer)
  made.leader = all.at(1).peer
  const since = clock.nowMs()
  await t.rejects(all.settle(changes.transfer(candidate)), { code: 'ERR_TIMEOUT' })
  t.ok(clock.nowMs() - since >= 10_000)
})

t.test('a leader that steps down does not fail the transfer; another error does', async t => {
  const made = await stage()
  const { all, changes, candidate } = made
  all.at(1).rpc.register('raft-transfer', () => Promise.reject(new VxmeshError('ERR_NOT_LEADER', 'stepped down')))
  const transfer = changes.transfer(candidate)
  await all.manual.advance(200)
  made.leader = candidate
  await all.settle(transfer)
  made.leader = all.at(1).peer
  all.at(1).rpc.register('raft-transfer', () => Promise.reject(new VxmeshError('ERR_INTERNAL', 'broken')))
  await t.rejects(all.settle(changes.transfer(candidate)), { code: 'ERR_INTERNAL' })
})

t.test('stopping the agent ends the retries', async t => {
  const { all, changes, candidate, refusals, stopping } = await stage()
  refusals.push(...Array<ErrorCode>(100).fill('ERR_BUSY'))
  const removal = t.rejects(changes.remove(candidate), { code: 'ERR_NO_QUORUM' })
  await all.manual.advance(150)
  stopping.abort()
  await removal
  await t.rejects(all.settle(changes.transfer(candidate)), { code: 'ERR_TIMEOUT' })
  t.ok(all.manual.clock.nowMs() < 1_000)
})

t.test('a host that is not a voter refuses changes, and one without a cluster has no incarnation', async t => {
  const { all, candidate } = await stage()
  const call = (method: string, body: unknown): Promise<unknown> =>
    all.settle(all.at(0).rpc.call({ peer: candidate, method, body, timeoutMs: 1_000 }))
  await t.rejects(call('raft-change', { kind: 'remove', peer: candidate }), { code: 'ERR_NOT_LEADER' })
  await t.rejects(call('raft-transfer', candidate), { code: 'ERR_NOT_LEADER' })
  serveServerChanges(all.at(2).rpc, { changer: () => null, incarnation: () => null, ...anybody })
  await t.rejects(call('incarnation', null), { code: 'ERR_PEER' })
})

t.test('a malformed request changes nothing', async t => {
  const { all, asked, transfers, candidate } = await stage()
  const call = (method: string, body: unknown): Promise<unknown> =>
    all.settle(all.at(0).rpc.call({ peer: all.at(1).peer, method, body, timeoutMs: 1_000 }))
  for (const body of [
    null,
    7,
    {},
    { kind: 'remove' },
    { kind: 'remove', peer: 7 },
    { kind: 'remove', peer: 'no peer id' },
    { kind: 'grow', peer: candidate },
    { kind: 'add-learner', peer: candidate },
    { kind: 'add-learner', peer: candidate, incarnation: -1 },
    { kind: 'add-learner', peer: candidate, incarnation: '1' }
  ]) {
    await t.rejects(call('raft-change', body), { code: /^ERR_(PEER|INVALID)$/ }, JSON.stringify(body))
  }
  await t.rejects(call('raft-transfer', { to: candidate }), { code: 'ERR_INVALID' })
  t.same([asked, transfers], [[], []])
})

t.test('a transfer that comes too soon after the last waits for its turn', async t => {
  const made = await stage()
  const { clock } = made.all.manual
  const [startedAt, freeAt] = [clock.nowMs(), clock.nowMs() + 3_000]
  made.mayTransfer = () => clock.nowMs() >= freeAt
  const done = made.changes.transfer(made.candidate)
  await made.all.manual.advance(2_000)
  t.same(made.transfers, [])
  await made.all.manual.advance(2_500)
  t.equal(made.transfers[0]?.to, made.candidate)
  t.ok((made.transfers[0]?.atMs ?? 0) >= freeAt && freeAt > startedAt)
  made.leader = made.candidate
  await made.all.settle(done)
})

t.test('a client host adds and removes no server, itself least of all', async t => {
  const made = await stage()
  made.mayChange = () => false
  await t.rejects(made.all.settle(made.changes.add(made.candidate)), { code: 'ERR_NOT_ALLOWED' })
  await t.rejects(made.all.settle(made.changes.remove(made.candidate)), { code: 'ERR_NOT_ALLOWED' })
  t.same(made.asked, [])
  made.mayChange = () => true
  await made.all.settle(made.changes.remove(made.candidate))
  t.match(made.asked, [{ kind: 'remove', peer: made.candidate }])
})
