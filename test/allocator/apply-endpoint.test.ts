import t from 'tap'
import type { IfName } from '#model/ids.ts'
import { formatIp } from '#model/ip.ts'
import { attach, brief, Caller, contents, create, detach, peer, removeHost, testRefusals } from './fixtures.ts'

/**
 * Red, VNI 4096: c1 has 10.1.0.2; c2 has 10.1.0.3 and the MAC of 10.1.0.9. Full, a /30 with one container. Held, a /30
 * whose only address is free while its MAC is not.
 */
function ready(): Caller {
  const caller = Caller.ready()
  caller.do(attach('red', 'c1'))
  caller.do(attach('red', 'c2', { mac: '02:00:0a:01:00:09' }))
  caller.do(create('blue'))
  caller.do(create('full', { subnet: '10.3.0.0/30' }))
  caller.do(attach('full', 'c3'))
  caller.do(create('held', { subnet: '10.4.0.0/29', vni: 256 }))
  for (let n = 2; n <= 5; n++) caller.do(attach('held', `held-${n}`))
  caller.do(attach('held', 'held-6', { address: '10.4.0.6', mac: '02:aa:00:00:00:01' }))
  caller.do(detach('held-5'))
  caller.do(attach('held', 'held-7', { address: '10.4.0.5', mac: '02:00:0a:04:00:06' }))
  caller.do(detach('held-6'))
  return caller
}

testRefusals(t, ready, [
  { what: 'an unknown network', command: attach('green', 'x'), refused: 'ERR_NETWORK_NOT_FOUND network' },
  {
    what: 'an unknown host',
    command: attach('red', 'x', { host: 9 }),
    refused: 'ERR_HOST_NOT_REGISTERED host'
  },
  { what: 'a container in another network', command: attach('blue', 'c1'), refused: 'ERR_ENDPOINT_EXISTS containerId' },
  {
    what: 'a container on another host',
    command: attach('red', 'c1', { host: 2 }),
    refused: 'ERR_ENDPOINT_EXISTS containerId'
  },
  {
    what: 'another address for a container',
    command: attach('red', 'c1', { address: '10.1.0.77' }),
    refused: 'ERR_ENDPOINT_EXISTS containerId'
  },
  {
    what: 'another MAC for a container',
    command: attach('red', 'c1', { mac: '02:bb:00:00:00:01' }),
    refused: 'ERR_ENDPOINT_EXISTS containerId'
  },
  {
    what: 'an address of another subnet',
    command: attach('red', 'x', { address: '10.2.0.2' }),
    refused: 'ERR_INVALID address'
  },
  {
    what: 'the address before the subnet',
    command: attach('red', 'x', { address: '10.0.255.255' }),
    refused: 'ERR_INVALID address'
  },
  { what: 'the network address', command: attach('red', 'x', { address: '10.1.0.0' }), refused: 'ERR_INVALID address' },
  {
    what: 'the broadcast address',
    command: attach('red', 'x', { address: '10.1.0.255' }),
    refused: 'ERR_INVALID address'
  },
  { what: 'the gateway', command: attach('red', 'x', { address: '10.1.0.1' }), refused: 'ERR_INVALID address' },
  {
    what: 'an address of another container',
    command: attach('red', 'x', { address: '10.1.0.2' }),
    refused: 'ERR_ADDRESS_IN_USE address'
  },
  {
    what: 'a MAC of another container',
    command: attach('red', 'x', { mac: '02:00:0a:01:00:02' }),
    refused: 'ERR_MAC_IN_USE mac'
  },
  {
    what: 'a MAC of another container, in capitals',
    command: attach('red', 'x', { mac: '02:00:0A:01:00:02', address: '10.1.0.7' }),
    refused: 'ERR_MAC_IN_USE mac'
  },
  {
    what: "a MAC of the hosts' own devices",
    command: attach('red', 'x', { mac: '06:76:78:00:00:01' }),
    refused: 'ERR_MAC_IN_USE mac'
  },
  {
    what: "the gateway's MAC",
    command: attach('red', 'x', { mac: '02:00:0a:01:00:01' }),
    refused: 'ERR_MAC_IN_USE mac'
  },
  {
    what: 'an address whose derived MAC another container has',
    command: attach('red', 'x', { address: '10.1.0.9' }),
    refused: 'ERR_MAC_IN_USE mac'
  },
  { what: 'one more in a full subnet', command: attach('full', 'x'), refused: 'ERR_SUBNET_EXHAUSTED network' },
  {
    what: 'one more in a full subnet, with a MAC',
    command: attach('full', 'x', { mac: '02:bb:00:00:00:01' }),
    refused: 'ERR_SUBNET_EXHAUSTED network'
  },
  {
    what: 'one more where the MAC of the last free address is taken',
    command: attach('held', 'x'),
    refused: 'ERR_SUBNET_EXHAUSTED network'
  },
  { what: 'detaching an unknown container', command: detach('x'), refused: 'ERR_ENDPOINT_NOT_FOUND containerId' },
  {
    what: 'detaching another interface',
    command: detach('c1', 'eth1'),
    refused: 'ERR_ENDPOINT_NOT_FOUND containerId'
  }
])

