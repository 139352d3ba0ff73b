// Real libp2p nodes on loopback.

import { StreamCloseEvent, StreamResetEvent } from '@libp2p/interface'
import { existsSync } from 'node:fs'
import t from 'tap'
import { VxmeshError } from '#model/errors.ts'
import type { PeerId } from '#model/ids.ts'
import { parseIp } from '#model/ip.ts'
import { systemClock } from '#platform/clock.ts'
import { LEADER_PROTOCOL } from '#replication/transport/mesh-port.ts'
import { peerError } from '#replication/transport/mesh.ts'
import { reportedIps } from '#replication/transport/peer-addresses.ts'
import { Rpc } from '#replication/transport/rpc.ts'
import { host, introduce, type Host } from '../hosts.ts'

async function until(what: string, condition: () => boolean): Promise<void> {
  for (let turn = 0; turn < 400; turn++) {
    if (condition()) return
    await systemClock.sleep(25)
  }
  throw new Error(`not within 10 s: ${what}`)
}

t.test('calls end with a reply, the error of the handler, a timeout, or the loss of the peer', async t => {
  const a = await host(t)
  const b = await host(t)
  introduce(a, b)
  b.rpc.register('twice', (body, from) => {
    t.equal(from, a.peer, 'the handler gets the peer id that Noise authenticated')
    return Promise.resolve(Number(body) * 2)
  })
  b.rpc.register('refuse', () => Promise.reject(new VxmeshError('ERR_VNI_IN_USE', 'vni: taken', { field: 'vni' })))
  b.rpc.register('never', () => new Promise(() => undefined))
  const call = (method: string, body: unknown, timeoutMs = 2_000): Promise<unknown> =>
    a.rpc.call({ peer: b.peer, method, body, timeoutMs })
  const answers = await Promise.all(Array.from({ length: 100 }, (_, n) => call('twice', n)))
  t.same(
    answers,
    Array.from({ length: 100 }, (_, n) => n * 2)
  )
  await t.rejects(call('refuse', null), { code: 'ERR_VNI_IN_USE', field: 'vni', message: 'vni: taken' })
  await t.rejects(call('unknown', null), { code: 'ERR_UNSUPPORTED' })
  await t.rejects(call('never', null, 100), { code: 'ERR_TIMEOUT' })
  const lost = t.rejects(call('never', null, 5_000), { code: 'ERR_PEER' })
  await systemClock.sleep(50)
  await b.mesh.stop()
  await lost
  await t.rejects(call('twice', 1), { code: 'ERR_PEER' }, 'and a stopped peer cannot be called')
})

t.test('a host without the key, with another key, or with an unknown peer id cannot call', async t => {
  const a = await host(t)
  a.rpc.register('hello', () => Promise.resolve('hello'))
  for (const key of [null, Buffer.alloc(32, 8)]) {
    const stranger = await host(t, { key })
    introduce(stranger, a)
    const call = stranger.rpc.call({ peer: a.peer, method: 'hello', body: null, timeoutMs: 3_000 })
    await t.rejects(call, key === null ? 'without the key' : 'with another key')
  }
  const member = await host(t)
  const closed = await host(t, { isKnown: peer => peer !== member.peer })
  introduce(member, closed)
  await t.rejects(member.rpc.call({ peer: closed.peer, method: 'hello', body: null, timeoutMs: 3_000 }), 'not known')
  introduce(member, a)
  t.equal(
    await member.rpc.call({ peer: a.peer, method: 'hello', body: null, timeoutMs: 3_000 }),
    'hello',
    'positive control: the same key and a known peer'
  )
})

/** Loopback of IPv6, if this machine has it. */
const SIX = { bind: parseIp('::1'), skip: existsSync('/proc/net/if_inet6') ? false : 'no IPv6' }

t.test('hosts speak over IPv6: calls, direct streams and gossip', { skip: SIX.skip }, async t => {
  const [a, b] = [await host(t, SIX), await host(t, SIX)]
  introduce(a, b)
  const direct = new Rpc({ mesh: b.mesh, clock: systemClock, protocol: LEADER_PROTOCOL })
  direct.register('twice', body => Promise.resolve(Number(body) * 2))
  await direct.start()
  b.rpc.register('twice', body => Promise.resolve(Number(body) * 2))
  const ask = { peer: b.peer, method: 'twice', timeoutMs: 5_000 }
  t.equal(await a.rpc.call({ ...ask, body: 4 }), 8)
  t.strictSame(b.mesh.addressesOf(a.peer), ['::1'], 'the address that libp2p reports')
  const far = new Rpc({ mesh: a.mesh, clock: systemClock, protocol: LEADER_PROTOCOL })
  t.equal(await far.call({ ...ask, body: 5 }), 10)
  t.strictSame(b.mesh.addressesOf(a.peer), ['::1'], 'is that of its direct streams, too')
  const heard: string[] = []
  b.mesh.subscribe((_, data) => {
    heard.push(Buffer.from(data).toString())
    return 'accept'
  })
  await until('gossip arrives', () => {
    void a.mesh.publish(Buffer.from('hello'))
    return heard.includes('hello')
  })
})

