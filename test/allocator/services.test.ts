// Services: their addresses beside those of endpoints, what changes them, and everything that a state is written to.

import assert from 'node:assert/strict'
import fc from 'fast-check'
import t from 'tap'
import { verify } from '#allocator/consistency.ts'
import { digestOf } from '#allocator/digest.ts'
import { getKv, listKv } from '#allocator/kv-view.ts'
import { MAX_SERVICES_PER_NETWORK } from '#allocator/quotas.ts'
import { decodeState, encodeState } from '#allocator/snapshot.ts'
import { StateCursor } from '#allocator/state-cursor.ts'
import type { ClusterState } from '#allocator/state-machine.ts'
import { vacated } from '#allocator/vacate.ts'
import { addressesOf } from '#model/addresses.ts'
import { LABELS } from '#model/command.ts'
import { parseNetworkName, parseServiceName } from '#model/ids.ts'
import { formatIp, parseIp } from '#model/ip.ts'
import type { Service } from '#model/service.ts'
import { history6 } from './arbitraries.ts'
import {
  addSubnet,
  attach,
  brief,
  Caller,
  contents,
  create,
  detach,
  peer,
  register,
  remove,
  reserve,
  serve,
  testRefusals,
  unserve
} from './fixtures.ts'
import { built, plain, sections } from './sections.ts'

const RED = parseNetworkName('red')
const WEB = parseServiceName('web')

function held(state: ClusterState, network: string, name: string): Service {
  const service = state.service(parseNetworkName(network), parseServiceName(name))
  if (service === undefined) throw new Error(`no service ${network}/${name}`)
  return service
}

const texts = ({ addresses }: Service): string[] => addresses.map(formatIp)

/** red, 10.1.0.0/24, with web at 10.1.0.2 and endpoint c1 at 10.1.0.3; both, of both families; six, of IPv6. */
function ready(): Caller {
  const caller = Caller.raised()
  caller.do(serve('red', 'web'))
  caller.do(attach('red', 'c1', { labels: { app: 'web' } }))
  caller.do(create('both', { subnet: '10.2.0.0/28', subnet6: 'fd00:2::/64' }))
  caller.do(create('six', { subnet: 'fd00:6::/64' }))
  return caller
}

t.test('a service gets the next address of its network, one of each family, as an endpoint does', t => {
  const caller = ready()
  t.same(texts(held(caller.state, 'red', 'web')), ['10.1.0.2'])
  t.equal(caller.address('red', 'c2'), '10.1.0.4')
  t.same(texts(caller.service(serve('both', 'web'))), ['10.2.0.2', 'fd00:2::2'])
  t.same(texts(caller.service(serve('six', 'web'))), ['fd00:6::2'])
  t.same(texts(caller.service(serve('red', 'none', { headless: true, ports: [] }))), [])
  t.equal(caller.address('both', 'c3'), '10.2.0.3')
  t.equal(caller.state.addressUse(RED)?.used, 3)
  t.same(verify(caller.state), [])
  t.end()
})

t.test('asked for, it has those addresses and no others, also outside its network', t => {
  const caller = ready()
  for (const [network, name, addresses] of [
    ['red', 'a', ['10.1.0.200']],
    ['red', 'b', ['198.51.100.7']],
    ['both', 'c', ['10.2.0.9']],
    ['both', 'd', ['fd00:2::9']],
    ['both', 'e', ['10.2.0.5', 'fd00:2::77']],
    ['both', 'f', ['10.96.0.10', 'fd00:96::a']],
    ['six', 'g', ['fd00:6::1:0:0:1']]
  ] as const)
    t.same(texts(caller.service(serve(network, name, { addresses }))), addresses)
  t.same(texts(caller.service(serve('six', 'h', { addresses: ['fd00:96::a'] }))), ['fd00:96::a'], 'another network’s')
  t.same(verify(caller.state), [])
  t.end()
})

t.test('a deleted service frees its addresses, which are the last to be used again', t => {
  const caller = new Caller()
  caller.rules = Caller.raised().rules
  caller.do(register(1, { version: '0.4.0' }))
  caller.do(create('tiny', { subnet: '10.3.0.0/29', subnet6: 'fd00:3::/64' }))
  const first = caller.service(serve('tiny', 'web'))
  caller.do(unserve('tiny', 'web'))
  t.equal(caller.state.serviceCount, 0)
  const left = ['a', 'b', 'c', 'd', 'e'].map(name => caller.address('tiny', name))
  t.equal(left.at(-1), texts(first)[0])
  t.equal(brief(caller.try(serve('tiny', 'web'))), 'ERR_SUBNET_EXHAUSTED network')
  caller.do(detach('c'))
  t.same(texts(caller.service(serve('tiny', 'web'))), [left[2], 'fd00:3::5'])
  t.same(verify(caller.state), [])
  t.end()
})

