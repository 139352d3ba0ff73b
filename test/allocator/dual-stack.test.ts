// Networks of IPv6 alone and of both families: what is created, allocated, mirrored and refused (docs/adr/0053).

import t from 'tap'
import { verify } from '#allocator/consistency.ts'
import { addressesOf } from '#model/addresses.ts'
import { FIRST_RULES, RULES, UNGATED_RULES } from '#model/command.ts'
import type { Endpoint } from '#model/endpoint.ts'
import type { NetworkName } from '#model/ids.ts'
import { formatIp, formatSubnet } from '#model/ip.ts'
import {
  addSubnet,
  attach,
  brief,
  Caller,
  contents,
  create,
  detach,
  map,
  open,
  register,
  remove,
  testRefusals,
  update
} from './fixtures.ts'

/** Both: 10.2.0.0/24 and fd00:2::/64; six: fd00:6::/64; tiny: fd00:7::/126; red: 10.1.0.0/24; all of VNIs from 4096. */
function ready(): Caller {
  const caller = Caller.raised()
  caller.do(create('both', { subnet: '10.2.0.0/24', subnet6: 'fd00:2::/64' }))
  caller.do(create('six', { subnet: 'fd00:6::/64' }))
  caller.do(create('tiny', { subnet: 'fd00:7::/126' }))
  return caller
}

function networkOf(caller: Caller, endpoint: Endpoint): NonNullable<ReturnType<Caller['state']['network']>> {
  const network = caller.state.network(endpoint.network)
  if (network === undefined) throw new Error('no network')
  return network
}

/** All addresses that the attach gives, as text. */
function given(caller: Caller, command: ReturnType<typeof attach>): string {
  const endpoint = caller.endpoint(command)
  return addressesOf(networkOf(caller, endpoint), endpoint).map(formatIp).join(' ')
}

/** The cases' containers are x; c2 to c4 are there already. */
function taken(): Caller {
  const caller = ready()
  caller.do(attach('both', 'c2'))
  caller.do(attach('both', 'c3', { address: '10.2.0.30', address6: 'fd00:2::33' }))
  caller.do(attach('both', 'c4', { address6: 'fd00:2::1:0:0:4' }))
  caller.do(attach('six', 's2'))
  caller.do(attach('six', 's3', { address: 'fd00:6::1:0:0:5', mac: '02:aa:00:00:00:05' }))
  return caller
}

