// The pure half of shaping: which queues a rate asks for, and changes that lead from any state to the desired one.

import assert from 'node:assert/strict'
import fc from 'fast-check'
import t from 'tap'
import type { Shaping } from '#model/endpoint.ts'
import { TC_H_ROOT } from '#overlay/netlink/tc-constants.ts'
import type { QdiscInfo } from '#overlay/netlink/tc-info.ts'
import { handleOf } from '#overlay/netlink/tc.ts'
import { ifbName, isMarkedOurs, nameRole, OVERLAY_GROUP } from '#overlay/plan/network/names.ts'
import { parseIfName } from '#model/ids.ts'
import {
  installedShaping,
  ourQueue,
  planShaping,
  type ObservedEndpointShaping,
  type ShapingChange
} from '#overlay/plan/shaping/plan-shaping.ts'
import { frameRate, packetRate, queueFor, type ShapingSupport } from '#overlay/plan/shaping/queue.ts'

const MTU = 1450
const none: ObservedEndpointShaping = { into: [], redirect: 'none', ifb: null }
const all: ShapingSupport = { rate: true, fqCodel: true, delay: true }
const small: ShapingSupport = { rate: true, fqCodel: false, delay: false }

t.test('an IFB device is named by the hash of its veth, and is ours by its mark', async t => {
  const name = ifbName(parseIfName('ve0123456789abc'))
  t.equal(name, 'vi0123456789abc')
  t.strictSame(nameRole(name), { role: 'ifb' })
  t.ok(isMarkedOurs({ name, alias: 'vxmesh endpoint c1/eth0', group: 0 }))
  t.ok(isMarkedOurs({ name, alias: '', group: OVERLAY_GROUP }))
  t.notOk(isMarkedOurs({ name, alias: '', group: 0 }))
  t.notOk(isMarkedOurs({ name, alias: 'vxmesh network red vni 5', group: OVERLAY_GROUP }))
  for (const other of ['vi0123', 'vi0123456789abcd', 'ifb0', 'vi0123456789abC']) t.equal(nameRole(other), null, other)
})

t.test('bursts and queues stay in bounds at every rate', async t => {
  const cases: [rate: number, burst: number, limit: number][] = [
    [8e3, 2928, 17_568],
    [1e6, 2928, 17_568],
    [10e6, 12_500, 31_250],
    [100e6, 125_000, 312_500],
    [1e9, 1_250_000, 3_125_000],
    [1e12, 64 * 1024 * 1024, 256 * 1024 * 1024]
  ]
  for (const [rate, burst, limit] of cases) {
    const [bucket, waiting] = queueFor({ rate, delayUs: 0, mtu: MTU, support: small })
    t.match(bucket, { kind: 'tbf', burst, limit }, `${rate}`)
    t.match(waiting, { kind: 'bfifo', limit }, `${rate}`)
  }
  fc.assert(
    fc.property(fc.integer({ min: 8e3, max: 1e12 }), fc.integer({ min: 68, max: 65_535 }), (rate, mtu) => {
      const [bucket] = queueFor({ rate, delayUs: 0, mtu, support: small })
      assert(bucket?.kind === 'tbf')
      assert(bucket.burst >= mtu + 14, 'a full frame passes')
      assert(bucket.limit >= 12 * (mtu + 14), 'an initial TCP window fits')
      assert(bucket.limit < 2 ** 32 && bucket.burst < 2 ** 32)
      assert(bucket.burst <= Math.max(rate / 8 / 100, 2 * (mtu + 14)) + 1, 'no more than 10 ms or two frames')
      assert(Math.abs(packetRate(bucket, mtu) - rate) <= 8)
      assert(frameRate(rate, mtu) % 8 === 0)
    })
  )
})

