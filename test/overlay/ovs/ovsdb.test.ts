// The OVSDB client against a peer on a real socket: hostile, truncated and missing replies, lost connections, refusals.

import { join } from 'node:path'
import t from 'tap'
import { fromMap, fromSet, Ovsdb, toMap, uuidOf } from '#overlay/ovs/ovsdb.ts'
import { scratch } from '#test/api/scratch.ts'
import { waitFor } from '#test/lab/wait.ts'
import { ManualClock, settle } from '#test/lab/manual-clock.ts'
import { connected } from './connected.ts'
import { OvsdbPeer, type Reply } from './ovsdb-peer.ts'

const SELECT = { op: 'select', table: 'Open_vSwitch', where: [] }

t.test('a connection subscribes to configuration and to applied configurations, never to their contents', async t => {
  const { peer } = await connected(t)
  t.same(
    peer.calls.map(({ method, params }) => [method, params[1]]),
    [
      ['monitor_cond_since', 'configured'],
      ['monitor_cond_since', 'applied']
    ]
  )
  t.notMatch(JSON.stringify(peer.calls), '"initial":true')
})

t.test('without a server, or with one that closes the connection at once, connecting fails', async t => {
  const path = join(scratch(t), 'db.sock')
  const time = new ManualClock()
  await t.rejects(Ovsdb.connect({ path, clock: time.clock }), { code: 'ERR_KERNEL', message: /ENOENT/ })
  const peer = await new OvsdbPeer(path).listen()
  t.teardown(() => peer.stop())
  peer.onCall = () => 'drop'
  await t.rejects(Ovsdb.connect({ path, clock: time.clock }), { code: 'ERR_KERNEL', message: /broke/ })
  t.equal(time.pending, 0, 'a failed connect leaves no timer')
})

t.test('a transaction returns one result an operation', async t => {
  const { db } = await connected(t)
  const results = await db.transact([
    SELECT,
    { op: 'mutate', table: 'Open_vSwitch', where: [], mutations: [['next_cfg', '+=', 1]] }
  ])
  t.match(results, [{ rows: [{ next_cfg: 0 }] }, { count: 1 }])
})

t.test('a refused transaction is an error with the server’s message, and changes nothing', async t => {
  const { peer, db } = await connected(t)
  const bump = { op: 'mutate', table: 'Open_vSwitch', where: [], mutations: [['next_cfg', '+=', 1]] }
  const failing = { op: 'insert', table: 'Bridge', row: { name: 'b' }, 'uuid-name': 'x' }
  await t.rejects(db.transact([bump, failing, failing]), {
    code: 'ERR_KERNEL',
    message: /constraint violation.*exists/
  })
  t.equal(peer.rows('Open_vSwitch')[0]?.['next_cfg'], 0)
  t.equal(peer.rows('Bridge').length, 0)
})

t.test('replies that are no result of a transaction are errors', async t => {
  const { peer, db } = await connected(t)
  const replies: readonly [string, (id: number) => string, RegExp][] = [
    [
      'an error of the request',
      id => JSON.stringify({ id, error: 'unknown database', result: null }),
      /refused a request/
    ],
    ['null', id => JSON.stringify({ id, error: null, result: null }), /refused a transact: no result/],
    ['an object', id => JSON.stringify({ id, error: null, result: { error: 'busy' } }), /refused a transact: busy/],
    ['no result at all', id => JSON.stringify({ id }), /refused a transact/]
  ]
  for (const [title, text, message] of replies) {
    peer.onCall = ({ id }) => ({ raw: text(id) })
    await t.rejects(db.transact([SELECT]), { code: 'ERR_KERNEL', message }, title)
  }
  peer.onCall = () => 'normal'
  t.match(await db.transact([SELECT]), [{ rows: [{}] }], 'the connection is still usable')
  t.equal(peer.connections, 1)
})

t.test('bytes that are no JSON, or a truncated reply, end the connection and every call in flight', async t => {
  const broken: readonly [string, (id: number) => Reply][] = [
    ['no JSON', () => ({ raw: '{"id":}' })],
    ['an unmatched brace', () => ({ raw: '}}}}' })],
    ['a connection that ends inside a reply', () => 'drop']
  ]
  for (const [title, reply] of broken) {
    const { peer, db } = await connected(t)
    const first = peer.calls.length
    peer.onCall = ({ id }) => {
      if (title.includes('inside')) peer.send(`{"id":${id},"result":[{"rows":[`)
      return peer.calls.length === first + 2 ? reply(id) : null
    }
    const both = await Promise.allSettled([db.transact([SELECT]), db.transact([SELECT])])
    t.match(both, [{ reason: { code: 'ERR_KERNEL', message: /broke/ } }, { reason: { code: 'ERR_KERNEL' } }], title)
  }
})

t.test('a reply of many chunks and two replies in one chunk are both read', async t => {
  const { peer, db } = await connected(t)
  const ids: number[] = []
  peer.onCall = ({ id }) => {
    ids.push(id)
    return null
  }
  const both = Promise.all([db.transact([SELECT]), db.transact([SELECT])])
  await waitFor('both calls arrived', () => ids.length === 2)
  const text = ids.map(id => JSON.stringify({ id, error: null, result: [{ rows: [{ id }] }] })).join('')
  for (const part of [text.slice(0, 9), text.slice(9, 30), text.slice(30)]) {
    peer.send(part)
    await settle()
  }
  t.same(
    await both,
    ids.map(id => [{ rows: [{ id }] }])
  )
})