testRefusals(t, taken, [
  {
    what: 'an IPv4 gateway of an IPv6 network',
    command: create('new', { subnet: 'fd00:3::/64', gateway: '10.3.0.1' }),
    refused: 'ERR_INVALID gateway'
  },
  {
    what: 'an IPv6 gateway of a network of both families',
    command: create('new', { subnet: '10.3.0.0/24', subnet6: 'fd00:3::/64', gateway: 'fd00:3::1' }),
    refused: 'ERR_INVALID gateway'
  },
  {
    what: 'a gateway outside of its IPv6 subnet',
    command: create('new', { subnet: 'fd00:3::/64', gateway: 'fd00:4::1' }),
    refused: 'ERR_INVALID gateway'
  },
  {
    what: 'the network address as gateway',
    command: create('new', { subnet: 'fd00:3::/64', gateway: 'fd00:3::' }),
    refused: 'ERR_INVALID gateway'
  },
  { what: 'an existing name', command: create('six', { subnet: 'fd00:3::/64' }), refused: 'ERR_NETWORK_EXISTS name' },
  {
    what: 'a second subnet of a network that has another one',
    command: addSubnet('both', 'fd00:3::/64'),
    refused: 'ERR_INVALID subnet'
  },
  {
    what: 'the same second subnet with another prefix length',
    command: addSubnet('both', 'fd00:2::/65'),
    refused: 'ERR_INVALID subnet'
  },
  {
    what: 'a second subnet of a network of IPv6',
    command: addSubnet('six', 'fd00:3::/64'),
    refused: 'ERR_INVALID subnet'
  },
  {
    what: 'an IPv4 subnet beside another',
    command: addSubnet('red', '10.3.0.0/24'),
    refused: 'ERR_INVALID subnet'
  },
  {
    what: 'an added subnet that is smaller than the first',
    command: addSubnet('red', 'fd00:3::/121'),
    refused: 'ERR_INVALID subnet'
  },
  {
    what: 'a subnet for an unknown network',
    command: addSubnet('none', 'fd00:3::/64'),
    refused: 'ERR_NETWORK_NOT_FOUND name'
  },
  {
    what: 'an IPv6 address in an IPv4 network',
    command: attach('red', 'x', { address: 'fd00:2::5' }),
    refused: 'ERR_INVALID address'
  },
  {
    what: 'a second address in an IPv4 network',
    command: attach('red', 'x', { address6: 'fd00:2::5' }),
    refused: 'ERR_INVALID address'
  },
  {
    what: 'an IPv4 address in an IPv6 network',
    command: attach('six', 'x', { address: '10.2.0.5' }),
    refused: 'ERR_INVALID address'
  },
  {
    what: 'an IPv4 address beside a good one in an IPv6 network',
    command: attach('six', 'x', { address: '10.2.0.5', address6: 'fd00:6::9' }),
    refused: 'ERR_INVALID address'
  },
  {
    what: 'two IPv6 addresses in an IPv6 network',
    command: attach('six', 'x', { address: 'fd00:6::8', address6: 'fd00:6::9' }),
    refused: 'ERR_INVALID address'
  },
  {
    what: 'two IPv6 addresses in a network of both families',
    command: attach('both', 'x', { address: 'fd00:2::8', address6: 'fd00:2::9' }),
    refused: 'ERR_INVALID address'
  },
  {
    what: 'an address outside of the IPv6 subnet',
    command: attach('six', 'x', { address: 'fd00:9::5' }),
    refused: 'ERR_INVALID address'
  },
  {
    what: 'the network address of an IPv6 subnet',
    command: attach('six', 'x', { address: 'fd00:6::' }),
    refused: 'ERR_INVALID address'
  },
  {
    what: 'the gateway of an IPv6 network',
    command: attach('six', 'x', { address: 'fd00:6::1' }),
    refused: 'ERR_INVALID address'
  },
  {
    what: 'an IPv6 address that another container has',
    command: attach('six', 'x', { address: 'fd00:6::2' }),
    refused: 'ERR_ADDRESS_IN_USE address'
  },
  {
    what: 'an IPv6 address beyond the pool that another container has',
    command: attach('six', 'x', { address: 'fd00:6::1:0:0:5' }),
    refused: 'ERR_ADDRESS_IN_USE address'
  },
  {
    what: 'a second address outside of its subnet',
    command: attach('both', 'x', { address: '10.2.0.9', address6: 'fd00:6::9' }),
    refused: 'ERR_INVALID address'
  },
  {
    what: 'the network address of the second subnet',
    command: attach('both', 'x', { address6: 'fd00:2::' }),
    refused: 'ERR_INVALID address'
  },
  {
    what: 'the mirror of the gateway',
    command: attach('both', 'x', { address6: 'fd00:2::1' }),
    refused: 'ERR_INVALID address'
  },
  {
    what: 'the mirror of the gateway, with a free first address',
    command: attach('both', 'x', { address: '10.2.0.9', address6: 'fd00:2::1' }),
    refused: 'ERR_INVALID address'
  },
  {
    what: 'the mirror of an address that another container has',
    command: attach('both', 'x', { address6: 'fd00:2::2' }),
    refused: 'ERR_ADDRESS_IN_USE address'
  },
  {
    what: 'the mirror of an address that another container has, as an explicit first address',
    command: attach('both', 'x', { address: 'fd00:2::2' }),
    refused: 'ERR_ADDRESS_IN_USE address'
  },
  {
    what: 'a second address that another container has chosen',
    command: attach('both', 'x', { address: '10.2.0.9', address6: 'fd00:2::33' }),
    refused: 'ERR_ADDRESS_IN_USE address'
  },
  {
    what: 'a second address beyond all mirrors that another container has chosen',
    command: attach('both', 'x', { address6: 'fd00:2::1:0:0:4' }),
    refused: 'ERR_ADDRESS_IN_USE address'
  },
  {
    what: 'an address whose mirror another container has chosen',
    command: attach('both', 'x', { address: '10.2.0.51' }),
    refused: 'ERR_ADDRESS_IN_USE address'
  },
  {
    what: 'a taken first address with a free second one',
    command: attach('both', 'x', { address: '10.2.0.2', address6: 'fd00:2::99' }),
    refused: 'ERR_ADDRESS_IN_USE address'
  },
  {
    what: 'another second address for a container that has one',
    command: attach('both', 'c2', { address6: 'fd00:2::99' }),
    refused: 'ERR_ENDPOINT_EXISTS containerId'
  },
  {
    what: 'the mirror for a container that has another second address',
    command: attach('both', 'c3', { address6: 'fd00:2::1e' }),
    refused: 'ERR_ENDPOINT_EXISTS containerId'
  },
  {
    what: 'another address for a container of an IPv6 network',
    command: attach('six', 's2', { address: 'fd00:6::9' }),
    refused: 'ERR_ENDPOINT_EXISTS containerId'
  }
])

