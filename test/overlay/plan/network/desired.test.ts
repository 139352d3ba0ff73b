import t from 'tap'
import type { MemberStatus } from '#model/member.ts'
import { desired, type DesiredInput } from '#overlay/plan/network/desired.ts'
import { byNetwork, makeEndpoint, makeHost, makeNetwork, peer } from '../../fixtures.ts'

const red = makeNetwork('red', 4097)
const local = makeEndpoint(red, { container: 'c1', host: 1, address: '10.1.0.2' })
const remote = makeEndpoint(red, { container: 'c2', host: 2, address: '10.1.0.3' })

function input(change: Partial<DesiredInput> = {}): DesiredInput {
  return {
    self: peer(1),
    selfVtep: makeHost(1).vtep,
    networks: [red],
    endpoints: byNetwork([local, remote]),
    hosts: [makeHost(1), makeHost(2)],
    memberStatus: null,
    overlayMtu: 1450,
    vxlanPort: 4789,
    ...change
  }
}

const of = (change: Partial<DesiredInput> = {}) => desired(input(change)).networks.get(red.vni)

t.test('a network exists here only while it has endpoints here', async t => {
  t.ok(of())
  t.equal(of({ endpoints: byNetwork([remote]) }), undefined)
  t.equal(of({ endpoints: new Map() }), undefined)
})

t.test('a member’s status decides which entries its host has', async t => {
  const cases: [string, MemberStatus | null | 'absent', { flood: number; entries: number }][] = [
    ['membership not known', null, { flood: 1, entries: 1 }],
    ['alive', 'alive', { flood: 1, entries: 1 }],
    ['leaving', 'leaving', { flood: 1, entries: 1 }],
    ['failed', 'failed', { flood: 0, entries: 1 }],
    ['not listed', 'absent', { flood: 0, entries: 1 }],
    ['left', 'left', { flood: 0, entries: 0 }]
  ]
  for (const [title, status, want] of cases) {
    const memberStatus = status === null ? null : new Map(status === 'absent' ? [] : [[peer(2), status]])
    const network = of({ memberStatus })
    t.equal(network?.flood.size, want.flood, `${title}: flood entries`)
    t.equal(network?.entries.size, want.entries, `${title}: FDB entries`)
    t.equal(network?.neighbours.has(remote.address), want.entries === 1, `${title}: neighbour entry`)
  }
})

t.test('this host’s own status does not affect its endpoints', async t => {
  const network = of({ memberStatus: new Map([[peer(1), 'left' as const]]) })
  t.equal(network?.endpoints.size, 1)
  t.ok(network?.neighbours.has(local.address))
})

t.test('the flood list holds only hosts with endpoints in the network, never ourselves', async t => {
  const network = of({ hosts: [makeHost(1), makeHost(2), makeHost(3)] })
  t.strictSame([...(network?.flood ?? [])], [makeHost(2).vtep])
})

t.test('a remote host that is unknown or claims our own VTEP gets no entry', async t => {
  for (const hosts of [[makeHost(1)], [makeHost(1), makeHost(2, makeHost(1).vtep)]]) {
    const network = of({ hosts })
    t.equal(network?.entries.size, 0)
    t.equal(network?.flood.size, 0)
  }
})

t.test("the network's own MTU wins over the underlay's", async t => {
  t.equal(of()?.mtu, 1450)
  const small = makeNetwork('red', 4097, { mtu: 1300 })
  t.equal(of({ networks: [small] })?.mtu, 1300)
})
