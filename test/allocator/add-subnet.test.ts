// An IPv4 subnet is added to a network of IPv6 alone: what becomes of its endpoints, and what is refused (docs/adr/0053).

import t from 'tap'
import { verify } from '#allocator/consistency.ts'
import { digestOf } from '#allocator/digest.ts'
import { decodeState, encodeState } from '#allocator/snapshot.ts'
import { vacated } from '#allocator/vacate.ts'
import { addressesOf, gatewayMacOf } from '#model/addresses.ts'
import type { Endpoint } from '#model/endpoint.ts'
import type { NetworkName } from '#model/ids.ts'
import { formatIp } from '#model/ip.ts'
import {
  addSubnet,
  attach,
  brief,
  Caller,
  contents,
  create,
  detach,
  NEW,
  peer,
  register,
  remove,
  testRefusals
} from './fixtures.ts'

/** Network six, fd00:6::/64 of VNI 4097, with containers a and b at ::2 and ::3, and c, which asked for ::77 and a MAC. */
function ready(options: Parameters<typeof create>[1] = {}): Caller {
  const caller = Caller.raised()
  caller.do(create('six', { subnet: 'fd00:6::/64', ...options }))
  caller.do(attach('six', 'a', { requestId: 'r', rate: 8_000 }))
  caller.do(attach('six', 'b', { host: 2 }))
  caller.do(attach('six', 'c', { address: 'fd00:6::77', mac: '02:aa:00:00:00:05' }))
  return caller
}

function endpoints(caller: Caller): ReadonlyMap<string, Endpoint> {
  return new Map(caller.state.endpointsOf('six' as NetworkName).map(row => [row.containerId, row]))
}

function macOfGateway({ state }: Caller): string | undefined {
  const network = state.network('six' as NetworkName)
  return network === undefined ? undefined : gatewayMacOf(network)
}

/** The addresses and the MAC that an attach gives. */
function given(caller: Caller, command: ReturnType<typeof attach>): string {
  const endpoint = caller.endpoint(command)
  const network = caller.state.network(endpoint.network)
  if (network === undefined) throw new Error('no network')
  return [...addressesOf(network, endpoint).map(formatIp), endpoint.mac].join(' ')
}

t.test('each endpoint gets the IPv4 address that its own mirrors, and keeps all else', t => {
  const caller = ready()
  const before = endpoints(caller)
  const { network } = caller.do(addSubnet('six', '10.6.0.0/24')) as { network: object }
  t.match(network, { name: 'six', vni: 4_097, subnet: { prefixLength: 24 }, subnet6: { base: 'fd00:6::' } })
  const texts = Object.entries(network).filter(([key]) => key === 'gateway')
  t.same(
    texts.map(([, ip]) => formatIp(ip as never)),
    ['10.6.0.1']
  )
  const after = endpoints(caller)
  t.equal(after.size, before.size)
  for (const [id, row] of after) {
    const { address: _, ...rest } = row
    t.match(before.get(id), rest, id)
    t.equal(caller.state.endpointOf(row.containerId, row.ifname), row)
    t.ok(caller.state.endpointsOnHost(row.host).includes(row))
  }
  t.equal(macOfGateway(caller), '02:01:00:00:00:01', 'the gateway too: containers remember it')
  t.equal(given(caller, attach('six', 'a')), '10.6.0.2 fd00:6::2 02:01:00:00:00:02', 'a retry')
  t.equal(given(caller, attach('six', 'a', { address: 'fd00:6::2' })), '10.6.0.2 fd00:6::2 02:01:00:00:00:02')
  t.equal(given(caller, attach('six', 'b', { host: 2 })), '10.6.0.3 fd00:6::3 02:01:00:00:00:03')
  t.equal(given(caller, attach('six', 'c')), '10.6.0.119 fd00:6::77 02:aa:00:00:00:05')
  t.same(verify(caller.state), [])
  t.end()
})