t.test('an IPv6 network and one of both families are created with their gateways', t => {
  const caller = Caller.raised()
  const six = caller.network(create('six', { subnet: 'fd00:6::/64' }))
  t.same([six.vni, formatSubnet(six.subnet), formatIp(six.gateway)], [4_097, 'fd00:6::/64', 'fd00:6::1'])
  t.notOk('subnet6' in six)
  const both = caller.network(create('both', { subnet: '10.2.0.0/24', subnet6: 'fd00:2::/64', gateway: '10.2.0.9' }))
  t.same(
    [formatSubnet(both.subnet), formatSubnet(both.subnet6 ?? both.subnet), formatIp(both.gateway)],
    ['10.2.0.0/24', 'fd00:2::/64', '10.2.0.9']
  )
  const far = caller.network(create('far', { subnet: 'fd00:8::/64', gateway: 'fd00:8::1:0:0:7' }))
  t.equal(formatIp(far.gateway), 'fd00:8::1:0:0:7')
  t.equal(given(caller, attach('far', 'f')), 'fd00:8::1', 'a gateway beyond the pool takes none of it')
  t.equal(
    brief(caller.try(attach('far', 'g', { address: 'fd00:8::1:0:0:7' }))),
    'ERR_INVALID address',
    'and is given to nobody'
  )
  t.same(verify(caller.state), [])
  t.end()
})

t.test('no container gets the MAC of a gateway beyond the pool', t => {
  const caller = Caller.raised()
  caller.do(create('far', { subnet: 'fd00:8::/64', gateway: 'fd00:8::1:0:0:2' }))
  t.same(
    ['a', 'b', 'c'].map(id => given(caller, attach('far', id))),
    ['fd00:8::1', 'fd00:8::3', 'fd00:8::4']
  )
  t.equal(brief(caller.try(attach('far', 'd', { address: 'fd00:8::2' }))), 'ERR_MAC_IN_USE mac')
  t.equal(given(caller, attach('far', 'd', { address: 'fd00:8::2', mac: '02:aa:00:00:00:01' })), 'fd00:8::2')
  t.equal(given(caller, attach('far', 'e', { mac: '02:aa:00:00:00:02' })), 'fd00:8::5')
  t.same(verify(caller.state), [])
  t.end()
})

