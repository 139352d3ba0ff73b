// The filters by which devices run programs: which are found as ours, and which are stopped.

import t, { type Test } from 'tap'
import { closeDatapath, loadDatapath, PROGRAMS, readObjects, type Datapath } from '#overlay/bpf/datapath.ts'
import { findPrograms, PROGRAM_PRIORITY, readProgram, stopPrograms } from '#overlay/bpf/filter.ts'
import { readLinks } from '#overlay/kernel/kernel.ts'
import { getLinks } from '#overlay/netlink/link.ts'
import { addRedirect, createClsact } from '#overlay/netlink/tc.ts'
import type { NetlinkSocket } from '#platform/netlink-socket.ts'
import { Scratch } from './scratch.ts'

const skip = process.getuid?.() === 0 ? false : 'needs root: BPF programs'

function setUp(t: Test): { world: Scratch; datapath: Datapath; fd: number; id: number } {
  const datapath = loadDatapath(readObjects())
  t.teardown(() => closeDatapath(datapath))
  const { fd, id } = datapath.programs.get('to_host') ?? { fd: -1, id: -1 }
  return { world: new Scratch(t), datapath, fd, id }
}

function found(world: Scratch): string[] {
  return findPrograms(world.socket, readLinks(world.socket, getLinks())).map(
    ({ device, program }) => `${program} on ${device}`
  )
}

t.test('the program of a device is read with its id and the name of its filter', { skip }, async t => {
  const { world, fd, id } = setUp(t)
  const ifindex = world.add('a')
  t.equal(readProgram(world.socket, ifindex), null, 'no clsact')
  world.socket.request(createClsact(ifindex), 'create clsact')
  t.equal(readProgram(world.socket, ifindex), null, 'no filter')
  world.attach(ifindex, { fd, name: 'any', priority: PROGRAM_PRIORITY + 1 })
  t.equal(readProgram(world.socket, ifindex), null, 'of another priority')
  world.attach(ifindex, { fd, name: 'any' })
  t.strictSame(readProgram(world.socket, ifindex), { id, name: 'any' })
  world.detach(ifindex)
  t.equal(readProgram(world.socket, ifindex), null, 'stopped')
  world.socket.request(addRedirect({ ifindex, priority: PROGRAM_PRIORITY, target: ifindex }), 'redirect')
  t.equal(readProgram(world.socket, ifindex), null, 'a filter of another kind')
  t.equal(readProgram(world.socket, 9_999), null, 'no device')
})

t.test('a refusal that does not mean absent is thrown', { skip }, async t => {
  const error = { code: 'ERR_KERNEL', context: { errno: 'EPERM' } }
  const { refusalError } = await import('#platform/netlink-error.ts')
  const refusal = { errno: 'EPERM', message: 'not permitted' }
  const socket = {
    request: () => {
      throw refusalError('read', refusal)
    },
    batch: () => [null, refusal, { ...refusal, errno: 'ENODEV' }]
  } as unknown as NetlinkSocket
  t.throws(() => readProgram(socket, 1), error)
  const devices = ['a', 'b', 'c'].map((device, ifindex) => ({ device, ifindex, program: 'to_host' }))
  t.throws(() => stopPrograms(socket, devices), { ...error, message: /^stop the program on b: not permitted/ })
})

t.test('ours are those with the name of one of our programs, on whichever device', { skip }, async t => {
  const { world, fd } = setUp(t)
  for (const name of PROGRAMS) world.attach(world.add(name.slice(0, 15)), { fd, name })
  world.attach(world.add('foreign'), { fd, name: 'from_containers' })
  world.attach(world.add('nameless'), { fd, name: '' })
  world.attach(world.add('later'), { fd, name: 'to_host', priority: PROGRAM_PRIORITY + 1 })
  world.add('bare')
  t.same(found(world).sort(), PROGRAMS.map(name => `${name} on ${name.slice(0, 15)}`).sort())
  t.same(findPrograms(world.socket, []), [])
})

t.test('a program is stopped on the devices that are named, and absent ones are no error', { skip }, async t => {
  const { world, fd } = setUp(t)
  const [a, b, bare] = ['a', 'b', 'bare'].map(name => ({
    ...{ device: name, ifindex: world.add(name) },
    program: 'to_host'
  }))
  if (a === undefined || b === undefined || bare === undefined) throw new Error('three devices')
  for (const { ifindex } of [a, b]) world.attach(ifindex, { fd, name: 'to_host' })
  world.attach(a.ifindex, { fd, name: 'later', priority: PROGRAM_PRIORITY + 1 })
  stopPrograms(world.socket, [{ device: 'gone', ifindex: 9_999, program: 'to_host' }, bare, a])
  t.same(found(world), ['to_host on b'])
  t.same(world.filtersOn('a'), [`${PROGRAM_PRIORITY + 1} later`], 'a filter of another priority stays')
  stopPrograms(world.socket, [a, b])
  t.same(found(world), [])
  stopPrograms(world.socket, [])
})

t.test("another program's filter of the same priority is not stopped with ours", { skip }, async t => {
  const { world, fd } = setUp(t)
  const ifindex = world.add('a')
  world.attach(ifindex, { fd, name: 'theirs', handle: 7 })
  world.attach(ifindex, { fd, name: 'to_host' })
  t.same(found(world), ['to_host on a'])
  stopPrograms(world.socket, [{ device: 'a', ifindex, program: 'to_host' }])
  t.same(world.filtersOn('a'), [`${PROGRAM_PRIORITY} theirs`])
})