t.test('attaching a container again returns its endpoint unchanged, whatever the rate and request id', t => {
  const caller = ready()
  const before = contents(caller.state)
  const [first] = caller.state.endpointsOfContainer(attach('red', 'c1').containerId)
  for (const p of [{}, { address: '10.1.0.2' }, { mac: '02:00:0a:01:00:02' }, { rate: 9_000, requestId: 'r' }]) {
    t.same(caller.do(attach('red', 'c1', p)), { kind: 'endpoint', endpoint: first, created: false })
  }
  t.equal(contents(caller.state), before)
  t.end()
})

t.test('each interface of a container is a separate endpoint, also in several networks', t => {
  const caller = ready()
  t.equal(caller.endpoint(attach('blue', 'c1', { ifname: 'eth1' })).network, 'blue')
  t.equal(brief(caller.try(attach('red', 'c1', { ifname: 'eth1' }))), 'ERR_ENDPOINT_EXISTS containerId')
  caller.do(detach('c1', 'eth0'))
  const left = caller.state.endpointsOfContainer(attach('red', 'c1').containerId)
  t.same(
    left.map(({ ifname }) => ifname),
    ['eth1' as IfName]
  )
  t.end()
})

t.test('networks with the same subnet are independent', t => {
  const caller = Caller.ready()
  caller.do(create('blue'))
  t.equal(caller.address('red', 'a'), '10.1.0.2')
  t.equal(caller.address('blue', 'b'), '10.1.0.2')
  caller.do(attach('red', 'c', { address: '10.1.0.50', mac: '02:cc:00:00:00:01' }))
  caller.do(attach('blue', 'd', { address: '10.1.0.50', mac: '02:cc:00:00:00:01' }))
  caller.do(detach('a'))
  t.equal(brief(caller.try(attach('blue', 'e', { address: '10.1.0.2' }))), 'ERR_ADDRESS_IN_USE address')
  t.equal(brief(caller.try(attach('red', 'e', { address: '10.1.0.2' }))), 'ok')
  t.end()
})

for (const { subnet, usable } of [
  { subnet: '10.5.0.0/30', usable: 1 },
  { subnet: '10.5.0.0/29', usable: 5 },
  { subnet: '10.5.0.8/29', usable: 5 }
]) {
  t.test(`${subnet}: it is full after ${usable} containers, until an address is released`, t => {
    const caller = Caller.ready()
    caller.do(create('small', { subnet }))
    const given = [...Array(usable).keys()].map(n => caller.address('small', `c${n}`))
    t.equal(new Set(given).size, usable)
    t.equal(brief(caller.try(attach('small', 'more'))), 'ERR_SUBNET_EXHAUSTED network')
    for (let n = 0; n < usable; n++) {
      caller.do(detach(`c${n}`))
      t.equal(caller.address('small', `d${n}`), given[n], 'the only free address')
      t.equal(brief(caller.try(attach('small', 'more'))), 'ERR_SUBNET_EXHAUSTED network')
    }
    t.end()
  })
}

t.test('a released address is the last to be reused', t => {
  const caller = Caller.ready()
  caller.do(create('small', { subnet: '10.5.0.0/28' }))
  const first = caller.address('small', 'c')
  caller.do(detach('c'))
  const given = [...Array(13).keys()].map(n => caller.address('small', `d${n}`))
  t.equal(given.at(-1), first)
  t.equal(new Set(given).size, 13)
  t.end()
})

t.test('a reused address has the same MAC as before', t => {
  const caller = Caller.ready()
  const { mac } = caller.endpoint(attach('red', 'a', { address: '10.1.0.9' }))
  caller.do(detach('a'))
  t.equal(caller.endpoint(attach('red', 'b', { address: '10.1.0.9', host: 2 })).mac, mac)
  t.end()
})

t.test('an address is skipped while another container has its derived MAC explicitly', t => {
  const caller = Caller.ready()
  caller.do(create('small', { subnet: '10.5.0.0/29', vni: 512 }))
  caller.do(attach('small', 'thief', { address: '10.5.0.6', mac: '02:00:0a:05:00:02' }))
  t.equal(caller.address('small', 'a'), '10.5.0.3')
  caller.do(detach('thief'))
  t.same(
    ['b', 'c', 'd', 'e'].map(name => caller.address('small', name)),
    ['10.5.0.4', '10.5.0.5', '10.5.0.6', '10.5.0.2']
  )
  t.end()
})

t.test('with a host its endpoints are released, and no others', t => {
  const caller = Caller.ready()
  caller.do(attach('red', 'a', { host: 1 }))
  caller.do(attach('red', 'b', { host: 2 }))
  caller.do(attach('red', 'a', { host: 1, ifname: 'eth1' }))
  caller.do(removeHost('h1'))
  t.same(
    [...caller.state.endpoints()].map(({ containerId, address }) => `${containerId} ${formatIp(address)}`),
    ['b 10.1.0.3']
  )
  t.same(caller.state.endpointsOnHost(peer(1)), [])
  t.equal(brief(caller.try(attach('red', 'a'))), 'ERR_HOST_NOT_REGISTERED host')
  t.end()
})