t.test('the queue and the delay depend on the features that the kernel was found to have', async t => {
  const kinds = (delayUs: number, rate: number, support: ShapingSupport): string[] =>
    queueFor({ rate, delayUs, mtu: MTU, support }).map(({ kind }) => kind)
  t.strictSame(kinds(0, 0, all), [])
  t.strictSame(kinds(0, 1e6, all), ['tbf', 'fq_codel'])
  t.strictSame(kinds(0, 1e6, small), ['tbf', 'bfifo'])
  t.strictSame(kinds(5, 0, all), ['netem'])
  t.strictSame(kinds(5, 1e6, all), ['netem', 'tbf', 'fq_codel'])
  t.strictSame(kinds(5, 1e6, small), ['tbf', 'bfifo'])
  t.strictSame(kinds(5, 1e6, { rate: false, fqCodel: false, delay: false }), [])
  const [line] = queueFor({ rate: 0, delayUs: 10_000, mtu: MTU, support: all })
  t.match(line, { limit: 48_828 }, '10 Gbit/s of small packets for 10 ms')
  const [, codel] = queueFor({ rate: 1e6, delayUs: 0, mtu: MTU, support: all })
  t.match(codel, { targetUs: 17_568, intervalUs: 100_000 }, 'one and a half frames at 1 Mbit/s')
})

t.test('a change of a rate is a change of the queue in place', async t => {
  const kernel = new Queues()
  kernel.settle({ ingressRate: 10e6, egressRate: 10e6, delayUs: 0 }, small)
  const up = kernel.plan({ ingressRate: 20e6, egressRate: 1e9, delayUs: 0 }, small)
  t.strictSame([...new Set(up.map(({ kind }) => kind))], ['queue-change'])
  kernel.settle({ ingressRate: 1e9, egressRate: 1e9, delayUs: 0 }, small)
  const down = kernel.plan({ ingressRate: 600e6, egressRate: 1e9, delayUs: 0 }, small)
  t.strictSame([...new Set(down.map(({ kind }) => kind))], ['queue-change'], 'every packet passes the smaller burst')
})

t.test('a burst that becomes smaller than a queued packet may be recreates the queue', async t => {
  const kernel = new Queues()
  kernel.settle({ ingressRate: 50e6, egressRate: 0, delayUs: 0 }, small)
  const changes = kernel.plan({ ingressRate: 5e6, egressRate: 0, delayUs: 0 }, small)
  t.strictSame(
    changes.map(c => [c.kind, 'spec' in c ? c.spec.kind : '']),
    [
      ['queue-change', 'tbf'],
      ['queue-delete', ''],
      ['queue-replace', 'bfifo']
    ]
  )
})

t.test('removing a delay recreates the rate’s queue, because the kernel cannot move it', async t => {
  const kernel = new Queues()
  kernel.settle({ ingressRate: 50e6, egressRate: 0, delayUs: 20_000 }, all)
  const changes = kernel.plan({ ingressRate: 50e6, egressRate: 0, delayUs: 0 }, all)
  t.strictSame(
    changes
      .filter(({ kind }) => kind.startsWith('queue'))
      .map(c => [c.kind, 'spec' in c ? c.spec.kind : ''])
      .slice(0, 3),
    [
      ['queue-delete', ''],
      ['queue-replace', 'tbf'],
      ['queue-replace', 'fq_codel']
    ]
  )
})

t.test('a queue is created before traffic is redirected into it, and deleted after the redirection', async t => {
  const kernel = new Queues()
  const start = kernel.plan({ ingressRate: 0, egressRate: 1e6, delayUs: 0 }, small).map(({ kind }) => kind)
  t.strictSame(start, ['ifb-create', 'queue-replace', 'queue-replace', 'redirect-set'])
  kernel.settle({ ingressRate: 0, egressRate: 1e6, delayUs: 0 }, small)
  const end = planShaping({
    want: { ingressRate: 0, egressRate: 0, delayUs: 0 },
    mtu: MTU,
    support: small,
    observed: kernel.observe()
  })
  t.strictSame(end, { changes: [{ kind: 'redirect-delete' }], ifb: false })
})

t.test('a foreign queue is left alone without shaping, and replaced with it', async t => {
  const foreign: QdiscInfo = { ifindex: 1, handle: handleOf(1), parent: TC_H_ROOT, kind: 'tbf', spec: null }
  t.strictSame(ourQueue([foreign]), [])
  const ask = (ingressRate: number) =>
    planShaping({ want: { ingressRate, egressRate: 0, delayUs: 0 }, mtu: MTU, support: small, observed: none }).changes
  t.strictSame(ask(0), [])
  t.match(ask(1e6)[0], { kind: 'queue-replace', parent: TC_H_ROOT })
})