const full = (): Caller => {
  const caller = ready()
  caller.do(attach('both', 'c2', { address: '10.2.0.5', address6: 'fd00:2::66' }))
  caller.do(serve('both', 'd', { addresses: ['fd00:2::9'] }))
  caller.do(serve('red', 'two', { ports: ['80', '81'] }))
  caller.do(serve('red', 'own', { backends: ['10.1.0.3:81'] }))
  return caller
}

testRefusals(t, full, [
  { what: 'a service of no network', command: serve('none', 'x'), refused: 'ERR_NETWORK_NOT_FOUND network' },
  { what: 'a name that is in use', command: serve('red', 'web'), refused: 'ERR_SERVICE_EXISTS name' },
  {
    what: 'a name that is in use, by another request',
    command: serve('red', 'web', { requestId: 'r' }),
    refused: 'ERR_SERVICE_EXISTS name'
  },
  ...(
    [
      ['of a container', 'red', '10.1.0.3', 'ERR_ADDRESS_IN_USE'],
      ['of a container, its second one', 'both', 'fd00:2::66', 'ERR_ADDRESS_IN_USE'],
      ['of a service', 'red', '10.1.0.2', 'ERR_ADDRESS_IN_USE'],
      ['of a host', 'red', '192.0.2.1', 'ERR_ADDRESS_IN_USE'],
      ['of the gateway', 'red', '10.1.0.1', 'ERR_INVALID'],
      ['of the gateway in the second subnet', 'both', 'fd00:2::1', 'ERR_INVALID'],
      ['of the network', 'red', '10.1.0.0', 'ERR_INVALID'],
      ['for broadcast', 'red', '10.1.0.255', 'ERR_INVALID'],
      ['of a family that the network lacks', 'red', 'fd00::1', 'ERR_INVALID'],
      ['of the other family', 'six', '10.1.0.9', 'ERR_INVALID'],
      ['of loopback', 'red', '127.0.0.1', 'ERR_INVALID'],
      ['of one link', 'both', 'fe80::1', 'ERR_INVALID'],
      ['for multicast', 'red', '224.0.0.1', 'ERR_INVALID']
    ] as const
  ).map(([what, network, address, code]) => ({
    what: `an address ${what}`,
    command: serve(network, 'x', { addresses: [address] }),
    refused: `${code} address`
  })),
  { what: 'no port', command: serve('red', 'x', { ports: [] }), refused: 'ERR_INVALID ports' },
  {
    what: 'another port for SCTP',
    command: serve('red', 'x', { ports: ['80:81/sctp'] }),
    refused: 'ERR_INVALID ports'
  },
  {
    what: 'an endpoint with a MAC of services',
    command: attach('red', 'x', { mac: '0e:76:78:00:00:01' }),
    refused: 'ERR_MAC_IN_USE mac'
  },
  {
    what: 'backends with ports of their own for two ports',
    command: serve('red', 'x', { ports: ['80', '81'], backends: ['10.1.0.3:8080'] }),
    refused: 'ERR_INVALID backends'
  },
  ...['10.9.0.1', '10.1.0.1', '10.1.0.255', 'fd00::1'].map(address => ({
    what: `a backend at ${address}`,
    command: serve('red', 'x', { backends: [address] }),
    refused: 'ERR_INVALID backends'
  })),
  { what: 'an update of no service', command: reserve('red', 'x', {}), refused: 'ERR_SERVICE_NOT_FOUND name' },
  { what: 'an update in no network', command: reserve('none', 'web', {}), refused: 'ERR_NETWORK_NOT_FOUND network' },
  { what: 'an update to no port', command: reserve('red', 'web', { ports: [] }), refused: 'ERR_INVALID ports' },
  {
    what: 'an update to backends with ports, of two ports',
    command: reserve('red', 'two', { backends: ['10.1.0.3:1'] }),
    refused: 'ERR_INVALID backends'
  },
  {
    what: 'an update to two ports, of backends with ports',
    command: reserve('red', 'own', { ports: ['80', '81'] }),
    refused: 'ERR_INVALID backends'
  },
  {
    what: 'an update to a backend outside',
    command: reserve('red', 'web', { backends: ['10.9.0.1'] }),
    refused: 'ERR_INVALID backends'
  },
  { what: 'the deletion of no service', command: unserve('red', 'x'), refused: 'ERR_SERVICE_NOT_FOUND name' },
  { what: 'the deletion in no network', command: unserve('none', 'web'), refused: 'ERR_NETWORK_NOT_FOUND network' },
  {
    what: 'an endpoint at a service’s address',
    command: attach('red', 'x', { address: '10.1.0.2' }),
    refused: 'ERR_ADDRESS_IN_USE address'
  },
  {
    what: 'an endpoint whose mirror is a service’s address',
    command: attach('both', 'x', { address: '10.2.0.9' }),
    refused: 'ERR_ADDRESS_IN_USE address'
  },
  {
    what: 'an endpoint with a service’s address as its second one',
    command: attach('both', 'x', { address6: 'fd00:2::9' }),
    refused: 'ERR_ADDRESS_IN_USE address'
  },
  { what: 'the deletion of a network with services', command: remove('both'), refused: 'ERR_NETWORK_IN_USE name' }
])