t.test('allocation goes on where it was, and an address that is freed has the derived MAC', t => {
  const caller = ready()
  caller.do(addSubnet('six', '10.6.0.0/24'))
  t.equal(given(caller, attach('six', 'd')), '10.6.0.4 fd00:6::4 02:01:0a:06:00:04')
  caller.do(detach('a'))
  t.equal(given(caller, attach('six', 'e')), '10.6.0.5 fd00:6::5 02:01:0a:06:00:05', 'the freed one is the last')
  t.equal(given(caller, attach('six', 'f', { address: '10.6.0.2' })), '10.6.0.2 fd00:6::2 02:01:0a:06:00:02')
  t.equal(
    given(caller, attach('six', 'g', { address6: 'fd00:6::1:0:0:9' })),
    '10.6.0.6 fd00:6::1:0:0:9 02:01:0a:06:00:06'
  )
  t.equal(brief(caller.try(attach('six', 'h', { address: '10.6.0.119' }))), 'ERR_ADDRESS_IN_USE address')
  for (const mac of ['02:01:00:00:00:03', '02:01:00:00:00:01'])
    t.equal(brief(caller.try(attach('six', 'h', { mac }))), 'ERR_MAC_IN_USE mac', mac)
  t.equal(
    given(caller, attach('six', 'i', { mac: '02:01:0a:06:00:01' })),
    '10.6.0.7 fd00:6::7 02:01:0a:06:00:01',
    'what would be the gateway’s MAC if the network had been created with IPv4'
  )
  t.same(verify(caller.state), [])
  caller.do(remove('six', true))
  t.same(verify(caller.state), [])
  t.end()
})

t.test('a search that was past the end of the IPv4 subnet starts again at its beginning', t => {
  const caller = Caller.raised()
  caller.do(create('six', { subnet: 'fd00:6::/64' }))
  for (const id of ['a', 'b', 'c', 'd', 'e', 'f', 'g']) caller.do(attach('six', id))
  for (const id of ['b', 'c', 'd', 'e', 'f', 'g']) caller.do(detach(id))
  caller.do(addSubnet('six', '10.6.0.0/29'))
  t.equal(given(caller, attach('six', 'h')), '10.6.0.3 fd00:6::3 02:01:0a:06:00:03')
  t.same(verify(caller.state), [])
  t.end()
})

t.test('the state after it survives a snapshot', t => {
  const caller = ready({ hostAccess: true })
  caller.do(addSubnet('six', '10.6.0.0/24'))
  const copy = new Caller(decodeState(JSON.parse(JSON.stringify(encodeState(caller.state)))), 's2')
  copy.rules = caller.rules
  t.same(verify(copy.state), [])
  const other = new Caller(caller.state, 's2')
  other.rules = caller.rules
  t.equal(digestOf(copy.state), digestOf(caller.state))
  t.equal(macOfGateway(copy), '02:01:00:00:00:01')
  t.equal(given(copy, attach('six', 'x')), given(other, attach('six', 'x')))
  t.equal(digestOf(copy.state), digestOf(caller.state))
  t.end()
})

t.test('once it is there, it is added again without a change, and settings change with it', t => {
  const caller = ready()
  caller.do({ ...addSubnet('six', '10.6.0.0/24'), egressRate: 8_000 })
  t.match(caller.state.network('six' as NetworkName), { egressRate: 8_000, subnet: { prefixLength: 24 } })
  const before = contents(caller.state)
  caller.do(addSubnet('six', '10.6.0.0/24'))
  caller.do(addSubnet('six', 'fd00:6::/64'))
  t.equal(contents(caller.state), before)
  t.equal(brief(caller.try(addSubnet('six', '10.6.0.0/25'))), 'ERR_INVALID subnet')
  t.equal(brief(caller.try(addSubnet('six', 'fd00:7::/64'))), 'ERR_INVALID subnet')
  t.end()
})

t.test('with hostAccess, hosts reach both subnets from then on', t => {
  const caller = ready({ hostAccess: true })
  caller.do(addSubnet('six', '10.6.0.0/24'))
  for (const subnet of ['10.6.0.0/25', 'fd00:6::/96'])
    t.equal(brief(caller.try(create('x', { subnet, hostAccess: true }))), 'ERR_ADDRESS_IN_USE subnet')
  t.same(verify(caller.state), [])
  t.end()
})

