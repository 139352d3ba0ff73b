import { inspect } from 'node:util'
import t from 'tap'
import type { ClusterId, HostName, LogIndex, PeerId } from '#model/ids.ts'
import type { Ipv4 } from '#model/ipv4.ts'
import type { Member } from '#model/member.ts'
import { isForeign, parsePeers, peersOf, aliveServers, type PeerProgress } from '#replication/consensus/peers.ts'
import { peer } from '../../allocator/fixtures.ts'

const [OWN, OTHER] = ['c1', 'c2'] as [ClusterId, ClusterId]

function member(n: number, p: Partial<Member> = {}): Member {
  return {
    name: `h${n}` as HostName,
    address: n as Ipv4,
    port: 1,
    status: 'alive',
    role: 'server',
    peerId: peer(n),
    vtep: n as Ipv4,
    p2pPort: 1,
    protocol: 1,
    bootstrapExpect: 3,
    ...p
  }
}

t.test('a member is foreign only when both clusters are known and differ', t => {
  t.equal(isForeign(member(1, { clusterId: OTHER }), OWN), true)
  t.equal(isForeign(member(1, { clusterId: OWN }), OWN), false)
  t.equal(isForeign(member(1), OWN), false, 'it has no cluster yet')
  t.equal(isForeign(member(1, { clusterId: OTHER }), null), false, 'this host has no cluster yet')
  t.end()
})

t.test('servers to ask are alive, servers, and not foreign', t => {
  const members = [
    member(1),
    member(2, { status: 'failed' }),
    member(3, { status: 'left' }),
    member(4, { status: 'leaving' }),
    member(5, { role: 'client' }),
    member(6, { clusterId: OTHER }),
    member(7, { clusterId: OWN })
  ]
  t.same(aliveServers(members, OWN), [peer(1), peer(7)])
  t.same(aliveServers(members, null), [peer(1), peer(6), peer(7)])
  t.same(aliveServers([], OWN), [])
  t.end()
})

t.test('a leader knows the progress of its followers, and another host of none', t => {
  const configuration = { voters: [peer(1), peer(2)], learners: [peer(3)] }
  const progress = new Map([[peer(1), { matchIndex: 9 as LogIndex }]])
  t.same(peersOf(configuration, progress), [
    { peerId: peer(1), voter: true, matchIndex: 9 },
    { peerId: peer(2), voter: true, matchIndex: null },
    { peerId: peer(3), voter: false, matchIndex: null }
  ])
  t.ok(peersOf(configuration).every(({ matchIndex }) => matchIndex === null))
  t.end()
})

const list: PeerProgress[] = [
  { peerId: peer(1), voter: true, matchIndex: 9 },
  { peerId: peer(2), voter: false, matchIndex: null }
]

t.test('a list is read as it was written, without unknown fields', t => {
  t.same(parsePeers(list), list)
  t.same(parsePeers([]), [])
  t.strictSame(parsePeers([{ ...list[0], admin: true }]), [list[0]])
  t.end()
})

for (const answer of [
  undefined,
  null,
  7,
  'x',
  {},
  { 0: list[0], length: 1 },
  [null],
  [undefined],
  ['x'],
  [[]],
  [{}],
  [{ ...list[0], peerId: undefined }],
  [{ ...list[0], peerId: 7 }],
  [{ ...list[0], peerId: '' }],
  [{ ...list[0], peerId: 'l0l0l0' as PeerId }],
  [{ ...list[0], voter: 1 }],
  [{ ...list[0], voter: null }],
  [{ ...list[0], matchIndex: undefined }],
  [{ ...list[0], matchIndex: '9' }],
  [{ ...list[0], matchIndex: -1 }],
  [{ ...list[0], matchIndex: 0.5 }],
  [{ ...list[0], matchIndex: Infinity }],
  [{ ...list[0], matchIndex: 2 ** 53 }],
  [...list, null]
]) {
  t.test(`a malformed list of servers is ERR_PEER: ${inspect(answer)}`, t => {
    t.throws(() => parsePeers(answer), { code: 'ERR_PEER', message: 'a malformed list of servers' })
    t.end()
  })
}