t.test('a repeated creation gives the service as it is, and changes nothing', t => {
  const caller = ready()
  const made = caller.service(serve('red', 'api', { requestId: 'r1' }))
  caller.do(reserve('red', 'api', { affinity: 5 }))
  const before = contents(caller.state)
  const again = caller.try(serve('red', 'api', { requestId: 'r1', addresses: ['10.1.0.99'], ports: ['1'] }))
  t.match(again, { ok: true, result: { created: false, service: { addresses: made.addresses, affinitySeconds: 5 } } })
  t.equal(contents(caller.state), before)
  t.end()
})

t.test('an update changes what it names; a selector replaces backends, and the other way round', t => {
  const caller = ready()
  const before = held(caller.state, 'red', 'web')
  const hash = caller.state.tables.hash.value
  caller.do(reserve('red', 'web', { ports: ['53/udp', '53/tcp'], affinity: 60 }))
  t.match(held(caller.state, 'red', 'web'), {
    ...before,
    affinitySeconds: 60,
    ports: [{ protocol: 'tcp' }, { port: 53 }]
  })
  caller.do(reserve('red', 'web', { backends: ['10.1.0.9', '10.1.0.3', '10.1.0.9'] }))
  const named = held(caller.state, 'red', 'web')
  t.notOk('select' in named)
  t.same(named.backends, [{ address: parseIp('10.1.0.3') }, { address: parseIp('10.1.0.9') }])
  caller.do(reserve('red', 'web', { select: ['app=web'], ports: ['80:8080'], affinity: 0 }))
  t.strictSame(held(caller.state, 'red', 'web'), before)
  t.same(caller.state.tables.hash.value, hash, 'back to the same hash')
  t.same(verify(caller.state), [])
  t.end()
})

t.test('each field of a service is in the hash', t => {
  const hashes = [
    {},
    { addresses: ['10.1.0.9'] },
    { ports: ['80:81'] },
    { ports: ['81:8080'] },
    { ports: ['80:8080/udp'] },
    { ports: ['80:8080', '81'] },
    { select: ['app'] },
    { select: ['app='] },
    { select: ['app=y'] },
    { backends: ['10.1.0.3'] },
    { backends: ['10.1.0.3:80'] },
    { backends: [] },
    { affinity: 1 },
    { headless: true },
    { requestId: 'r' }
  ].map(p => {
    const caller = Caller.raised()
    caller.do(serve('red', 'x', p))
    return JSON.stringify(caller.state.tables.hash.value)
  })
  t.equal(new Set(hashes).size, hashes.length)
  t.end()
})

t.test('a network is deleted with its services by force, and their addresses are free in one of its name', t => {
  const caller = ready()
  caller.do(remove('red', true))
  t.equal(caller.state.serviceCount, 0)
  t.same(caller.state.servicesOf(RED), [])
  caller.do(create('red'))
  t.equal(caller.address('red', 'c9'), '10.1.0.2')
  t.same(verify(caller.state), [])
  t.end()
})

t.test('services keep their addresses when their network gets a subnet of the other family', t => {
  const caller = ready()
  caller.do(serve('six', 'web'))
  caller.do(serve('six', 'far', { addresses: ['fd00:96::1'] }))
  caller.do(addSubnet('six', '10.6.0.0/24'))
  caller.do(addSubnet('red', 'fd00:1::/64'))
  t.same(texts(held(caller.state, 'six', 'web')), ['fd00:6::2'])
  t.same(texts(held(caller.state, 'six', 'far')), ['fd00:96::1'])
  t.same(texts(held(caller.state, 'red', 'web')), ['10.1.0.2'])
  t.equal(brief(caller.try(attach('six', 'x', { address: '10.6.0.2' }))), 'ERR_ADDRESS_IN_USE address', 'its mirror')
  t.equal(caller.address('six', 'x'), '10.6.0.3', 'passed over')
  t.same(texts(caller.service(serve('six', 'new'))), ['10.6.0.4', 'fd00:6::4'])
  caller.do(unserve('six', 'web'))
  caller.do(attach('six', 'y', { address: '10.6.0.2' }))
  t.same(verify(caller.state), [])
  t.end()
})

