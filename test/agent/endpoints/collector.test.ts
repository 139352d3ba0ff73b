// The collector over endpoints in memory: a container is gone only if both its interface and its path are, for long enough.

import t from 'tap'
import { endpointKey } from '#model/endpoint.ts'
import { VxmeshError } from '#model/errors.ts'
import { parseContainerId, parseIfName, parseNetworkName } from '#model/ids.ts'
import { vethName } from '#overlay/plan/network/names.ts'
import { attach } from '#test/allocator/fixtures.ts'
import { settle } from '#test/lab/manual-clock.ts'
import { MemoryHost } from '../memory-host.ts'

const ETH0 = parseIfName('eth0')
const netnsOf = (container: string): string => `/run/netns/${container}`
const keyOf = (container: string): ReturnType<typeof endpointKey> => endpointKey(parseContainerId(container), ETH0)

/** A host with these containers attached. */
async function hostWith(...containers: readonly string[]): Promise<MemoryHost> {
  const host = new MemoryHost()
  for (const container of containers) {
    const facts = { network: parseNetworkName('red'), ifname: ETH0, name: '', netns: netnsOf(container) }
    const unshaped = { ingressRate: 0, egressRate: 0, delayUs: 0 }
    await host.endpoints.attach({ ...facts, ...unshaped, containerId: parseContainerId(container) })
  }
  return host
}

function losePath(host: MemoryHost, container: string): void {
  host.goneNetns.add(netnsOf(container))
}

function loseInterface(host: MemoryHost, container: string): void {
  host.devices.interfaces.delete(vethName(parseContainerId(container), ETH0))
}

function kill(host: MemoryHost, container: string): void {
  losePath(host, container)
  loseInterface(host, container)
}

const containersOf = (host: MemoryHost): string[] =>
  [...host.caller.state.endpoints()].map(({ containerId }) => containerId).sort()

t.test('collect releases endpoints that are gone, except those in the keep list', async t => {
  const host = await hostWith('alive', 'dead', 'kept')
  kill(host, 'dead')
  kill(host, 'kept')
  t.equal(await host.collector.collect(new Set([keyOf('kept')])), 1)
  t.same(containersOf(host), ['alive', 'kept'])
})

t.test('a container is not gone while its path or its interface is there', async t => {
  for (const lose of [losePath, loseInterface]) {
    const host = await hostWith('web')
    lose(host, 'web')
    t.equal(await host.collector.collect(new Set()), 0, lose.name)
    t.same(containersOf(host), ['web'], lose.name)
  }
})

t.test('an endpoint whose attach never completed is released', async t => {
  const host = new MemoryHost()
  host.caller.do(attach('red', 'half'))
  t.equal(await host.collector.collect(new Set()), 1)
})

t.test('an endpoint of another host is left alone', async t => {
  const host = new MemoryHost()
  host.caller.do(attach('red', 'elsewhere', { host: 2 }))
  t.equal(await host.collector.collect(new Set()), 0)
})

t.test('an endpoint that is being attached or detached is left alone', async t => {
  const host = await hostWith('web')
  kill(host, 'web')
  await host.local.handle(keyOf('web'), async () => t.equal(await host.collector.collect(new Set()), 0))
  t.equal(await host.collector.collect(new Set()), 1)
})

t.test('an endpoint is released once it has been gone for the configured time', async t => {
  const host = await hostWith('web')
  host.collector.start()
  await host.time.advance(60_000)
  t.same(containersOf(host), ['web'])
  kill(host, 'web')
  await host.time.advance(79_999)
  t.same(containersOf(host), ['web'], 'first seen gone after 20 s')
  await host.time.advance(1)
  t.same(containersOf(host), [])
  await host.collector.stop()
  t.equal(host.time.pending, 0)
})

t.test('a container that comes back is not released, and its time starts again', async t => {
  const host = await hostWith('web')
  host.collector.start()
  losePath(host, 'web')
  loseInterface(host, 'web')
  await host.time.advance(60_000)
  host.goneNetns.clear()
  await host.time.advance(20_000)
  losePath(host, 'web')
  await host.time.advance(79_999)
  t.same(containersOf(host), ['web'])
  await host.time.advance(1)
  t.same(containersOf(host), [])
  await host.collector.stop()
})

