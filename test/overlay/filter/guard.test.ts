import t from 'tap'
import { parseIp, parseSubnet } from '#model/ip.ts'
import type { Network } from '#model/network.ts'
import { Guard } from '#overlay/filter/guard.ts'
import { nextGeneration } from '#overlay/netlink/nftables.ts'
import { runPart, type Look, type PartReport } from '#overlay/pass.ts'
import { desired, type DesiredHost } from '#overlay/plan/network/desired.ts'
import type { Element } from '#overlay/plan/filter/element.ts'
import { vethName } from '#overlay/plan/network/names.ts'
import { byNetwork, makeEndpoint, makeHost, makeNetwork, peer, peerAt } from '../fixtures.ts'
import { MemoryFilters, TABLES } from './memory-filters.ts'

const red = makeNetwork('red', 1)
const NOTHING: DesiredHost = { networks: new Map(), peers: new Map() }

/** An element that nobody wants. */
const STRAY: Element = { set: 'ports', text: 'x', key: new Uint8Array() }

/** Containers c0, c1, ... on this host, and this many hosts in the cluster. */
function hostWith(p: {
  readonly containers: number
  readonly hosts?: number
  readonly network?: Network
}): DesiredHost {
  const network = p.network ?? red
  const endpoints = Array.from({ length: p.containers }, (_, n) =>
    makeEndpoint(network, { container: `c${n}`, host: 1, address: `10.1.${Math.floor(n / 200)}.${(n % 200) + 2}` })
  )
  return desired({
    self: peer(1),
    selfVtep: makeHost(1).vtep,
    networks: [network],
    endpoints: byNetwork(endpoints),
    hosts: Array.from({ length: p.hosts ?? 2 }, (_, n) => makeHost(n + 1)),
    memberStatus: null,
    overlayMtu: 1450,
    vxlanPort: 4789
  })
}

function binding(container: string, ...addresses: readonly [string, ...string[]]): Parameters<Guard['admit']>[0] {
  const { containerId, ifname, mac } = makeEndpoint(red, { container, host: 1, address: addresses[0] })
  return { device: vethName(containerId, ifname), mac, addresses: addresses.map(text => parseIp(text)) }
}

function keep(guard: Guard, host: DesiredHost, mayRemove = true): Promise<PartReport> {
  const gateways = (): never => {
    throw new Error('not asked for')
  }
  const look: Look = { scope: null, trust: false, mayRemove, desired: { host: () => host, gateways } }
  return runPart(guard, look)
}

async function settled(host = hostWith({ containers: 2 })): Promise<{ kernel: MemoryFilters; guard: Guard }> {
  const kernel = new MemoryFilters()
  const guard = new Guard(kernel, TABLES)
  await keep(guard, host)
  kernel.lists = 0
  return { kernel, guard }
}

t.test('the first pass installs both tables with their elements, the next has nothing to do', async t => {
  const kernel = new MemoryFilters()
  const guard = new Guard(kernel, TABLES)
  const { done } = await keep(guard, hostWith({ containers: 2, hosts: 3 }))
  t.match(
    done.map(op => op.text()),
    ['install bridge vxmesh_ports with 2 elements', 'install inet vxmesh_underlay with 2 elements']
  )
  t.strictSame(kernel.elements('vxmesh_underlay'), ['192.0.2.2', '192.0.2.3'])
  t.strictSame((await keep(guard, hostWith({ containers: 2, hosts: 3 }))).done, [])
})

t.test('tables are listed only after somebody changed a rule', async t => {
  const { kernel, guard } = await settled()
  await keep(guard, hostWith({ containers: 2 }))
  await keep(guard, hostWith({ containers: 3 }))
  t.equal(kernel.lists, 0, 'its own writes need no listing')
  kernel.change()
  await keep(guard, hostWith({ containers: 3 }))
  t.equal(kernel.lists, 2)
})