t.test('a client host changes no services, and deletes no network that has some', t => {
  for (const command of [serve('red', 'x'), reserve('red', 'web', {}), unserve('red', 'web'), remove('red', true)]) {
    for (const by of [undefined, peer(2)]) {
      const caller = ready()
      caller.do(detach('c1'))
      const request = { session: caller.session, seq: 99, settledBelow: 99, rules: caller.rules, command }
      const outcome = caller.send({ ...request, ...(by === undefined ? {} : { by }) })
      t.equal(
        brief(outcome),
        by === undefined ? 'ok' : 'ERR_NOT_ALLOWED name',
        `${command.kind} by ${by ?? 'a server'}`
      )
    }
  }
  t.end()
})

t.test('by older rules services are refused, whatever the rules of the cluster', t => {
  for (const command of [serve('red', 'x'), reserve('red', 'web', {}), unserve('red', 'web')]) {
    const caller = ready()
    caller.rules = LABELS
    t.equal(brief(caller.try(command)), 'ERR_UNSUPPORTED name')
    t.equal(brief(caller.try(attach('red', 'x', { mac: '0e:76:78:00:00:01' }))), 'ok', 'as those rules had it')
    caller.do(detach('x'))
  }
  t.end()
})

t.test('one service more than a network may have is refused there, and one elsewhere is not', t => {
  const caller = ready()
  for (let n = 1; n < MAX_SERVICES_PER_NETWORK; n++) caller.do(serve('red', `s${n}`, { headless: true }))
  t.equal(brief(caller.try(serve('red', 'x'))), 'ERR_LIMIT_REACHED network')
  caller.do(serve('both', 'x'))
  caller.do(unserve('red', 's1'))
  caller.do(serve('red', 'x'))
  t.end()
})

t.test('services survive a snapshot of either form, and so do answers about them', t => {
  const caller = full()
  const kept = { session: caller.session, seq: 500, settledBelow: 400, rules: caller.rules }
  const request = { ...kept, command: serve('both', 'kept', { affinity: 9, requestId: 'q' }) }
  const answer = caller.send(request)
  for (const copy of [
    decodeState(plain(encodeState(caller.state))),
    built(plain(sections(caller.state)) as unknown[])
  ]) {
    t.same(verify(copy), [])
    t.equal(digestOf(copy), digestOf(caller.state))
    t.same(encodeState(copy), encodeState(caller.state))
    t.strictSame(new Caller(copy, 's9').send(request), answer)
    t.equal(copy.serviceCount, caller.state.serviceCount)
  }
  t.end()
})

t.test('a state that has no service any more has the bytes that it had', t => {
  const before = Caller.raised()
  const form = (state: ClusterState): string => JSON.stringify([encodeState(state).networks, sections(state).length])
  const expected = form(before.state)
  before.do(serve('red', 'web', { addresses: ['10.1.0.9'] }))
  before.do(unserve('red', 'web'))
  t.equal(form(before.state), expected)
  t.notOk('services' in encodeState(before.state))
  t.equal(before.state.tables.networks.get(RED)?.services, null)
  t.end()
})

t.test('a snapshot that is read in slices has the services of its beginning', t => {
  const caller = full()
  const expected = sections(caller.state)
  const cursor = new StateCursor(caller.state, 2)
  const found = [cursor.next()]
  for (const command of [unserve('red', 'web'), reserve('red', 'two', { affinity: 7 }), serve('red', 'late')])
    caller.do(command as ReturnType<typeof serve>)
  caller.do(remove('both', true))
  for (let section = cursor.next(); section !== null; section = cursor.next()) found.push(section)
  t.same(found, expected)
  t.end()
})

t.test('services stay when a backup is restored', t => {
  const copy = vacated(full().state)
  t.same(verify(copy), [])
  t.same(texts(held(copy, 'red', 'web')), ['10.1.0.2'])
  t.end()
})