t.test('a retry of a creation with its request id gets the network, also in other families', t => {
  const caller = Caller.raised()
  const made = caller.network(create('both', { subnet: '10.2.0.0/24', subnet6: 'fd00:2::/64', requestId: 'r' }))
  t.same(caller.network(create('both', { subnet: '10.2.0.0/24', subnet6: 'fd00:2::/64', requestId: 'r' })), made)
  t.equal(brief(caller.try(create('both', { subnet: 'fd00:2::/64', requestId: 'q' }))), 'ERR_NETWORK_EXISTS name')
  t.end()
})

t.test('networks may have the same IPv6 subnets, and their addresses are apart', t => {
  const caller = ready()
  caller.do(create('other', { subnet: 'fd00:6::/64' }))
  t.equal(given(caller, attach('six', 'c1')), 'fd00:6::2')
  t.equal(given(caller, attach('other', 'c2')), 'fd00:6::2')
  t.same(verify(caller.state), [])
  t.end()
})

t.test('containers of a network of both families get an address and its mirror, the freed ones last', t => {
  const caller = ready()
  t.equal(given(caller, attach('both', 'a')), '10.2.0.2 fd00:2::2')
  t.equal(given(caller, attach('both', 'b')), '10.2.0.3 fd00:2::3')
  caller.do(detach('a'))
  t.equal(given(caller, attach('both', 'c')), '10.2.0.4 fd00:2::4')
  t.equal(given(caller, attach('both', 'd', { address: '10.2.0.254' })), '10.2.0.254 fd00:2::fe')
  for (const { containerId, address6 } of caller.state.endpoints()) t.equal(address6, undefined, containerId)
  t.same(verify(caller.state), [])
  t.end()
})

t.test('of an IPv6 network, addresses are given from the first, the freed one last', t => {
  const caller = ready()
  t.same(
    ['a', 'b'].map(id => given(caller, attach('six', id))),
    ['fd00:6::2', 'fd00:6::3']
  )
  caller.do(detach('a'))
  t.equal(given(caller, attach('six', 'c')), 'fd00:6::4')
  t.equal(caller.endpoint(attach('six', 'd')).mac, '02:02:00:00:00:05', 'with a MAC of its lowest 32 bits')
  t.end()
})

t.test(
  'a /126 has two addresses for containers; both are given, then none, and one that is freed is given again',
  t => {
    const caller = ready()
    t.same(
      ['a', 'b'].map(id => given(caller, attach('tiny', id))),
      ['fd00:7::2', 'fd00:7::3']
    )
    const full = caller.try(attach('tiny', 'c'))
    t.equal(brief(full), 'ERR_SUBNET_EXHAUSTED network')
    t.match(full, { error: { message: /2 of 2 addresses of fd00:7::\/126 are allocated$/ } })
    caller.do(detach('a'))
    t.equal(given(caller, attach('tiny', 'c')), 'fd00:7::2')
    t.end()
  }
)

t.test('an address beyond the pool is given to whom asks for it, and again when it is free', t => {
  const caller = ready()
  const far = 'fd00:6::dead:0:beef'
  t.equal(given(caller, attach('six', 'a', { address: far })), far)
  t.equal(given(caller, attach('six', 'a')), far, 'a retry without an address')
  t.equal(given(caller, attach('six', 'a', { address: far })), far, 'a retry with it')
  t.equal(given(caller, attach('six', 'a', { address6: 'fd00:6::dead:0:beef' })), far, 'as the IPv6 address')
  t.equal(caller.state.endpointsOf('six' as NetworkName).length, 1)
  t.equal(caller.state.addressUse('six' as NetworkName)?.used, 0, 'it takes nothing of the pool')
  t.same(verify(caller.state), [])
  caller.do(detach('a'))
  t.equal(given(caller, attach('six', 'b', { address: far })), far)
  t.equal(given(caller, attach('six', 'c')), 'fd00:6::2')
  t.same(verify(caller.state), [])
  caller.do(remove('six', true))
  t.same(verify(caller.state), [])
  t.end()
})

