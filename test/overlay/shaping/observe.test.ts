// Reading queues: the dump of a whole host agrees with the reading of one endpoint, and foreign queues are not taken
// for ours.

import t from 'tap'
import { RTM_NEWTFILTER, TC_H_ROOT } from '#overlay/netlink/tc-constants.ts'
import { addRedirect, createClsact, handleOf, replaceQdisc, type QdiscSpec } from '#overlay/netlink/tc.ts'
import { childParent, OUR_PRIORITY, type ObservedEndpointShaping } from '#overlay/plan/shaping/plan-shaping.ts'
import { observePair, observeShaping, readFilters, type ShapedPair } from '#overlay/shaping/observe.ts'
import { TrafficKernel } from './traffic-kernel.ts'

const tbf: QdiscSpec = { kind: 'tbf', rate: 1e6, burst: 3000, limit: 9000 }
const fifo: QdiscSpec = { kind: 'bfifo', limit: 9000 }
const [TBF, FIFO, FOREIGN] = [handleOf(0x7678), handleOf(0x767b), handleOf(1)]

function setUp() {
  const memory = new TrafficKernel()
  for (const name of ['ve1', 'vi1', 've2']) memory.addLink({ name })
  const [veth, ifb, other] = [memory.info('ve1'), memory.info('vi1'), memory.info('ve2')]
  const pairs: readonly ShapedPair[] = [
    { veth, ifb },
    { veth: other, ifb: null }
  ]
  const put = (ifindex: number, parent: number, handle: number, spec: QdiscSpec): void =>
    void memory.socket.request(replaceQdisc({ ifindex, parent, handle }, spec), 'set')
  const redirect = (ifindex: number, to: number, priority = OUR_PRIORITY): void =>
    void memory.socket.request(addRedirect({ ifindex, priority, target: to }), 'redirect')
  /** Both ways of reading. */
  const observe = (): ObservedEndpointShaping => {
    const all = observeShaping(memory.socket, pairs)
    for (const pair of pairs) t.same(observePair(memory.socket, pair), all.get(pair.veth.name), pair.veth.name)
    return all.get('ve1') ?? { into: [], redirect: 'odd', ifb: null }
  }
  return { memory, veth, ifb, other, pairs, put, redirect, observe }
}

t.test('without queues, filters or an IFB device nothing is observed', async t => {
  const { memory, ifb, pairs, observe } = setUp()
  t.same(observe(), { into: [], redirect: 'none', ifb: { ifindex: ifb.ifindex, out: [] } })
  t.same(observeShaping(memory.socket, pairs).get('ve2'), { into: [], redirect: 'none', ifb: null })
  t.same(observeShaping(memory.socket, []), new Map())
})

t.test('our queues are read from the root down, on both devices', async t => {
  const { veth, ifb, put, observe } = setUp()
  put(veth.ifindex, TC_H_ROOT, TBF, tbf)
  put(veth.ifindex, childParent(TBF), FIFO, fifo)
  put(ifb.ifindex, TC_H_ROOT, FIFO, fifo)
  const seen = observe()
  t.same(
    seen.into.map(({ kind }) => kind),
    ['tbf', 'bfifo']
  )
  t.match(seen.into[0], { spec: { rate: 1e6, limit: 9000 } })
  t.same(
    seen.ifb?.out.map(({ spec }) => spec),
    [fifo]
  )
})

t.test('a foreign root hides what is below it; a foreign child is not ours', async t => {
  const { veth, ifb, put, observe } = setUp()
  put(veth.ifindex, TC_H_ROOT, FOREIGN, tbf)
  put(veth.ifindex, childParent(FOREIGN), FIFO, fifo)
  put(ifb.ifindex, TC_H_ROOT, TBF, tbf)
  put(ifb.ifindex, childParent(TBF), FOREIGN, fifo)
  const seen = observe()
  t.same(seen.into, [])
  t.same(
    seen.ifb?.out.map(({ handle }) => handle),
    [TBF]
  )
})

t.test('a redirect is read as its target, and as odd when it is not exactly ours', async t => {
  const { memory, veth, ifb, redirect, observe } = setUp()
  memory.socket.request(createClsact(veth.ifindex), 'create')
  t.equal(observe().redirect, 'none', 'clsact alone')
  redirect(veth.ifindex, ifb.ifindex, 7)
  t.equal(observe().redirect, 'none', 'a filter of another priority')
  redirect(veth.ifindex, ifb.ifindex)
  t.equal(observe().redirect, ifb.ifindex)
  const { body, type } = addRedirect({ ifindex: veth.ifindex, priority: OUR_PRIORITY, target: ifb.ifindex })
  memory.socket.request({ type, flags: 0, body }, 'a second one')
  t.equal(observe().redirect, 'odd', 'two filters')
})

t.test('a redirect to a device that is gone is odd', async t => {
  const { memory, veth, redirect, observe } = setUp()
  memory.socket.request(createClsact(veth.ifindex), 'create')
  redirect(veth.ifindex, 0)
  t.equal(observe().redirect, 'odd')
})

t.test('a host is read by one dump of qdiscs, and filters only where there is clsact', async t => {
  const { memory, other, pairs } = setUp()
  memory.requests.length = 0
  observeShaping(memory.socket, pairs)
  t.same(memory.requests, ['read qdiscs'])
  memory.socket.request(createClsact(other.ifindex), 'create')
  memory.requests.length = 0
  observeShaping(memory.socket, pairs)
  t.same(memory.requests, ['read qdiscs', 'read filters'])
})

t.test('truncated replies are skipped, refusals are thrown', async t => {
  const { memory, veth, pairs } = setUp()
  const [pair] = pairs
  if (pair === undefined) throw new Error('no pair')
  const truncated = {
    dump: (_request: unknown, decode: (type: number, payload: Uint8Array) => unknown): unknown[] =>
      [
        [RTM_NEWTFILTER, new Uint8Array(3)],
        [99, new Uint8Array(64)]
      ].flatMap(([type, payload]) => decode(type as number, payload as Uint8Array) ?? []),
    request: () => []
  } as unknown as typeof memory.socket
  t.same(readFilters(truncated, veth.ifindex, 1), [])
  t.same(
    [...observeShaping(truncated, pairs).values()].map(({ into }) => into),
    [[], []]
  )
  t.same(observePair(truncated, pair).into, [], 'a reply without a message')
  memory.refuse = () => 'EPERM'
  t.throws(() => observePair(memory.socket, pair), { code: 'ERR_KERNEL', context: { errno: 'EPERM' } })
  t.throws(() => observeShaping(memory.socket, pairs), { code: 'ERR_KERNEL', context: { errno: 'EPERM' } })
  for (const absent of ['ENOENT', 'EINVAL', 'ENOTSUP']) {
    memory.refuse = () => absent
    t.same(observePair(memory.socket, pair).into, [], absent)
  }
})
