import t from 'tap'
import type { ClusterId, HostName, PeerId } from '#model/ids.ts'
import type { Ipv4 } from '#model/ipv4.ts'
import type { Member } from '#model/member.ts'
import { decideBootstrap, foundingOrigin } from '#replication/cluster/bootstrap.ts'

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
  { claim: 'no server in sight: wait', members: [], kind: 'wait' },
  { claim: 'one too few: wait', members: three.slice(1), kind: 'wait' },
  {
    claim: 'one too many: wait, because two overlapping groups of three would found two clusters',
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
    t.equal(decideBootstrap({ self: peer('a'), expect: expect ?? 3, members, seed: null }).kind, kind)
    t.end()
  })
}

t.test('a single server founds a cluster when one is expected', t => {
  const alone = decideBootstrap({
    self: peer('a'),
    expect: 1,
    members: [member('a', { bootstrapExpect: 1 })],
    seed: null
  })
  t.same(alone, { kind: 'agree', voters: ['a'], seed: null })
  t.end()
})

const SEED = '1'.repeat(16)
const OTHER = '2'.repeat(16)

for (const { claim, members, seed = null, decision } of [
  {
    claim: 'a server that holds the restored backup agrees to start from it',
    members: three.map(m => (m.peerId === peer('a') ? { ...m, seed: SEED } : m)),
    seed: SEED,
    decision: { kind: 'agree', voters: ['a', 'b', 'c'], seed: SEED }
  },
  {
    claim: 'it does so before the others have seen its tag',
    members: three,
    seed: SEED,
    decision: { kind: 'agree', seed: SEED }
  },
  {
    claim: 'a server without it fetches it first',
    members: three.map(m => (m.peerId === peer('a') ? m : { ...m, seed: SEED })),
    decision: { kind: 'fetch', seed: SEED, from: ['b', 'c'] }
  },
  {
    claim: 'two different backups: wait, because either could be the right one',
    members: [member('a'), member('b', { seed: SEED }), member('c', { seed: OTHER })],
    decision: { kind: 'wait', why: /different backups were restored on b, c/ }
  },
  {
    claim: 'the own backup counts too',
    members: [member('a'), member('b', { seed: OTHER }), member('c')],
    seed: SEED,
    decision: { kind: 'wait', why: /different backups/ }
  },
  {
    claim: 'the backup of a host that left does not count',
    members: [...three, member('d', { status: 'left', seed: OTHER })],
    decision: { kind: 'agree', seed: null }
  },
  {
    claim: 'a cluster in sight is adopted, whatever it started from',
    members: [...three.slice(1), member('b', settled)],
    seed: SEED,
    decision: { kind: 'adopt', from: 'b' }
  },
  {
    claim: 'servers of two clusters in sight: wait, because either could be the wrong one',
    members: [member('a'), member('b', settled), member('c', { clusterId: 'c2' as ClusterId })],
    decision: { kind: 'wait', why: /b and c are servers of two clusters/ }
  }
] satisfies readonly {
  claim: string
  members: readonly Member[]
  seed?: string | null
  decision: object
}[]) {
  t.test(claim, t => {
    t.match(decideBootstrap({ self: peer('a'), expect: 3, members, seed }), decision)
    t.end()
  })
}

t.test('the cluster id depends on the servers and on the backup that they start from', t => {
  const voters = [peer('a'), peer('b'), peer('c')]
  t.equal(new Set([null, SEED, OTHER].map(seed => foundingOrigin(voters, seed).clusterId)).size, 3)
  t.end()
})

t.test('servers that decide alike derive the same origin', t => {
  const decision = decideBootstrap({ self: peer('a'), expect: 3, members: three, seed: null })
  t.same(decision, { kind: 'agree', voters: ['a', 'b', 'c'], seed: null })
  const mirrored = decideBootstrap({ self: peer('c'), expect: 3, members: [...three].reverse(), seed: null })
  t.same(mirrored, decision)
  const here = foundingOrigin([peer('a'), peer('b'), peer('c')], null)
  t.match(here.clusterId, /^[0-9a-f]{16}$/)
  t.equal(foundingOrigin([peer('a'), peer('b'), peer('c')], null).clusterId, here.clusterId)
  t.not(foundingOrigin([peer('a'), peer('b'), peer('d')], null).clusterId, here.clusterId)
  t.end()
})
