// When the guard is another one: our programs of an earlier run are stopped, once, and nothing else is.

import t, { type Test } from 'tap'
import { closeDatapath, loadDatapath, readObjects } from '#overlay/bpf/datapath.ts'
import { PROGRAM_PRIORITY } from '#overlay/bpf/filter.ts'
import { NoPrograms } from '#overlay/bpf/no-programs.ts'
import type { Kernel } from '#overlay/kernel/kernel.ts'
import { runPart, type Look, type PartReport } from '#overlay/pass.ts'
import { parseVni } from '#model/ids.ts'
import { texts } from './programs-world.ts'
import { Scratch } from './scratch.ts'

const skip = process.getuid?.() === 0 ? false : 'needs root: BPF programs'

/** Devices on which an earlier run has left its programs, and one with a program of somebody else. */
function setUp(t: Test): { world: Scratch; part: NoPrograms; attach: (device: string, name: string) => void } {
  const world = new Scratch(t)
  const datapath = loadDatapath(readObjects())
  t.teardown(() => closeDatapath(datapath))
  const fd = datapath.programs.get('to_host')?.fd ?? -1
  for (const device of ['a', 'b', 'foreign', 'bare']) world.add(device)
  const attach = (device: string, name: string): void => world.attach(world.ifindexOf(device), { fd, name })
  attach('a', 'from_container')
  attach('b', 'from_underlay')
  attach('foreign', 'their_program')
  world.attach(world.ifindexOf('a'), { fd, name: 'later', priority: PROGRAM_PRIORITY + 1 })
  return { world, part: new NoPrograms(world.kernel), attach }
}

function pass(part: NoPrograms, look: Partial<Look> = {}): Promise<PartReport> {
  const never = (): never => {
    throw new Error('it wants no state')
  }
  const desired = { host: never, gateways: never }
  return runPart(part, { scope: null, trust: false, mayRemove: true, desired, ...look })
}

const STOPS = ['stop from_container on a', 'stop from_underlay on b']
const [LEFT, FOREIGN] = [[`${PROGRAM_PRIORITY + 1} later`], [`${PROGRAM_PRIORITY} their_program`]]

t.test('our programs are stopped, and filters of others go on, also of the same priority', { skip }, async t => {
  const { world, part } = setUp(t)
  const report = await pass(part)
  t.same(texts(report.done).sort(), STOPS)
  t.same(report.problems, [])
  t.ok(report.done.every(({ removes, kind, vni }) => removes && kind === 'program-detach' && vni === null))
  t.same([world.filtersOn('a'), world.filtersOn('b'), world.filtersOn('foreign')], [LEFT, [], FOREIGN])
})

t.test('a pass over one network stops nothing', { skip }, async t => {
  const { world, part } = setUp(t)
  t.match(await pass(part, { scope: parseVni(7) }), { attempted: [], done: [] })
  t.equal(world.filtersOn('b').length, 1)
  t.equal((await pass(part)).done.length, 2, 'the next over the whole host does')
})

t.test('while nothing may be removed they run on, and are stopped later', { skip }, async t => {
  const { world, part } = setUp(t)
  const held = await pass(part, { mayRemove: false })
  t.same([texts(held.deferred).sort(), texts(held.done)], [STOPS, []])
  t.equal(world.filtersOn('b').length, 1)
  t.same(texts((await pass(part)).done).sort(), STOPS)
})

t.test('once none is left no device is looked at any more', { skip }, async t => {
  const { world, part, attach } = setUp(t)
  await pass(part)
  attach('b', 'from_underlay')
  t.match(await pass(part), { attempted: [], done: [] })
  t.equal(world.filtersOn('b').length, 1)
  t.equal((await pass(new NoPrograms(world.kernel))).done.length, 1, 'the next run does')
})

t.test('a device that goes meanwhile is success', { skip }, async t => {
  const { world, part } = setUp(t)
  const observed = await part.observe({ scope: null } as Look)
  t.equal(observed.length, 2)
  world.remove('a')
  const { done, failures } = await part.execute(observed)
  t.equal(done.length, 2)
  t.same(failures, [])
})

t.test('what is refused is reported, and tried again', { skip }, async t => {
  const { world } = setUp(t)
  let refusing = true
  const { socket } = world
  const kernel = {
    ...world.kernel,
    socket: {
      request: socket.request.bind(socket),
      dump: socket.dump.bind(socket),
      batch: (...args: Parameters<typeof socket.batch>) =>
        refusing ? [{ errno: 'EPERM', message: 'not permitted' }] : socket.batch(...args)
    }
  } as unknown as Kernel
  const part = new NoPrograms(kernel)
  const { done, problems } = await pass(part)
  t.same(done, [])
  t.match(problems.map(({ vni, error }) => [vni, error.code, error.message]).sort(), [
    [null, 'ERR_KERNEL', 'stop the program on a: not permitted'],
    [null, 'ERR_KERNEL', 'stop the program on b: not permitted']
  ])
  t.equal(world.filtersOn('b').length, 1)
  refusing = false
  t.same(texts((await pass(part)).done).sort(), STOPS)
  t.same(world.filtersOn('b'), [])
})