t.test('an endpoint that waits for its host gets its address, too', t => {
  const caller = ready()
  caller.state.become(vacated(caller.state))
  for (const n of [3, 4]) caller.do(register(n, { version: NEW, name: `h${n - 2}`, vtep: `192.0.2.${n}` }))
  caller.do(addSubnet('six', '10.6.0.0/24'))
  t.same(verify(caller.state), [])
  t.equal(given(caller, attach('six', 'b', { host: 4 })), '10.6.0.3 fd00:6::3 02:01:00:00:00:03')
  t.equal(caller.state.host(peer(2)), undefined, 'the vacant host is gone with its last endpoint')
  t.same(verify(caller.state), [])
  t.end()
})

/** As `ready`, and networks whose gateway or endpoints have no place in an IPv4 subnet. */
function crowded(): Caller {
  const caller = ready()
  caller.do(create('last', { subnet: 'fd00:7::/64', gateway: 'fd00:7::ff' }))
  caller.do(create('far', { subnet: 'fd00:8::/64', gateway: 'fd00:8::1:0:0:1' }))
  caller.do(create('tiny', { subnet: 'fd00:9::/126' }))
  caller.do(create('beyond', { subnet: 'fd00:b::/64' }))
  caller.do(attach('beyond', 'z', { address: 'fd00:b::1:0:0:9' }))
  caller.do(create('four', { subnet: '10.44.0.0/16', hostAccess: true }))
  caller.do(create('reached', { subnet: 'fd00:c::/64', hostAccess: true }))
  return caller
}

testRefusals(t, crowded, [
  {
    what: 'one larger than the IPv6 subnet',
    command: addSubnet('tiny', '10.9.0.0/29'),
    refused: 'ERR_INVALID subnet'
  },
  {
    what: 'one that has no address for an endpoint',
    command: addSubnet('six', '10.9.0.0/26'),
    refused: 'ERR_INVALID subnet'
  },
  {
    what: 'one whose last address would be an endpoint’s',
    command: addSubnet('six', '10.9.0.0/30'),
    refused: 'ERR_INVALID subnet'
  },
  {
    what: 'one without an address for an endpoint beyond the pool',
    command: addSubnet('beyond', '10.0.0.0/8'),
    refused: 'ERR_INVALID subnet'
  },
  {
    what: 'one whose last address would be the gateway’s',
    command: addSubnet('last', '10.9.0.0/24'),
    refused: 'ERR_INVALID subnet'
  },
  {
    what: 'one that has no address for the gateway',
    command: addSubnet('far', '10.0.0.0/8'),
    refused: 'ERR_INVALID subnet'
  },
  {
    what: 'one that overlaps another that hosts reach',
    command: addSubnet('reached', '10.44.1.0/24'),
    refused: 'ERR_ADDRESS_IN_USE subnet'
  }
])

t.test('the refusal names what has no place, the first of them on every replica', t => {
  const caller = crowded()
  for (const [id, address] of [
    ['y', 'fd00:6::f0'],
    ['x', 'fd00:6::a0']
  ] as const)
    caller.do(attach('six', id, { address }))
  const why = (command: ReturnType<typeof addSubnet>): string => {
    const outcome = caller.try(command)
    return outcome.ok ? 'ok' : outcome.error.message
  }
  t.match(
    why(addSubnet('six', '10.9.0.0/25')),
    /fd00:6::a0 of container x would mirror no host address of 10\.9\.0\.0\/25/
  )
  t.match(why(addSubnet('far', '10.9.0.0/24')), /fd00:8::1:0:0:1 of the gateway would mirror no host address/)
  t.equal(why(addSubnet('last', '10.9.0.0/23')), 'ok', 'larger by one bit, it has an address for it')
  t.same(verify(caller.state), [])
  t.end()
})