t.test('our filter with another target is replaced', async t => {
  const kernel = new Queues()
  const want = { ingressRate: 0, egressRate: 1e6, delayUs: 0 }
  kernel.settle(want, small)
  for (const redirect of [0, 99, 'odd'] as const) {
    const observed = { ...kernel.observe(), redirect }
    t.strictSame(planShaping({ want, mtu: MTU, support: small, observed }).changes, [
      { kind: 'redirect-set', replace: true }
    ])
  }
})

t.test('from any state the changes lead to the desired one, and then there are none', async t => {
  const rate = fc.constantFrom(0, 8e3, 1e6, 5e6, 60e6, 1e9, 1e12)
  const shaping = fc.record({ ingressRate: rate, egressRate: rate, delayUs: fc.constantFrom(0, 500, 20_000) })
  const support = fc.record({ rate: fc.boolean(), fqCodel: fc.boolean(), delay: fc.boolean() })
  fc.assert(
    fc.property(fc.array(fc.tuple(shaping, support), { minLength: 1, maxLength: 6 }), fc.nat(5), (steps, lost) => {
      const kernel = new Queues()
      for (const [want, can] of steps) {
        // A pass may be interrupted: the next one completes its work.
        kernel.run(kernel.plan(want, can).slice(0, lost))
        kernel.settle(want, can)
        assert.deepEqual(kernel.plan(want, can), [])
        const installed = installedShaping({ observed: kernel.observe(), mtu: MTU, asked: want })
        assert.deepEqual(installed, {
          ingressRate: can.rate ? want.ingressRate : 0,
          egressRate: can.rate ? want.egressRate : 0,
          delayUs: can.delay ? want.delayUs : 0
        })
      }
    })
  )
  t.pass()
})

/** The two devices' queues as a kernel keeps them: a replaced or deleted qdisc takes its children with it. */
class Queues {
  readonly #qdiscs: Record<'veth' | 'ifb', QdiscInfo[]> = { veth: [], ifb: [] }
  #redirect: ObservedEndpointShaping['redirect'] = 'none'
  #ifb = false

  observe(): ObservedEndpointShaping {
    return {
      into: ourQueue(this.#qdiscs.veth),
      redirect: this.#redirect,
      ifb: this.#ifb ? { ifindex: 5, out: ourQueue(this.#qdiscs.ifb) } : null
    }
  }

  plan(want: Shaping, support: ShapingSupport): readonly ShapingChange[] {
    return planShaping({ want, mtu: MTU, support, observed: this.observe() }).changes
  }

  settle(want: Shaping, support: ShapingSupport): void {
    this.run(this.plan(want, support))
  }

  run(changes: readonly ShapingChange[]): void {
    for (const change of changes) this.#run(change)
  }

  #run(change: ShapingChange): void {
    switch (change.kind) {
      case 'ifb-create':
        assert(!this.#ifb)
        this.#ifb = true
        break
      case 'queue-replace':
      case 'queue-change': {
        const { side, parent, handle, spec } = change
        const list = this.#qdiscs[side]
        const same = list.find(q => q.handle === handle && q.parent === parent)
        if (change.kind === 'queue-change') assert(same?.kind === spec.kind, 'only what is there is changed')
        assert(!list.some(q => q.handle === handle && q.parent !== parent), 'no qdisc is moved')
        const info: QdiscInfo = { ifindex: 1, handle, parent, kind: spec.kind, spec }
        if (same !== undefined) list[list.indexOf(same)] = info
        else {
          this.#drop(side, parent)
          assert(parent === TC_H_ROOT || list.some(q => (q.handle | 1) >>> 0 === parent), 'its parent is there')
          this.#qdiscs[side].push(info)
        }
        break
      }
      case 'queue-delete':
        assert(
          this.#qdiscs[change.side].some(q => q.handle === change.handle && q.parent === change.parent),
          'only what is there is deleted'
        )
        this.#drop(change.side, change.parent)
        break
      case 'redirect-set':
        assert(this.#ifb)
        assert(change.replace === (this.#redirect !== 'none'))
        this.#redirect = 5
        break
      case 'redirect-delete':
        this.#redirect = 'none'
        break
    }
  }

  #drop(side: 'veth' | 'ifb', parent: number): void {
    for (const gone of this.#qdiscs[side].filter(q => q.parent === parent)) {
      this.#qdiscs[side] = this.#qdiscs[side].filter(q => q !== gone)
      this.#drop(side, (gone.handle | 1) >>> 0)
    }
  }
}