t.test('addresses beyond the pool have MACs of their own, whatever their lowest bits', t => {
  const caller = ready()
  t.equal(caller.endpoint(attach('six', 'a')).mac, '02:02:00:00:00:02')
  const beyond = ['1:0:0:1', '1:0:0:2', '2:0:0:2', '100:0', 'ffff:ffff:ffff:ffff']
  const rows = beyond.map(end =>
    caller.endpoint(attach('six', `far-${end.replaceAll(':', '-')}`, { address: `fd00:6::${end}` }))
  )
  t.equal(new Set(rows.map(({ mac }) => mac)).size, beyond.length)
  for (const { mac } of rows) t.match(mac, /^0a(:[0-9a-f]{2}){5}$/)
  t.equal(caller.endpoint(attach('six', 'b')).mac, '02:02:00:00:00:03')
  const [first] = rows
  if (first === undefined) throw new Error('no row')
  caller.do(detach(first.containerId))
  t.equal(caller.endpoint(attach('six', 'again', { address: 'fd00:6::1:0:0:1' })).mac, first.mac, 'always the same')
  caller.do(detach('again'))
  caller.do(attach('six', 'thief', { mac: first.mac }))
  t.equal(brief(caller.try(attach('six', 'again', { address: 'fd00:6::1:0:0:1' }))), 'ERR_MAC_IN_USE mac')
  t.same(verify(caller.state), [])
  t.end()
})

t.test('the pool passes over an address whose MAC one beyond it asked for', t => {
  const caller = ready()
  caller.do(attach('six', 'a', { address: 'fd00:6::1:0:0:2', mac: '02:02:00:00:00:02' }))
  t.equal(given(caller, attach('six', 'b')), 'fd00:6::3')
  t.equal(given(caller, attach('six', 'c', { address: 'fd00:6::2', mac: '02:aa:00:00:00:01' })), 'fd00:6::2')
  t.same(verify(caller.state), [])
  t.end()
})

t.test('a container gets the second address that it asks for, whose first address is the next one', t => {
  const caller = ready()
  t.equal(given(caller, attach('both', 'a', { address6: 'fd00:2::77' })), '10.2.0.2 fd00:2::77')
  t.equal(given(caller, attach('both', 'a')), '10.2.0.2 fd00:2::77', 'a retry that asks for nothing')
  t.equal(given(caller, attach('both', 'a', { address6: 'fd00:2::77' })), '10.2.0.2 fd00:2::77', 'a retry')
  t.equal(
    given(caller, attach('both', 'a', { address: '10.2.0.2', address6: 'fd00:2::77' })),
    '10.2.0.2 fd00:2::77',
    'one that names both'
  )
  t.equal(given(caller, attach('both', 'a', { address: 'fd00:2::77' })), '10.2.0.2 fd00:2::77', 'as the only address')
  t.equal(given(caller, attach('both', 'b')), '10.2.0.3 fd00:2::3')
  t.equal(given(caller, attach('both', 'c', { address6: 'fd00:2::2' })), '10.2.0.4 fd00:2::2', 'a mirror that is free')
  t.same(verify(caller.state), [])
  t.end()
})

t.test('an address whose mirror was asked for is passed over until that one is free', t => {
  const caller = ready()
  t.equal(given(caller, attach('both', 'a', { address: '10.2.0.9', address6: 'fd00:2::3' })), '10.2.0.9 fd00:2::3')
  t.equal(given(caller, attach('both', 'b')), '10.2.0.2 fd00:2::2')
  t.equal(given(caller, attach('both', 'c')), '10.2.0.4 fd00:2::4')
  t.equal(brief(caller.try(attach('both', 'd', { address: '10.2.0.3' }))), 'ERR_ADDRESS_IN_USE address')
  t.equal(
    given(caller, attach('both', 'd', { address: '10.2.0.3', address6: 'fd00:2::9' })),
    '10.2.0.3 fd00:2::9',
    'with another second address it may be had'
  )
  caller.do(detach('a'))
  caller.do(detach('d'))
  t.equal(given(caller, attach('both', 'e', { address: '10.2.0.3' })), '10.2.0.3 fd00:2::3')
  t.same(verify(caller.state), [])
  t.end()
})

