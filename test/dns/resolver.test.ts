// A whole resolver over upstream resolvers on loopback, on a manual clock.

import { rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { TRUNCATED_RESPONSE, type Answer } from 'dns-packet'
import { OUTCOMES, Resolver, type QueryOutcome } from '#dns/resolver.ts'
import { Upstreams } from '#dns/upstreams.ts'
import { FORWARDED } from '#dns/limits.ts'
import type { NetworkName } from '#model/ids.ts'
import { parseIp, parseSubnet } from '#model/ip.ts'
import { ManualClock } from '#test/lab/manual-clock.ts'
import { seededRandom } from '#test/replication/memory-cluster.ts'
import { answerTo, ask, read, type Read } from './messages.ts'
import { upstreamServer } from './upstream-server.ts'

const WWW: Answer[] = [{ type: 'A', name: 'www.example', ttl: 60, data: '203.0.113.7' }]
const DEAD = '127.0.0.1:9'
/** connect(2) fails: EACCES. */
const UNREACHABLE = '255.255.255.255:53'

class World {
  readonly time = new ManualClock()
  readonly counts = Object.fromEntries(OUTCOMES.map(one => [one, 0])) as Record<QueryOutcome, number>
  readonly resolver: Resolver
  forwards = true
  isThere = true

  constructor(configured: readonly string[], p: { readonly file?: string; readonly cacheBytes?: number } = {}) {
    const { clock } = this.time
    const upstreams = new Upstreams({
      configured: () => configured,
      ...(p.file === undefined ? {} : { file: p.file }),
      clock,
      random: seededRandom(1)
    })
    const own = {
      network: 'red' as NetworkName,
      subnets: [parseSubnet('10.1.0.0/24')],
      zone: 'vxmesh',
      view: { lookup: () => ({ addresses: [parseIp('10.1.0.2')] }), nameOf: () => null }
    }
    this.resolver = new Resolver({
      upstreams,
      cacheBytes: p.cacheBytes ?? 10_000,
      forwarded: { count: 0 },
      connections: { count: 0 },
      counts: this.counts,
      clock,
      own: () => (this.isThere ? own : null),
      forwards: () => this.forwards
    })
  }

  async ask(message: Buffer, from = '10.1.0.2'): Promise<Read> {
    const answer = await this.resolver.handle(message, from, 'udp')
    if (answer === null) throw new Error('no answer')
    return read(answer)
  }

  /** Lets time pass until the promise has settled. */
  async settle<T>(promise: Promise<T>): Promise<T> {
    const state = { isSettled: false }
    const done = promise.finally(() => (state.isSettled = true))
    while (!state.isSettled) {
      await new Promise(resolve => setTimeout(resolve, 5))
      await this.time.advance(100)
    }
    return done
  }
}

async function answering(t: Test, answers = WWW): Promise<Awaited<ReturnType<typeof upstreamServer>>> {
  return upstreamServer(t, message => [answerTo(message, { answers })])
}

t.test('an own name never leaves, another one is asked for once and kept', async t => {
  const upstream = await answering(t)
  const world = new World([upstream.at])
  t.same((await world.ask(ask('web.red.vxmesh'))).data, ['10.1.0.2'])
  t.equal((await world.ask(ask('web.blue.vxmesh'))).rcode, 'NXDOMAIN')
  t.equal(upstream.asked.udp, 0)
  t.same((await world.ask(ask('www.example'))).data, ['203.0.113.7'])
  await world.time.advance(20_000)
  const again = await world.ask(ask('WWW.example', 'A', { id: 8 }))
  t.match(again.packet, { id: 8, questions: [{ name: 'WWW.example' }], answers: [{ ttl: 40 }] })
  t.equal(upstream.asked.udp, 1)
  t.ok(world.resolver.cacheBytes > 0)
  await world.time.advance(40_000)
  await world.ask(ask('www.example'))
  t.equal(upstream.asked.udp, 2, 'asked again when its time is over')
  t.match(world.counts, { own: 2, cached: 1, forwarded: 2 })
})

t.test('the same question is asked once at a time, and everybody gets its answer', async t => {
  const upstream = await answering(t)
  const world = new World([upstream.at])
  const all = await Promise.all([1, 2, 3].map(id => world.ask(ask('www.example', 'A', { id }))))
  t.same(
    all.map(({ packet, data }) => [packet.id, data]),
    [1, 2, 3].map(id => [id, ['203.0.113.7']])
  )
  t.equal(upstream.asked.udp, 1)
})

t.test('a network that may not ask others is refused', async t => {
  const upstream = await answering(t)
  const world = new World([upstream.at])
  world.forwards = false
  t.equal((await world.ask(ask('www.example'))).rcode, 'REFUSED')
  t.same((await world.ask(ask('web.red.vxmesh'))).data, ['10.1.0.2'])
  world.isThere = false
  t.equal((await world.ask(ask('web.red.vxmesh'))).rcode, 'REFUSED', 'a network that is gone')
  t.equal(upstream.asked.udp, 0)
})

t.test('forged answers are passed over', async t => {
  const forged: Answer[] = [{ type: 'A', name: 'www.example', ttl: 60, data: '198.51.100.66' }]
  const upstream = await upstreamServer(t, message => {
    const wrong = answerTo(message, { answers: forged })
    wrong.writeUInt16BE((message.readUInt16BE(0) + 1) & 0xffff, 0)
    return [wrong, Buffer.from('nonsense'), answerTo(message, { answers: WWW })]
  })
  t.same((await new World([upstream.at]).ask(ask('www.example'))).data, ['203.0.113.7'])
})

t.test('a truncated answer is fetched by TCP', async t => {
  const upstream = await upstreamServer(t, (message, transport) => [
    answerTo(message, transport === 'tcp' ? { answers: WWW } : { flags: TRUNCATED_RESPONSE })
  ])
  const { packet, data } = await new World([upstream.at]).ask(ask('www.example'))
  t.same(data, ['203.0.113.7'])
  t.equal(packet.flag_tc, false)
  t.same(upstream.asked, { udp: 1, tcp: 1 })
})

t.test('the next resolver is asked when one fails or is silent, and first from then on', async t => {
  const failing = await upstreamServer(t, message => [answerTo(message, { flags: 2 })])
  const silent = await upstreamServer(t, () => null)
  const good = await answering(t)
  const world = new World([failing.at, silent.at, good.at], { cacheBytes: 0 })
  for (let n = 0; n < 3; n++) t.same((await world.settle(world.ask(ask('www.example')))).data, ['203.0.113.7'])
  t.equal(failing.asked.udp, 1)
  t.equal(silent.asked.udp, 1)
  t.equal(good.asked.udp, 3)
})

t.test('if all fail, their failure is the answer, or SERVFAIL', async t => {
  const refusing = await upstreamServer(t, message => [answerTo(message, { flags: 5 })])
  t.equal((await new World([refusing.at]).ask(ask('www.example'))).rcode, 'REFUSED')
  const world = new World([DEAD])
  t.equal((await world.settle(world.ask(ask('www.example')))).rcode, 'SERVFAIL')
  const nowhere = new World([UNREACHABLE])
  t.equal((await nowhere.settle(nowhere.ask(ask('www.example')))).rcode, 'SERVFAIL', 'the kernel refuses the address')
  t.equal((await new World([], { file: '/nowhere/resolv.conf' }).ask(ask('www.example'))).rcode, 'SERVFAIL')
  t.equal(world.counts.failed, 1)
})

t.test('the host’s resolv.conf is followed', async t => {
  const file = join(t.testdir({ 'resolv.conf': '# none yet\n' }), 'resolv.conf')
  const time = new ManualClock()
  const upstreams = new Upstreams({ configured: () => [], file, clock: time.clock, random: seededRandom(1) })
  t.same(upstreams.servers(), [])
  writeFileSync(file, 'nameserver 127.0.0.53\n')
  t.same(upstreams.servers(), [], 'it is not looked at for each question')
  await time.advance(1_000)
  t.same(upstreams.servers(), [{ address: '127.0.0.53', port: 53 }])
  rmSync(file)
  await time.advance(1_000)
  t.same(upstreams.servers(), [])
})

t.test('one container cannot take what others may have in flight', async t => {
  const silent = await upstreamServer(t, () => null)
  const world = new World([silent.at])
  const waiting = Array.from({ length: FORWARDED.container }, (_, n) => world.ask(ask(`n${n}.example`)))
  t.equal((await world.ask(ask('one-more.example'))).rcode, 'SERVFAIL')
  t.equal(world.counts.limited, 1)
  const other = world.ask(ask('n0.example'), '10.1.0.3')
  t.same((await world.ask(ask('web.red.vxmesh'))).data, ['10.1.0.2'], 'own names need no room')
  await world.settle(Promise.all([...waiting, other]))
  t.equal(world.counts.failed, FORWARDED.container + 1)
})

t.test('what is no query has no answer, and what is malformed an error', async t => {
  const world = new World([])
  t.equal(world.resolver.handle(answerTo(ask('a'), {}), '10.1.0.2', 'udp'), null)
  t.equal((await world.ask(ask('a').subarray(0, 12))).rcode, 'FORMERR')
  t.equal(world.counts.malformed, 2)
})
