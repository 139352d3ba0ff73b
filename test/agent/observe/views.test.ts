import t from 'tap'
import { endpointView, hostView, memberView, namespaceView, networkView } from '#agent/observe/views.ts'
import { vacated } from '#allocator/vacate.ts'
import { parseNamespaceName, parseNetworkName } from '#model/ids.ts'
import type { Labels } from '#model/labels.ts'
import { addSubnet, attach, Caller, create, makeHost } from '#test/allocator/fixtures.ts'
import { makeMember } from '../memory-host.ts'

const caller = Caller.ready()
const network = caller.network({ ...create('blue', { subnet: '10.2.0.0/16' }), mtu: 1_400, hostAccess: true })
const endpoint = caller.endpoint(attach('blue', 'web', { rate: 8_000 }))
const facts = { network, overlayMtu: 1_450, host: makeHost(1), counters: undefined }

t.test('a network shows its own MTU, or the overlay’s if it has none', t => {
  t.match(networkView(network, { overlayMtu: 1_450, endpoints: 3 }), {
    ...{ name: 'blue', subnet: '10.2.0.0/16', gateway: '10.2.0.1', mtu: 1_400, endpoints: 3 },
    ...{ egress: true, hostAccess: true, egressV6: 'nat', egressRate: 0, vni: network.vni }
  })
  t.equal(networkView({ ...network, egressV6: 'routed' }, { overlayMtu: 1_450, endpoints: 0 }).egressV6, 'routed')
  t.equal(networkView({ ...network, mtu: 0 }, { overlayMtu: 1_450, endpoints: 0 }).mtu, 1_450)
  t.end()
})

t.test('an endpoint shows what the state holds; what only its host knows is null elsewhere', t => {
  const unknown = { rxBytes: null, txBytes: null, rxPackets: null, txPackets: null, rxRate: null, txRate: null }
  t.match(endpointView(endpoint, facts), {
    ...{ network: 'blue', containerId: 'web', ifname: 'eth0', host: 'h1', address: '10.2.0.2/16' },
    ...{ gateway: '10.2.0.1', ingressRate: 8_000, mtu: 1_400, hostIfindex: null, installed: null, ...unknown }
  })
  const counters = { ifindex: 7, rxBytes: 1, txBytes: 2, rxPackets: 3, txPackets: 4 }
  const installed = { ingressRate: 8_000, egressRate: 0, delayUs: 0 }
  const rates = { rxRate: 5, txRate: null }
  t.match(endpointView(endpoint, { ...facts, counters, rates, installed }), {
    ...{ rxBytes: 1, txBytes: 2, rxPackets: 3, txPackets: 4, hostIfindex: 7, rxRate: 5, txRate: null, installed }
  })
  t.end()
})

t.test('an endpoint shows its labels, or that it has none', t => {
  const caller = Caller.raised()
  const red = caller.network(create('labelled', { subnet: '10.9.0.0/24' }))
  const shown = (id: string, labels: Labels): unknown =>
    endpointView(caller.endpoint(attach('labelled', id, { labels })), { ...facts, network: red }).labels
  t.strictSame(shown('a', { app: 'web', tier: '' }), { app: 'web', tier: '' })
  t.strictSame(shown('b', {}), {})
  t.end()
})

t.test('a network and an endpoint of both families show all subnets, gateways and addresses', t => {
  const caller = Caller.raised()
  const both = caller.network(create('both', { subnet: '10.3.0.0/24', subnet6: 'fd00:3::/64' }))
  const six = caller.network(create('six', { subnet: 'fd00:6::/64' }))
  const viewed = { overlayMtu: 1_450, endpoints: 0 }
  t.match(networkView(both, viewed), {
    ...{ subnet: '10.3.0.0/24', subnets: ['10.3.0.0/24', 'fd00:3::/64'] },
    ...{ gateway: '10.3.0.1', gateways: ['10.3.0.1', 'fd00:3::1'] }
  })
  t.match(networkView(six, viewed), { subnet: 'fd00:6::/64', subnets: ['fd00:6::/64'], gateways: ['fd00:6::1'] })
  t.match(endpointView(caller.endpoint(attach('both', 'a')), { ...facts, network: both }), {
    ...{ address: '10.3.0.2/24', addresses: ['10.3.0.2/24', 'fd00:3::2/64'] },
    ...{ gateway: '10.3.0.1', gateways: ['10.3.0.1', 'fd00:3::1'] }
  })
  const before = caller.endpoint(attach('six', 'b'))
  t.match(endpointView(before, { ...facts, network: six }), { address: 'fd00:6::2/64', addresses: ['fd00:6::2/64'] })
  const after = caller.do(addSubnet('six', '10.6.0.0/24'))
  if (after.kind !== 'network') throw new Error('no network')
  t.match(
    endpointView(before, { ...facts, network: after.network }),
    { address: '10.6.0.2/24', addresses: ['10.6.0.2/24', 'fd00:6::2/64'] },
    'a row from before its network got an IPv4 subnet'
  )
  t.end()
})

t.test('an endpoint of a host without a record shows the peer id', t => {
  t.equal(endpointView(endpoint, { ...facts, host: undefined }).host, endpoint.host)
  t.end()
})

t.test('a vacant host has no VTEP', t => {
  const restored = Caller.ready(1)
  restored.do(attach('red', 'web'))
  const [host] = [...vacated(restored.state).hosts()]
  if (host === undefined) throw new Error('no host')
  t.match(hostView(host, { status: 'unknown', endpoints: 0 }), { name: 'h1', vtep: '', status: 'unknown' })
  t.match(hostView(makeHost(1), { status: 'alive', endpoints: 2 }), { vtep: '192.0.2.1', endpoints: 2, role: 'server' })
  t.end()
})

t.test('a member and a namespace show what others need of them', t => {
  const { peerId } = makeHost(2)
  t.strictSame(memberView(makeMember(2, 'failed')), {
    ...{ name: 'h2', address: '192.0.2.2', status: 'failed', role: 'server', vtep: '192.0.2.2', peerId }
  })
  const [name, red] = [parseNamespaceName('shop'), parseNetworkName('red')]
  t.strictSame(namespaceView({ name, network: red, grants: [] }), { namespace: 'shop', network: 'red', grants: [] })
  t.end()
})