t.test('the mirrors of the first and of the last address of the IPv4 subnet may be asked for', t => {
  const caller = ready()
  t.equal(given(caller, attach('both', 'a', { address6: 'fd00:2::ff' })), '10.2.0.2 fd00:2::ff')
  t.equal(given(caller, attach('both', 'b', { address6: 'fd00:2::100' })), '10.2.0.3 fd00:2::100')
  t.same(verify(caller.state), [])
  t.end()
})

t.test('a second address that is the mirror of the first is not written down', t => {
  const caller = ready()
  const explicit = caller.endpoint(attach('both', 'a', { address: '10.2.0.9', address6: 'fd00:2::9' }))
  t.notOk('address6' in explicit)
  const automatic = caller.endpoint(attach('both', 'b', { address6: 'fd00:2::2' }))
  t.same([formatIp(automatic.address), 'address6' in automatic], ['10.2.0.2', false])
  t.same(verify(caller.state), [])
  t.end()
})

t.test('when mirrors of all free addresses were asked for, the refusal says so', t => {
  const caller = Caller.raised()
  caller.do(create('few', { subnet: '10.3.0.0/29', subnet6: 'fd00:3::/64' }))
  caller.do(attach('few', 'a', { address6: 'fd00:3::6' }))
  caller.do(attach('few', 'b', { address6: 'fd00:3::5' }))
  caller.do(attach('few', 'c', { address6: 'fd00:3::4' }))
  const refused = caller.try(attach('few', 'd'))
  t.equal(brief(refused), 'ERR_SUBNET_EXHAUSTED network')
  t.match(refused, { error: { message: /3 of 5 .* the other 2 cannot be used: their MACs or IPv6 addresses/ } })
  t.equal(given(caller, attach('few', 'd', { address6: 'fd00:3::99' })), '10.3.0.5 fd00:3::99')
  t.same(verify(caller.state), [])
  t.end()
})

t.test('a second subnet gives each endpoint the mirror of its address and touches no row', t => {
  const caller = ready()
  const before = ['a', 'b', 'c'].map(id => caller.endpoint(attach('red', id)))
  caller.do(attach('red', 'far', { address: '10.1.0.200', mac: '02:aa:00:00:00:05' }))
  const network = caller.do(addSubnet('red', 'fd00:1::ab00/120'))
  t.match(network, { kind: 'network', network: { name: 'red', subnet6: { base: 'fd00:1::ab00', prefixLength: 120 } } })
  const after = before.map(({ containerId, ifname }) => caller.state.endpointOf(containerId, ifname))
  for (const [at, row] of before.entries()) t.equal(after[at], row, 'the same row')
  t.same(
    ['a', 'b', 'c', 'far'].map(id => given(caller, attach('red', id))),
    ['10.1.0.2 fd00:1::ab02', '10.1.0.3 fd00:1::ab03', '10.1.0.4 fd00:1::ab04', '10.1.0.200 fd00:1::abc8']
  )
  t.equal(given(caller, attach('red', 'a', { address6: 'fd00:1::ab02' })), '10.1.0.2 fd00:1::ab02', 'a retry with it')
  t.equal(brief(caller.try(attach('red', 'x', { address6: 'fd00:1::ab01' }))), 'ERR_INVALID address', 'the gateway’s')
  t.equal(brief(caller.try(attach('red', 'x', { address6: 'fd00:1::abc8' }))), 'ERR_ADDRESS_IN_USE address')
  t.equal(given(caller, attach('red', 'x')), '10.1.0.5 fd00:1::ab05', 'the cursor goes on')
  t.same(verify(caller.state), [])
  t.end()
})

