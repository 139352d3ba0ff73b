import t from 'tap'
import { parseIpv4 } from '#model/ipv4.ts'
import type { MemberStatus } from '#model/member.ts'
import { hostAddresses, peersOf, vtepsOf, type PeersInput } from '#overlay/plan/underlay/peers.ts'
import { makeHost, peer } from '../../fixtures.ts'

function input(change: Partial<PeersInput> = {}): PeersInput {
  return {
    self: peer(1),
    selfVtep: makeHost(1).vtep,
    hosts: [1, 2, 3].map(n => makeHost(n)),
    memberStatus: null,
    ...change
  }
}

t.test('the status of a member says how far it is reached', t => {
  const cases: [MemberStatus | 'absent', 'all' | 'unicast' | undefined][] = [
    ['alive', 'all'],
    ['leaving', 'all'],
    ['failed', 'unicast'],
    ['absent', 'unicast'],
    ['left', undefined]
  ]
  for (const [status, reach] of cases) {
    const memberStatus = new Map(status === 'absent' ? [] : [[peer(2), status]])
    t.equal(peersOf(input({ memberStatus })).get(peer(2))?.reach, reach, status)
  }
  t.strictSame(peersOf(input()).get(peer(2)), { vtep: makeHost(2).vtep, reach: 'all' }, 'membership unknown')
  t.end()
})

t.test('this host, a host that claims its VTEP, and a member without a registration are no peers', t => {
  t.strictSame([...peersOf(input()).keys()], [peer(2), peer(3)])
  t.strictSame([...peersOf(input({ hosts: [makeHost(1), makeHost(2, makeHost(1).vtep)] })).keys()], [])
  t.strictSame([...peersOf(input({ hosts: [makeHost(1)], memberStatus: new Map([[peer(2), 'alive']]) })).keys()], [])
  t.end()
})

t.test('two peers behind one VTEP count once', t => {
  const vtep = parseIpv4('192.0.2.9')
  t.strictSame([...vtepsOf(peersOf(input({ hosts: [makeHost(2, vtep), makeHost(3, vtep)] })))], [vtep])
  t.end()
})

t.test('the addresses of hosts that have left are still addresses of hosts', t => {
  const [bind, member] = [parseIpv4('198.51.100.1'), parseIpv4('198.51.100.2')]
  const left = input({ memberStatus: new Map([[peer(2), 'left']]) })
  t.notOk(vtepsOf(peersOf(left)).has(makeHost(2).vtep))
  const addresses = hostAddresses({ ...left, bind, memberAddresses: [member, bind] })
  t.strictSame([...addresses], [makeHost(1).vtep, bind, member, makeHost(2).vtep, makeHost(3).vtep])
  t.end()
})
