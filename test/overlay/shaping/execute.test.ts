// Single changes of a shaping plan, executed: their order, what counts as done already, and what a refusal leaves.

import t from 'tap'
import { parseIfName } from '#model/ids.ts'
import type { Kernel } from '#overlay/kernel/kernel.ts'
import { TC_H_EGRESS_FILTERS, TC_H_INGRESS_FILTERS, TC_H_ROOT } from '#overlay/netlink/tc-constants.ts'
import { addRedirect, createClsact, handleOf } from '#overlay/netlink/tc.ts'
import { childParent, OUR_PRIORITY, type ShapingChange } from '#overlay/plan/shaping/plan-shaping.ts'
import { executeShaping, settleIfb, type ShapingTarget } from '#overlay/shaping/execute.ts'
import { readFilters } from '#overlay/shaping/observe.ts'
import { TrafficKernel } from './traffic-kernel.ts'

const target: ShapingTarget = {
  veth: parseIfName('ve1'),
  ifb: parseIfName('vi1'),
  alias: 'vxmesh endpoint c1/eth0',
  mtu: 1450
}
const [TBF, FIFO] = [handleOf(0x7678), handleOf(0x767b)]
const tbf: ShapingChange = {
  kind: 'queue-replace',
  side: 'veth',
  parent: TC_H_ROOT,
  handle: TBF,
  spec: { kind: 'tbf', rate: 1e6, burst: 3000, limit: 9000 }
}
const fifo: ShapingChange = {
  kind: 'queue-replace',
  side: 'veth',
  parent: childParent(TBF),
  handle: FIFO,
  spec: { kind: 'bfifo', limit: 9000 }
}

function setUp(ipv6 = false): { memory: TrafficKernel; kernel: Kernel; run: (...changes: ShapingChange[]) => void } {
  const memory = new TrafficKernel()
  memory.addLink({ name: target.veth })
  const kernel: Kernel = { socket: memory.socket, netns: null, ipv6: { present: ipv6, sysctl: false } }
  return { memory, kernel, run: (...changes) => executeShaping(kernel, target, changes) }
}

t.test('a queue is built from the root down, and a deleted root takes its children with it', async t => {
  const { memory, run } = setUp()
  run(tbf, fifo)
  t.same(memory.kindsOn('ve1'), ['tbf', 'bfifo'])
  run({ kind: 'queue-delete', side: 'veth', parent: TC_H_ROOT, handle: TBF })
  t.same(memory.kindsOn('ve1'), [])
  run({ kind: 'queue-delete', side: 'veth', parent: TC_H_ROOT, handle: TBF })
  t.same(memory.kindsOn('ve1'), [], 'an absent queue is success')
})

t.test('the first refusal ends the execution: earlier changes are done, later ones are not tried', async t => {
  const { memory, run } = setUp()
  memory.lacks = ['bfifo']
  const later: ShapingChange = { ...tbf, kind: 'queue-change' }
  memory.requests.length = 0
  t.throws(() => run(tbf, fifo, later), { code: 'ERR_KERNEL', message: /set bfifo on ve1/ })
  t.same(memory.kindsOn('ve1'), ['tbf'])
  t.equal(memory.requests.filter(doing => doing === 'set tbf on ve1').length, 1)
})

t.test('a change of a queue that is not there is an error, not a new queue', async t => {
  const { memory, run } = setUp()
  t.throws(() => run({ ...tbf, kind: 'queue-change' }), { code: 'ERR_KERNEL', context: { errno: 'ENOENT' } })
  t.same(memory.kindsOn('ve1'), [])
})

t.test('a device that is gone is an error with ENODEV', async t => {
  const { memory, run } = setUp()
  for (const change of [
    { ...tbf, side: 'ifb' as const },
    { kind: 'redirect-set' as const, replace: false }
  ]) {
    t.throws(() => run(change), { code: 'ERR_KERNEL', message: /no device vi1/, context: { errno: 'ENODEV' } })
  }
  memory.removeLink('ve1')
  for (const change of [tbf, { kind: 'redirect-delete' as const }]) {
    t.throws(() => run(change), { message: /no device ve1/ })
  }
})

