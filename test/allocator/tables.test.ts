import t from 'tap'
import { Tables } from '#allocator/tables.ts'
import { hashRows } from '#allocator/digest.ts'
import { parseMac } from '#model/mac.ts'
import { parseIpv4 } from '#model/ipv4.ts'
import { attach, Caller, create, makeHost, peer } from './fixtures.ts'

const caller = Caller.ready()
const red = caller.network(create('a', { subnet: '10.7.0.0/24' }))
const endpoint = caller.endpoint(attach('a', 'c1'))

function ready(): Tables {
  const tables = new Tables()
  tables.putHost(makeHost(1))
  tables.putHost(makeHost(2))
  tables.addNetwork(red, 'explicit')
  tables.addEndpoint(endpoint, 'explicit')
  return tables
}

const broken: readonly { what: string; act: (tables: Tables) => void; error: RegExp }[] = [
  { what: 'a network twice', act: s => s.addNetwork(red, 'explicit'), error: /already exists/ },
  { what: 'a VNI twice', act: s => s.addNetwork({ ...red, name: 'b' as never }, 'explicit'), error: /cannot be set/ },
  { what: 'an endpoint twice', act: s => s.addEndpoint(endpoint, 'explicit'), error: /already/ },
  {
    what: 'an address twice',
    act: s => s.addEndpoint({ ...endpoint, containerId: 'x' as never, mac: parseMac('02:dd:00:00:00:01') }, 'explicit'),
    error: /cannot be set/
  },
  {
    what: 'a MAC twice',
    act: s => s.addEndpoint({ ...endpoint, containerId: 'x' as never, address: parseIpv4('10.7.0.9') }, 'explicit'),
    error: /MAC .* is already in use/
  },
  {
    what: 'a container interface twice',
    act: s =>
      s.addEndpoint({ ...endpoint, address: parseIpv4('10.7.0.9'), mac: parseMac('02:dd:00:00:00:01') }, 'explicit'),
    error: /already exists/
  },
  {
    what: 'an endpoint of no network',
    act: s => s.addEndpoint({ ...endpoint, network: 'x' as never }, 'explicit'),
    error: /network x, which does not exist/
  },
  {
    what: 'an endpoint on no host',
    act: s => s.addEndpoint({ ...endpoint, host: peer(9) }, 'explicit'),
    error: /which does not exist/
  },
  {
    what: 'removing an endpoint twice',
    act: s => [1, 2].forEach(() => s.removeEndpoint(endpoint)),
    error: /does not exist/
  },
  { what: 'a host name twice', act: s => s.putHost(makeHost(3, { name: 'h1' })), error: /name h1 is already in use/ },
  {
    what: 'a VTEP twice',
    act: s => s.putHost(makeHost(3, { vtep: '192.0.2.1' })),
    error: /VTEP of host h3 is already in use/
  }
]

for (const { what, act, error } of broken) {
  t.test(`a violated invariant throws: ${what}`, t => {
    t.throws(() => act(ready()), error)
    t.end()
  })
}

t.test('the hash matches the rows after each change, and is zero after all are removed', t => {
  const tables = new Tables()
  const nothing = tables.hash.value
  const check = (): void => t.same(tables.hash.value, hashRows(tables)) as unknown as void
  tables.putHost(makeHost(1))
  check()
  const table = tables.addNetwork(red, 'automatic')
  check()
  tables.addEndpoint(endpoint, 'automatic')
  check()
  tables.replaceNetwork(table, { ...red, egressRate: 8_000 })
  check()
  tables.putHost(makeHost(1, { name: 'new', vtep: '192.0.2.7' }))
  check()
  t.equal(tables.removeHost(makeHost(1, { name: 'new', vtep: '192.0.2.7' })), 1)
  check()
  tables.removeNetwork(table)
  t.same(tables.hash.value, nothing)
  t.same([...tables.byHost, ...tables.hostByName, ...tables.hostByVtep, ...tables.networkByVni], [])
  t.end()
})

t.test('an automatic choice moves the cursor, an explicit one does not', t => {
  const [automatic, explicit] = [new Tables(), new Tables()]
  automatic.addNetwork(red, 'automatic')
  explicit.addNetwork(red, 'explicit')
  t.equal(automatic.vnis.cursor, red.vni + 1)
  t.equal(explicit.vnis.cursor, 4_096)
  t.end()
})
