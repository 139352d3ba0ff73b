// The API of one host over the real state machine: what only AgentApi does. Routes, commands and CNI's verbs run against it
// in test/api, test/cli and test/cni; endpoints and namespaces have tests of their own beside this one.

import t from 'tap'
import { parseContainerId, parseHostName, parseIfName, parseNetworkName } from '#model/ids.ts'
import type { AgentEvent } from '#model/event.ts'
import { VxmeshError } from '#model/errors.ts'
import { vethName } from '#overlay/plan/network/names.ts'
import { attach, makeHost, register } from '#test/allocator/fixtures.ts'
import { DOCTOR, makeMember, MemoryHost } from './memory-host.ts'

const [WEB, DB, ETH0, RED] = [
  parseContainerId('web'),
  parseContainerId('db'),
  parseIfName('eth0'),
  parseNetworkName('red')
]
const PAGE = { limit: 500, continue: null }
const NETNS = '/run/netns/web'
const UNSHAPED = { ingressRate: 0, egressRate: 0, delayUs: 0 }
const VETH = vethName(WEB, ETH0)

/** Endpoint web on this host, and db on h2. */
async function occupied(): Promise<MemoryHost> {
  const host = new MemoryHost()
  host.counting = true
  await host.api.endpointAttach({ network: RED, containerId: WEB, ifname: ETH0, name: '', netns: NETNS, ...UNSHAPED })
  host.caller.do(attach('red', 'db', { host: 2 }))
  return host
}

t.test('only endpoints of this host are listed with counters', async t => {
  const { api, devices } = await occupied()
  devices.counted.set(VETH, { rxBytes: 10, txBytes: 20, rxPackets: 1, txPackets: 2 })
  const list = (await api.endpointList(PAGE)).items
  t.match(
    list.map(({ containerId, host, rxBytes, txBytes, hostIfindex }) => [
      containerId,
      host,
      rxBytes,
      txBytes,
      hostIfindex
    ]),
    [
      ['web', 'h1', 10, 20, 7],
      ['db', 'h2', null, null, null]
    ]
  )
  t.same((await api.endpointList(PAGE, { network: RED })).items, list)
})

t.test('a list without endpoints of this host reads no counters', async t => {
  const host = new MemoryHost()
  host.counting = true
  host.caller.do(attach('red', 'db', { host: 2 }))
  host.devices.failures.set('counters', new VxmeshError('ERR_KERNEL', 'ENOBUFS'))
  t.equal((await host.api.endpointList(PAGE)).items.length, 1)
  await host.endpoints.attach({ network: RED, containerId: WEB, ifname: ETH0, name: '', netns: NETNS, ...UNSHAPED })
  await t.rejects(host.api.endpointList(PAGE), { code: 'ERR_KERNEL' })
})

t.test('an endpoint of this host is shown with the shaping that the kernel enforces', async t => {
  const { api, devices } = await occupied()
  await api.endpointUpdate(WEB, ETH0, { egressRate: 8_000 })
  t.match(await api.endpointShow(WEB), [{ egressRate: 8_000, installed: { egressRate: 8_000 }, rxBytes: 0 }])
  devices.interfaces.clear()
  t.match(await api.endpointShow(WEB), [{ egressRate: 8_000, installed: null, rxBytes: null }])
  t.match(await api.endpointShow(DB, ETH0), [{ host: 'h2', installed: null }])
  await t.rejects(api.endpointShow(parseContainerId('none')), { code: 'ERR_ENDPOINT_NOT_FOUND', message: /none$/ })
  await t.rejects(api.endpointShow(WEB, parseIfName('eth1')), { code: 'ERR_ENDPOINT_NOT_FOUND', message: /web eth1$/ })
})

t.test('a check asks the kernel of the endpoint’s own host', async t => {
  const { api, devices } = await occupied()
  t.match(await api.endpointCheck(WEB, ETH0, NETNS), { containerId: 'web' })
  await t.rejects(api.endpointCheck(WEB, ETH0, '/run/netns/other'), { code: 'ERR_CHECK_FAILED' })
  await t.rejects(api.endpointCheck(DB, ETH0, NETNS), { code: 'ERR_CHECK_FAILED', message: /another host/ })
  await t.rejects(api.endpointCheck(parseContainerId('none'), ETH0, NETNS), { code: 'ERR_ENDPOINT_NOT_FOUND' })
  devices.interfaces.clear()
  await t.rejects(api.endpointCheck(WEB, ETH0, NETNS), { code: 'ERR_CHECK_FAILED' })
})

t.test('a detach answers with the endpoint as it was before', async t => {
  const { api, caller } = await occupied()
  t.match(await api.endpointDetach(WEB, ETH0), { containerId: 'web', address: '10.1.0.2/24' })
  t.equal(caller.state.endpointCount, 1)
  await t.rejects(api.endpointDetach(WEB, ETH0), { code: 'ERR_ENDPOINT_NOT_FOUND' })
})