t.test('nothing is released while the state is stale', async t => {
  const host = await hostWith('web')
  kill(host, 'web')
  host.standing = { ready: false, leader: null }
  host.collector.start()
  await host.time.advance(600_000)
  t.same(containersOf(host), ['web'])
  await host.collector.stop()
})

t.test('with a time of 0 nothing is released by itself; a reload changes the time', async t => {
  const host = await hostWith('web')
  kill(host, 'web')
  host.collector.setAfter(0)
  host.collector.start()
  await host.time.advance(600_000)
  t.same(containersOf(host), ['web'])
  host.collector.setAfter(3_000)
  await host.time.advance(4_000)
  t.same(containersOf(host), [])
  await host.collector.stop()
  host.collector.setAfter(60_000)
  t.equal(host.time.pending, 0, 'a stopped collector stays stopped')
})

t.test('a failed round is retried in the next one', async t => {
  const host = await hostWith('web', 'db')
  kill(host, 'web')
  kill(host, 'db')
  const kernelError = new VxmeshError('ERR_KERNEL', 'ENOBUFS')
  host.devices.failures.set('counters', kernelError)
  await t.rejects(host.collector.collect(new Set()), kernelError)
  host.collector.start()
  await host.time.advance(80_000)
  t.same(containersOf(host), ['db', 'web'])
  host.devices.failures.clear()
  host.failProposal = command =>
    command.kind === 'endpoint-detach' && command.containerId === 'web' ? new VxmeshError('ERR_BUSY', 'busy') : null
  await host.time.advance(80_000)
  t.same(containersOf(host), ['web'], 'a failed release does not prevent the other')
  host.failProposal = () => null
  await host.time.advance(20_000)
  t.same(containersOf(host), [])
  await host.collector.stop()
})

t.test('a wait ends when the container is gone, is alive, or takes too long', async t => {
  const name = { containerId: parseContainerId('web'), ifname: ETH0 }
  const host = await hostWith('web')
  t.equal(await host.collector.waitUntilGone(name), false, 'it lives')
  losePath(host, 'web')
  const slow = host.collector.waitUntilGone(name)
  await host.time.advance(1_000)
  loseInterface(host, 'web')
  await host.time.advance(50)
  t.equal(await slow, true)
  const other = await hostWith('web')
  losePath(other, 'web')
  let outcome: boolean | null = null
  void other.collector.waitUntilGone(name).then(gone => (outcome = gone))
  await other.time.advance(2_950)
  t.equal(outcome, null)
  await other.time.advance(50)
  t.equal(outcome, false, 'its interface is still there after 3 s')
})

t.test('a container that ends right after its attach is released at once, and is no problem meanwhile', async t => {
  const host = await hostWith('web', 'other')
  kill(host, 'web')
  t.equal(await host.local.restore(keyOf('web')), 'pending')
  await settle()
  t.same(containersOf(host), ['other'])
})

t.test('one that ends later, or while the state is stale, waits for the collector’s round', async t => {
  for (const [what, prepare] of [
    ['later', (host: MemoryHost) => host.time.advance(10_000)],
    ['the state is stale', (host: MemoryHost) => void (host.standing = { ready: false, leader: null })]
  ] as const) {
    const host = await hostWith('web')
    await prepare(host)
    kill(host, 'web')
    t.equal(await host.local.restore(keyOf('web')), 'pending', what)
    await settle()
    t.same(containersOf(host), ['web'], what)
  }
})

t.test('without automatic release it stays, and is an error', async t => {
  const host = await hostWith('web')
  host.collector.setAfter(0)
  kill(host, 'web')
  t.match(await host.local.restore(keyOf('web')), { code: 'ERR_NETNS', message: /attach it again or detach it/ })
  await settle()
  t.same(containersOf(host), ['web'])
})

t.test('a young endpoint whose interface is still there is not released', async t => {
  const host = await hostWith('web')
  losePath(host, 'web')
  t.equal(await host.local.restore(keyOf('web')), 'pending')
  await settle()
  t.same(containersOf(host), ['web'])
})
