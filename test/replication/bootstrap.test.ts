import t from 'tap'
import type { ClusterId, HostName, PeerId } from '#model/ids.ts'
import type { Ipv4 } from '#model/ipv4.ts'
import type { Member } from '#model/member.ts'
import { decideBootstrap, originOf } from '#replication/bootstrap.ts'

const peer = (name: string): PeerId => name as PeerId

function member(name: string, change: Partial<Member> = {}): Member {
  return {
    name: name as HostName,
    address: 1 as Ipv4,
    port: 7946,
    status: 'alive',
    role: 'server',
    peerId: peer(name),
    vtep: 1 as Ipv4,
    p2pPort: 7947,
    protocol: 1,
    bootstrapExpect: 3,
    ...change
  }
}

const three = [member('b'), member('a'), member('c')]
const client = member('z', { role: 'client', bootstrapExpect: 0 })
const settled = { clusterId: 'c1' as ClusterId }

const cases: readonly {
  readonly claim: string
  readonly members: readonly Member[]
  readonly expect?: number
  readonly kind: 'wait' | 'agree' | 'adopt'
}[] = [
  { claim: 'exactly the expected servers, all alive, may agree', members: three, kind: 'agree' },
  { claim: 'clients do not count', members: [...three, client], kind: 'agree' },
  { claim: 'a server that left does not count', members: [...three, member('d', { status: 'left' })], kind: 'agree' },
  { claim: 'nobody in sight: wait', members: [], kind: 'wait' },
  { claim: 'one too few: wait', members: three.slice(1), kind: 'wait' },
  {
    claim: 'one too many: wait, for two overlapping threes would be two clusters',
    members: [...three, member('d')],
    kind: 'wait'
  },
  { claim: 'a failed one still counts: wait', members: [...three, member('d', { status: 'failed' })], kind: 'wait' },
  {
    claim: 'one of the three has failed: wait',
    members: [...three.slice(1), member('b', { status: 'failed' })],
    kind: 'wait'
  },
  {
    claim: 'another number expected elsewhere: wait',
    members: [...three.slice(1), member('b', { bootstrapExpect: 5 })],
    kind: 'wait'
  },
  { claim: 'this host does not see itself: wait', members: [member('b'), member('c'), member('d')], kind: 'wait' },
  { claim: 'a server of a cluster in sight: adopt', members: [...three.slice(1), member('b', settled)], kind: 'adopt' },
  {
    claim: 'a cluster in sight, but its server has failed: wait',
    members: [...three, member('d', { ...settled, status: 'failed' })],
    kind: 'wait'
  },
  { claim: 'a client adopts', members: [client, member('b', settled)], expect: 0, kind: 'adopt' },
  { claim: 'a client never founds', members: three, expect: 0, kind: 'wait' }
]

for (const { claim, members, expect, kind } of cases) {
  t.test(claim, t => {
    t.equal(decideBootstrap({ self: peer('a'), expect: expect ?? 3, members }).kind, kind)
    t.end()
  })
}

t.test('a server alone founds a cluster of one when one is expected', t => {
  const alone = decideBootstrap({ self: peer('a'), expect: 1, members: [member('a', { bootstrapExpect: 1 })] })
  t.same(alone, { kind: 'agree', voters: ['a'] })
  t.end()
})

t.test('all servers that decide the same get the same origin, and others another', t => {
  const decision = decideBootstrap({ self: peer('a'), expect: 3, members: three })
  t.same(decision, { kind: 'agree', voters: ['a', 'b', 'c'] })
  const mirrored = decideBootstrap({ self: peer('c'), expect: 3, members: [...three].reverse() })
  t.same(mirrored, decision)
  const here = originOf([peer('a'), peer('b'), peer('c')])
  t.match(here.clusterId, /^[0-9a-f]{16}$/)
  t.equal(originOf([peer('a'), peer('b'), peer('c')]).clusterId, here.clusterId)
  t.not(originOf([peer('a'), peer('b'), peer('d')]).clusterId, here.clusterId)
  t.end()
})