t.test('networks and hosts count their endpoints; a host shows its member’s status', async t => {
  const host = await occupied()
  t.match(await host.api.networkShow(RED), { endpoints: 2 })
  t.match((await host.api.hostList(PAGE)).items, [
    { name: 'h1', endpoints: 1, status: 'alive' },
    { name: 'h2', endpoints: 1, status: 'alive' }
  ])
  host.members = [makeMember(1), makeMember(2, 'failed')]
  t.match(await host.api.hostShow(parseHostName('h2')), { status: 'failed' })
  host.members = []
  t.match(await host.api.hostShow(parseHostName('h2')), { status: 'unknown' })
  t.match(await host.api.hostRemove(parseHostName('h2')), { name: 'h2', endpoints: 1 }, 'how many were released')
  await t.rejects(host.api.hostShow(parseHostName('h2')), { code: 'ERR_HOST_NOT_FOUND' })
})

t.test('the servers show who leads, who is alive, and where they are', async t => {
  const host = new MemoryHost()
  const [p1, p2] = [makeHost(1).peerId, makeHost(2).peerId]
  t.match(await host.api.raftPeers(), [
    { name: 'h1', peerId: p1, address: '192.0.2.1:7947', state: 'leader', voter: true },
    { name: 'h2', peerId: p2, address: '192.0.2.2:7947', state: 'follower' }
  ])
  host.members = [makeMember(1), makeMember(2, 'failed')]
  t.match(await host.api.raftPeers(), [{ state: 'leader' }, { state: 'unknown', address: '192.0.2.2:7947' }])
  host.members = [makeMember(1)]
  t.match(await host.api.raftPeers(), [{ state: 'leader' }, { name: 'h2', state: 'unknown', address: '' }])
})

t.test('voters are changed by the names of hosts; a client cannot become one', async t => {
  const host = new MemoryHost()
  const [h2, p2] = [parseHostName('h2'), makeHost(2).peerId]
  await host.api.raftAdd(h2)
  await host.api.raftRemove(h2)
  await host.api.raftTransfer(h2)
  t.same(host.serverChanges, [`add ${p2}`, `remove ${p2}`, `transfer ${p2}`])
  host.caller.do({ ...register(3), host: { ...makeHost(3), role: 'client' } })
  await t.rejects(host.api.raftAdd(parseHostName('h3')), { code: 'ERR_INVALID', field: 'name' })
  const none = parseHostName('none')
  for (const change of [host.api.raftAdd(none), host.api.raftRemove(none), host.api.raftTransfer(none)]) {
    await t.rejects(change, { code: 'ERR_HOST_NOT_FOUND' })
  }
  t.equal(host.serverChanges.length, 3)
})

t.test('callers that ask for an examination while one is in flight share it', async t => {
  let finish: () => void = () => undefined
  let count = 0
  const host = new MemoryHost({
    examine: async () => {
      count += 1
      await new Promise<void>(resolve => (finish = resolve))
      if (count === 2) throw new VxmeshError('ERR_KERNEL', 'EPERM')
      return DOCTOR
    }
  })
  const both = [host.api.doctor(), host.api.doctor()]
  finish()
  t.same(await Promise.all(both), [DOCTOR, DOCTOR])
  t.equal(count, 1)
  const failing = host.api.doctor()
  finish()
  await t.rejects(failing, { code: 'ERR_KERNEL' })
  const again = host.api.doctor()
  finish()
  t.same([await again, count], [DOCTOR, 3], 'a failed one is not kept')
})

t.test('after `leave` the agent ends once the answer has had time to be sent', async t => {
  const host = new MemoryHost()
  await host.api.leave()
  await host.time.advance(199)
  t.equal(host.stopRequested, false)
  await host.time.advance(1)
  t.equal(host.stopRequested, true)
})

t.test('a watcher gets recent events if it asks for them, then its start, then new ones until it stops', t => {
  const host = new MemoryHost()
  const seen: AgentEvent[] = []
  const [stop, stopLate] = [host.api.watch(event => seen.push(event), true), host.api.watch(() => undefined)]
  host.events.publish(() => ({ kind: 'member-vanished', name: 'h8', peerId: 'p8' }))
  stop()
  stopLate()
  host.events.publish(() => ({ kind: 'member-vanished', name: 'h7', peerId: 'p7' }))
  t.match(seen, [{ kind: 'member-vanished', name: 'h9' }, { kind: 'watching', index: 4 }, { name: 'h8' }])
  t.equal(seen.length, 3)
  t.end()
})

t.test('a refused change is the caller’s error, and a missing network is named', async t => {
  const { api } = new MemoryHost()
  const none = parseNetworkName('none')
  const calls: readonly (() => Promise<unknown>)[] = [
    () => api.networkShow(none),
    () => api.networkUpdate(none, {}),
    () => api.networkDelete(none, true),
    () => api.endpointList(PAGE, { network: none })
  ]
  for (const call of calls) {
    await t.rejects(call(), { code: 'ERR_NETWORK_NOT_FOUND', message: /none/ })
  }
})