t.test('rows that are no services make a snapshot unusable', t => {
  const whole = encodeState(ready().state)
  const [row] = whole.services ?? []
  if (row === undefined) throw new Error('no row')
  t.equal(decodeState({ ...whole, services: [row] }).serviceCount, 1)
  for (const services of [
    [row, row],
    [{ ...row, network: 'none' }],
    [{ ...row, name: 'A' }],
    [{ ...row, addresses: [parseIp('10.1.0.3')] }],
    [{ ...row, addresses: [parseIp('10.1.0.1')] }],
    [{ ...row, addresses: 'all' }],
    [{ ...row, addresses: [] }],
    [{ ...row, ports: [] }],
    [{ ...row, ports: [{ protocol: 'icmp', port: 1, targetPort: 1 }] }],
    [{ ...row, select: [] }],
    [{ ...row, backends: [] }],
    [{ ...row, affinitySeconds: -1 }],
    [7],
    7
  ])
    t.throws(
      () => decodeState({ ...whole, services: services as never }),
      { code: 'ERR_STORAGE' },
      JSON.stringify(services)
    )
  t.end()
})

t.test('the key-value view shows services, network by network', t => {
  const { state } = full()
  t.same(getKv(state, 'service/red/own'), {
    network: 'red',
    name: 'own',
    addresses: ['10.1.0.5'],
    ports: ['80:8080/tcp'],
    affinitySeconds: 0,
    backends: ['10.1.0.3:81']
  })
  t.match(getKv(state, 'service/red/web'), { select: ['app=web'] })
  for (const key of ['service', 'service/red', 'service/red/none', 'service/none/web', 'service/red/web/x'])
    t.equal(getKv(state, key), undefined)
  const keys = listKv(state, { prefix: 'service/' }).map(({ key }) => key)
  t.same(keys, ['service/both/d', 'service/red/own', 'service/red/two', 'service/red/web'])
  const all = listKv(state).map(({ key }) => key)
  t.same(all, all.toSorted(), 'in the order of all keys')
  t.same(
    listKv(state, { after: 'service/red/two' }).map(({ key }) => key),
    ['service/red/web', 'vlanStore']
  )
  t.end()
})

t.test('no command gives one address to two, be they endpoints or services', t => {
  let served = 0
  const property = fc.property(history6(120), commands => {
    const caller = new Caller()
    caller.rules = Caller.raised().rules
    for (const command of commands) {
      const outcome = caller.try(command)
      if (outcome.ok && command.kind === 'service-create' && !command.headless) served += 1
      for (const network of caller.state.networks()) {
        const ofEndpoints = caller.state.endpointsOf(network.name).flatMap(each => addressesOf(network, each))
        const all = [...ofEndpoints, ...caller.state.servicesOf(network.name).flatMap(({ addresses }) => addresses)]
        assert.equal(new Set(all).size, all.length)
      }
    }
    assert.deepEqual(verify(caller.state), [])
  })
  fc.assert(property, { numRuns: 100 })
  t.ok(served > 100, `${served} services with addresses`)
  t.end()
})

type Defect = { readonly what: string; readonly make: (state: ClusterState) => void; readonly found: RegExp }
const replaced =
  (change: (row: Service) => Service) =>
  ({ tables }: ClusterState): void => {
    const before = tables.networks.get(RED)?.services?.byName.get(WEB)
    if (before !== undefined) tables.replaceService(before, change(before))
  }
const defects: readonly Defect[] = [
  { what: 'services before the rules allow them', make: s => (s.tables.rules = LABELS), found: /services by rules 6/ },
  { what: 'a wrong count', make: s => (s.tables.serviceCount += 1), found: /1 services, 2 counted/ },
  {
    what: 'an address that is not in the index',
    make: s => s.tables.networks.get(RED)?.services?.byAddress.clear(),
    found: /red\/web is not found by 10\.1\.0\.2/
  },
  {
    what: 'an address of a container',
    make: replaced(row => ({ ...row, addresses: [parseIp('10.1.0.3')] })),
    found: /has 10\.1\.0\.3, as a container has/
  },
  {
    what: 'the address of the gateway',
    make: replaced(row => ({ ...row, addresses: [parseIp('10.1.0.1')] })),
    found: /has the address of the gateway/
  },
  {
    what: 'neither selector nor backends',
    make: replaced(({ select: _, ...row }) => row),
    found: /needs a selector or backends/
  },
  {
    what: 'ports out of order',
    make: replaced(row => ({ ...row, ports: row.ports.flatMap(port => [{ ...port, port: 81 }, port]) })),
    found: /its ports are out of order/
  },
  {
    what: 'another name',
    make: replaced(row => ({ ...row, network: parseNetworkName('both') })),
    found: /is filed in red/
  }
]
for (const { what, make, found } of defects) {
  t.test(`found: ${what}`, t => {
    const { state } = ready()
    make(state)
    t.match(verify(state).join('\n'), found)
    t.end()
  })
}