t.test('changes of elements or tables by others are reverted', async t => {
  const { kernel, guard } = await settled()
  const right = kernel.elements('vxmesh_ports')
  const cases: Record<string, () => unknown> = {
    'an element less': () => kernel.tables.get('vxmesh_ports')?.elements.delete(right[0] ?? ''),
    'an element more': () => kernel.tables.get('vxmesh_ports')?.elements.set('x', STRAY),
    'no table': () => kernel.tables.delete('vxmesh_ports'),
    'another rule': () => Object.assign(kernel.tables.get('vxmesh_ports') ?? {}, { shape: 'other' })
  }
  for (const [title, harm] of Object.entries(cases)) {
    harm()
    kernel.change()
    t.not((await keep(guard, hostWith({ containers: 2 }))).done.length, 0, title)
    t.strictSame(kernel.elements('vxmesh_ports'), right, title)
    t.equal(kernel.tables.get('vxmesh_ports')?.shape, 'shape of vxmesh_ports', title)
  }
})

t.test('a state that may be stale removes no element, even when the table is reinstalled', async t => {
  const { kernel, guard } = await settled()
  const right = kernel.elements('vxmesh_ports')
  t.strictSame((await keep(guard, { ...NOTHING, peers: peerAt('192.0.2.2') }, false)).done, [])
  kernel.tables.set('vxmesh_ports', { ...kernel.tables.get('vxmesh_ports'), shape: 'other' } as never)
  kernel.change()
  await keep(guard, NOTHING, false)
  t.strictSame(kernel.elements('vxmesh_ports'), right)
  await keep(guard, NOTHING)
  t.strictSame(kernel.elements('vxmesh_ports'), [])
})

t.test('an empty state installs no table and admits no container', async t => {
  const kernel = new MemoryFilters()
  const guard = new Guard(kernel, TABLES)
  t.strictSame((await keep(guard, NOTHING, false)).done, [])
  t.equal(kernel.tables.size, 0)
  await t.rejects(guard.admit(binding('c9', '10.1.0.9')), { code: 'ERR_BUSY' })
  await guard.dismiss(binding('c9', '10.1.0.9').device)
  t.equal(kernel.tables.size, 0)
})

t.test('a container is admitted with one binding, which replaces the one before, and is dismissed alone', async t => {
  const { kernel, guard } = await settled()
  const others = kernel.elements('vxmesh_ports')
  for (const address of ['10.1.0.9', '10.1.0.8']) {
    const port = binding('c9', address)
    await guard.admit(port)
    t.equal(kernel.elements('vxmesh_ports').filter(text => text.startsWith(port.device)).length, 1, address)
    t.ok(kernel.elements('vxmesh_ports').some(text => text.endsWith(` ${address}`)))
  }
  await guard.dismiss(binding('c9', '10.1.0.8').device)
  t.strictSame(kernel.elements('vxmesh_ports'), others)
})

t.test('a container with two families has a binding in each, added, repaired and removed one by one', async t => {
  const both = makeNetwork('red', 1, { subnet6: parseSubnet('fd00:1::/64') })
  const { kernel, guard } = await settled(hostWith({ containers: 2, network: both }))
  const right = kernel.elements('vxmesh_ports')
  t.equal(right.length, 4)
  const lost = right.find(text => text.includes(' . 0xfd00')) ?? ''
  kernel.tables.get('vxmesh_ports')?.elements.delete(lost)
  kernel.change()
  t.strictSame(
    (await keep(guard, hostWith({ containers: 2, network: both }))).done.map(op => op.text()),
    [`add ${lost} to set ports6 of bridge vxmesh_ports`]
  )
  t.strictSame(kernel.elements('vxmesh_ports'), right)
  const port = binding('c9', '10.1.0.9', 'fd00:1::9')
  const own = (): readonly string[] => kernel.elements('vxmesh_ports').filter(text => text.startsWith(port.device))
  await guard.admit(port)
  t.equal(own().length, 2)
  await guard.admit(binding('c9', '10.1.0.9', 'fd00:1::a'))
  t.match(own(), [/ 10\.1\.0\.9$/, /0xfd0{5}1.*a$/], 'another address replaces the one before')
  await guard.dismiss(port.device)
  t.strictSame(kernel.elements('vxmesh_ports'), right)
})

t.test('an attach removes only elements of its own port', async t => {
  const { kernel, guard } = await settled()
  kernel.tables.get('vxmesh_ports')?.elements.set('x', STRAY)
  kernel.change()
  await guard.admit(binding('c9', '10.1.0.9'))
  t.ok(kernel.elements('vxmesh_ports').includes('x'))
  await keep(guard, hostWith({ containers: 2 }))
  t.notOk(kernel.elements('vxmesh_ports').includes('x'), 'a pass does')
})

