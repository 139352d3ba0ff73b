import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { VxmeshError } from '#model/errors.ts'
import type { Vni } from '#model/ids.ts'
import type { EndpointView, StatusView } from '#model/views.ts'
import { AgentWorld, type MemoryAgent } from './memory-agent.ts'

const RED = { name: 'red', subnet: '10.1.0.0/24' }

type TwoHosts = {
  readonly world: AgentWorld
  readonly h1: MemoryAgent
  readonly h2: MemoryAgent
  /** Of c1 on h1. */
  readonly one: EndpointView
  /** Of c2 on h2. */
  readonly two: EndpointView
}

/** A founder and a client with a container of network red on each. */
async function twoHosts(t: Test): Promise<TwoHosts> {
  const world = new AgentWorld(t)
  const h1 = await world.founder()
  const h2 = await world.client()
  await h1.call('POST', '/v1/networks', RED)
  const one = await h1.attach({ network: 'red', containerId: 'c1' })
  const two = await h2.attach({ network: 'red', containerId: 'c2' })
  await world.until('each host has an entry for the other', () => h1.forwardsTo(two) && h2.forwardsTo(one))
  return { world, h1, h2, one, two }
}

t.test('the parts start in order, the doors last, and stop the other way round', async t => {
  const world = new AgentWorld(t)
  const h1 = await world.founder()
  t.same(h1.steps(), [
    'open driver',
    'set guard',
    'set doors',
    'set serf limits',
    'launch serf',
    'start mesh',
    'start serf',
    'start zmq'
  ])
  t.match(await h1.call('GET', '/v1/status'), { host: 'h1', ready: true, raft: { role: 'leader', leader: 'h1' } })
  h1.trace.splice(0)
  await h1.stop()
  t.same(h1.steps(), ['stop zmq', 'stop mesh', 'stop serf', 'close driver'])
  await t.rejects(h1.call('GET', '/v1/status'), { code: 'ERR_AGENT_UNREACHABLE' })
  t.equal(world.manual.pending, 0, 'no timer is left')
  await h1.start()
  t.ok(h1.isUp, 'sockets, ports and the data directory are free again')
})

t.test('a second stop waits for the first and does nothing itself', async t => {
  const world = new AgentWorld(t)
  const h1 = await world.founder()
  const { agent } = h1
  await Promise.all([h1.stop(), agent.stop()])
  await agent.stop()
  t.same(h1.steps().slice(-4), ['stop zmq', 'stop mesh', 'stop serf', 'close driver'])
})

t.test('a leave through the API ends an agent that is still starting', async t => {
  const world = new AgentWorld(t)
  const h1 = await world.add({ role: 'server', bootstrapExpect: '1' })
  const serf = Promise.withResolvers<undefined>()
  h1.held.set('start serf', serf.promise)
  const starting = h1.start()
  await world.until('the doors are open', () => h1.trace.includes('start zmq'))
  const left = h1.call('POST', '/v1/leave')
  await world.until('the member list waits for Serf', () => h1.trace.includes('start serf'))
  serf.resolve(undefined)
  await starting
  t.same(await left, {})
  t.equal(await world.settle(h1.agent.ended), null, 'an orderly end')
  await h1.stop()
  t.equal(h1.membership?.status, 'left')
  t.equal(world.manual.pending, 0, 'no timer is left')
})

t.test('a client joins, attaches through the UNIX socket, and both hosts forward to each other', async t => {
  const { h1, h2, one, two } = await twoHosts(t)
  t.match(one, { host: 'h1', network: 'red', address: '10.1.0.2/24', mtu: 1_450 })
  t.match(two, { host: 'h2', network: 'red', address: '10.1.0.3/24', mtu: 1_450 })
  t.ok(h1.kernel.interfaces.has(one.hostInterface))
  t.ok(h2.kernel.interfaces.has(two.hostInterface))
  for (const host of [h1, h2]) {
    t.match(await host.call('GET', '/v1/status'), { ready: true, endpoints: 2, overlay: { drift: 0, degraded: [] } })
  }
})

t.test('an attach that cannot be done leaves neither an endpoint nor anything in the kernel', async t => {
  const { h1, h2 } = await twoHosts(t)
  const inKernel = (): unknown => [new Map(h2.kernel.forwarding.kernel.links), [...h2.kernel.interfaces.keys()]]
  const before = inKernel()
  h2.goneNetns.add('/run/netns/c3')
  for (const [body, code] of [
    [{ network: 'blue', containerId: 'c4' }, 'ERR_NETWORK_NOT_FOUND'],
    [{ network: 'red', containerId: 'c3' }, 'ERR_NETNS'],
    [{ network: 'red', containerId: 'c4', netns: 'relative' }, 'ERR_INVALID'],
    [{ network: 'red', containerId: 'c1' }, 'ERR_ENDPOINT_EXISTS']
  ] as const) {
    await t.rejects(h2.attach(body), { code }, code)
  }
  h2.kernel.failures.set('attach', new VxmeshError('ERR_KERNEL', 'no more devices'))
  await t.rejects(h2.attach({ network: 'red', containerId: 'c4' }), { code: 'ERR_KERNEL', message: /no more devices/ })
  t.same(inKernel(), before)
  t.match(await h1.call('GET', '/v1/status'), { endpoints: 2 })
})

