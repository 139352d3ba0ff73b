import t from 'tap'
import { dnsOf, namesView } from '#agent/names.ts'
import { ServiceResolver } from '#allocator/service-resolver.ts'
import type { NetworkName } from '#model/ids.ts'
import { formatIp, parseIp } from '#model/ip.ts'
import { attach, Caller, create, detach, serve } from '#test/allocator/fixtures.ts'

const RED = 'red' as NetworkName
const DNS = {
  enabled: true,
  zone: 'vxmesh',
  search: ['corp.example'],
  upstreams: [],
  forward: true,
  queryRate: 1,
  cacheBytes: 0
}

t.test('a service goes before an endpoint of its name, and a headless one has its endpoints’ addresses', t => {
  const caller = Caller.raised()
  const view = namesView(caller.state, new ServiceResolver(caller.state))
  const found = (name: string): readonly string[] | undefined => view.lookup(RED, name)?.addresses.map(formatIp)
  caller.do({ ...attach('red', 'c1', { labels: { app: 'web' } }), name: 'web' })
  t.same(found('web'), ['10.1.0.2'])
  caller.do(serve('red', 'web', { addresses: ['10.1.0.77'], select: ['app=web'] }))
  t.same(found('web'), ['10.1.0.77'])
  t.equal(view.nameOf(RED, parseIp('10.1.0.77')), 'web')
  t.same(found('c1'), ['10.1.0.2'], 'the container id still is its own')
  caller.do(serve('red', 'all', { headless: true, select: ['app=web'] }))
  t.same(found('all'), ['10.1.0.2'])
  caller.do(detach('c1'))
  t.same(found('all'), [], 'without an endpoint it exists, without addresses')
  t.equal(found('nobody'), undefined)
  t.equal(view.lookup('blue' as NetworkName, 'web'), null)
  t.equal(view.nameOf(RED, parseIp('10.1.0.9')), null)
  t.end()
})

t.test('a container asks its gateways, in the domain of its network first', t => {
  const caller = Caller.raised()
  caller.do(create('both', { subnet: '10.2.0.0/24', subnet6: 'fd00:2::/64' }))
  const both = caller.state.network('both' as NetworkName)
  if (both === undefined) throw new Error('no network')
  t.strictSame(dnsOf(both, DNS), { nameservers: ['10.2.0.1', 'fd00:2::1'], search: ['both.vxmesh', 'corp.example'] })
  t.equal(dnsOf(both, { ...DNS, enabled: false }), null)
  t.equal(dnsOf({ ...both, egress: false }, DNS), null, 'a network without a router')
  t.not(dnsOf({ ...both, egress: false, hostAccess: true }, DNS), null)
  t.end()
})
