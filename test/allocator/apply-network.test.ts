import t from 'tap'
import { FIRST_AUTOMATIC_VNI } from '#allocator/vni-pool.ts'
import { VNI_MAX, type NetworkName, type Vni } from '#model/ids.ts'
import { formatIp } from '#model/ip.ts'
import { attach, brief, Caller, contents, create, remove, testRefusals, update } from './fixtures.ts'

/** Red (4096) with an endpoint, and blue (77), created with a request id. */
function ready(): Caller {
  const caller = Caller.ready()
  caller.do(create('blue', { vni: 77, requestId: 'r-1' }))
  caller.do(attach('red', 'c1'))
  return caller
}

testRefusals(t, ready, [
  { what: 'a name that exists', command: create('red'), refused: 'ERR_NETWORK_EXISTS name' },
  {
    what: 'a name that exists, whatever else is asked for',
    command: create('red', { subnet: '10.7.0.0/16', vni: 5 }),
    refused: 'ERR_NETWORK_EXISTS name'
  },
  {
    what: 'a request id where the network of that name has none',
    command: create('red', { requestId: 'r-1' }),
    refused: 'ERR_NETWORK_EXISTS name'
  },
  {
    what: 'another request id',
    command: create('blue', { requestId: 'r-2' }),
    refused: 'ERR_NETWORK_EXISTS name'
  },
  {
    what: 'a gateway outside of the subnet',
    command: create('green', { gateway: '10.2.0.1' }),
    refused: 'ERR_INVALID gateway'
  },
  {
    what: 'the network address as gateway',
    command: create('green', { gateway: '10.1.0.0' }),
    refused: 'ERR_INVALID gateway'
  },
  {
    what: 'the broadcast address as gateway',
    command: create('green', { gateway: '10.1.0.255' }),
    refused: 'ERR_INVALID gateway'
  },
  { what: 'the VNI of an automatic network', command: create('green', { vni: 4_096 }), refused: 'ERR_VNI_IN_USE vni' },
  { what: 'the VNI of an explicit network', command: create('green', { vni: 77 }), refused: 'ERR_VNI_IN_USE vni' },
  { what: 'VNI 0', command: { ...create('green'), vni: 0 as Vni }, refused: 'ERR_VNI_IN_USE vni' },
  {
    what: 'a VNI of 25 bits',
    command: { ...create('green'), vni: (VNI_MAX + 1) as Vni },
    refused: 'ERR_VNI_IN_USE vni'
  },
  {
    what: 'updating an unknown network',
    command: update('green', 8_000),
    refused: 'ERR_NETWORK_NOT_FOUND name'
  },
  { what: 'deleting an unknown network', command: remove('green'), refused: 'ERR_NETWORK_NOT_FOUND name' },
  {
    what: 'deleting an unknown network by force',
    command: remove('green', true),
    refused: 'ERR_NETWORK_NOT_FOUND name'
  },
  { what: 'to delete a network with endpoints', command: remove('red'), refused: 'ERR_NETWORK_IN_USE name' }
])

t.test('automatic VNIs start at 4096; explicit ones may be any', t => {
  const caller = new Caller()
  t.equal(caller.network(create('a')).vni, 4_096)
  t.equal(caller.network(create('b', { vni: 1 })).vni, 1)
  t.equal(caller.network(create('c', { vni: 4_097 })).vni, 4_097)
  t.equal(caller.network(create('d', { vni: VNI_MAX })).vni, VNI_MAX)
  t.equal(caller.network(create('e')).vni, 4_098, 'an explicitly allocated VNI is skipped')
  t.end()
})

t.test('a released VNI is not reused while there is an unused one', t => {
  const caller = new Caller()
  caller.do(create('a'))
  caller.do(remove('a'))
  t.equal(caller.network(create('a')).vni, 4_097)
  t.equal(caller.network(create('b', { vni: 4_096 })).vni, 4_096, 'but it may be requested')
  t.end()
})

t.test('without a free automatic VNI the error is ERR_VNI_EXHAUSTED, until one is released', t => {
  const caller = new Caller()
  caller.do(create('a', { vni: VNI_MAX }))
  for (let vni = FIRST_AUTOMATIC_VNI; vni < VNI_MAX; vni++) caller.state.tables.vnis.claim(vni)
  const before = caller.state.tables.vnis.use()
  t.equal(brief(caller.try(create('b'))), 'ERR_VNI_EXHAUSTED vni')
  t.same(caller.state.tables.vnis.use(), before)
  t.equal(brief(caller.try(create('low', { vni: 4_095 }))), 'ok', 'lower VNIs are available on request')
  t.equal(brief(caller.try(create('b'))), 'ERR_VNI_EXHAUSTED vni')
  caller.do(remove('a'))
  t.equal(caller.network(create('b')).vni, VNI_MAX)
  t.end()
})

t.test('the gateway defaults to the first host address', t => {
  const caller = new Caller()
  t.equal(formatIp(caller.network(create('a', { subnet: '172.16.8.0/21' })).gateway), '172.16.8.1')
  const given = create('b', { subnet: '172.16.8.0/21', gateway: '172.16.15.254' })
  t.equal(formatIp(caller.network(given).gateway), '172.16.15.254')
  t.end()
})

t.test('a retry with the same request id gets the network that the first attempt created', t => {
  const caller = ready()
  const before = contents(caller.state)
  const again = caller.network(create('blue', { requestId: 'r-1', vni: 5, subnet: '10.9.0.0/16' }))
  t.equal(again, caller.state.network('blue' as NetworkName))
  t.equal(contents(caller.state), before)
  t.end()
})

t.test('an update changes the egress rate and nothing else; without a rate it changes nothing', t => {
  const caller = ready()
  const red = caller.state.network('red' as NetworkName)
  caller.do(update('red', 5_000_000))
  t.same(caller.state.network('red' as NetworkName), { ...red, egressRate: 5_000_000 })
  const before = contents(caller.state)
  caller.do(update('red'))
  t.equal(contents(caller.state), before)
  caller.do(update('red', 0))
  t.same(caller.state.network('red' as NetworkName), red)
  t.end()
})

t.test('deleting a network leaves nothing behind; with force it also deletes its endpoints', t => {
  const caller = ready()
  t.equal(brief(caller.try(remove('blue'))), 'ok', 'an empty network needs no force')
  const { networkCount, endpointCount } = caller.state
  t.same({ networkCount, endpointCount }, { networkCount: 1, endpointCount: 1 })
  caller.do(remove('red', true))
  t.equal(caller.state.endpointCount, 0)
  t.equal(caller.state.networkCount, 0)
  t.equal(caller.state.tables.vnis.use().used, 0)
  t.equal(brief(caller.try(attach('red', 'c1'))), 'ERR_NETWORK_NOT_FOUND network')
  caller.do(create('red'))
  t.equal(caller.address('red', 'c1'), '10.1.0.2', 'a new network of the same name starts afresh')
  t.end()
})