t.test('the same subnet is added again without a change, and settings change with it', t => {
  const caller = ready()
  caller.do(addSubnet('red', 'fd00:1::/64'))
  const before = contents(caller.state)
  caller.do(addSubnet('red', 'fd00:1::/64'))
  t.equal(contents(caller.state), before)
  caller.do({ ...addSubnet('red', 'fd00:1::/64'), egressRate: 8_000 })
  t.match(caller.state.network('red' as NetworkName), { egressRate: 8_000, subnet6: { prefixLength: 64 } })
  caller.do(update('red', 16_000))
  t.match(caller.state.network('red' as NetworkName), { egressRate: 16_000, subnet6: { prefixLength: 64 } }, 'it stays')
  t.same(verify(caller.state), [])
  t.end()
})

const access = { hostAccess: true }

t.test('networks with hostAccess do not overlap in either family', t => {
  const caller = Caller.raised()
  caller.do(create('a', { subnet: '10.2.0.0/24', subnet6: 'fd00:2::/64', ...access }))
  caller.do(create('b', { subnet: 'fd00:6::/64', ...access }))
  caller.do(create('c', { subnet: '10.4.0.0/24', ...access }))
  for (const [what, command] of Object.entries({
    'the IPv6 subnet of an IPv6 network': create('x', { subnet: 'fd00:6::/64', ...access }),
    'one within it': create('x', { subnet: 'fd00:6::ab00/120', ...access }),
    'one around it': create('x', { subnet: 'fd00:6::/48', ...access }),
    'the second subnet of a network': create('x', { subnet: 'fd00:2::/64', ...access }),
    'a second subnet that is another’s first': create('x', {
      subnet: '10.9.0.0/24',
      subnet6: 'fd00:6::/80',
      ...access
    }),
    'a second subnet that is another’s second': create('x', {
      subnet: '10.9.0.0/24',
      subnet6: 'fd00:2::/80',
      ...access
    }),
    'an IPv4 subnet beside a free one': create('x', { subnet: '10.2.0.128/25', subnet6: 'fd00:9::/64', ...access }),
    'an added subnet that is another’s first': addSubnet('c', 'fd00:6::/64'),
    'an added subnet around another’s second': addSubnet('c', 'fd00:2::/48'),
    'an added IPv4 subnet within another’s': addSubnet('b', '10.2.0.0/25')
  })) {
    const before = contents(caller.state)
    const outcome = caller.try(command)
    t.equal(brief(outcome), 'ERR_ADDRESS_IN_USE subnet', what)
    t.match(outcome, { error: { message: /overlaps .* of network [ab]: both have hostAccess/ } })
    t.equal(contents(caller.state), before)
  }
  caller.do(create('free', { subnet: '10.2.0.0/24', subnet6: 'fd00:2::/64' }))
  caller.do(addSubnet('c', 'fd00:4::/64'))
  t.equal(brief(caller.try(create('x', { subnet: 'fd00:4::/64', ...access }))), 'ERR_ADDRESS_IN_USE subnet', 'added')
  caller.do(remove('a'))
  caller.do(remove('c'))
  caller.do(create('x', { subnet: '10.2.0.0/24', subnet6: 'fd00:2::/64', ...access }))
  caller.do(create('y', { subnet: 'fd00:4::/64', ...access }))
  t.ok(caller.state.tables.hostRouted.isDisjoint)
  t.same(verify(caller.state), [])
  t.end()
})

