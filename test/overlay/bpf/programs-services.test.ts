// Ports of a network that gets services, and loses them.

import t, { type Test } from 'tap'
import type { Endpoint } from '#model/endpoint.ts'
import { parseIp } from '#model/ip.ts'
import { loadDatapath, readObjects } from '#overlay/bpf/datapath.ts'
import { findPrograms } from '#overlay/bpf/filter.ts'
import { readLinks } from '#overlay/kernel/kernel.ts'
import { getLinks } from '#overlay/netlink/link.ts'
import { word } from '#overlay/plan/programs/entries.ts'
import type { DesiredService } from '#overlay/plan/services/service.ts'
import { device, on, red, requestFor, texts, World } from './programs-world.ts'

const skip = process.getuid?.() === 0 ? false : 'needs root: BPF programs'
const [a, b, c] = [on(1, 'a', 0), on(1, 'b', 1), on(2, 'c', 2)]
const ALL = [a, b, c]

function service(...backends: readonly Endpoint[]): DesiredService {
  const led = backends.map(({ address }) => ({ address, port: 8_080 }))
  return { address: parseIp('10.1.200.1'), ports: [{ protocol: 'tcp', port: 80, backends: led }], affinitySeconds: 0 }
}

async function served(t: Test, services: readonly DesiredService[]): Promise<World> {
  const world = new World(t)
  world.build(ALL)
  await world.pass(ALL)
  t.same(
    [a, b].map(each => world.running(device(each), true)),
    [null, null],
    'nothing runs on what is sent'
  )
  world.services = new Map([[red.name, services]])
  t.same((await world.pass(ALL)).problems, [])
  return world
}

const flagsOf = (world: World, endpoint: Endpoint): number | undefined =>
  world.map('vxm_ports').get(word(world.scratch.ifindexOf(device(endpoint))))?.[14]

/** Half of a flow of this container, seen just now. */
function addFlow(world: World, endpoint: Endpoint): Uint8Array {
  const [key, value] = [Buffer.alloc(28), Buffer.alloc(32)]
  key.writeUInt32LE(world.scratch.ifindexOf(device(endpoint)), 0)
  key.writeUInt8(6, 24)
  world.map('vxm_flows').set([{ key, value }])
  return key
}

t.test('a network that gets services gets their tables, and both programs at its ports', { skip }, async t => {
  const world = await served(t, [service(a, c)])
  for (const each of [a, b]) {
    t.equal(world.running(device(each), true), 'to_container')
    t.equal(world.running(device(each)), 'from_container')
    t.equal(flagsOf(world, each), 1 | 2)
  }
  t.same(world.held(), world.wanted(ALL))
  t.same(texts((await world.pass(ALL)).done), [], 'and then there is nothing to do')
  world.services = new Map([[red.name, [service(a)]]])
  t.same(texts((await world.pass(ALL)).done), ['set 1 services (vni 161)', 'delete 1 backends (vni 161)'])
  t.same(world.held(), world.wanted(ALL))
})

t.test('a container that comes into a network with services has all of it at once', { skip }, async t => {
  const world = await served(t, [service(a)])
  const late = on(1, 'late', 7)
  world.scratch.add(device(late))
  world.programs.admit(world.scratch.ifindexOf(device(late)), requestFor(late))
  t.equal(world.running(device(late), true), 'to_container')
  t.equal(flagsOf(world, late), 1 | 2)
  t.same(texts((await world.pass([...ALL, late])).done), [], 'as a pass leaves it')
  world.programs.shape(world.scratch.ifindexOf(device(late)), { ingressRate: 0, egressRate: 1e6, delayUs: 0 })
  t.equal(flagsOf(world, late), 2, 'and when it is shaped')
})

t.test('without services and flows nothing is left of them; a flow keeps what it needs', { skip }, async t => {
  const world = await served(t, [service(a)])
  const key = addFlow(world, a)
  world.services = new Map()
  await world.pass(ALL)
  await world.pass(ALL)
  t.same([flagsOf(world, a), world.running(device(a), true)], [1 | 2, 'to_container'], 'as long as the flow lives')
  t.equal(world.map('vxm_services').dump().count, 0)
  world.map('vxm_flows').delete([key])
  const { scratch } = world
  const attached = findPrograms(scratch.socket, readLinks(scratch.socket, getLinks())).map(({ id }) => id)
  const again = new World(t, { scratch, datapath: loadDatapath(readObjects(), attached) })
  await again.pass(ALL)
  await again.pass(ALL)
  t.same(
    [a, b].map(each => [flagsOf(again, each), again.running(device(each), true)]),
    [
      [1, null],
      [1, null]
    ]
  )
  t.same(again.held(), again.wanted(ALL))
  t.same(texts((await again.pass(ALL)).done), [])
})

t.test('a port that is dismissed takes its flows with it', { skip }, async t => {
  const world = await served(t, [service(a)])
  const key = addFlow(world, b)
  world.scratch.remove(device(b))
  world.programs.dismiss(device(b))
  world.services = new Map([[red.name, [service(c)]]])
  await world.pass([a, c])
  t.equal(world.map('vxm_flows').get(key), null)
})