t.test('a kernel without IFB devices is told apart from any other refusal', async t => {
  const { memory, run } = setUp()
  memory.lacks = ['ifb']
  t.throws(() => run({ kind: 'ifb-create' }), { code: 'ERR_UNSUPPORTED' })
  memory.lacks = []
  memory.addLink({ name: 'vi1' })
  t.throws(() => run({ kind: 'ifb-create' }), { code: 'ERR_KERNEL', context: { errno: 'EEXIST' } })
})

t.test('IPv6 is switched off before the IFB device comes up', async t => {
  const { memory, kernel } = setUp(true)
  memory.addLink({ name: 'vi1', up: false })
  settleIfb(kernel, target)
  t.same(memory.requests, ['mark vi1', 'switch IPv6 address generation of vi1 off', 'set vi1 up'])
  settleIfb(kernel, target)
  t.match(memory.link('vi1'), { up: true, alias: target.alias }, 'idempotent')
})

t.test('a redirect replaces the one before it, and shares clsact with filters of others', async t => {
  const { memory, run } = setUp()
  const veth = memory.info('ve1').ifindex
  const redirects = (): (number | null)[] =>
    readFilters(memory.socket, veth, TC_H_INGRESS_FILTERS).map(({ redirectAll }) => redirectAll)
  run({ kind: 'ifb-create' }, { kind: 'redirect-set', replace: false })
  const ifb = memory.info('vi1').ifindex
  t.same(redirects(), [ifb])
  run({ kind: 'redirect-set', replace: true })
  t.same(redirects(), [ifb], 'clsact exists already')
  run({ kind: 'redirect-set', replace: false })
  t.same(redirects(), [ifb], 'one that was not observed is replaced')
  memory.socket.request(addRedirect({ ifindex: veth, priority: 7, target: ifb }), 'add a foreign filter')
  run({ kind: 'redirect-delete' })
  t.same(
    readFilters(memory.socket, veth, TC_H_INGRESS_FILTERS).map(({ priority }) => priority),
    [7]
  )
  t.ok(memory.kindsOn('ve1').includes('clsact'), 'clsact stays while it holds foreign filters')
})

t.test('the last redirect takes clsact with it; none at all is success', async t => {
  const { memory, run } = setUp()
  run({ kind: 'redirect-delete' })
  memory.socket.request(createClsact(memory.info('ve1').ifindex), 'create clsact')
  run({ kind: 'redirect-delete' })
  t.same(memory.kindsOn('ve1'), [])
})

t.test('clsact that holds filters on sent packets stays', async t => {
  const { memory, run } = setUp()
  run({ kind: 'ifb-create' }, { kind: 'redirect-set', replace: false })
  const { ifindex } = memory.info('ve1')
  const { body, ...rest } = addRedirect({ ifindex, priority: OUR_PRIORITY, target: ifindex })
  const egress = Uint8Array.from(body)
  new DataView(egress.buffer).setUint32(12, TC_H_EGRESS_FILTERS, true)
  memory.socket.request({ ...rest, body: egress }, 'add a filter on sent packets')
  run({ kind: 'redirect-delete' })
  t.ok(memory.kindsOn('ve1').includes('clsact'))
  t.equal(readFilters(memory.socket, ifindex, TC_H_EGRESS_FILTERS).length, 1)
})

t.test('deleting the queue of a device that is gone, or goes meanwhile, succeeds', async t => {
  const { memory, run } = setUp()
  const change = { kind: 'queue-delete' as const, side: 'veth' as const, parent: TC_H_ROOT, handle: TBF }
  memory.refuse = doing => (doing.startsWith('delete') ? 'ENODEV' : null)
  t.doesNotThrow(() => run(change))
  memory.removeLink('ve1')
  t.doesNotThrow(() => run(change))
})

t.test('an errno that does not mean absent is thrown', async t => {
  const { memory, run } = setUp()
  run(tbf)
  memory.refuse = doing => (doing.startsWith('delete') ? 'EPERM' : null)
  for (const change of [
    { kind: 'queue-delete' as const, side: 'veth' as const, parent: TC_H_ROOT, handle: TBF },
    { kind: 'redirect-delete' as const }
  ]) {
    t.throws(() => run(change), { code: 'ERR_KERNEL', context: { errno: 'EPERM' } }, change.kind)
  }
})