t.test('where networks with hostAccess overlap already, a host has no address in two of them, in no family', t => {
  const caller = Caller.raised()
  caller.rules = FIRST_RULES
  caller.do(create('a', { subnet: '10.2.0.0/24', ...access }))
  caller.do(create('b', { subnet: '10.2.0.0/24', ...access }))
  caller.rules = RULES
  t.equal(given(caller, attach('a', 'a1')), '10.2.0.2')
  t.equal(given(caller, attach('b', 'b1')), '10.2.0.3', 'passed over')
  t.equal(brief(caller.try(attach('b', 'b2', { address: '10.2.0.2' }))), 'ERR_ADDRESS_IN_USE address')
  t.equal(brief(caller.try(addSubnet('a', 'fd00:2::/64'))), 'ERR_ADDRESS_IN_USE subnet')
  t.equal(given(caller, attach('b', 'b3', { host: 2, address: '10.2.0.2' })), '10.2.0.2', 'another host')
  t.end()
})

t.test('a namespace’s subnet avoids the IPv4 subnets of all networks, and IPv6 ones are not in its way', t => {
  const caller = ready()
  caller.do(create('there', { subnet: '10.64.0.0/24', subnet6: 'fd00:3::/64' }))
  const result = caller.do(open('x'))
  t.match(result, { kind: 'network', network: { name: 'ns-x' } })
  if (result.kind === 'network') t.equal(formatSubnet(result.network.subnet), '10.64.1.0/24')
  caller.do(map('y', 'six', 'both'))
  t.same(verify(caller.state), [])
  t.end()
})

t.test('an endpoint moves from a vacant host with all its addresses', t => {
  const caller = taken()
  const { tables } = caller.state
  const endpoint = caller.state.endpointsOf('both' as NetworkName).find(row => row.address6 !== undefined)
  const beyond = caller.state.endpointsOf('six' as NetworkName).find(row => row.mac === '02:aa:00:00:00:05')
  if (endpoint === undefined || beyond === undefined) throw new Error('no endpoint')
  for (const row of [endpoint, beyond]) tables.replaceEndpoint(row, { ...row, egressRate: 8_000 })
  t.same(verify(caller.state), [], 'the indexes have the new rows')
  caller.do(detach(endpoint.containerId))
  caller.do(detach(beyond.containerId))
  t.same(verify(caller.state), [])
  t.end()
})

t.test('before the cluster’s rules allow IPv6, it is refused, whatever the request says', t => {
  for (const rules of [FIRST_RULES, UNGATED_RULES, RULES]) {
    const caller = Caller.ready()
    caller.do(attach('red', 'there'))
    caller.rules = rules
    for (const [field, commands] of Object.entries({
      subnet: [
        create('x', { subnet: 'fd00::/64' }),
        create('x', { subnet: '10.3.0.0/24', subnet6: 'fd00::/64' }),
        addSubnet('red', 'fd00::/64'),
        addSubnet('red', '10.3.0.0/24')
      ],
      address: [
        attach('red', 'x', { address: 'fd00::5' }),
        attach('red', 'x', { address6: 'fd00::5' }),
        attach('red', 'x', { address: '10.1.0.9', address6: 'fd00::5' }),
        attach('red', 'there', { address6: 'fd00::5' })
      ]
    })) {
      for (const command of commands) {
        const before = contents(caller.state)
        const outcome = caller.try(command)
        t.equal(brief(outcome), `ERR_UNSUPPORTED ${field}`)
        t.match(outcome, { error: { message: /upgrade vxmesh to 0\.2 on h1, h2 first/ } })
        t.equal(contents(caller.state), before)
      }
    }
  }
  t.end()
})

t.test('the refusal names five old hosts at most, or says that it will be possible in a moment', t => {
  const many = Caller.ready(9)
  many.do(register(3, { version: '0.2.0' }))
  t.match(many.try(create('x', { subnet: 'fd00::/64' })), {
    error: { message: /on h1, h2, h4, h5, h6 and 3 others first/ }
  })
  const none = Caller.ready(2)
  for (const n of [1, 2]) none.do(register(n, { version: '0.2.0' }))
  t.match(none.try(create('x', { subnet: 'fd00::/64' })), { error: { message: /about to allow it; try again/ } })
  t.end()
})