t.test('a control plane that is cut fails changes, keeps the kernel, and recovers', async t => {
  const { world, h1, h2 } = await twoHosts(t)
  const before = [...h2.kernel.changes]
  world.network.cut(h1.peerId, h2.peerId)
  await t.rejects(h2.attach({ network: 'red', containerId: 'c3' }), { code: 'ERR_NO_QUORUM' })
  t.same(h2.kernel.changes, before, 'nothing is withdrawn')
  t.match(await h2.call('GET', '/v1/endpoints'), [{ containerId: 'c1' }, { containerId: 'c2' }], 'reads are served')
  world.network.healAll()
  await world.until('the hosts are connected', () => world.network.isConnected(h1.peerId, h2.peerId))
  const four = await h2.attach({ network: 'red', containerId: 'c4' })
  await world.until('h1 has its entry', () => h1.forwardsTo(four))
})

t.test('an agent that restarts adopts what it finds and touches nothing, without any other host', async t => {
  const { world, h1, h2, two } = await twoHosts(t)
  await h2.stop()
  world.network.cut(h1.peerId, h2.peerId)
  const before = h2.kernel.changes.length
  const calls = h2.kernel.calls.length
  h2.kernel.forwarding.looks.splice(0)
  await h2.start()
  await world.until('a full pass has ended', () => h2.agent.silentMs < 100 && h2.kernel.forwarding.looks.includes(null))
  t.same(h2.kernel.changes.slice(before), [], 'no op and no attach')
  t.notMatch(h2.kernel.calls.slice(calls).join('\n'), /attach|detach|shape/)
  t.match(await h2.call('GET', '/v1/endpoints/c2'), [{ host: 'h2', address: two.address }])
  const status = (await h2.call('GET', '/v1/status')) as StatusView
  t.match(status, { endpoints: 2, raft: { role: 'client', leader: null }, overlay: { drift: 0 } })
  world.network.healAll()
  await world.until('h2 follows again', () => h2.agent.control.log.current)
  t.same(h2.kernel.changes.slice(before), [])
  t.match(await h2.call('GET', '/v1/status'), { cluster: status.cluster, ready: true })
})

t.test('a damaged interface is repaired after a restart, and only that', async t => {
  const { world, h2, two } = await twoHosts(t)
  const { hostInterface } = two
  await h2.stop()
  h2.kernel.interfaces.delete(hostInterface)
  h2.kernel.forwarding.kernel.links.delete(hostInterface)
  const before = h2.kernel.changes.length
  await h2.start()
  await world.until('it is attached again', () => h2.kernel.interfaces.has(hostInterface))
  await world.until('it is forwarded to', () => h2.kernel.changes.length >= before + 3)
  const repaired = h2.kernel.changes.slice(before)
  t.ok(
    repaired.every(change => change.includes(hostInterface)),
    repaired.join(', ')
  )
})

t.test('a change of the kernel by somebody else wakes the reconcile loop', async t => {
  const { world, h2, two } = await twoHosts(t)
  await world.manual.advance(5_000)
  const { links } = h2.kernel.forwarding.kernel
  const bridge = [...links.values()].find(link => link.kind === 'bridge')
  links.delete(bridge?.name ?? '')
  h2.driver?.changed(new Set([two.vni as Vni]))
  await world.until('the bridge is back', () => links.has(bridge?.name ?? ''), 5_000)
  t.match(await h2.call('GET', '/v1/status'), { overlay: { repaired: { 'bridge-create': 1 } } })
})

t.test('a kernel without a feature is reported by doctor', async t => {
  const world = new AgentWorld(t)
  const h1 = await world.founder()
  h1.kernel.features = [
    { name: 'vxlan', present: false, required: true, detail: 'no such device type' },
    { name: 'netem', present: false, required: false, detail: 'delays are refused' }
  ]
  const view = (await h1.call('GET', '/v1/doctor')) as { findings: { id: string; level: string; found: string }[] }
  const kernel = view.findings.filter(({ found }) => /no such device type|delays are refused/.test(found))
  t.same(kernel.map(({ level }) => level).sort(), ['failed', 'warning'], JSON.stringify(view))
})

t.test(
  'a reload applies what can be, names what needs a restart, and changes nothing when a key is refused',
  async t => {
    const world = new AgentWorld(t)
    const h1 = await world.founder()
    const { config } = h1
    h1.config = { ...config, collectAfter: 5, join: ['192.0.2.9:7946'], raft: { snapshotBytes: 8_192 } }
    t.same(await h1.call('POST', '/v1/reload'), { changed: ['join', 'collectAfter'], restart: ['raft.snapshotBytes'] })
    t.same(h1.membership?.seeds, ['192.0.2.9:7946'])
    h1.failing.set('set join', new VxmeshError('ERR_STORAGE', 'the disk is full'))
    h1.config = { ...h1.config, join: [] }
    await t.rejects(h1.call('POST', '/v1/reload'), { code: 'ERR_STORAGE' })
    h1.failing.clear()
    t.match(await h1.call('POST', '/v1/reload'), { changed: ['join'] }, 'the refused key is still to be changed')
  }
)

t.test('the probe finds the host present but not ready before it belongs to a cluster', async t => {
  const world = new AgentWorld(t)
  const h1 = await world.add()
  await h1.start()
  const probe = async (path: string): Promise<number> =>
    (await world.settle(fetch(`http://${h1.config.http.listen}${path}`))).status
  t.equal(await probe('/livez'), 200)
  t.equal(await probe('/readyz'), 503)
  t.match(await h1.call('GET', '/v1/status'), { ready: false, cluster: null })
})

t.test('the data directory holds the identity, and another one makes another host', async t => {
  const world = new AgentWorld(t)
  const h1 = await world.founder()
  const { peerId } = h1
  const lock = readFileSync(join(h1.config.dataDir, 'agent.lock'), 'utf8')
  t.ok(lock.startsWith(`${process.pid} `))
  await h1.stop()
  await h1.start()
  t.equal(h1.peerId, peerId)
  const h2 = await world.client()
  t.not(h2.peerId, peerId)
})
