// The shaping of an endpoint through real messages: observed, planned and executed against a kernel in memory.

import assert from 'node:assert/strict'
import fc from 'fast-check'
import t from 'tap'
import type { Shaping } from '#model/endpoint.ts'
import { parseIfName } from '#model/ids.ts'
import type { ShapeRequest } from '#overlay/driver.ts'
import type { Kernel } from '#overlay/kernel/kernel.ts'
import { ifbName, OVERLAY_GROUP } from '#overlay/plan/network/names.ts'
import type { ShapingSupport } from '#overlay/plan/shaping/queue.ts'
import { readShaping, readVeth, shapeLink } from '#overlay/shaping/endpoint.ts'
import { TrafficKernel } from './traffic-kernel.ts'

const VETH = parseIfName('ve0123456789abc')
const IFB = ifbName(VETH)
const ALIAS = 'vxmesh endpoint c1/eth0'
const MTU = 1450
const none: Shaping = { ingressRate: 0, egressRate: 0, delayUs: 0 }
const all: ShapingSupport = { rate: true, fqCodel: true, delay: true }

function setUp(): { memory: TrafficKernel; kernel: Kernel } {
  const memory = new TrafficKernel()
  memory.addLink({ name: VETH, alias: ALIAS, group: OVERLAY_GROUP })
  return { memory, kernel: { socket: memory.socket, netns: null, ipv6: { present: false, sysctl: false } } }
}

function ask(shaping: Partial<Shaping>): ShapeRequest {
  return { hostInterface: VETH, alias: ALIAS, mtu: MTU, shaping: { ...none, ...shaping } }
}

function shape(p: { memory: TrafficKernel; kernel: Kernel }, shaping: Partial<Shaping>, support = all): void {
  const { memory, kernel } = p
  const unused = shapeLink({ kernel, request: ask(shaping), veth: memory.info(VETH), support: () => support })
  // The caller's part: the driver removes the device that is no longer needed.
  if (unused !== null) memory.removeLink(unused.name)
}

t.test(
  'from any shaping to any other, the kernel enforces what is asked and a second call changes nothing',
  async t => {
    const rate = fc.constantFrom(0, 8e3, 1e6, 5e6, 60e6, 1e9, 1e11)
    const shaping = fc.record({ ingressRate: rate, egressRate: rate, delayUs: fc.constantFrom(0, 500, 20_000) })
    const support = fc.record({ rate: fc.constant(true), fqCodel: fc.boolean(), delay: fc.boolean() })
    fc.assert(
      fc.property(fc.array(fc.tuple(shaping, support), { minLength: 1, maxLength: 6 }), steps => {
        const world = setUp()
        for (const [want, can] of steps) {
          shape(world, want, can)
          const enforced = { ...want, delayUs: can.delay ? want.delayUs : 0 }
          assert.deepEqual(readShaping(world.kernel, ask(want)), enforced)
          world.memory.requests.length = 0
          shape(world, want, can)
          assert.deepEqual(
            world.memory.requests.filter(doing => !doing.startsWith('read')),
            []
          )
          const needsIfb = want.egressRate > 0 || enforced.delayUs > 0
          assert.equal(world.memory.link(IFB) !== undefined, needsIfb)
        }
      }),
      { numRuns: 300 }
    )
    t.pass()
  }
)

t.test('the IFB device is marked and up, and in our group from its creation', async t => {
  const world = setUp()
  shape(world, { egressRate: 1e6 })
  t.match(world.memory.link(IFB), { kind: 'ifb', alias: ALIAS, group: OVERLAY_GROUP, mtu: MTU, up: true })
})

t.test('an IFB device that a crash left unmarked or down is completed', async t => {
  const world = setUp()
  world.memory.addLink({ name: IFB, kind: 'ifb', group: OVERLAY_GROUP, up: false })
  shape(world, { egressRate: 1e6 })
  t.match(world.memory.link(IFB), { alias: ALIAS, up: true })
  t.equal(readShaping(world.kernel, ask({ egressRate: 1e6 }))?.egressRate, 1e6)
})

t.test('a device that is not ours under the name of the IFB device is an error, and stays as it is', async t => {
  for (const change of [{ alias: 'vxmesh endpoint other/eth0', group: OVERLAY_GROUP }, { alias: 'mine' }, {}]) {
    const world = setUp()
    const foreign = { ...world.memory.addLink({ name: IFB, kind: 'ifb', ...change }) }
    t.throws(() => shape(world, { egressRate: 1e6 }), { code: 'ERR_KERNEL', context: { errno: 'EEXIST' } })
    t.same(world.memory.link(IFB), foreign)
  }
})

t.test('what the kernel supports is probed only when shaping is asked for', async t => {
  const { memory, kernel } = setUp()
  const support = (): never => t.fail('probed') as never
  t.equal(shapeLink({ kernel, request: ask({}), veth: memory.info(VETH), support }), null)
  t.same(memory.kindsOn(VETH), [])
})

t.test('the device that is no longer needed is returned, not deleted', async t => {
  const world = setUp()
  shape(world, { egressRate: 1e6 })
  const { memory, kernel } = world
  const unused = shapeLink({ kernel, request: ask({}), veth: memory.info(VETH), support: () => all })
  t.equal(unused?.name, IFB)
  t.ok(memory.link(IFB))
  t.notOk(memory.kindsOn(VETH).includes('clsact'), 'no traffic is redirected to it any more')
})

t.test('an endpoint without its veth, or with a veth of another one, has no shaping', async t => {
  const { memory, kernel } = setUp()
  t.equal(readVeth(kernel, ask({}))?.name, VETH)
  t.same(readShaping(kernel, ask({})), none)
  t.equal(readShaping(kernel, { ...ask({}), alias: 'vxmesh endpoint other/eth0' }), null)
  memory.removeLink(VETH)
  t.equal(readVeth(kernel, ask({})), null)
  t.equal(readShaping(kernel, ask({})), null)
  memory.addLink({ name: VETH, alias: '', group: 0 })
  t.equal(readVeth(kernel, ask({})), null, 'neither alias nor group')
})