t.test('a late reply, an unknown id and a foreign message are ignored', async t => {
  const { peer, db } = await connected(t)
  for (const message of [{ id: 999, result: [], error: null }, { id: 'x', result: [] }, { method: 'stolen' }, {}])
    peer.send(message)
  peer.send({ id: null, method: 'update3', params: 'none' })
  t.match(await db.transact([SELECT]), [{ rows: [{}] }])
})

t.test('an echo is answered with its parameters', async t => {
  const { peer } = await connected(t)
  peer.send({ id: 'echo', method: 'echo', params: ['still', 'there'] })
  await waitFor('the echo is answered', () => peer.replies.length === 1)
  t.same(peer.replies, [{ id: 'echo', result: ['still', 'there'], error: null }])
})

t.test('a server that does not reply within 5 s loses the connection', async t => {
  const { peer, db, time } = await connected(t)
  peer.onCall = () => null
  const call = t.rejects(db.transact([SELECT]), { code: 'ERR_KERNEL', message: /broke/ })
  await waitFor('the call arrived', () => peer.calls.length === 3)
  await time.advance(4_999)
  t.equal(time.pending, 1, 'it waits until then')
  await time.advance(1)
  await call
})

t.test('the client reconnects with back-off, reports it once, and works again', async t => {
  const { peer, db, time } = await connected(t)
  const changes: boolean[] = []
  db.onChange = reconnected => changes.push(reconnected)
  await peer.stop()
  await waitFor('the loss is seen', () => time.pending === 1)
  await t.rejects(db.transact([SELECT]), { message: /no connection/ })
  for (const ms of [100, 200, 400, 800, 1600, 2000, 2000]) {
    await time.advance(ms - 1)
    t.equal(time.pending, 1)
    await time.advance(1)
    await waitFor('the next attempt is scheduled', () => time.pending === 1)
  }
  await peer.listen()
  await time.advance(2_000)
  await waitFor('it is connected', () => changes.length === 1)
  t.same(changes, [true])
  t.match(await db.transact([SELECT]), [{ rows: [{}] }])
  peer.dropAll()
  await waitFor('the next loss is seen', () => time.pending === 1)
  await time.advance(100)
  await waitFor('the back-off has started again', () => changes.length === 2)
})

t.test('a server that drops every handshake gets one attempt at a time', async t => {
  const { peer, time } = await connected(t)
  peer.onCall = () => 'drop'
  peer.dropAll()
  await waitFor('the loss is seen', () => time.pending === 1)
  for (let attempt = 0; attempt < 5; attempt++) {
    const before = peer.connections
    await time.advance(2_000)
    await waitFor('the attempt failed', () => peer.connections > before && time.pending >= 1)
    await settle()
    t.equal(peer.connections, before + 1)
    t.equal(time.pending, 1)
  }
})

t.test('a change by another client is reported, one by our own transaction is not', async t => {
  const { peer, db } = await connected(t)
  const changes: boolean[] = []
  db.onChange = reconnected => changes.push(reconnected)
  peer.onCall = () => {
    peer.update('configured')
    return 'normal'
  }
  await db.transact([SELECT])
  t.same(changes, [])
  peer.update('configured')
  await waitFor('the change is reported', () => changes.length > 0)
  t.same(changes, [false])
})

t.test('applied waits for the update that reaches the number, and fails when none comes', async t => {
  const { peer, db, time } = await connected(t)
  await db.applied(0, 1_000)
  const set = (number: number): void => {
    for (const row of peer.rows('Open_vSwitch')) row['cur_cfg'] = number
    peer.update('applied')
  }
  let done = false
  const waiting = db.applied(2, 1_000).then(() => (done = true))
  set(1)
  await settle()
  t.notOk(done, 'an earlier configuration is not enough')
  await waitFor('the client asked again', () => peer.transactions().length >= 3)
  set(2)
  await waiting
  const failing = t.rejects(db.applied(3, 1_000), { code: 'ERR_KERNEL', message: /has not applied/ })
  await waitFor('the client asked', () => peer.transactions().length >= 5)
  await settle()
  await time.advance(1_000)
  await failing
  t.equal(time.pending, 0, 'no timer is left')
})

t.test('close fails calls in flight, and nothing reconnects afterwards', async t => {
  const { peer, db, time } = await connected(t)
  peer.onCall = () => null
  const call = t.rejects(db.transact([SELECT]), { message: /is closed/ })
  await waitFor('the call arrived', () => peer.calls.length === 3)
  db.close()
  await call
  await time.advance(10_000)
  t.equal(peer.connections, 1)
  t.equal(time.pending, 0)
})

t.test('close cancels a reconnect that is scheduled', async t => {
  const { peer, db, time } = await connected(t)
  peer.dropAll()
  await waitFor('the loss is seen', () => time.pending === 1)
  db.close()
  await time.advance(10_000)
  t.equal(peer.connections, 1)
})

t.test('maps, sets and references are read in the forms of RFC 7047 section 5.1', async t => {
  t.same(toMap({ a: '1' }), ['map', [['a', '1']]])
  t.same(
    fromMap([
      'map',
      [
        ['a', '1'],
        ['b', '2']
      ]
    ]),
    { a: '1', b: '2' }
  )
  for (const value of [undefined, null, 7, {}, ['set', []]]) t.same(fromMap(value), {})
  t.same(fromSet(['set', [1, 2]]), [1, 2])
  t.same(fromSet(7), [7])
  t.same(fromSet(['uuid', 'x']), [['uuid', 'x']], 'a reference alone is a set of one')
  t.same(fromSet(undefined), [])
  t.equal(uuidOf(['uuid', 'x']), 'x')
  for (const value of [undefined, 'x', ['named-uuid', 'x'], []]) t.equal(uuidOf(value), '')
})