t.test('a peer whose address is of the other family is refused in words', { skip: SIX.skip }, async t => {
  const [four, six] = [await host(t), await host(t, SIX)]
  introduce(four, six)
  for (const [from, to, where] of [
    [four, six, '::1, which cannot be reached from 127.0.0.1'],
    [six, four, '127.0.0.1, which cannot be reached from ::1']
  ] as const) {
    const refused = {
      code: 'ERR_PEER',
      message: `peer ${to.peer} is at ${where}: hosts of a cluster have addresses of one family`
    }
    await t.rejects(from.mesh.connect(to.peer), refused)
    for (const protocol of [LEADER_PROTOCOL, '/vxmesh/rpc/1']) {
      await t.rejects(from.mesh.openStream(to.peer, protocol), refused, protocol)
    }
  }
})

t.test('what sockets report are addresses once each, those of one link left out', t => {
  const reported = ['192.0.2.1', 'fd00::1', '', 'fe80::1%eth0', 'fd00::1', '192.0.2.1']
  t.strictSame(reportedIps(reported), [parseIp('192.0.2.1'), 'fd00::1'])
  t.end()
})

t.test('many hosts behind one address are all heard', async t => {
  const [leader, ...others] = await Promise.all(Array.from({ length: 24 }, () => host(t)))
  if (leader === undefined) throw new Error('no host')
  const heard = new Map<Host, Set<string>>()
  for (const other of others) {
    introduce(leader, other)
    heard.set(other, new Set())
    other.mesh.subscribe((author, data) => {
      if (author === leader.peer) heard.get(other)?.add(Buffer.from(data).toString())
      return 'accept'
    })
    await other.mesh.connect(leader.peer)
  }
  // Scores are refreshed once a second.
  const endMs = performance.now() + 5_000
  let last = ''
  for (let n = 0; performance.now() < endMs; n++) {
    last = `message ${n}`
    await leader.mesh.publish(Buffer.from(last))
    await new Promise(resolve => setTimeout(resolve, 100))
  }
  await until('all have heard the last message', () => [...heard.values()].every(messages => messages.has(last)))
  t.equal(heard.size, 23)
})

t.test('gossip reaches subscribers with its authenticated author, and a rejected message is not forwarded', async t => {
  const [a, b, c] = [await host(t), await host(t), await host(t)]
  introduce(a, b)
  introduce(b, c)
  const received: string[] = []
  const note =
    (who: string) =>
    (author: PeerId, data: Uint8Array): 'accept' | 'reject' => {
      received.push(`${who} ${author === a.peer ? 'a' : '?'} ${Buffer.from(data).toString()}`)
      return Buffer.from(data).toString().startsWith('bad') ? 'reject' : 'accept'
    }
  a.mesh.subscribe(note('a'))
  b.mesh.subscribe(note('b'))
  c.mesh.subscribe(note('c'))
  await a.mesh.connect(b.peer)
  await b.mesh.connect(c.peer)
  await until('the first message crosses two hops', () => {
    void a.mesh.publish(Buffer.from('warm-up'))
    return received.includes('c a warm-up')
  })
  await a.mesh.publish(Buffer.from('bad one'))
  await a.mesh.publish(Buffer.from('good one'))
  await until('the good message arrives', () => received.includes('c a good one'))
  t.ok(received.includes('b a bad one'))
  t.notOk(received.includes('c a bad one'))
})

t.test('whatever libp2p throws becomes an ERR_PEER with a readable message', async t => {
  const { peer } = await host(t)
  for (const [thrown, text] of [
    [new Error('dial timeout'), 'dial timeout'],
    [new StreamCloseEvent(false), 'it closed the stream'],
    [new StreamResetEvent(new Error('reset')), 'reset'],
    ['no error', 'no error']
  ] as const) {
    t.match(peerError(peer, thrown), { code: 'ERR_PEER', message: `peer ${peer} cannot be reached: ${text}` })
  }
  const own = new VxmeshError('ERR_TIMEOUT', 'too late')
  t.equal(peerError(peer, own), own)
})