t.test('a change by another program between observation and write is retried, up to a bound', async t => {
  const { kernel, guard } = await settled()
  let times = 3
  kernel.interfere = () => {
    if (times-- > 0) kernel.change()
  }
  await guard.admit(binding('c9', '10.1.0.9'))
  t.equal(kernel.elements('vxmesh_ports').length, 3)
  kernel.interfere = () => kernel.change()
  const port = binding('c8', '10.1.0.8')
  await t.rejects(guard.admit(port), { code: 'ERR_KERNEL', message: /cannot be set: the generation has moved/ })
  kernel.interfere = () => undefined
  await keep(guard, hostWith({ containers: 2 }))
  t.equal(kernel.elements('vxmesh_ports').length, 2, 'and the next pass is right again')
})

t.test('tables that somebody keeps replacing end in an error', async t => {
  const kernel = new MemoryFilters()
  const guard = new Guard(kernel, TABLES)
  const install = kernel.install.bind(kernel)
  kernel.install = async installs => {
    await install(installs)
    kernel.tables.clear()
  }
  const outcome = keep(guard, hostWith({ containers: 1 }))
  await t.rejects(outcome, { code: 'ERR_KERNEL', message: /the filters cannot be set: something else keeps changing/ })
})

t.test('a rule set that changes during every observation cannot be read', async t => {
  const { kernel, guard } = await settled()
  const generation = kernel.generation.bind(kernel)
  kernel.generation = () => {
    kernel.change()
    return generation()
  }
  await t.rejects(keep(guard, hostWith({ containers: 2 })), { code: 'ERR_KERNEL', message: /keeps changing/ })
})

t.test('many elements go in transactions of 200, adds before deletes, and each is announced', async t => {
  const { kernel, guard } = await settled()
  kernel.writes.splice(0)
  const moves: [number, number][] = []
  guard.onWrite = (from, to) => moves.push([from, to])
  const before = kernel.generation()
  await keep(guard, hostWith({ containers: 500 }))
  t.strictSame(
    kernel.writes.map(ops => ops.length),
    [200, 200, 98]
  )
  t.equal(moves[0]?.[0], before)
  for (const [i, [, to]] of moves.entries()) t.equal(to, moves[i + 1]?.[0] ?? kernel.generation(), 'without a gap')
  kernel.writes.splice(0)
  await keep(guard, hostWith({ containers: 0, hosts: 3 }))
  t.equal(kernel.writes[0]?.[0]?.kind, 'element-add')
  t.equal(kernel.writes.flat().length, 501)
})

t.test('what another part of this agent writes makes nothing listed again, and an unknown change does', async t => {
  const { kernel, guard } = await settled()
  const from = kernel.generation()
  kernel.change()
  guard.follow(from, kernel.generation())
  await keep(guard, hostWith({ containers: 2 }))
  t.equal(kernel.lists, 0)
  kernel.change()
  guard.follow(from, kernel.generation())
  await keep(guard, hostWith({ containers: 2 }))
  t.ok(kernel.lists > 0, 'another program wrote before it')
})

t.test('an installed table is announced if nothing else changed meanwhile', async t => {
  const moves: [number, number][] = []
  const { kernel, guard } = await settled()
  guard.onWrite = (from, to) => moves.push([from, to])
  kernel.tables.clear()
  kernel.change()
  const before = kernel.generation()
  await keep(guard, hostWith({ containers: 2 }))
  t.same(moves, [[before, nextGeneration(before)]])
  kernel.tables.clear()
  kernel.change()
  kernel.interfere = () => kernel.change()
  await keep(guard, hostWith({ containers: 2 }))
  t.equal(moves.length, 1, 'another program wrote at the same time')
})

t.test('concurrent attaches and detaches take turns', async t => {
  const { kernel, guard } = await settled()
  kernel.writes.splice(0)
  const ports = Array.from({ length: 20 }, (_, n) => binding(`n${n}`, `10.1.0.${n + 50}`))
  await Promise.all(ports.map(port => guard.admit(port)))
  t.equal(kernel.elements('vxmesh_ports').length, 22)
  t.equal(kernel.lists, 0, 'none of them was refused')
  await Promise.all(ports.map(({ device }) => guard.dismiss(device)))
  t.equal(kernel.elements('vxmesh_ports').length, 2)
})
